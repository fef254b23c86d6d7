package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Stop says that an account's queue stands still, because the message at its head failed unexpectedly.
type Stop struct {
	MessageID uuid.UUID    `db:"message_id"`
	Attempts  int          `db:"attempts"`   // 0: it waits for a version that knows it
	StoppedAt time.Time    `db:"stopped_at"` // the last attempt
	RetryAt   sql.NullTime `db:"retry_at"`
	Probing   bool         `db:"probing"` // it is being tried again
}

// Parked tells whether it waits for an operator.
func (s *Stop) Parked() bool { return !s.RetryAt.Valid && !s.Probing && s.Attempts > 0 }

// maxStanding is how many messages Standing returns at most.
const maxStanding = 1000

// Standing returns where an account's queue stands: the stop of the account, or nil, and the stored messages that have
// these IDs, are at the head of a queue that stands still, or wait behind one, oldest first and as many as 1,000.
func (x *Inbox[B]) Standing(ctx context.Context, account uuid.UUID, lane int16, ids ...uuid.UUID) (
	stop *Stop, messages []Stored, err error) {
	var found Stop
	err = x.db.GetContext(ctx, &found, `
		SELECT message_id, attempts, stopped_at, nullif(retry_at, 'infinity') AS retry_at, probing FROM inbox_stops
		WHERE account_id = $1 AND lane = $2`, account, lane)
	switch {
	case err == nil:
		stop, ids = &found, append(ids, found.MessageID)
	case !errors.Is(err, sql.ErrNoRows):
		return nil, nil, fmt.Errorf("inbox: find the stop of an account: %w", err)
	}
	if err := x.db.SelectContext(ctx, &messages, `
		SELECT `+columns+` FROM inbox WHERE id = ANY($3::uuid[]) AND lane = $2 AND account_id = $1
		UNION
		(SELECT `+columns+` FROM inbox WHERE account_id = $1 AND lane = $2 AND stopped ORDER BY seq LIMIT $4)
		ORDER BY seq LIMIT $4`, account, lane, pg.UUIDs(ids), maxStanding); err != nil {
		return nil, nil, fmt.Errorf("inbox: read the queue of an account: %w", err)
	}
	for i, m := range messages {
		if was, err := undiscard(m); err == nil {
			messages[i] = was
		}
	}
	return stop, messages, nil
}
