// Package inbox is the door through which messages take effect exactly once and, per account, in the order in which
// they were accepted. Whoever takes a message in (a broker's receiver, an HTTP handler, a timer) has a Worker accept it:
// where nothing is ahead of it, it takes its effect in that very transaction. Otherwise it is stored; workers claim batches
// of what is stored, lane by lane, and delete them in the very transaction that gives them their effect.
//
// A lane is held by a transaction-level advisory lock while its messages are settled, so any number of workers in any
// number of processes share the lanes, and a crash frees them at once.
package inbox

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	pg "github.com/altyn-pay/altyn/platform/postgres"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations creates the inbox's tables.
func Migrations() pg.Migrations { return pg.Embedded("inbox", files) }

// Message is one accepted request or event, in the queue of its account.
type Message struct {
	Seq         int64         `db:"seq"` // arrival number, set by the database
	ID          uuid.UUID     `db:"id"`  // the same message has the same ID, however often it arrives
	Lane        int16         `db:"lane"`
	AccountID   uuid.UUID     `db:"account_id"`
	Kind        string        `db:"kind"`
	Payload     string        `db:"payload"` // JSON; where it is empty, what is stored is the JSON of Body
	Body        any           `db:"-"`       // what Payload says, of a message that was not stored
	Fingerprint uuid.NullUUID `db:"fingerprint"`
	Traceparent string        `db:"traceparent"`
	ReceivedAt  time.Time     `db:"received_at"` // set by the database
}

// Discarded is the kind of a message that an operator has given up. It takes effect in its place in the queue, as what the
// handler makes of what it was; see Undiscard.
const Discarded = "discarded"

// Insert stores messages, in this order per account. It returns each message's arrival number, or 0 where a message
// with its ID is waiting already. A duplicate of a message that has taken effect is stored again: whoever settles it
// must recognise it by its permanent record.
func Insert(ctx context.Context, tx sqlx.ExtContext, messages []Message) ([]int64, error) {
	n := len(messages)
	ids, accounts, lanes, fingerprints := make(pg.UUIDs, n), make(pg.UUIDs, n), make(pg.Int16s, n), make(pg.OptionalUUIDs, n)
	kinds, payloads, traces := make(pg.Texts, n), make(pg.Texts, n), make(pg.Texts, n)
	for i, m := range messages {
		ids[i], lanes[i], accounts[i], kinds[i], payloads[i] = m.ID, m.Lane, m.AccountID, m.Kind, m.Payload
		fingerprints[i], traces[i] = m.Fingerprint.UUID, m.Traceparent
		if m.Payload == "" {
			payload, err := json.Marshal(m.Body)
			if err != nil {
				return nil, fmt.Errorf("inbox: encode message %s: %w", m.ID, err)
			}
			payloads[i] = string(payload)
		}
	}
	rows, err := tx.QueryContext(ctx, `
		INSERT INTO inbox (id, lane, account_id, kind, payload, fingerprint, traceparent)
		SELECT id, lane, account_id, kind, payload, fingerprint, traceparent
		FROM unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::text[], $5::text[], $6::uuid[], $7::text[])
			WITH ORDINALITY AS m (id, lane, account_id, kind, payload, fingerprint, traceparent, n)
		ORDER BY n
		ON CONFLICT (id, lane) DO NOTHING
		RETURNING id, seq`, ids, lanes, accounts, kinds, payloads, fingerprints, traces)
	if err != nil {
		return nil, fmt.Errorf("inbox: insert %d messages: %w", n, err)
	}
	defer rows.Close()
	arrivals := make([]int64, n)
	// Rows come back in the order of the input, less those that conflicted.
	next := 0
	for rows.Next() {
		var (
			id  uuid.UUID
			seq int64
		)
		if err := rows.Scan(&id, &seq); err != nil {
			return nil, fmt.Errorf("inbox: insert: %w", err)
		}
		for next < n && messages[next].ID != id {
			next++
		}
		if next == n {
			return nil, fmt.Errorf("inbox: insert returned message %s out of order", id)
		}
		arrivals[next] = seq
		next++
	}
	return arrivals, rows.Err()
}
