package postgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/parked"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Refused is a message that has no effect, with the reason.
type Refused struct {
	Message kafka.Message
	Reason  error
}

// Park keeps messages for an operator. A message that is parked already gets one more attempt and the new reason.
func (s *Store) Park(ctx context.Context, tx *sqlx.Tx, events []Refused) error {
	return setAside(ctx, tx, events, 1)
}

// Keep keeps messages that this version does not know for one that does. They are no operator's work, which is what no
// attempts say.
func (s *Store) Keep(ctx context.Context, events []Refused) error {
	if len(events) == 0 {
		return nil
	}
	return s.InTx(ctx, func(tx *sqlx.Tx) error { return setAside(ctx, tx, events, 0) })
}

func setAside(ctx context.Context, tx *sqlx.Tx, events []Refused, attempts int) error {
	n := len(events)
	if n == 0 {
		return nil
	}
	topics, headers, reasons := make(pg.Texts, n), make(pg.Texts, n), make(pg.Texts, n)
	partitions, offsets := make(pg.Int32s, n), make(pg.Int64s, n)
	keys, payloads := make(pg.Blobs, n), make(pg.Blobs, n)
	for i, p := range events {
		m := p.Message
		topics[i] = m.Topic
		partitions[i], offsets[i] = int32(m.Partition), m.Offset
		keys[i], payloads[i] = m.Key, m.Value
		reasons[i] = pg.Storable(p.Reason.Error())
		var err error
		if headers[i], err = encodeHeaders(m.Headers); err != nil {
			return err
		}
	}
	return pg.ExecExactly(ctx, tx, "park events", n, `
		INSERT INTO parked_events (topic, "partition", "offset", key, headers, payload, reason, attempts)
		SELECT *, $8 FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bytea[], $5::text[]::json[], $6::bytea[],
			$7::text[])
		ON CONFLICT (topic, "partition", "offset") DO UPDATE
			SET attempts = parked_events.attempts + excluded.attempts, reason = excluded.reason`,
		topics, partitions, offsets, keys, headers, payloads, reasons, attempts)
}

// parkedRow is a parked event. A list leaves out what is large.
type parkedRow struct {
	parked.Item
	Topic     string `db:"topic"`
	Partition int    `db:"partition"`
	Offset    int64  `db:"offset"`
	Key       []byte `db:"key"`
	Headers   []byte `db:"headers"`
	Value     []byte `db:"payload"`
}

// message is the event as it was consumed.
func (r parkedRow) message() (kafka.Message, error) {
	headers, err := decodeHeaders(r.Headers)
	return kafka.Message{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: r.Key, Value: r.Value, Headers: headers,
	}, err
}

// item is what operators see of it.
func (r parkedRow) item() (parked.Item, error) {
	m, err := r.message()
	if err != nil {
		return parked.Item{}, err
	}
	r.Kind = pg.Storable(kafka.EventOf(m).Type)
	if account, err := uuid.ParseBytes(r.Key); err == nil {
		r.AccountID = account
	}
	value := r.Value
	if len(value) > parked.MaxPayload {
		value = nil
	}
	return r.Show("events", value), nil
}

// ParkedEvents lists parked events after a position, the newest last.
func (s *Store) ParkedEvents(ctx context.Context, after parked.Position, limit int) ([]parked.Item, error) {
	var rows []parkedRow
	if err := s.db.SelectContext(ctx, &rows, fmt.Sprintf(`
		SELECT id, topic, "partition", "offset", left(reason, %[1]d) AS reason, attempts, parked_at,
			CASE WHEN octet_length(key) <= %[2]d THEN key END AS key,
			CASE WHEN octet_length(headers::text) <= %[2]d THEN headers END AS headers,
			CASE WHEN octet_length(payload) <= %[2]d THEN payload END AS payload
		FROM parked_events WHERE attempts > 0 AND (parked_at, id) > ($1, $2)
		ORDER BY parked_at, id LIMIT $3`, parked.MaxReason, parked.MaxPayload),
		after.At, after.ID, limit); err != nil {
		return nil, fmt.Errorf("list parked events: %w", err)
	}
	items := make([]parked.Item, len(rows))
	for i, row := range rows {
		var err error
		if items[i], err = row.item(); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// Kept is a message that is kept for a version that knows it.
type Kept struct {
	ID      uuid.UUID
	Message kafka.Message
}

// Kept lists messages that are kept, of one topic and in its order, those after a place.
func (s *Store) Kept(ctx context.Context, topic string, partition int, offset int64, limit int) ([]Kept, error) {
	var rows []parkedRow
	if err := s.db.SelectContext(ctx, &rows, `
		SELECT `+parkedColumns+` FROM parked_events
		WHERE attempts = 0 AND topic = $1 AND ("partition", "offset") > ($2, $3) ORDER BY "partition", "offset" LIMIT $4`,
		topic, partition, offset, limit); err != nil {
		return nil, fmt.Errorf("list kept events: %w", err)
	}
	kept := make([]Kept, len(rows))
	for i, row := range rows {
		m, err := row.message()
		if err != nil {
			return nil, err
		}
		kept[i] = Kept{row.ID, m}
	}
	return kept, nil
}

var parkedColumns = fmt.Sprintf(`id, topic, "partition", "offset", key, headers, payload,
	left(reason, %d) AS reason, attempts, parked_at`, parked.MaxReason)

// ParkedEvent returns one parked event, or parked.ErrNotFound.
func (s *Store) ParkedEvent(ctx context.Context, id uuid.UUID) (parked.Item, kafka.Message, error) {
	return parkedEvent(ctx, s.db, `SELECT `+parkedColumns+` FROM parked_events WHERE id = $1`, id)
}

// DiscardEvent deletes a parked event, records that, and returns the event as it was, or parked.ErrNotFound.
func (s *Store) DiscardEvent(ctx context.Context, id uuid.UUID, record parked.Record) (item parked.Item, err error) {
	err = s.InTx(ctx, func(tx *sqlx.Tx) error {
		var err error
		item, _, err = parkedEvent(ctx, tx, `DELETE FROM parked_events WHERE id = $1 RETURNING `+parkedColumns, id)
		if err != nil {
			return err
		}
		return record(ctx, tx, item)
	})
	return item, err
}

func parkedEvent(ctx context.Context, from sqlx.QueryerContext, query string, id uuid.UUID) (
	parked.Item, kafka.Message, error) {
	var row parkedRow
	err := sqlx.GetContext(ctx, from, &row, query, id)
	if errors.Is(err, sql.ErrNoRows) {
		return parked.Item{}, kafka.Message{}, parked.ErrNotFound
	}
	if err != nil {
		return parked.Item{}, kafka.Message{}, fmt.Errorf("parked event %s: %w", id, err)
	}
	item, err := row.item()
	if err != nil {
		return parked.Item{}, kafka.Message{}, err
	}
	m, err := row.message()
	return item, m, err
}

// Unpark deletes parked events that have taken effect after all, or that need not take effect any more.
func (s *Store) Unpark(ctx context.Context, tx *sqlx.Tx, ids []uuid.UUID) error {
	if len(ids) == 0 {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM parked_events WHERE id = ANY($1::uuid[])`, pg.UUIDs(ids)); err != nil {
		return fmt.Errorf("unpark events: %w", err)
	}
	return nil
}

// ParkedGauges measure how many events are parked, and how many are kept.
func (s *Store) ParkedGauges() prometheus.Collector {
	return pg.Gauges(s.db, `
		SELECT count(*) FILTER (WHERE attempts > 0), count(*) FILTER (WHERE attempts = 0) FROM parked_events`,
		prometheus.GaugeOpts{
			Name: "altyn_orders_parked_events", Help: "Events of payments that were set aside and wait for an operator."},
		prometheus.GaugeOpts{
			Name: "altyn_orders_kept_events", Help: "Events of payments that wait for a version of orders which knows them."})
}

// encodeHeaders keeps headers as they are: their values need not be text.
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

// decodeHeaders reads what encodeHeaders wrote.
func decodeHeaders(text []byte) ([]kafka.Header, error) {
	if text == nil {
		return nil, nil
	}
	var list []kafka.Header
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("decode headers: %w", err)
	}
	return list, nil
}
