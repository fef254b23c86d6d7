package outbox

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
)

// Undelivered is a message that the broker does not have.
type Undelivered struct {
	Type      string    `db:"type"`
	CreatedAt time.Time `db:"created_at"`
	Refused   bool      `db:"refused"` // it is parked: the broker does not take it, or one before it
}

// oldest is how many rows of each table FindUndelivered looks at.
const oldest = 10_000

// FindUndelivered returns the messages for a topic, of a key and about a subject, that are stored and not published. It
// looks at the oldest rows only: more tells that there are others, among which there may be more of them.
func FindUndelivered(ctx context.Context, db sqlx.QueryerContext, lane int16, topic, key, subject string) (
	found []Undelivered, more bool, err error) {
	if err := sqlx.SelectContext(ctx, db, &found, `
		SELECT type, created_at, true AS refused FROM outbox_parked
		WHERE topic = $1 AND key = $2 AND subject = $3 ORDER BY seq LIMIT 100`, topic, key, subject); err != nil {
		return nil, false, fmt.Errorf("outbox: find what is parked: %w", err)
	}
	var rows []Row
	if err := sqlx.SelectContext(ctx, db, &rows, `
		SELECT seq, lane, messages, created_at FROM (
			(SELECT seq, lane, messages, created_at FROM outbox ORDER BY seq LIMIT $3)
			UNION ALL
			(SELECT seq, lane, messages, created_at FROM outbox_waiting ORDER BY topic, partitions, partition, seq LIMIT $3)
		) o WHERE lane = $1 AND position($2 IN messages) > 0 ORDER BY seq LIMIT 100`, lane, subject, oldest); err != nil {
		return nil, false, fmt.Errorf("outbox: find what waits: %w", err)
	}
	for _, row := range rows {
		messages, err := row.Unpack()
		if err != nil {
			return nil, false, fmt.Errorf("outbox: %w", err)
		}
		for _, m := range messages {
			if m.Topic == topic && m.Key == key && m.Subject == subject {
				found = append(found, Undelivered{Type: m.Type, CreatedAt: m.CreatedAt})
			}
		}
	}
	err = sqlx.GetContext(ctx, db, &more, `
		SELECT o.n + w.n > 0 FROM (SELECT count(*) AS n FROM (SELECT seq FROM outbox OFFSET $1 LIMIT 1) o) o,
			(SELECT count(*) AS n FROM (SELECT seq FROM outbox_waiting OFFSET $1 LIMIT 1) w) w`, oldest)
	if err != nil {
		return nil, false, fmt.Errorf("outbox: count what waits: %w", err)
	}
	return found, more, nil
}
