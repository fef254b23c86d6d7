package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
)

const (
	maxExpiries = 10_000 // deadlines met by one call
	maxTogether = 1000   // messages stored by one statement
)

// Deadline is a hold or a waiting request whose time is over.
type Deadline struct {
	ID        uuid.UUID `db:"id"`
	AccountID uuid.UUID `db:"account_id"`
	Hold      bool      `db:"hold"`
	Tenant    string    `db:"tenant"` // the account's
}

// Expire puts a message into the inbox for each open hold and each waiting request whose time is over. It returns how
// many messages it has stored, which may be some even after an error. The caller derives their IDs, so that a message
// that is there already stays one. It leaves out accounts that are stopped at such a message: they would keep the
// others back.
func (s *Store) Expire(ctx context.Context, message func(Deadline) Message) (int, error) {
	var due []Deadline
	if err := s.db.SelectContext(ctx, &due, `
		SELECT id, account_id, hold, coalesce(
			(SELECT tenant FROM accounts a WHERE a.id = due.account_id AND a.lane = due.lane), '') AS tenant
		FROM (
			(SELECT id, account_id, lane, true AS hold, expires_at FROM holds h WHERE status = 'open' AND expires_at <= now()
				AND NOT EXISTS (SELECT FROM inbox i WHERE i.account_id = h.account_id AND i.stopped AND i.kind = $2)
			ORDER BY expires_at LIMIT $1)
			UNION ALL
			(SELECT id, account_id, lane, false AS hold, expires_at FROM waits w WHERE expires_at <= now()
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
