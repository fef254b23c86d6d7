// Package outboxtest looks into an outbox, for tests.
package outboxtest

import (
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/outbox"
)

// Messages returns all messages that wait to be published, in order.
func Messages(t testing.TB, db *sqlx.DB) (messages []outbox.Message) {
	t.Helper()
	var rows []outbox.Row
	if err := db.SelectContext(t.Context(), &rows,
		`SELECT seq, lane, messages, created_at FROM outbox ORDER BY seq`); err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		unpacked, err := row.Unpack()
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, unpacked...)
	}
	return messages
}

// Of returns the messages of a type about a subject; "" stands for any.
func Of(messages []outbox.Message, kind, subject string) (found []outbox.Message) {
	for _, m := range messages {
		if (kind == "" || m.Type == kind) && (subject == "" || m.Subject == subject) {
			found = append(found, m)
		}
	}
	return found
}
