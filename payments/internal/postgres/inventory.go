package postgres

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/identity"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

const (
	// MaxJoins is how many rows one transaction looks at.
	MaxJoins = 500

	// A message whose order is not there is looked at again after its own age, within these bounds: a young one often,
	// since its order may be on its way, and an old one seldom, since the settlement of its order has it looked at.
	minLook = 50 * time.Millisecond
	maxLook = time.Minute

	// inventoryAge is how long a message is kept, for its order and to recognise another one about the same order. An
	// order that comes a day after what was said of its goods fails by its own deadline.
	inventoryAge = 24 * time.Hour
	// MaxForgotten is how many rows one statement deletes.
	MaxForgotten = 1000
)

// Inventory is what the inventory system said of an order's goods.
type Inventory struct {
	Tenant        string    `db:"tenant"` // who said it; only a payment of this tenant is meant
	OrderID       uuid.UUID `db:"order_id"`
	IdempotentKey uuid.UUID `db:"idempotent_key"`
	Status        string    `db:"status"` // contract.InventoryCompleted or InventoryFailed
	Traceparent   string    `db:"traceparent"`
}

// AddInventory stores messages and returns how many of them were new. The first message of a tenant about an order
// counts, and the first one with a key.
func (s *Store) AddInventory(ctx context.Context, messages []Inventory) (added int, err error) {
	type key struct {
		tenant string
		key    uuid.UUID
	}
	seen := make(map[key]bool, len(messages))
	var (
		orders, keys              pg.UUIDs
		tenants, statuses, traces pg.Texts
	)
	for _, m := range messages {
		m.Tenant = cmp.Or(m.Tenant, identity.DefaultTenant)
		if seen[key{m.Tenant, m.IdempotentKey}] {
			continue
		}
		seen[key{m.Tenant, m.IdempotentKey}] = true
		tenants = append(tenants, m.Tenant)
		orders, keys = append(orders, m.OrderID), append(keys, m.IdempotentKey)
		statuses, traces = append(statuses, m.Status), append(traces, m.Traceparent)
	}
	// An order's messages come in any partition, so two processes may store the same ones at once: sorted, so that they do
	// not wait for each other in a circle. Should they do so for keys that orders share, InTx tries again.
	err = pg.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		result, err := tx.ExecContext(ctx, `
			INSERT INTO inventory (order_id, idempotent_key, status, traceparent, tenant)
			SELECT order_id, idempotent_key, status, traceparent, tenant
			FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[])
				WITH ORDINALITY AS m (order_id, idempotent_key, status, traceparent, tenant, n)
			ORDER BY order_id, tenant, n
			ON CONFLICT DO NOTHING`, orders, keys, statuses, traces, tenants)
		if err != nil {
			return fmt.Errorf("add inventory: %w", err)
		}
		rows, err := result.RowsAffected()
		added = int(rows)
		return err
	})
	return added, err
}

// LookForInventory makes the stored messages about these orders due once the transaction commits. Whoever stores that
// an order waits for its goods calls it in the same transaction. A message that is not stored yet is due when it
// comes, and again soon if this transaction has not committed by then.
func (s *Store) LookForInventory(ctx context.Context, tx *sqlx.Tx, orders []uuid.UUID) error {
	if len(orders) == 0 {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `
		UPDATE inventory SET look_at = clock_timestamp() WHERE order_id = ANY($1::uuid[]) AND joined_at IS NULL`,
		pg.UUIDs(orders)); err != nil {
		return fmt.Errorf("look for inventory: %w", err)
	}
	return nil
}

// JoinInventory looks at the messages that are due, at most MaxJoins of them. If the payment of a message exists, it
// puts the message that message makes of the two into the inbox; otherwise the stored one is due again later. It
// returns how many it has looked at, and how many of them have joined. Any number of processes may call it at once.
func (s *Store) JoinInventory(ctx context.Context,
	message func(m Inventory, account uuid.UUID) Message) (looked, joined int, err error) {
	err = pg.InTx(ctx, s.db, func(tx *sqlx.Tx) error {
		looked, joined = 0, 0
		var rows []Inventory
		// statement_timestamp, unlike clock_timestamp, lets the index be used.
		if err := tx.SelectContext(ctx, &rows, `
			SELECT tenant, order_id, idempotent_key, status, traceparent FROM inventory
			WHERE joined_at IS NULL AND look_at <= statement_timestamp()
			ORDER BY look_at LIMIT $1 FOR UPDATE SKIP LOCKED`, MaxJoins); err != nil {
			return fmt.Errorf("lock inventory: %w", err)
		}
		if len(rows) == 0 {
			return nil
		}
		accounts, err := payers(ctx, tx, rows)
		if err != nil {
			return err
		}
		var found, absent []payment
		var messages []Message
		for _, row := range rows {
			p := payment{row.OrderID, row.Tenant}
			account, ok := accounts[p]
			if !ok {
				absent = append(absent, p)
				continue
			}
			found, messages = append(found, p), append(messages, message(row, account))
		}
		looked, joined = len(rows), len(found)
		if err := s.enqueue(ctx, tx, found, messages); err != nil {
			return err
		}
		return postpone(ctx, tx, absent)
	})
	if err != nil {
		return 0, 0, err
	}
	return looked, joined, nil
}

// payment names the payment of a tenant's order.
type payment struct {
	OrderID uuid.UUID `db:"order_id"`
	Tenant  string    `db:"tenant"`
}

// payments are several, as columns of a statement.
func payments(of []payment) (orders pg.UUIDs, tenants pg.Texts) {
	for _, p := range of {
		orders, tenants = append(orders, p.OrderID), append(tenants, p.Tenant)
	}
	return orders, tenants
}

// payers finds the accounts that pay these orders, if their payments exist. It is a statement of its own, after the one
// that locked the rows. So either it sees a payment, or the LookForInventory of the transaction that stores the payment
// is still to come: that waits for the lock, and overrules what is decided here.
func payers(ctx context.Context, tx *sqlx.Tx, rows []Inventory) (map[payment]uuid.UUID, error) {
	orders := make([]uuid.UUID, len(rows))
	for i, row := range rows {
		orders[i] = row.OrderID
	}
	var payments []struct {
		payment
		AccountID uuid.UUID `db:"account_id"`
	}
	if err := tx.SelectContext(ctx, &payments, `
		SELECT order_id, tenant, account_id FROM payments WHERE order_id = ANY($1::uuid[])`, pg.UUIDs(orders)); err != nil {
		return nil, fmt.Errorf("find the payments of inventory: %w", err)
	}
	accounts := make(map[payment]uuid.UUID, len(payments))
	for _, p := range payments {
		accounts[p.payment] = p.AccountID
	}
	return accounts, nil
}

// enqueue puts messages into the inbox and marks what is stored of their orders as joined.
func (s *Store) enqueue(ctx context.Context, tx *sqlx.Tx, of []payment, messages []Message) error {
	if len(of) == 0 {
		return nil
	}
	orders, tenants := payments(of)
	if _, err := s.inbox.Insert(ctx, tx, messages); err != nil {
		return err
	}
	return pg.ExecExactly(ctx, tx, "join inventory", len(of), `
		UPDATE inventory SET joined_at = clock_timestamp() FROM unnest($1::uuid[], $2::text[]) AS p (order_id, tenant)
		WHERE inventory.order_id = p.order_id AND inventory.tenant = p.tenant`, orders, tenants)
}

// postpone makes what is stored of these orders due again later.
func postpone(ctx context.Context, tx *sqlx.Tx, of []payment) error {
	if len(of) == 0 {
		return nil
	}
	orders, tenants := payments(of)
	return pg.ExecExactly(ctx, tx, "postpone inventory", len(of), `
		UPDATE inventory SET look_at = clock_timestamp()
			+ least(greatest(clock_timestamp() - received_at, make_interval(secs => $3)), make_interval(secs => $4))
		FROM unnest($1::uuid[], $2::text[]) AS p (order_id, tenant)
		WHERE inventory.order_id = p.order_id AND inventory.tenant = p.tenant`,
		orders, tenants, minLook.Seconds(), maxLook.Seconds())
}

// ForgetInventory deletes messages that are too old, at most MaxForgotten. It returns how many it has deleted, and how
// many of these had not joined.
func (s *Store) ForgetInventory(ctx context.Context) (forgotten, unjoined int, err error) {
	if err := s.db.QueryRowxContext(ctx, `
		WITH old AS MATERIALIZED (
			SELECT order_id, tenant FROM inventory WHERE received_at < statement_timestamp() - make_interval(secs => $1)
			ORDER BY received_at LIMIT $2 FOR UPDATE SKIP LOCKED
		), forgotten AS (
			DELETE FROM inventory USING old
			WHERE inventory.order_id = old.order_id AND inventory.tenant = old.tenant RETURNING joined_at
		) SELECT count(*), count(*) FILTER (WHERE joined_at IS NULL) FROM forgotten`,
		inventoryAge.Seconds(), MaxForgotten).Scan(&forgotten, &unjoined); err != nil {
		return 0, 0, fmt.Errorf("forget inventory: %w", err)
	}
	return forgotten, unjoined, nil
}

// InventoryGauge counts the messages whose order has not come.
func (s *Store) InventoryGauge() prometheus.Collector {
	return pg.Gauges(s.db, `SELECT count(*) FROM inventory WHERE joined_at IS NULL`,
		prometheus.GaugeOpts{
			Name: "altyn_inventory_waiting", Help: "Messages of the inventory system that wait for their order.",
		})
}
