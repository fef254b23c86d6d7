package postgres_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// Whoever waits for the lock of an order that is moved meanwhile gets the order.
func TestAnOrderIsLockedThatIsMovedMeanwhile(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := placement(t, nil)
	place(t, b.store, p)
	if _, err := pg.Archive(t.Context(), b.Owner, postgres.Archived, pg.Archiving{
		Before: time.Now().Add(time.Hour), Load: 100, Progress: func(string, int64, int64) {}}); err != nil {
		t.Fatal(err)
	}
	moving, err := b.Owner.BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = moving.Rollback() }()
	if _, err := moving.Exec(`
		WITH moved AS (DELETE FROM ONLY orders RETURNING *) INSERT INTO archive.orders SELECT * FROM moved`); err != nil {
		t.Fatal(err)
	}
	locked := make(chan map[uuid.UUID]order.Order, 1)
	go func() {
		var orders map[uuid.UUID]order.Order
		if err := b.store.InTx(t.Context(), func(tx *sqlx.Tx) (err error) {
			orders, err = b.store.Lock(t.Context(), tx, []uuid.UUID{p.Order.ID})
			return err
		}); err != nil {
			t.Error(err)
		}
		locked <- orders
	}()
	postgrestest.AwaitCount(t, b.Service, 1, `
		SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)
	if err := moving.Commit(); err != nil {
		t.Fatal(err)
	}
	if orders := <-locked; orders[p.Order.ID].ID != p.Order.ID {
		t.Errorf("locked %v", orders)
	}
}
