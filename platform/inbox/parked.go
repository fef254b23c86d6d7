package inbox

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/parked"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// discardedKind is the kind of a message that an operator has given up. It is still settled in its turn, so that the
// handler can end what the message was about.
const discardedKind = "discarded"

// KindSQL is an SQL expression for the kind of a row of the table inbox, or the kind that it had before an operator
// gave it up.
const KindSQL = `CASE kind WHEN '` + discardedKind + `' THEN payload::json->>'kind' ELSE kind END`

// discarded is the payload of such a message. Everything else of the message stays as it was.
type discarded struct {
	Kind    string          `json:"kind"`
	Payload json.RawMessage `json:"payload"`
	Reason  string          `json:"reason"`
}

// undiscard returns what a message was before an operator gave it up, if one did.
func undiscard(m Stored) (Stored, error) {
	if m.Kind != discardedKind {
		return m, nil
	}
	var d discarded
	if err := json.Unmarshal([]byte(m.Body), &d); err != nil {
		return m, fmt.Errorf("inbox: decode discarded message %s: %w", m.ID, err)
	}
	m.Kind, m.Body, m.Discarded = d.Kind, string(d.Payload), true
	return m, nil
}

// Parked is the parked.Source of an inbox: the messages that were tried too often, each at the head of its account's
// queue. Like a worker, it changes an account's stop only while it holds the lock of the account's lane.
type Parked struct {
	db          *sqlx.DB
	discardable func(kind string) bool
	wake        func()
}

var _ parked.Source = (*Parked)(nil)

// NewParked makes the source. discardable tells which kinds of messages an operator may discard; wake is called after a
// message was made ready.
func NewParked(db *sqlx.DB, discardable func(kind string) bool, wake func()) *Parked {
	return &Parked{db: db, discardable: discardable, wake: wake}
}

// Park stores messages that cannot take effect, with the reasons. Each is parked from the start, at the head of the
// queue of an account that must have no other messages. One that is there already stays as it is.
func Park(ctx context.Context, db *sqlx.DB, messages []Stored, reasons []error) error {
	n := len(messages)
	ids, accounts, lanes := make(pg.UUIDs, n), make(pg.UUIDs, n), make(pg.Int16s, n)
	kinds, payloads, texts := make(pg.Texts, n), make(pg.Texts, n), make(pg.Texts, n)
	for i, m := range messages {
		ids[i], accounts[i], lanes[i] = m.ID, m.AccountID, m.Lane
		kinds[i], payloads[i] = m.Kind, m.Body
		texts[i] = pg.Storable(reasons[i].Error())
	}
	if _, err := db.ExecContext(ctx, `
		WITH m AS (
			SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::text[], $5::text[], $6::text[])
				AS m (id, lane, account_id, kind, payload, reason)
		), stored AS (
			INSERT INTO inbox (id, lane, account_id, kind, payload, stopped, tenant)
			SELECT id, lane, account_id, kind, payload, true, '' FROM m
			ON CONFLICT (id, lane) DO NOTHING
			RETURNING id
		)
		INSERT INTO inbox_stops (account_id, lane, message_id, attempts, reason)
		SELECT account_id, lane, id, 1, reason FROM m JOIN stored USING (id)
		ON CONFLICT (account_id, lane) DO NOTHING`, ids, lanes, accounts, kinds, payloads, texts); err != nil {
		return fmt.Errorf("inbox: park %d messages: %w", n, err)
	}
	return nil
}

// parkedRow is an item and its lane.
type parkedRow struct {
	parked.Item
	Lane int16  `db:"lane"`
	Text []byte `db:"payload"`
}

// parkedRows selects what is parked: stopped accounts with no retry scheduled or under way.
var parkedRows = fmt.Sprintf(`
	SELECT m.id, m.lane, m.kind, m.account_id, left(s.reason, %d) AS reason, s.attempts, s.stopped_at AS parked_at,
		CASE WHEN octet_length(m.payload) <= %d THEN m.payload END AS payload
	FROM inbox_stops s JOIN inbox m ON m.id = s.message_id AND m.lane = s.lane AND m.account_id = s.account_id
	WHERE s.retry_at IS NULL AND NOT s.probing`, parked.MaxReason, parked.MaxPayload)

// Parked implements parked.Source.
func (p *Parked) Parked(ctx context.Context, after parked.Position, limit int) ([]parked.Item, error) {
	var rows []parkedRow
	if err := p.db.SelectContext(ctx, &rows, parkedRows+`
		AND (s.stopped_at, s.message_id) > ($1, $2) ORDER BY s.stopped_at, s.message_id LIMIT $3`,
		after.At, after.ID, limit); err != nil {
		return nil, fmt.Errorf("inbox: list what is parked: %w", err)
	}
	items := make([]parked.Item, len(rows))
	for i, row := range rows {
		items[i] = row.Show("inbox", row.Text)
	}
	return items, nil
}

// Redrive implements parked.Source: the message is claimed once more, and its attempts are counted anew.
func (p *Parked) Redrive(ctx context.Context, id uuid.UUID, record parked.Record) (parked.Item, error) {
	return p.release(ctx, id, record, func(*sqlx.Tx, parkedRow) error { return nil })
}

// Discard implements parked.Source: the handler gets the message once more, in its turn and marked as Discarded. If it
// fails again, it is parked again, and may be discarded again.
func (p *Parked) Discard(ctx context.Context, id uuid.UUID, reason string, record parked.Record) (parked.Item, error) {
	return p.release(ctx, id, record, func(tx *sqlx.Tx, row parkedRow) error {
		var m Stored
		if err := tx.GetContext(ctx, &m, `SELECT id, kind, payload FROM inbox WHERE id = $1 AND lane = $2`,
			id, row.Lane); err != nil {
			return fmt.Errorf("inbox: read: %w", err)
		}
		wrapped, err := discard(m, reason)
		if err != nil {
			return err
		}
		if !p.discardable(wrapped.Kind) {
			return parked.ErrNotDiscardable
		}
		payload, err := json.Marshal(wrapped)
		if err != nil {
			return fmt.Errorf("inbox: encode: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `UPDATE inbox SET kind = $1, payload = $2 WHERE id = $3 AND lane = $4`,
			discardedKind, string(payload), id, row.Lane); err != nil {
			return fmt.Errorf("inbox: discard: %w", err)
		}
		return nil
	})
}

// discard wraps a message. One that was discarded before is not wrapped twice; it gets the new reason.
func discard(m Stored, reason string) (discarded, error) {
	was, err := undiscard(m)
	if err != nil {
		return discarded{}, err
	}
	d := discarded{Kind: was.Kind, Payload: json.RawMessage(was.Body), Reason: reason}
	if !json.Valid(d.Payload) { // which may be why it failed
		d.Payload, _ = json.Marshal(was.Body) // a string can always be encoded
	}
	return d, nil
}

// release calls change and record, and lets a parked message be claimed once more.
func (p *Parked) release(ctx context.Context, id uuid.UUID, record parked.Record,
	change func(tx *sqlx.Tx, row parkedRow) error) (parked.Item, error) {
	var row parkedRow
	err := pg.InTx(ctx, p.db, func(tx *sqlx.Tx) (err error) {
		if row, err = find(ctx, tx, id); err != nil {
			return err
		}
		if err := lockLane(ctx, tx, row.Lane); err != nil {
			return err
		}
		// It may have changed before the lock was taken.
		if row, err = find(ctx, tx, id); err != nil {
			return err
		}
		if err := change(tx, row); err != nil {
			return err
		}
		if err := record(ctx, tx, row.Show("inbox", row.Text)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `
			UPDATE inbox_stops SET probing = true, attempts = 0 WHERE account_id = $1 AND lane = $2`,
			row.AccountID, row.Lane); err != nil {
			return fmt.Errorf("inbox: release: %w", err)
		}
		return ready(ctx, tx, stop{row.AccountID, row.Lane})
	})
	if err != nil {
		return parked.Item{}, err
	}
	p.wake()
	return row.Show("inbox", row.Text), nil
}

func find(ctx context.Context, tx *sqlx.Tx, id uuid.UUID) (parkedRow, error) {
	var rows []parkedRow
	if err := tx.SelectContext(ctx, &rows, parkedRows+` AND m.id = $1 ORDER BY s.lane LIMIT 1`, id); err != nil {
		return parkedRow{}, fmt.Errorf("inbox: find what is parked: %w", err)
	}
	if len(rows) == 0 {
		return parkedRow{}, parked.ErrNotFound
	}
	return rows[0], nil
}
