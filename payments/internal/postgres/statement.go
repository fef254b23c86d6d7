package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Entry is one line of a statement, with what is known of its operation.
type Entry struct {
	ledger.Entry
	CreatedAt   time.Time `db:"created_at"`
	OrderID     uuid.UUID `db:"order_id"`
	Reference   string    `db:"reference"`
	Description string    `db:"description"`
	Note        string    `db:"note"`
}

// Span is a part of a statement: from behind some entries to others, by the numbers in each currency.
type Span map[string]*struct{ after, last int64 }

// Span returns the part of an account's statement that is there now, in each currency from behind the number in after
// on. If from and to are not nil, it has the entries at or after from and before to.
func (s *Store) Span(ctx context.Context, account Account, after map[string]int64, from, to *time.Time) (Span, error) {
	currencies, err := s.currencies(ctx, account.ID)
	if err != nil {
		return nil, err
	}
	// Times run with the numbers, so a time becomes a number, and the index on numbers serves for both.
	span := make(Span, len(currencies))
	for currency, last := range currencies {
		first := after[currency]
		if from != nil {
			before, err := s.lastBefore(ctx, account.ID, currency, *from)
			if err != nil {
				return nil, err
			}
			first = max(first, before)
		}
		if to != nil {
			if last, err = s.lastBefore(ctx, account.ID, currency, *to); err != nil {
				return nil, err
			}
		}
		span[currency] = &struct{ after, last int64 }{first, last}
	}
	return span, nil
}

// Entries reads the oldest entries of a span, which then goes on behind them. The entries of a currency come in the
// order of their numbers, those of several currencies in the order of their times.
func (s *Store) Entries(ctx context.Context, account Account, span Span, limit int) ([]Entry, error) {
	var (
		names         pg.Texts
		firsts, lasts pg.Int64s
	)
	for currency, part := range span {
		names, firsts, lasts = append(names, currency), append(firsts, part.after), append(lasts, part.last)
	}
	entries, err := listWithin[Entry](ctx, s, "read entries", `
		SELECT `+statementColumns+`, coalesce(o.order_id, '00000000-0000-0000-0000-000000000000') AS order_id,
			coalesce(o.reference, '') AS reference, coalesce(o.description, '') AS description, coalesce(o.note, '') AS note
		FROM (
			SELECT e.* FROM unnest($3::text[], $4::bigint[], $5::bigint[]) AS part (currency, first, last)
			CROSS JOIN LATERAL (
				SELECT `+statementColumns+`, max(created_at) OVER (ORDER BY number) AS passed FROM (
					SELECT `+statementColumns+` FROM entries e
					WHERE account_id = $1 AND e.currency = part.currency AND lane = $2 AND number > first AND number <= last
					ORDER BY number LIMIT $6
				) e
			) e ORDER BY passed, e.currency, number LIMIT $6
		) e LEFT JOIN operations o ON o.id = e.operation_id ORDER BY passed, e.currency, number`,
		account.ID, account.lane(), names, firsts, lasts, limit)
	for i := range entries {
		e := &entries[i]
		e.CreatedAt = e.CreatedAt.UTC()
		e.Note, e.Description = noteOf(e.Operation, e.OrderID, e.Note, e.Description)
		span[e.Currency].after = e.Number
	}
	return entries, err
}

const statementColumns = `e.number, e.operation_id, e.operation, e.currency, e.amount, e.frozen, e.balance_after,
	e.frozen_after, e.created_at`

// BalancesAt reads what an account had at a point in time, by currency: it counts all entries up to then, inclusive.
// Times are kept to the microsecond, and so must at be.
func (s *Store) BalancesAt(ctx context.Context, account Account, at time.Time) ([]Balance, error) {
	currencies, err := s.currencies(ctx, account.ID)
	if err != nil {
		return nil, err
	}
	var balances []Balance
	for currency := range currencies {
		number, err := s.lastBefore(ctx, account.ID, currency, at.Add(time.Microsecond))
		if err != nil {
			return nil, err
		}
		if number == 0 {
			continue
		}
		balance, err := getWithin[Balance](ctx, s, "read the balance at a time", `
			SELECT account_id, currency, balance_after AS actual, frozen_after AS frozen FROM entries
			WHERE account_id = $1 AND currency = $2 AND number = $3 AND lane = $4`,
			account.ID, currency, number, account.lane())
		if err != nil {
			return nil, err
		}
		balances = append(balances, balance)
	}
	return balances, nil
}

// currencies are those in which an account has entries, each with the number of its last one.
func (s *Store) currencies(ctx context.Context, account uuid.UUID) (map[string]int64, error) {
	rows, err := listWithin[struct {
		Currency string `db:"currency"`
		Entries  int64  `db:"entries"`
	}](ctx, s, "read balances", `
		SELECT currency, entries FROM balances WHERE account_id = $1 AND lane = $2 AND entries > 0`,
		account, contract.Lane(account))
	currencies := make(map[string]int64, len(rows))
	for _, row := range rows {
		currencies[row.Currency] = row.Entries
	}
	return currencies, err
}

// stepBack is how many entries before the one that it has found lastBefore searches for a later time.
const stepBack = 1000

// lastBefore is the number of the last entry before a time, or 0. It bisects the numbers, in one statement. The clock
// may have stepped back while an earlier version of Altyn made entries. Then their order counts: what follows an entry
// that is not before the time is not before it either.
func (s *Store) lastBefore(ctx context.Context, account uuid.UUID, currency string, before time.Time) (int64, error) {
	return getWithin[int64](ctx, s, "find the last entry before a time", `
		WITH RECURSIVE bisection (low, high) AS ( -- the entry low is before the time, the entry high is not
			SELECT 0::bigint, entries + 1 FROM balances WHERE account_id = $1 AND currency = $2 AND lane = $3
			UNION ALL
			SELECT CASE WHEN e.created_at < $4 THEN e.number ELSE low END,
				CASE WHEN e.created_at < $4 THEN high ELSE e.number END
			FROM bisection JOIN entries e
				ON e.account_id = $1 AND e.currency = $2 AND e.lane = $3 AND e.number = low + (high - low) / 2
			WHERE high - low > 1
		), found (number) AS (SELECT coalesce(max(low), 0) FROM bisection)
		SELECT coalesce(
			(SELECT min(e.number) - 1 FROM found JOIN entries e ON e.account_id = $1 AND e.currency = $2 AND e.lane = $3
				AND e.number > found.number - $5 AND e.number < found.number WHERE e.created_at >= $4),
			(SELECT number FROM found))`, account, currency, contract.Lane(account), before, stepBack)
}
