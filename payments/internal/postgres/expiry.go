package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
)

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
