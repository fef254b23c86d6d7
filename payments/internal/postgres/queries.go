package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// ErrNotFound is returned where what was asked for is not there.
var ErrNotFound = errors.New("not found")

// Account is an account with its balances, sorted by currency.
type Account struct {
	ID        uuid.UUID `db:"id"`
	Owner     string    `db:"owner"`
	Reference string    `db:"reference"`
	Seq       int64     `db:"seq"`
	CreatedAt time.Time `db:"created_at"`
	Balances  []Balance `db:"-"`
}

// Balance is what an account has of one currency, in minor units.
type Balance struct {
	AccountID uuid.UUID `db:"account_id"`
	Currency  string    `db:"currency"`
	Actual    int64     `db:"actual"`
	Frozen    int64     `db:"frozen"`
}

// Account reads one account, or returns ErrNotFound.
func (s *Store) Account(ctx context.Context, id uuid.UUID) (Account, error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	var accounts []Account
	if err := s.db.SelectContext(ctx, &accounts,
		`SELECT id, owner, reference, seq, created_at FROM accounts WHERE id = $1 AND lane = $2`, id, contract.Lane(id)); err != nil {
		return Account{}, fmt.Errorf("read account: %w", err)
	}
	if len(accounts) == 0 {
		return Account{}, ErrNotFound
	}
	if err := s.addBalances(ctx, accounts); err != nil {
		return Account{}, err
	}
	return accounts[0], nil
}

// Accounts lists accounts, newest first, from below the cursor on; an empty owner or reference matches all.
func (s *Store) Accounts(ctx context.Context, owner, reference string, below int64, limit int) ([]Account, error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	query, args := `SELECT id, owner, reference, seq, created_at FROM accounts WHERE seq < $1`, []any{below, limit}
	if owner != "" {
		args = append(args, owner)
		query += fmt.Sprintf(` AND owner = $%d AND owner <> ''`, len(args))
	}
	if reference != "" {
		args = append(args, reference)
		query += fmt.Sprintf(` AND reference = $%d AND reference <> ''`, len(args))
	}
	var accounts []Account
	if err := s.db.SelectContext(ctx, &accounts, query+` ORDER BY seq DESC LIMIT $2`, args...); err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return accounts, s.addBalances(ctx, accounts)
}

func (s *Store) addBalances(ctx context.Context, accounts []Account) error {
	if len(accounts) == 0 {
		return nil
	}
	at := make(map[uuid.UUID]int, len(accounts))
	ids := make(pg.UUIDs, len(accounts))
	for i, a := range accounts {
		at[a.ID], ids[i] = i, a.ID
		accounts[i].CreatedAt = a.CreatedAt.UTC()
	}
	var balances []Balance
	if err := s.db.SelectContext(ctx, &balances, `
		SELECT account_id, currency, actual, frozen FROM balances
		WHERE account_id = ANY($1::uuid[]) AND entries > 0 ORDER BY currency`, ids); err != nil {
		return fmt.Errorf("read balances: %w", err)
	}
	for _, b := range balances {
		a := &accounts[at[b.AccountID]]
		a.Balances = append(a.Balances, b)
	}
	return nil
}

// Settled reads the records of operations; those that are not settled are left out. The read ends with ctx, unlike the others.
func (s *Store) Settled(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]*ledger.Operation, error) {
	var rows []operationRow
	if err := s.db.SelectContext(ctx, &rows,
		`SELECT `+operationColumns+` FROM operations WHERE id = ANY($1::uuid[])`, pg.UUIDs(ids)); err != nil {
		return nil, fmt.Errorf("read operations: %w", err)
	}
	operations := make(map[uuid.UUID]*ledger.Operation, len(rows))
	for _, row := range rows {
		op := row.operation()
		operations[op.ID] = &op
	}
	return operations, nil
}

// Waiting reads an accepted message that has not taken effect, or returns ErrNotFound.
func (s *Store) Waiting(ctx context.Context, id uuid.UUID) (Message, error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	m, found, err := s.inbox.Find(ctx, id)
	if err == nil && !found {
		err = ErrNotFound
	}
	return m, err
}

// Operations lists the operations of an account, those that paid it too, newest first, from below the cursor on. The records of
// cancellations are none: what they have ended tells of them.
func (s *Store) Operations(ctx context.Context, account uuid.UUID, below int64, limit int) ([]ledger.Operation, error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	var rows []operationRow
	if err := s.db.SelectContext(ctx, &rows, `
		SELECT `+operationColumns+` FROM (
			(SELECT * FROM operations WHERE account_id = $1 AND seq < $2 AND operation <> $4 ORDER BY seq DESC LIMIT $3)
			UNION ALL
			(SELECT * FROM operations WHERE to_account_id = $1 AND account_id <> $1 AND seq < $2 ORDER BY seq DESC LIMIT $3)
		) o ORDER BY seq DESC LIMIT $3`, account, below, limit, ledger.KindCancelOperation); err != nil {
		return nil, fmt.Errorf("list operations: %w", err)
	}
	operations := make([]ledger.Operation, len(rows))
	for i, row := range rows {
		operations[i] = row.operation()
	}
	return operations, nil
}

// Entry is one line of a statement.
type Entry struct {
	Number       int64     `db:"number"`
	OperationID  uuid.UUID `db:"operation_id"`
	Operation    string    `db:"operation"`
	Currency     string    `db:"currency"`
	Amount       int64     `db:"amount"`
	Frozen       int64     `db:"frozen"`
	BalanceAfter int64     `db:"balance_after"`
	FrozenAfter  int64     `db:"frozen_after"`
	CreatedAt    time.Time `db:"created_at"`
}

// Entries reads an account's statement, oldest first: per currency from after the number in after on, of entries from the
// time from on and before the time to, where these are not nil. The entries of a currency come in the order of their
// numbers, those of several currencies in the order of their times.
func (s *Store) Entries(ctx context.Context, account uuid.UUID, after map[string]int64, from, to *time.Time, limit int) ([]Entry, error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	currencies, err := s.currencies(ctx, account)
	if err != nil {
		return nil, err
	}
	// Times run with the numbers, so a time is looked for among the numbers, and the index on them serves for both.
	var (
		names         pg.Texts
		firsts, lasts pg.Int64s
	)
	for currency, last := range currencies {
		first := after[currency]
		if from != nil {
			before, err := s.lastBefore(ctx, account, currency, *from)
			if err != nil {
				return nil, err
			}
			first = max(first, before)
		}
		if to != nil {
			if last, err = s.lastBefore(ctx, account, currency, *to); err != nil {
				return nil, err
			}
		}
		names, firsts, lasts = append(names, currency), append(firsts, first), append(lasts, last)
	}
	var entries []Entry
	if err := s.db.SelectContext(ctx, &entries, `
		SELECT `+entryColumns+` FROM unnest($3::text[], $4::bigint[], $5::bigint[]) AS part (currency, first, last) CROSS JOIN LATERAL (
			SELECT `+entryColumns+`, max(created_at) OVER (ORDER BY number) AS passed FROM (
				SELECT `+entryColumns+` FROM entries e
				WHERE account_id = $1 AND e.currency = part.currency AND lane = $2 AND number > first AND number <= last
				ORDER BY number LIMIT $6
			) e
		) e ORDER BY passed, e.currency, number LIMIT $6`,
		account, contract.Lane(account), names, firsts, lasts, limit); err != nil {
		return nil, fmt.Errorf("read entries: %w", err)
	}
	for i := range entries {
		entries[i].CreatedAt = entries[i].CreatedAt.UTC()
	}
	return entries, nil
}

const entryColumns = `number, operation_id, operation, e.currency, amount, frozen, balance_after, frozen_after, created_at`

// BalancesAt reads what an account had at a point in time, by currency: all entries up to then, inclusive. Times are kept
// to the microsecond, and so must at be.
func (s *Store) BalancesAt(ctx context.Context, account uuid.UUID, at time.Time) ([]Balance, error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	currencies, err := s.currencies(ctx, account)
	if err != nil {
		return nil, err
	}
	var balances []Balance
	for currency := range currencies {
		number, err := s.lastBefore(ctx, account, currency, at.Add(time.Microsecond))
		if err != nil {
			return nil, err
		}
		if number == 0 {
			continue
		}
		balance := Balance{AccountID: account, Currency: currency}
		if err := s.db.GetContext(ctx, &balance, `
			SELECT account_id, currency, balance_after AS actual, frozen_after AS frozen FROM entries
			WHERE account_id = $1 AND currency = $2 AND number = $3 AND lane = $4`,
			account, currency, number, contract.Lane(account)); err != nil {
			return nil, fmt.Errorf("read the balance at a time: %w", err)
		}
		balances = append(balances, balance)
	}
	return balances, nil
}

// currencies are those in which an account has entries, with their numbers.
func (s *Store) currencies(ctx context.Context, account uuid.UUID) (map[string]int64, error) {
	var rows []struct {
		Currency string `db:"currency"`
		Entries  int64  `db:"entries"`
	}
	if err := s.db.SelectContext(ctx, &rows, `
		SELECT currency, entries FROM balances WHERE account_id = $1 AND lane = $2 AND entries > 0`, account, contract.Lane(account)); err != nil {
		return nil, fmt.Errorf("read balances: %w", err)
	}
	currencies := make(map[string]int64, len(rows))
	for _, row := range rows {
		currencies[row.Currency] = row.Entries
	}
	return currencies, nil
}

// stepBack is how many entries before the one that was found lastBefore looks for a later time.
const stepBack = 1000

// lastBefore is the number of the last entry before a time, or 0. It bisects the numbers, in one statement. The clock may have
// stepped back while a version of Altyn before this one made entries: then what counts is their order, and nothing is before
// the time that follows an entry which is not.
func (s *Store) lastBefore(ctx context.Context, account uuid.UUID, currency string, before time.Time) (int64, error) {
	var number int64
	if err := s.db.GetContext(ctx, &number, `
		WITH RECURSIVE bisection (low, high) AS ( -- the entry low is before the time, the entry high is not
			SELECT 0::bigint, entries + 1 FROM balances WHERE account_id = $1 AND currency = $2 AND lane = $3
			UNION ALL
			SELECT CASE WHEN e.created_at < $4 THEN e.number ELSE low END, CASE WHEN e.created_at < $4 THEN high ELSE e.number END
			FROM bisection JOIN entries e
				ON e.account_id = $1 AND e.currency = $2 AND e.lane = $3 AND e.number = low + (high - low) / 2
			WHERE high - low > 1
		), found (number) AS (SELECT coalesce(max(low), 0) FROM bisection)
		SELECT coalesce(
			(SELECT min(e.number) - 1 FROM found JOIN entries e ON e.account_id = $1 AND e.currency = $2 AND e.lane = $3
				AND e.number > found.number - $5 AND e.number < found.number WHERE e.created_at >= $4),
			(SELECT number FROM found))`, account, currency, contract.Lane(account), before, stepBack); err != nil {
		return 0, fmt.Errorf("find the last entry before a time: %w", err)
	}
	return number, nil
}

// Payment reads the payment of an order, or returns ErrNotFound.
func (s *Store) Payment(ctx context.Context, order uuid.UUID) (ledger.OrderPayment, error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	var row paymentRow
	err := s.db.GetContext(ctx, &row, `SELECT `+paymentColumns+` FROM payments WHERE order_id = $1`, order)
	if errors.Is(err, sql.ErrNoRows) {
		return ledger.OrderPayment{}, ErrNotFound
	}
	if err != nil {
		return ledger.OrderPayment{}, fmt.Errorf("read payment: %w", err)
	}
	return row.payment(), nil
}

// PayerOf tells whose account pays an order and in which currency, be it that the order's message is still waiting, or
// returns ErrNotFound.
func (s *Store) PayerOf(ctx context.Context, order uuid.UUID) (account uuid.UUID, currency string, err error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	var row struct {
		AccountID uuid.UUID `db:"account_id"`
		Currency  string    `db:"currency"`
	}
	// One statement sees one moment: a payment is in the one table or in the other.
	err = s.db.GetContext(ctx, &row, `
		SELECT account_id, currency FROM payments WHERE order_id = $1
		UNION ALL
		SELECT account_id, payload::json->>'currency' FROM inbox WHERE id = $1 AND kind = 'payment'`, order)
	if errors.Is(err, sql.ErrNoRows) {
		return uuid.Nil, "", ErrNotFound
	}
	if err != nil {
		return uuid.Nil, "", fmt.Errorf("find who pays an order: %w", err)
	}
	return row.AccountID, row.Currency, nil
}

// Hold reads a hold, or returns ErrNotFound.
func (s *Store) Hold(ctx context.Context, id uuid.UUID) (ledger.Hold, error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	var row holdRow
	err := s.db.GetContext(ctx, &row, `SELECT `+holdColumns+` FROM holds WHERE id = $1`, id)
	if errors.Is(err, sql.ErrNoRows) {
		return ledger.Hold{}, ErrNotFound
	}
	if err != nil {
		return ledger.Hold{}, fmt.Errorf("read hold: %w", err)
	}
	return row.hold(), nil
}
