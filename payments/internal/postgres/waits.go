package postgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// waitRow is a request that waits, as it is stored.
type waitRow struct {
	ID          uuid.UUID     `db:"id"`
	Lane        int16         `db:"lane"`
	AccountID   uuid.UUID     `db:"account_id"`
	What        ledger.Reason `db:"what"`
	Seq         int64         `db:"seq"`
	ExpiresAt   sql.NullTime  `db:"expires_at"`
	Kind        ledger.Kind   `db:"kind"`
	Arrival     int64         `db:"arrival"`
	Payload     string        `db:"payload"`
	Fingerprint uuid.NullUUID `db:"fingerprint"`
	Traceparent string        `db:"traceparent"`
	ReceivedAt  time.Time     `db:"received_at"`
}

const waitColumns = `id, lane, account_id, what, seq, expires_at, kind, arrival, payload, fingerprint, traceparent, received_at`

func (row waitRow) wait() (ledger.Wait, error) {
	w := ledger.Wait{For: row.What, Seq: row.Seq, Request: ledger.Request{
		ID: row.ID, Seq: row.Arrival, Lane: row.Lane, AccountID: row.AccountID, Fingerprint: row.Fingerprint,
		Traceparent: row.Traceparent, ReceivedAt: row.ReceivedAt.UTC(),
	}}
	if row.ExpiresAt.Valid {
		w.ExpiresAt = row.ExpiresAt.Time.UTC()
	}
	if err := w.Request.Decode(row.Kind, []byte(row.Payload)); err != nil {
		return w, fmt.Errorf("decode waiting request %s: %w", row.ID, err)
	}
	return w, nil
}

// loadWaits finds the waiting requests that requests are about.
func loadWaits(ctx context.Context, tx *sqlx.Tx, book *ledger.Book, requests []ledger.Request) error {
	ids, lanes := referred(requests, func(r ledger.Request) uuid.UUID {
		if op, ok := book.Operation(r.ID); ok && op.Status == ledger.Created && r.Reply != nil {
			return r.ID // it may be the first of its kind that asks for a reply
		}
		return r.References().Wait
	})
	if len(ids) == 0 {
		return nil
	}
	var rows []waitRow
	if err := tx.SelectContext(ctx, &rows, `
		SELECT found.* FROM unnest($1::uuid[], $2::smallint[]) AS wanted (wanted_id, wanted_lane) CROSS JOIN LATERAL (
			SELECT `+waitColumns+` FROM waits WHERE id = wanted_id AND lane = wanted_lane LIMIT 1
		) found`,
		ids, lanes); err != nil {
		return fmt.Errorf("load what waits: %w", err)
	}
	for _, row := range rows {
		wait, err := row.wait()
		if err != nil {
			return err
		}
		book.PutWait(wait)
	}
	return nil
}

// How many requests of a queue one Resume serves, at most and at least: what is behind them gets a Resume of its own, so that
// a batch of many of them loads no more than about maxLoaded.
const (
	maxServed = 200
	minServed = 4
	maxLoaded = 2000
)

// loadQueues finds the heads of the queues for money that requests are to serve, and the payments in them.
func loadQueues(ctx context.Context, tx *sqlx.Tx, book *ledger.Book, requests []ledger.Request) error {
	heads := make(map[ledger.Key][]ledger.Wait)
	for _, r := range requests {
		if key := r.References().Queue; key != (ledger.Key{}) {
			heads[key] = nil
		}
	}
	if len(heads) == 0 {
		return nil
	}
	accounts, currencies, lanes := keyColumns(heads)
	var rows []struct {
		waitRow
		Currency string `db:"currency"`
	}
	if err := tx.SelectContext(ctx, &rows, `
		SELECT w.* FROM unnest($1::uuid[], $2::text[], $3::smallint[]) AS q (account_id, currency, lane) CROSS JOIN LATERAL (
			SELECT currency, `+waitColumns+` FROM waits
			WHERE account_id = q.account_id AND currency = q.currency AND lane = q.lane AND what = 'waiting_for_funds'
			ORDER BY seq LIMIT $4
		) w ORDER BY w.seq`,
		accounts, currencies, lanes, min(maxServed, max(minServed, maxLoaded/len(heads)))); err != nil {
		return fmt.Errorf("load queues: %w", err)
	}
	var orders pg.UUIDs
	var orderLanes pg.Int16s
	for _, row := range rows {
		wait, err := row.wait()
		if err != nil {
			return err
		}
		key := ledger.Key{AccountID: row.AccountID, Currency: row.Currency, Lane: row.Lane}
		heads[key] = append(heads[key], wait)
		if op := wait.Request.Operation(); op.OrderID != uuid.Nil {
			orders, orderLanes = append(orders, op.OrderID), append(orderLanes, row.Lane)
		}
	}
	for key, head := range heads {
		book.PutQueue(key, head)
	}
	return putPayments(ctx, tx, book, orders, orderLanes)
}

func endWaits(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes) error {
	n := len(changes.Ended)
	if n == 0 {
		return nil
	}
	ids, lanes := make(pg.UUIDs, n), make(pg.Int16s, n)
	for i, w := range changes.Ended {
		ids[i], lanes[i] = w.Request.ID, w.Request.Lane
	}
	return exec(ctx, tx, "end what waits", int64(n), `
		DELETE FROM waits USING unnest($1::uuid[], $2::smallint[]) AS ended (id, lane)
		WHERE waits.id = ended.id AND waits.lane = ended.lane`, ids, lanes)
}

func saveWaits(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes) error {
	n := len(changes.Waits)
	if n == 0 {
		return nil
	}
	ids, accounts, fingerprints, lanes := make(pg.UUIDs, n), make(pg.UUIDs, n), optionalUUIDs(n), make(pg.Int16s, n)
	currencies, whats, kinds, payloads, traces := texts(n), texts(n), texts(n), texts(n), texts(n)
	seqs, arrivals, expires, received := bigints(n), bigints(n), make(pg.Times, n), make(pg.Times, n)
	i := 0
	for _, w := range changes.Waits {
		r := w.Request
		payload, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encode waiting request %s: %w", r.ID, err)
		}
		ids[i], lanes[i], accounts[i], currencies[i], whats[i], seqs[i] = r.ID, r.Lane, r.AccountID, w.Key().Currency, string(w.For), w.Seq
		expires[i], kinds[i], arrivals[i], payloads[i] = w.ExpiresAt, string(r.Kind()), r.Seq, string(payload)
		fingerprints[i], traces[i], received[i] = r.Fingerprint.UUID, r.Traceparent, r.ReceivedAt
		i++
	}
	return exec(ctx, tx, "save what waits", int64(n), `
		INSERT INTO waits (id, lane, account_id, currency, what, seq, expires_at, kind, arrival, payload, fingerprint, traceparent, received_at)
		SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::timestamptz[], $8::text[],
			$9::bigint[], $10::text[], $11::uuid[], $12::text[], $13::timestamptz[])`,
		ids, lanes, accounts, currencies, whats, seqs, expires, kinds, arrivals, payloads, fingerprints, traces, received)
}

// askWaits stores how what goes on waiting is to be answered.
func askWaits(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes) error {
	n := len(changes.Asked)
	if n == 0 {
		return nil
	}
	ids, lanes, payloads := make(pg.UUIDs, 0, n), make(pg.Int16s, 0, n), make(pg.Texts, 0, n)
	for _, w := range changes.Asked {
		payload, err := json.Marshal(w.Request)
		if err != nil {
			return fmt.Errorf("encode waiting request %s: %w", w.Request.ID, err)
		}
		ids, lanes, payloads = append(ids, w.Request.ID), append(lanes, w.Request.Lane), append(payloads, string(payload))
	}
	return exec(ctx, tx, "ask for the replies of what waits", int64(n), `
		UPDATE waits SET payload = asked.payload FROM unnest($1::uuid[], $2::smallint[], $3::text[]) AS asked (id, lane, payload)
		WHERE waits.id = asked.id AND waits.lane = asked.lane`, ids, lanes, payloads)
}

const (
	maxExpiries = 10_000 // deadlines met at one look
	maxTogether = 1000   // messages of them stored by one statement
)

// Deadline is something whose time is over: a hold, or what waits.
type Deadline struct {
	ID        uuid.UUID `db:"id"`
	AccountID uuid.UUID `db:"account_id"`
	Hold      bool      `db:"hold"`
}

// Expire puts a message into the inbox for each open hold and each waiting request whose time is over, and returns how many
// it has stored, which may be some also after an error. A message that is there already stays one: its ID is derived. What
// belongs to an account that stands still with such a message is left out, so that it does not keep the others back.
func (s *Store) Expire(ctx context.Context, message func(Deadline) Message) (int, error) {
	var due []Deadline
	if err := s.db.SelectContext(ctx, &due, `
		SELECT id, account_id, hold FROM (
			(SELECT id, account_id, true AS hold, expires_at FROM holds h WHERE status = 'open' AND expires_at <= now()
				AND NOT EXISTS (SELECT FROM inbox i WHERE i.account_id = h.account_id AND i.stopped AND i.kind = $2)
			ORDER BY expires_at LIMIT $1)
			UNION ALL
			(SELECT id, account_id, false AS hold, expires_at FROM waits w WHERE expires_at <= now()
				AND NOT EXISTS (SELECT FROM inbox i WHERE i.account_id = w.account_id AND i.stopped AND i.kind = $2)
			ORDER BY expires_at LIMIT $1)
		) due ORDER BY expires_at LIMIT $1`, maxExpiries, ledger.KindExpire); err != nil {
		return 0, fmt.Errorf("find what has expired: %w", err)
	}
	if len(due) == 0 {
		return 0, nil
	}
	messages := make([]Message, len(due))
	for i, d := range due {
		messages[i] = message(d)
	}
	stored := 0
	for part := range slices.Chunk(messages, maxTogether) {
		arrivals, err := s.inbox.Store(ctx, part)
		if err != nil {
			return stored, err
		}
		before := stored
		for _, arrival := range arrivals {
			if arrival.Seq != 0 {
				stored++
			}
		}
		if stored == before { // the settlement is behind, and has enough to do
			break
		}
	}
	return stored, nil
}
