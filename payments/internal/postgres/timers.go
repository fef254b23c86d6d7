package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	pg "github.com/altyn-pay/altyn/platform/postgres"
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
// many messages it has stored, possibly some even after an error. The caller derives their IDs, so that a message that
// is there already stays one. It leaves out accounts that are stopped at such a message, since they would keep the
// others back.
func (s *Store) Expire(ctx context.Context, message func(Deadline) Message) (int, error) {
	var due []Deadline
	if err := s.db.SelectContext(ctx, &due, `
		SELECT id, account_id, hold, coalesce((SELECT tenant FROM accounts a
				WHERE a.id = due.account_id AND a.lane = due.lane AND `+pg.InLanes("a.lane", "$3")+`), '') AS tenant
		FROM (
			(SELECT id, account_id, lane, true AS hold, expires_at FROM holds h WHERE status = 'open' AND expires_at <= now()
				AND `+pg.InLanes("h.lane", "$3")+`
				AND NOT EXISTS (SELECT FROM inbox i WHERE i.account_id = h.account_id AND i.stopped AND i.kind = $2
					AND `+pg.InLanes("i.lane", "$3")+`)
			ORDER BY expires_at LIMIT $1)
			UNION ALL
			(SELECT id, account_id, lane, false AS hold, expires_at FROM waits w WHERE expires_at <= now()
				AND `+pg.InLanes("w.lane", "$3")+`
				AND NOT EXISTS (SELECT FROM inbox i WHERE i.account_id = w.account_id AND i.stopped AND i.kind = $2
					AND `+pg.InLanes("i.lane", "$3")+`)
			ORDER BY expires_at LIMIT $1)
		) due ORDER BY expires_at LIMIT $1`, maxExpiries, ledger.KindExpire, pg.AllLanes()); err != nil {
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

const (
	// maxRetellings is how many refunds one call finds.
	maxRetellings = 1000
	// A refund is told again this often, each pause this many times as long as the one before. With a first pause of a
	// minute this takes some ten hours.
	retellings, retellingGrowth = 4, 8
)

// saveRetellings notes that the refunds of a batch are to be told again. A later refund of the same payment starts
// over.
func saveRetellings(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes) error {
	var orders pg.UUIDs
	var lanes pg.Int16s
	seen := make(map[uuid.UUID]bool)
	for _, p := range changes.Payments {
		if p.Status == contract.PaymentRefunded && !seen[p.OrderID] {
			seen[p.OrderID] = true
			orders, lanes = append(orders, p.OrderID), append(lanes, p.Lane)
		}
	}
	if len(orders) == 0 {
		return nil
	}
	// Retell adds its first pause to this time: a settlement does not know it.
	return pg.ExecExactly(ctx, tx, "save what is told again", len(orders), `
		INSERT INTO retellings (order_id, lane, due_at)
		SELECT *, clock_timestamp() FROM unnest($1::uuid[], $2::smallint[])
		ON CONFLICT (order_id, lane) DO UPDATE SET told = 0, due_at = excluded.due_at`, orders, lanes)
}

// Told is a payment that is to be told of again.
type Told struct {
	Tenant    string    `db:"tenant"`
	OrderID   uuid.UUID `db:"order_id"`
	AccountID uuid.UUID `db:"account_id"`
	Currency  string    `db:"currency"`
	Amount    int64     `db:"amount"`
	Capture   string    `db:"capture"`
}

// Announce puts a message into the inbox for each of these payments that is there, and returns how many.
func (s *Store) Announce(ctx context.Context, ids []uuid.UUID, message func(Told) Message) (int, error) {
	var known []Told
	if err := s.db.SelectContext(ctx, &known, `
		SELECT tenant, order_id, account_id, currency, amount, capture FROM payments WHERE order_id = ANY($1::uuid[])`,
		pg.UUIDs(ids)); err != nil {
		return 0, fmt.Errorf("find what is to be announced: %w", err)
	}
	messages := make([]Message, len(known))
	for i, p := range known {
		messages[i] = message(p)
	}
	if _, err := s.inbox.Store(ctx, messages); err != nil {
		return 0, err
	}
	return len(known), nil
}

// Retell puts a message into the inbox for each refund whose pause is over, and returns how many. The first pause is
// after; the number of retellings is bounded. A crash between its two transactions repeats messages, which changes
// nothing.
func (s *Store) Retell(ctx context.Context, after time.Duration, message func(Told) Message) (int, error) {
	var due []Told
	if err := s.db.SelectContext(ctx, &due, `
		SELECT p.tenant, p.order_id, p.account_id, p.currency, p.amount, p.capture FROM (
			SELECT order_id, lane, due_at FROM retellings
			WHERE due_at <= statement_timestamp() - $1::bigint * interval '1 microsecond' ORDER BY due_at LIMIT $2
		) due JOIN payments p ON p.order_id = due.order_id AND p.lane = due.lane ORDER BY due.due_at`,
		after.Microseconds(), maxRetellings); err != nil {
		return 0, fmt.Errorf("find what is to be told again: %w", err)
	}
	if len(due) == 0 {
		return 0, nil
	}
	messages, orders, lanes := make([]Message, len(due)), make(pg.UUIDs, len(due)), make(pg.Int16s, len(due))
	for i, d := range due {
		messages[i] = message(d)
		orders[i], lanes[i] = d.OrderID, contract.Lane(d.AccountID)
	}
	if _, err := s.inbox.Store(ctx, messages); err != nil {
		return 0, err
	}
	// due_at lies one first pause before the time that is meant, as saveRetellings has it.
	if _, err := s.db.ExecContext(ctx, `
		WITH told AS (
			UPDATE retellings r SET told = r.told + 1,
				due_at = statement_timestamp() + $3::bigint * interval '1 microsecond' * (power($4, r.told + 1) - 1)
			FROM unnest($1::uuid[], $2::smallint[]) AS t (order_id, lane)
			WHERE r.order_id = t.order_id AND r.lane = t.lane AND r.told < $5 - 1 AND `+pg.InLanes("r.lane", "$6")+`
			RETURNING r.order_id
		)
		DELETE FROM retellings r USING unnest($1::uuid[], $2::smallint[]) AS t (order_id, lane)
		WHERE r.order_id = t.order_id AND r.lane = t.lane AND r.told >= $5 - 1
			AND `+pg.InLanes("r.lane", "$6"),
		orders, lanes, after.Microseconds(), retellingGrowth, retellings, pg.Lanes(lanes)); err != nil {
		return len(due), fmt.Errorf("note what was told again: %w", err)
	}
	return len(due), nil
}
