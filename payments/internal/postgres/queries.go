package postgres

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/idempotency"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Account is an account with its balances, sorted by currency.
type Account struct {
	ledger.Account
	Seq      int64     `db:"seq"`
	Balances []Balance `db:"-"`
}

// Balance is what an account has of one currency, as it is stored.
type Balance struct {
	ledger.Key
	ledger.Balance
	EnteredAt sql.NullTime `db:"entered_at"` // the time of its last entry
}

// Account reads one account, or returns ErrNotFound.
func (s *Store) Account(ctx context.Context, id uuid.UUID) (Account, error) {
	account, err := get[Account](ctx, s, "read account", `
		SELECT id, owner, reference, seq, created_at FROM accounts WHERE id = $1 AND lane = $2`, id, contract.Lane(id))
	if err != nil {
		return Account{}, err
	}
	accounts := []Account{account}
	err = s.addBalances(ctx, accounts)
	return accounts[0], err
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
	accounts, err := list[Account](ctx, s, "list accounts", query+` ORDER BY seq DESC LIMIT $2`, args...)
	if err != nil {
		return nil, err
	}
	return accounts, s.addBalances(ctx, accounts)
}

// addBalances completes accounts as they were read.
func (s *Store) addBalances(ctx context.Context, accounts []Account) error {
	if len(accounts) == 0 {
		return nil
	}
	at := make(map[uuid.UUID]*Account, len(accounts))
	ids := make(pg.UUIDs, len(accounts))
	for i := range accounts {
		a := &accounts[i]
		a.CreatedAt = a.CreatedAt.UTC()
		at[a.ID], ids[i] = a, a.ID
	}
	balances, err := list[Balance](ctx, s, "read balances", `
		SELECT account_id, currency, actual, frozen FROM balances
		WHERE account_id = ANY($1::uuid[]) AND entries > 0 ORDER BY currency`, ids)
	for _, b := range balances {
		at[b.AccountID].Balances = append(at[b.AccountID].Balances, b)
	}
	return err
}

// Settled reads the records of operations and leaves out those that are not settled. Unlike the other reads it ends
// with ctx.
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

// Operations lists the operations of an account, including those that paid it, newest first, from below the cursor on.
// It leaves out the records of cancellations: the operations that they ended tell of them.
func (s *Store) Operations(ctx context.Context, account uuid.UUID, below int64, limit int) ([]ledger.Operation, error) {
	rows, err := list[operationRow](ctx, s, "list operations", `
		SELECT `+operationColumns+` FROM (
			(SELECT * FROM operations WHERE account_id = $1 AND seq < $2 AND operation <> $4 ORDER BY seq DESC LIMIT $3)
			UNION ALL
			(SELECT * FROM operations WHERE to_account_id = $1 AND account_id <> $1 AND seq < $2 ORDER BY seq DESC LIMIT $3)
		) o ORDER BY seq DESC LIMIT $3`, account, below, limit, ledger.KindCancelOperation)
	operations := make([]ledger.Operation, len(rows))
	for i, row := range rows {
		operations[i] = row.operation()
	}
	return operations, err
}

// Payment reads the payment of an order, or returns ErrNotFound.
func (s *Store) Payment(ctx context.Context, order uuid.UUID) (ledger.OrderPayment, error) {
	payment, err := get[ledger.OrderPayment](ctx, s, "read payment", `
		SELECT `+paymentColumns+` FROM payments WHERE order_id = $1`, order)
	return paymentOf(payment), err
}

// PayerOf tells whose account pays an order and in which currency, also while the order's message is still in the
// inbox, or returns ErrNotFound.
func (s *Store) PayerOf(ctx context.Context, order uuid.UUID) (account uuid.UUID, currency string, err error) {
	// One statement sees one moment, in which a payment is in exactly one of the tables.
	row, err := get[NamedRecord](ctx, s, "find who pays an order", `
		SELECT account_id, currency FROM payments WHERE order_id = $1
		UNION ALL
		SELECT account_id, payload::json->>'currency' FROM inbox WHERE id = $1 AND kind = 'payment'`, order)
	return row.AccountID, row.Currency, err
}

// Hold reads a hold, or returns ErrNotFound.
func (s *Store) Hold(ctx context.Context, id uuid.UUID) (ledger.Hold, error) {
	hold, err := get[ledger.Hold](ctx, s, "read hold", `SELECT `+holdColumns+` FROM holds WHERE id = $1`, id)
	return holdOf(hold), err
}

// Claim makes keys stand for their requests; see idempotency.Make.
func (s *Store) Claim(ctx context.Context, claims ...idempotency.Claim) ([]idempotency.Outcome, error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	return idempotency.Make(ctx, s.db, claims, s.Accepted)
}

// Accepted finds the fingerprints of those of the requests that were accepted, also while they are still in the inbox.
func (s *Store) Accepted(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]uuid.UUID, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	// One statement sees one moment, in which a request is in exactly one of the tables.
	rows, err := list[struct {
		ID          uuid.UUID     `db:"id"`
		Fingerprint uuid.NullUUID `db:"fingerprint"`
	}](ctx, s, "look for requests of keys", `
		SELECT id, fingerprint FROM operations WHERE id = ANY($1::uuid[])
		UNION ALL
		SELECT id, fingerprint FROM inbox WHERE id = ANY($1::uuid[])`, pg.UUIDs(ids))
	found := make(map[uuid.UUID]uuid.UUID, len(rows))
	for _, row := range rows {
		found[row.ID] = row.Fingerprint.UUID
	}
	return found, err
}
