package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/orders/internal/order"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/watch"
)

// Lock locks those of the orders that are there, all callers in one global order, and returns them by ID.
func (s *Store) Lock(ctx context.Context, tx *sqlx.Tx, ids []uuid.UUID) (map[uuid.UUID]order.Order, error) {
	return selectOrders(ctx, tx, `SELECT `+orderColumns+` FROM orders WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE`, ids)
}

// Changes is the channel of the database on which every process hears of the orders that are saved.
const Changes = "orders"

// saveOrders stores states of orders and their history and tells of them, by one statement: where orders come alone, each
// further one would cost as much. The rows are locked and were read, so the condition always holds: no change is lost, and
// versions never go back.
const saveOrders = `
	WITH saved AS (
		UPDATE orders SET status = c.status, reason = c.reason, note = c.note, captured = c.captured,
			refunded = c.refunded, version = c.version, payment_version = c.payment_version, updated_at = c.updated_at
		FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::timestamptz[])
			AS c (id, status, reason, note, captured, refunded, version, payment_version, updated_at)
		WHERE orders.id = c.id AND orders.version < c.version AND orders.payment_version <= c.payment_version
		RETURNING orders.id
	), written AS (
		INSERT INTO order_history (order_id, number, at, from_status, to_status, reason, note, event_id)
		SELECT * FROM unnest($10::uuid[], $11::bigint[], $12::timestamptz[], $13::text[], $14::text[], $15::text[], $16::text[], $17::uuid[])
	)
	SELECT (SELECT count(*) FROM saved), (SELECT count(pg_notify('` + Changes + `', text)) FROM unnest($18::text[]) AS text)`

// Save stores the new states of orders that the transaction has locked, and the transitions that led to them. Once that is
// committed, every process that listens to Changes is told.
func (s *Store) Save(ctx context.Context, tx *sqlx.Tx, orders []order.Order, transitions []order.Transition) error {
	n, m := len(orders), len(transitions)
	if n+m == 0 {
		return nil
	}
	ids, statuses, reasons, notes, updated := make(pg.UUIDs, n), texts(n), texts(n), texts(n), make(pg.Times, n)
	captured, refunded, versions, paymentVersions := bigints(n), bigints(n), bigints(n), bigints(n)
	changes := make([]watch.Change, n)
	for i, o := range orders {
		ids[i], statuses[i], reasons[i], notes[i], updated[i] = o.ID, string(o.Status), o.Reason, o.Note, o.UpdatedAt
		captured[i], refunded[i], versions[i], paymentVersions[i] = o.Captured, o.Refunded, o.Version, o.PaymentVersion
		changes[i] = watch.Change{ID: o.ID, Version: o.Version}
	}
	of, events, numbers, at := make(pg.UUIDs, m), make(pg.OptionalUUIDs, m), bigints(m), make(pg.Times, m)
	from, to, why, said := texts(m), texts(m), texts(m), texts(m)
	for i, t := range transitions {
		of[i], numbers[i], at[i], from[i], to[i] = t.OrderID, t.Number, t.At, string(t.From), string(t.To)
		why[i], said[i], events[i] = t.Reason, t.Note, t.EventID.UUID
	}
	var saved, told int
	if err := tx.QueryRowContext(ctx, saveOrders, ids, statuses, reasons, notes, captured, refunded, versions, paymentVersions, updated,
		of, numbers, at, from, to, why, said, events, pg.Texts(watch.Announcements(changes))).Scan(&saved, &told); err != nil {
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
	var rows []Cancellation
	if err := tx.SelectContext(ctx, &rows, `
		SELECT order_id, request, fingerprint, reason, at FROM cancellations WHERE order_id = ANY($1::uuid[])`, pg.UUIDs(ids)); err != nil {
		return nil, fmt.Errorf("read cancellations: %w", err)
	}
	cancellations := make(map[uuid.UUID]Cancellation, len(rows))
	for _, c := range rows {
		cancellations[c.OrderID] = c
	}
	return cancellations, nil
}

// SaveCancellations stores the requests that begin cancellations, and has the orders watched until they are cancelled: the
// sweep has passed most of them.
func (s *Store) SaveCancellations(ctx context.Context, tx *sqlx.Tx, cancellations []Cancellation) error {
	n := len(cancellations)
	if n == 0 {
		return nil
	}
	orders, requests, fingerprints := make(pg.UUIDs, n), make(pg.OptionalUUIDs, n), make(pg.UUIDs, n)
	notes, at := texts(n), make(pg.Times, n)
	for i, c := range cancellations {
		orders[i], fingerprints[i], notes[i], at[i] = c.OrderID, c.Fingerprint, c.Note, c.At
		requests[i] = c.Request.UUID
	}
	return exec(ctx, tx, "save cancellations", n, `
		WITH watched AS (
			INSERT INTO unsettled (order_id, due_at) SELECT unnest($1::uuid[]), clock_timestamp()
			ON CONFLICT (order_id) DO UPDATE SET due_at = excluded.due_at
		)
		INSERT INTO cancellations (order_id, request, fingerprint, reason, at)
		SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[])`,
		orders, requests, fingerprints, notes, at)
}
