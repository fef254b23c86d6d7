package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/inbox"
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
	ids := texts(len(accounts))
	for i, a := range accounts {
		at[a.ID], ids[i] = i, a.ID.String()
		accounts[i].CreatedAt = a.CreatedAt.UTC()
	}
	var balances []Balance
	if err := s.db.SelectContext(ctx, &balances, `
		SELECT account_id, currency, actual, frozen FROM balances WHERE account_id = ANY($1::uuid[]) ORDER BY currency`, ids); err != nil {
		return fmt.Errorf("read balances: %w", err)
	}
	for _, b := range balances {
		a := &accounts[at[b.AccountID]]
		a.Balances = append(a.Balances, b)
	}
	return nil
}

// Settled reads the records of operations; those that are not settled are left out.
func (s *Store) Settled(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]*ledger.Operation, error) {
	columns := texts(len(ids))
	for i, id := range ids {
		columns[i] = id.String()
	}
	var rows []operationRow
	if err := s.db.SelectContext(ctx, &rows,
		`SELECT `+operationColumns+` FROM operations WHERE id = ANY($1::uuid[])`, columns); err != nil {
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
func (s *Store) Waiting(ctx context.Context, id uuid.UUID) (inbox.Message, error) {
	var m inbox.Message
	err := s.db.GetContext(ctx, &m, `
		SELECT seq, id, lane, account_id, kind, payload, fingerprint, traceparent, received_at FROM inbox WHERE id = $1`, id)
	if errors.Is(err, sql.ErrNoRows) {
		return m, ErrNotFound
	}
	if err != nil {
		return m, fmt.Errorf("read inbox: %w", err)
	}
	return m, nil
}

// Operations lists the operations of an account, those that paid it too, newest first, from below the cursor on.
func (s *Store) Operations(ctx context.Context, account uuid.UUID, below int64, limit int) ([]ledger.Operation, error) {
	var rows []operationRow
	if err := s.db.SelectContext(ctx, &rows, `
		SELECT `+operationColumns+` FROM (
			(SELECT * FROM operations WHERE account_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3)
			UNION ALL
			(SELECT * FROM operations WHERE to_account_id = $1 AND account_id <> $1 AND seq < $2 ORDER BY seq DESC LIMIT $3)
		) o ORDER BY seq DESC LIMIT $3`, account, below, limit); err != nil {
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

// Entries reads an account's statement, oldest first: per currency from after the number in after on. The entries of a
// currency come in the order of their numbers, those of several currencies in the order of their times.
func (s *Store) Entries(ctx context.Context, account uuid.UUID, after map[string]int64, limit int) ([]Entry, error) {
	currencies, numbers := make(pq.StringArray, 0, len(after)), make([]int64, 0, len(after))
	for currency, number := range after {
		currencies, numbers = append(currencies, currency), append(numbers, number)
	}
	var entries []Entry
	if err := s.db.SelectContext(ctx, &entries, `
		SELECT e.* FROM balances b
		LEFT JOIN unnest($3::text[], $4::bigint[]) AS seen (currency, number) ON seen.currency = b.currency
		CROSS JOIN LATERAL (
			SELECT number, operation_id, operation, currency, amount, frozen, balance_after, frozen_after, created_at
			FROM entries WHERE account_id = b.account_id AND entries.currency = b.currency AND lane = b.lane
				AND number > coalesce(seen.number, 0)
			ORDER BY number LIMIT $5
		) e
		WHERE b.account_id = $1 AND b.lane = $2
		ORDER BY e.created_at, e.currency, e.number LIMIT $5`,
		account, contract.Lane(account), currencies, pq.Array(numbers), limit); err != nil {
		return nil, fmt.Errorf("read entries: %w", err)
	}
	for i := range entries {
		entries[i].CreatedAt = entries[i].CreatedAt.UTC()
	}
	return entries, nil
}

// Payment reads the payment of an order, or returns ErrNotFound.
func (s *Store) Payment(ctx context.Context, order uuid.UUID) (ledger.OrderPayment, error) {
	var p struct {
		OrderID   uuid.UUID     `db:"order_id"`
		Lane      int16         `db:"lane"`
		AccountID uuid.UUID     `db:"account_id"`
		Currency  string        `db:"currency"`
		Amount    int64         `db:"amount"`
		Capture   string        `db:"capture"`
		Status    string        `db:"status"`
		Reason    ledger.Reason `db:"reason"`
		Captured  int64         `db:"captured"`
		Refunded  int64         `db:"refunded"`
		Version   int64         `db:"version"`
		CreatedAt time.Time     `db:"created_at"`
		UpdatedAt time.Time     `db:"updated_at"`
	}
	err := s.db.GetContext(ctx, &p, `
		SELECT order_id, lane, account_id, currency, amount, capture, status, reason, captured, refunded, version, created_at,
			updated_at FROM payments WHERE order_id = $1`, order)
	if errors.Is(err, sql.ErrNoRows) {
		return ledger.OrderPayment{}, ErrNotFound
	}
	if err != nil {
		return ledger.OrderPayment{}, fmt.Errorf("read payment: %w", err)
	}
	payment := ledger.OrderPayment(p)
	payment.CreatedAt, payment.UpdatedAt = p.CreatedAt.UTC(), p.UpdatedAt.UTC()
	return payment, nil
}
