package postgres

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/idempotency"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/inbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Account is an account with its balances, sorted by currency.
type Account struct {
	ledger.Account
	Seq      int64     `db:"seq"`
	Balances []Balance `db:"-"`
}

func (a Account) lane() int16 { return contract.Lane(a.ID) }

// Balance is what an account has of one currency, as it is stored.
type Balance struct {
	ledger.Key
	ledger.Balance
	EnteredAt sql.NullTime `db:"entered_at"` // the time of its last entry
}

// Account reads one account, or returns ErrNotFound.
func (s *Store) Account(ctx context.Context, by identity.Reach, id uuid.UUID) (Account, error) {
	account, err := get[Account](ctx, s, by, "read account", `
		SELECT id, tenant, owner, reference, seq, created_at FROM accounts
		WHERE id = $3 AND lane = $4 AND tenant = $1 AND ($2 = '' OR owner = $2)`, id, contract.Lane(id))
	if err != nil {
		return Account{}, err
	}
	accounts := []Account{account}
	err = s.addBalances(ctx, accounts)
	return accounts[0], err
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
	balances, err := listWithin[Balance](ctx, s, "read balances", `
		SELECT account_id, currency, actual, frozen FROM balances
		WHERE account_id = ANY($1::uuid[]) AND entries > 0 ORDER BY currency`, ids)
	for _, b := range balances {
		at[b.AccountID].Balances = append(at[b.AccountID].Balances, b)
	}
	return err
}

// Operation reads the record of an operation, or returns ErrNotFound. Who is restricted to an owner sees those that the
// owner's accounts paid or were paid by, but not what others have asked of them.
func (s *Store) Operation(ctx context.Context, by identity.Reach, id uuid.UUID) (*ledger.Operation, error) {
	row, err := get[operationRow](ctx, s, by, "read operation", `
		SELECT `+operationColumns+` FROM operations o WHERE id = $3 AND tenant = $1 AND ($2 = '' OR EXISTS (
			SELECT FROM accounts a WHERE a.tenant = $1 AND a.owner = $2
				AND a.id = ANY(ARRAY[CASE WHEN NOT o.stranger THEN o.account_id END, o.to_account_id])))`, id)
	if err != nil {
		return nil, err
	}
	op := row.operation()
	return &op, nil
}

// Settled reads the records of operations and leaves out those that are not settled, whoever asked for them: it is for
// those who did. Unlike the other reads it ends with ctx.
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

// Waiting reads an accepted operation that has not taken effect, or returns ErrNotFound. Who is restricted to an owner
// sees the owner's own and those about the owner's accounts.
func (s *Store) Waiting(ctx context.Context, by identity.Reach, id uuid.UUID) (Message, error) {
	if _, err := get[uuid.UUID](ctx, s, by, "look into the inbox", `
		SELECT id FROM inbox i WHERE id = $3 AND `+inbox.KindSQL+` NOT IN ('`+Repetition+`', '`+Unreadable+`') AND
			`+inboxTenant+` = $1 AND
			(`+inboxBy+`->>'owner' = $2 OR `+ofOwner("i")+`)`, id); err != nil {
		return Message{}, err
	}
	return s.Message(ctx, id)
}

// Message reads an accepted message that has not taken effect, whoever sent it, or returns ErrNotFound.
func (s *Store) Message(ctx context.Context, id uuid.UUID) (Message, error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	m, found, err := s.inbox.Find(ctx, id)
	if err == nil && !found {
		err = ErrNotFound
	}
	return m, err
}

// Payment reads the payment of an order, or returns ErrNotFound.
func (s *Store) Payment(ctx context.Context, by identity.Reach, order uuid.UUID) (ledger.OrderPayment, error) {
	payment, err := get[ledger.OrderPayment](ctx, s, by, "read payment", `
		SELECT `+paymentColumns+` FROM payments p WHERE order_id = $3 AND tenant = $1 AND `+ofOwner("p"), order)
	return paymentOf(payment), err
}

// PayerOf tells whose account pays an order and in which currency, also while the order's message is still in the
// inbox, or returns ErrNotFound.
func (s *Store) PayerOf(
	ctx context.Context, by identity.Reach, order uuid.UUID) (account uuid.UUID, currency string, err error) {
	// One statement sees one moment, in which a payment is in exactly one of the tables.
	row, err := get[NamedRecord](ctx, s, by, "find who pays an order", `
		SELECT account_id, currency FROM payments p WHERE order_id = $3 AND tenant = $1 AND `+ofOwner("p")+`
		UNION ALL
		SELECT account_id, payload::json->>'currency' FROM inbox i
		WHERE id = $3 AND kind = 'payment' AND `+inboxTenant+` = $1 AND `+ofOwner("i"), order)
	return row.AccountID, row.Currency, err
}

// Hold reads a hold, or returns ErrNotFound.
func (s *Store) Hold(ctx context.Context, by identity.Reach, id uuid.UUID) (ledger.Hold, error) {
	hold, err := get[ledger.Hold](ctx, s, by, "read hold", `
		SELECT `+holdColumns+` FROM holds h WHERE id = $3 AND EXISTS (SELECT FROM accounts a
			WHERE a.id = h.account_id AND a.lane = h.lane AND a.tenant = $1 AND ($2 = '' OR a.owner = $2))`, id)
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
	rows, err := listWithin[struct {
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
