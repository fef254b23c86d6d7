package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/platform/kafka"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/watch"
)

// InTx runs fn in one transaction; see pg.InTx of the platform.
func (s *Store) InTx(ctx context.Context, fn func(tx *sqlx.Tx) error) error {
	return pg.InTx(ctx, s.db, fn)
}

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

// Parked is a message that could be read but not be applied.
type Parked struct {
	Message kafka.Message
	Reason  string
}

// Park keeps messages for an operator. One that is parked already counts one more attempt.
func (s *Store) Park(ctx context.Context, tx *sqlx.Tx, parked []Parked) error {
	n := len(parked)
	if n == 0 {
		return nil
	}
	topics, headers, reasons := texts(n), texts(n), texts(n)
	partitions, offsets := make(pg.Int32s, n), bigints(n)
	keys, payloads := make(pg.Blobs, n), make(pg.Blobs, n)
	for i, p := range parked {
		topics[i], partitions[i], offsets[i] = p.Message.Topic, int32(p.Message.Partition), p.Message.Offset
		keys[i], payloads[i], reasons[i] = p.Message.Key, p.Message.Value, pg.Storable(p.Reason)
		text, err := encodeHeaders(p.Message.Headers)
		if err != nil {
			return err
		}
		headers[i] = text
	}
	return exec(ctx, tx, "park events", n, `
		INSERT INTO parked_events (topic, "partition", "offset", key, headers, payload, reason)
		SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bytea[], $5::text[]::json[], $6::bytea[], $7::text[])
		ON CONFLICT (topic, "partition", "offset") DO UPDATE
			SET attempts = parked_events.attempts + 1, reason = excluded.reason`,
		topics, partitions, offsets, keys, headers, payloads, reasons)
}

// encodeHeaders keeps the bytes of headers, which need not be text.
func encodeHeaders(headers []kafka.Header) (string, error) {
	type header struct {
		Key   string `json:"key"`
		Value []byte `json:"value"` // base64 in JSON
	}
	list := make([]header, len(headers))
	for i, h := range headers {
		list[i] = header{pg.Storable(h.Key), h.Value}
	}
	text, err := json.Marshal(list)
	if err != nil {
		return "", fmt.Errorf("encode headers: %w", err)
	}
	return string(text), nil
}
