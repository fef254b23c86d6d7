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
	Seq         int64     `db:"seq"`  // set by the database: the order of publication per key
	Lane        int16     `db:"lane"` // the same for all messages of a key
	ID          uuid.UUID `db:"id"`
	Type        string    `db:"type"`
	Topic       string    `db:"topic"`
	Key         string    `db:"key"`
	Subject     string    `db:"subject"`
	Payload     string    `db:"payload"` // JSON
	Traceparent string    `db:"traceparent"`
	Tenant      string    `db:"tenant"`     // whose it is; "" is identity.DefaultTenant, as which it is read back
	CreatedAt   time.Time `db:"created_at"` // set by the database
}

// Append stores messages in the caller's transaction: they are published, in this order per key, if and only if it
// commits. Wake the relay after the commit.
func Append(ctx context.Context, tx *sqlx.Tx, messages ...Message) error {
	if len(messages) == 0 {
		return nil
	}
	lanes, counts, texts := pack(messages)
	// The columns are unnested in the SELECT list, which makes the rows one after the other; in FROM each column would be
	// a table of its own first.
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO outbox (lane, count, messages) SELECT unnest($1::smallint[]), unnest($2::smallint[]), unnest($3::text[])`,
		lanes, counts, texts); err != nil {
		return fmt.Errorf("outbox: append %d messages: %w", len(messages), err)
	}
	return nil
}

// Insertion is Append as a part of another statement, such as a WITH query. It returns SQL that inserts those messages
// for whose subject the condition holds, and the arguments of the whole statement: args, and after them those that the
// SQL needs.
func Insertion(messages []Message, condition string, args []any) (sql string, all []any) {
	n := len(messages)
	lanes, subjects, texts := make(pg.Int16s, n), make(pg.Texts, n), make(pg.Texts, n)
	for i, m := range messages {
		lanes[i], subjects[i], texts[i] = m.Lane, m.Subject, m.row()
	}
	first := len(args) + 1
	return fmt.Sprintf(`
		INSERT INTO outbox (lane, count, messages)
		SELECT lane, 1, message
		FROM unnest($%d::smallint[], $%d::text[], $%d::text[]) WITH ORDINALITY AS m (lane, subject, message, n)
		WHERE %s ORDER BY n`, first, first+1, first+2, condition), append(args, lanes, subjects, texts)
}
