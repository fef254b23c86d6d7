package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/platform/identity"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/watch"
)

// Lock locks the orders that exist, for events of payments, in one global order, and returns them by ID.
func (s *Store) Lock(ctx context.Context, tx *sqlx.Tx, ids []uuid.UUID) (map[uuid.UUID]order.Order, error) {
	return selectOrders(ctx, tx, `
		SELECT `+orderColumns.String()+` FROM orders WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE`, ids)
}

// Asked is an order that somebody wants to change.
type Asked struct {
	OrderID uuid.UUID
	By      identity.Reach
}

// LockReached is Lock for those orders that somebody reaches who asks for them. It waits for no other one.
func (s *Store) LockReached(ctx context.Context, tx *sqlx.Tx, asked []Asked) (map[uuid.UUID]order.Order, error) {
	ids, tenants, owners := make(pg.UUIDs, len(asked)), make(pg.Texts, len(asked)), make(pg.Texts, len(asked))
	for i, a := range asked {
		ids[i], tenants[i], owners[i] = a.OrderID, a.By.Normal().Tenant, a.By.Owner
	}
	var rows []order.Order
	if err := tx.SelectContext(ctx, &rows, `
		SELECT `+orderColumns.String()+` FROM orders
		WHERE id = ANY($1::uuid[]) AND EXISTS (
			SELECT FROM unnest($1::uuid[], $2::text[], $3::text[]) AS asked (order_id, by_tenant, by_owner)
			WHERE order_id = id AND by_tenant = tenant AND by_owner IN ('', subject)
		) ORDER BY id FOR UPDATE OF orders`, ids, tenants, owners); err != nil {
		return nil, fmt.Errorf("lock %d orders: %w", len(asked), err)
	}
	return byID(rows), nil
}

// Changes is the database channel on which every process is told which orders have changed.
const Changes = "orders"

var (
	orderState = orderColumns.Only("id", "status", "reason", "note", "captured", "refunded", "version", "payment_version",
		"updated_at")
	steps = pg.ColumnsOf[order.Transition]().After(len(orderState))

	// saveOrders stores orders and their history and announces them on Changes, in one statement: where orders come
	// alone, each further statement would cost as much. The rows are locked and were read, so the conditions on versions
	// always hold.
	saveOrders = fmt.Sprintf(`
		WITH saved AS (
			UPDATE orders SET status = c.status, reason = c.reason, note = c.note, captured = c.captured,
				refunded = c.refunded, version = c.version, payment_version = c.payment_version, updated_at = c.updated_at
			FROM %s
			WHERE orders.id = c.id AND orders.version < c.version AND orders.payment_version <= c.payment_version
			RETURNING orders.id
		), written AS (
			INSERT INTO order_history (%s) SELECT %s
		)
		SELECT (SELECT count(*) FROM saved),
			(SELECT count(pg_notify('`+Changes+`', text)) FROM unnest($%d::text[]) AS text)`,
		orderState.Rows(), steps, steps.Unnested(), len(orderState)+len(steps)+1)
)

// Save stores the new states of orders that the transaction has locked, and the transitions that led to them. After the
// commit, every process that listens to Changes is told.
func (s *Store) Save(ctx context.Context, tx *sqlx.Tx, orders []order.Order, transitions []order.Transition) error {
	n := len(orders)
	if n+len(transitions) == 0 {
		return nil
	}
	changes := make([]watch.Change, n)
	for i, o := range orders {
		changes[i] = watch.Change{ID: o.ID, Version: o.Version}
	}
	args := append(orderState.Arrays(pg.Pointers(orders)), steps.Arrays(pg.Pointers(transitions))...)
	args = append(args, pg.Texts(watch.Announcements(changes)))
	var saved, told int
	if err := tx.QueryRowContext(ctx, saveOrders, args...).Scan(&saved, &told); err != nil {
		return fmt.Errorf("save %d orders: %w", n, err)
	}
	if saved != n {
		return fmt.Errorf("save %d orders: %d rows changed", n, saved)
	}
	return nil
}

// Cancellation is the request that began the cancellation of an order.
type Cancellation struct {
	OrderID     uuid.UUID     `db:"order_id"`
	Request     uuid.NullUUID `db:"request"` // derived from the client's key, if it gave one
	Fingerprint uuid.UUID     `db:"fingerprint"`
	Note        string        `db:"reason"` // in the client's words
	At          time.Time     `db:"at"`
}

// Cancellations returns those of the orders' cancellations that have begun, by order.
func (s *Store) Cancellations(ctx context.Context, tx *sqlx.Tx, ids []uuid.UUID) (map[uuid.UUID]Cancellation, error) {
	cancellations := make(map[uuid.UUID]Cancellation, len(ids))
	if len(ids) == 0 {
		return cancellations, nil
	}
	var rows []Cancellation
	if err := tx.SelectContext(ctx, &rows, `
		SELECT `+cancellationColumns.String()+` FROM cancellations
		WHERE order_id = ANY($1::uuid[])`, pg.UUIDs(ids)); err != nil {
		return nil, fmt.Errorf("read cancellations: %w", err)
	}
	for _, c := range rows {
		cancellations[c.OrderID] = c
	}
	return cancellations, nil
}

var (
	cancellationColumns = pg.ColumnsOf[Cancellation]()
	insertCancellations = pg.Statement[Cancellation]{What: "save cancellations", Columns: cancellationColumns, Query: `
		WITH watched AS (
			INSERT INTO unsettled (order_id, due_at) SELECT unnest($1::uuid[]), clock_timestamp()
			ON CONFLICT (order_id) DO UPDATE SET due_at = excluded.due_at
		)
		INSERT INTO cancellations (` + cancellationColumns.String() + `) SELECT ` + cancellationColumns.Unnested()}
)

// SaveCancellations stores the requests that begin cancellations, and has the orders watched until they are cancelled:
// the sweep has passed most of them.
func (s *Store) SaveCancellations(ctx context.Context, tx *sqlx.Tx, cancellations []Cancellation) error {
	return insertCancellations.Of(pg.Pointers(cancellations))(ctx, tx)
}
