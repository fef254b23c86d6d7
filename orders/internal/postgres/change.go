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

// Lock locks the orders that exist, in one global order, and returns them by ID.
func (s *Store) Lock(ctx context.Context, tx *sqlx.Tx, ids []uuid.UUID) (map[uuid.UUID]order.Order, error) {
	return selectOrders(ctx, tx, `
		SELECT `+orderColumns+` FROM orders WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE`, ids)
}

// Changes is the database channel on which every process is told which orders have changed.
const Changes = "orders"

// saveOrders stores orders and their history and announces them on Changes, in one statement: where orders come alone,
// each further statement would cost as much. The rows are locked and were read, so the conditions on versions always
// hold.
const saveOrders = `
	WITH saved AS (
		UPDATE orders SET status = c.status, reason = c.reason, note = c.note, captured = c.captured,
			refunded = c.refunded, version = c.version, payment_version = c.payment_version, updated_at = c.updated_at
		FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[],
				$5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::timestamptz[])
			AS c (id, status, reason, note, captured, refunded, version, payment_version, updated_at)
		WHERE orders.id = c.id AND orders.version < c.version AND orders.payment_version <= c.payment_version
		RETURNING orders.id
	), written AS (
		INSERT INTO order_history (order_id, number, at, from_status, to_status, reason, note, event_id)
		SELECT * FROM unnest($10::uuid[], $11::bigint[], $12::timestamptz[], $13::text[], $14::text[], $15::text[],
			$16::text[], $17::uuid[])
	)
	SELECT (SELECT count(*) FROM saved),
		(SELECT count(pg_notify('` + Changes + `', text)) FROM unnest($18::text[]) AS text)`

// Save stores the new states of orders that the transaction has locked, and the transitions that led to them. After the
// commit, every process that listens to Changes is told.
func (s *Store) Save(ctx context.Context, tx *sqlx.Tx, orders []order.Order, transitions []order.Transition) error {
	n, m := len(orders), len(transitions)
	if n+m == 0 {
		return nil
	}
	ids, updated := make(pg.UUIDs, n), make(pg.Times, n)
	statuses, reasons, notes := texts(n), texts(n), texts(n)
	captured, refunded := bigints(n), bigints(n)
	versions, paymentVersions := bigints(n), bigints(n)
	changes := make([]watch.Change, n)
	for i, o := range orders {
		ids[i], updated[i] = o.ID, o.UpdatedAt
		statuses[i] = string(o.Status)
		reasons[i], notes[i] = o.Reason, o.Note
		captured[i], refunded[i] = o.Captured, o.Refunded
		versions[i], paymentVersions[i] = o.Version, o.PaymentVersion
		changes[i] = watch.Change{ID: o.ID, Version: o.Version}
	}
	of, numbers := make(pg.UUIDs, m), bigints(m)
	at, events := make(pg.Times, m), make(pg.OptionalUUIDs, m)
	from, to := texts(m), texts(m)
	why, said := texts(m), texts(m)
	for i, t := range transitions {
		of[i], numbers[i] = t.OrderID, t.Number
		at[i], events[i] = t.At, t.EventID.UUID
		from[i], to[i] = string(t.From), string(t.To)
		why[i], said[i] = t.Reason, t.Note
	}
	var saved, told int
	if err := tx.QueryRowContext(ctx, saveOrders,
		ids, statuses, reasons, notes, captured, refunded, versions, paymentVersions, updated,
		of, numbers, at, from, to, why, said, events,
		pg.Texts(watch.Announcements(changes))).Scan(&saved, &told); err != nil {
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
		SELECT order_id, request, fingerprint, reason, at FROM cancellations
		WHERE order_id = ANY($1::uuid[])`, pg.UUIDs(ids)); err != nil {
		return nil, fmt.Errorf("read cancellations: %w", err)
	}
	cancellations := make(map[uuid.UUID]Cancellation, len(rows))
	for _, c := range rows {
		cancellations[c.OrderID] = c
	}
	return cancellations, nil
}

// SaveCancellations stores the requests that begin cancellations, and has the orders watched until they are cancelled:
// the sweep has passed most of them.
func (s *Store) SaveCancellations(ctx context.Context, tx *sqlx.Tx, cancellations []Cancellation) error {
	n := len(cancellations)
	if n == 0 {
		return nil
	}
	orders, requests, fingerprints := make(pg.UUIDs, n), make(pg.OptionalUUIDs, n), make(pg.UUIDs, n)
	notes, at := texts(n), make(pg.Times, n)
	for i, c := range cancellations {
		orders[i], requests[i] = c.OrderID, c.Request.UUID
		fingerprints[i] = c.Fingerprint
		notes[i], at[i] = c.Note, c.At
	}
	return pg.ExecExactly(ctx, tx, "save cancellations", n, `
		WITH watched AS (
			INSERT INTO unsettled (order_id, due_at) SELECT unnest($1::uuid[]), clock_timestamp()
			ON CONFLICT (order_id) DO UPDATE SET due_at = excluded.due_at
		)
		INSERT INTO cancellations (order_id, request, fingerprint, reason, at)
		SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[])`,
		orders, requests, fingerprints, notes, at)
}
