package postgres_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// An order of which nothing else is said is the default tenant's, of nobody in particular, and so are its events.
func TestOrdersOfNobody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := uuid.New()
	if _, err := b.Service.Exec(`
		INSERT INTO orders (id, account_id, amount, currency, description, reference, capture, await_inventory,
			on_insufficient, status, version, fingerprint, created_at, updated_at)
		VALUES ($1, $2, 1, 'RUB', '', 'r', 'automatic', false, 'reject', 'pending', 1, $1, now(), now())`,
		id, account); err != nil {
		t.Fatal(err)
	}
	o, err := b.store.Order(t.Context(), identity.Default, id)
	if err != nil || o.Tenant != "default" || o.Subject != "" || o.Owned {
		t.Fatalf("%v: %+v", err, o)
	}
	for _, by := range []identity.Reach{{Tenant: "shop"}, {Owner: "alice"}, {Tenant: "shop", Owner: "alice"}} {
		if _, err := b.store.Order(t.Context(), by, id); !errors.Is(err, postgres.ErrNotFound) {
			t.Errorf("%+v: %v", by, err)
		}
	}
	byAccount := postgres.Filter{AccountID: uuid.NullUUID{UUID: account, Valid: true}}
	for _, filter := range []postgres.Filter{{}, {Reference: "r"}, byAccount} {
		if page, next, err := b.store.List(t.Context(), identity.Default, filter, pg.NewestFirst, 50); err != nil ||
			len(page) != 1 || next != 0 {
			t.Errorf("%+v: %v, %+v, %d", filter, err, page, next)
		}
	}
	table, err := currencies()
	if err != nil {
		t.Fatal(err)
	}
	event, err := o.PlacedEvent(table, true)
	var told contract.Order
	if err != nil || event.Tenant != "default" || json.Unmarshal([]byte(event.Payload), &told) != nil || told.Owner != "" {
		t.Errorf("%v: announced again %+v", err, event)
	}
}

// A list reads the orders that it is about, however many others have.
func TestListsReadNoOrdersOfOthers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	mine, theirs := identity.Reach{Tenant: "shop"}, identity.Reach{Tenant: "kiosk"}
	placedBy := func(by identity.Reach, subject string, n int) {
		t.Helper()
		placements := make([]postgres.Placement, n)
		for i := range placements {
			placements[i] = placement(t, func(r *order.Request) {
				if by.IsZero() { // most accounts have one order
					r.AccountID, r.Reference = uuid.NewString(), uuid.NewString()
				}
			})
			placements[i].Order = placements[i].Order.For(by, subject)
		}
		place(t, b.store, placements...)
	}
	placedBy(mine, "alice", 1)
	for range 8 {
		placedBy(theirs, "alice", 500)
		placedBy(identity.Default, "", 500)
	}
	placedBy(mine, "bob", 1)
	if _, err := b.Owner.Exec(`ANALYZE orders`); err != nil {
		t.Fatal(err)
	}
	byAccount := postgres.Filter{AccountID: uuid.NullUUID{UUID: account, Valid: true}}
	for _, filter := range []postgres.Filter{{}, byAccount, {Reference: "{shop},17"}, {Status: order.Pending}} {
		for _, test := range []struct {
			by identity.Reach
			n  int
		}{{mine, 2}, {identity.Reach{Tenant: "shop", Owner: "alice"}, 1}, {identity.Reach{Tenant: "nobody"}, 0}} {
			before := b.read(t)
			page, next, err := b.store.List(t.Context(), test.by, filter, pg.NewestFirst, 50)
			if err != nil || len(page) != test.n || next != 0 {
				t.Errorf("%+v for %+v: %d orders, %d, %v", filter, test.by, len(page), next, err)
			}
			if read := b.read(t) - before; read > 20 {
				t.Errorf("%+v for %+v read %d rows for %d", filter, test.by, read, test.n)
			}
		}
	}
	// The default tenant has no index of its own: its pages are bounded, and complete together.
	if got := pages(t, b.store, postgres.Filter{}, 200, func() {}); len(got) != 4000 {
		t.Errorf("the default tenant has %d orders", len(got))
	}
}

// read tells how many rows of orders have been read, by indexes and otherwise.
func (b bundle) read(t *testing.T) (n int) {
	t.Helper()
	conns := b.Service.Stats().OpenConnections
	for range conns { // a session's statistics are told when it is asked to
		if _, err := b.Service.Exec(`SELECT pg_stat_force_next_flush()`); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Service.Get(&n, `
		SELECT coalesce(sum(seq_tup_read), 0) + (SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_user_indexes
			WHERE relname = 'orders')
		FROM pg_stat_user_tables WHERE relname = 'orders'`); err != nil {
		t.Fatal(fmt.Errorf("read the statistics: %w", err))
	}
	return n
}
