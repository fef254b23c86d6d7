// Package outbox publishes messages exactly when the transaction that wrote them commits: Append stores them in the
// caller's transaction, the Relay publishes what is committed and deletes it once the broker has acknowledged it. A
// crash between the two publishes a message again, never not at all; its ID tells a reader that it is the same.
package outbox

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/postgres"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations creates the outbox's tables.
func Migrations() postgres.Migrations {
	sub, err := fs.Sub(files, "migrations")
	if err != nil {
		panic(err) // the folder is compiled in
	}
	return postgres.Migrations{Name: "outbox", FS: sub}
}

// Message is one event to be published.
type Message struct {
	Seq         int64     `db:"seq"` // set by the database: the order of publication per key
	Lane        int16     `db:"lane"`
	ID          uuid.UUID `db:"id"`
	Type        string    `db:"type"`
	Topic       string    `db:"topic"`
	Key         string    `db:"key"`
	Subject     string    `db:"subject"`
	Payload     string    `db:"payload"` // JSON
	Traceparent string    `db:"traceparent"`
	CreatedAt   time.Time `db:"created_at"` // set by the database
}

// Append stores messages in the caller's transaction: they are published, in this order per key, if and only if it
// commits. Wake the relay after the commit.
func Append(ctx context.Context, tx *sqlx.Tx, messages ...Message) error {
	if len(messages) == 0 {
		return nil
	}
	if _, err := tx.ExecContext(ctx, appendAll, Columns(messages)...); err != nil {
		return fmt.Errorf("outbox: append %d messages: %w", len(messages), err)
	}
	return nil
}

// The columns are unnested in the SELECT list, which makes the rows one after the other; in FROM each column would be a table
// of its own first, for a fifth of the statement's time.
const appendAll = `
	INSERT INTO outbox (lane, id, type, topic, key, subject, payload, traceparent)
	SELECT unnest($1::smallint[]), unnest($2::uuid[]), unnest($3::text[]), unnest($4::text[]), unnest($5::text[]), unnest($6::text[]),
		unnest($7::text[]), unnest($8::text[])`

// Insertion is Append as a part of another statement: a text that stores those messages of which the condition, such as
// WHERE subject = '…', is true. The statement's parameters from number first on are those of Columns.
func Insertion(first int, condition string) string {
	var columns []any
	for n := range 8 {
		columns = append(columns, first+n)
	}
	return fmt.Sprintf(`
		INSERT INTO outbox (lane, id, type, topic, key, subject, payload, traceparent)
		SELECT lane, id, type, topic, key, subject, payload, traceparent
		FROM unnest($%d::smallint[], $%d::uuid[], $%d::text[], $%d::text[], $%d::text[], $%d::text[], $%d::text[], $%d::text[])
			WITH ORDINALITY AS m (lane, id, type, topic, key, subject, payload, traceparent, n)
		`, columns...) + condition + ` ORDER BY n`
}

// Columns are the parameters of an Insertion.
func Columns(messages []Message) []any {
	texts := func() postgres.Texts { return make(postgres.Texts, len(messages)) }
	lanes, ids := make(postgres.Int16s, len(messages)), make(postgres.UUIDs, len(messages))
	types, topics, keys, subjects, payloads, traces := texts(), texts(), texts(), texts(), texts(), texts()
	for i, m := range messages {
		lanes[i], ids[i], types[i], topics[i], keys[i] = m.Lane, m.ID, m.Type, m.Topic, m.Key
		subjects[i], payloads[i], traces[i] = m.Subject, m.Payload, m.Traceparent
	}
	return []any{lanes, ids, types, topics, keys, subjects, payloads, traces}
}
