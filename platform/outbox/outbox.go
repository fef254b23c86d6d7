// Package outbox publishes messages exactly when the transaction that wrote them commits: Append stores them in the
// caller's transaction, the Relay publishes what is committed and deletes it once the broker has acknowledged it. A
// crash between the two publishes a message again, never not at all; its ID tells a reader that it is the same.
package outbox

import (
	"context"
	"embed"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	pg "github.com/altyn-pay/altyn/platform/postgres"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations creates the outbox's tables.
func Migrations() pg.Migrations { return pg.Embedded("outbox", files) }

// Message is one event to be published.
type Message struct {
	Seq         int64 // set by the database: the order of publication per key
	Lane        int16 // the same for all messages of a key
	ID          uuid.UUID
	Type        string
	Topic       string
	Key         string
	Subject     string
	Payload     string // JSON
	Traceparent string
	CreatedAt   time.Time // set by the database
}

// Append stores messages in the caller's transaction: they are published, in this order per key, if and only if it
// commits. Wake the relay after the commit.
func Append(ctx context.Context, tx *sqlx.Tx, messages ...Message) error {
	if len(messages) == 0 {
		return nil
	}
	lanes, counts, texts := pack(messages)
	// The columns are unnested in the SELECT list, which makes the rows one after the other; in FROM each column would be a
	// table of its own first.
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO outbox (lane, count, messages) SELECT unnest($1::smallint[]), unnest($2::smallint[]), unnest($3::text[])`,
		lanes, counts, texts); err != nil {
		return fmt.Errorf("outbox: append %d messages: %w", len(messages), err)
	}
	return nil
}

// Insertion is Append as a part of another statement: a text that stores those messages of which the condition, such as
// WHERE subject = '…', is true. The statement's parameters from number first on are those of Columns.
func Insertion(first int, condition string) string {
	return fmt.Sprintf(`
		INSERT INTO outbox (lane, count, messages)
		SELECT lane, 1, message FROM unnest($%d::smallint[], $%d::text[], $%d::text[]) WITH ORDINALITY AS m (lane, subject, message, n)
		`, first, first+1, first+2) + condition + ` ORDER BY n`
}

// Columns are the parameters of an Insertion.
func Columns(messages []Message) []any {
	lanes, subjects, texts := make(pg.Int16s, len(messages)), make(pg.Texts, len(messages)), make(pg.Texts, len(messages))
	for i, m := range messages {
		lanes[i], subjects[i], texts[i] = m.Lane, m.Subject, m.row()
	}
	return []any{lanes, subjects, texts}
}
