// Package postgres holds all SQL of payments: what a settlement loads and stores, and what the API reads.
package postgres

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/inbox"
	"github.com/altyn-pay/altyn/platform/outbox"
	"github.com/altyn-pay/altyn/platform/postgres"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations is the schema of payments, in the order in which it is applied.
func Migrations() []postgres.Migrations {
	sub, err := fs.Sub(files, "migrations")
	if err != nil {
		panic(err) // the folder is compiled in
	}
	return []postgres.Migrations{inbox.Migrations(), outbox.Migrations(), {Name: "payments", FS: sub}}
}

// Store reads and writes the ledger's tables.
type Store struct {
	db *sqlx.DB
}

// New returns a store over the service's database.
func New(db *sqlx.DB) *Store { return &Store{db} }

// operationRow is an operation as it is stored.
type operationRow struct {
	ID          uuid.UUID     `db:"id"`
	Lane        int16         `db:"lane"`
	Seq         int64         `db:"seq"`
	Kind        ledger.Kind   `db:"operation"`
	AccountID   uuid.UUID     `db:"account_id"`
	ToAccountID uuid.NullUUID `db:"to_account_id"`
	HoldID      uuid.NullUUID `db:"hold_id"`
	OrderID     uuid.NullUUID `db:"order_id"`
	CommandID   uuid.NullUUID `db:"command_id"`
	Currency    string        `db:"currency"`
	Amount      int64         `db:"amount"`
	Status      ledger.Status `db:"status"`
	Reason      ledger.Reason `db:"reason"`
	Reference   string        `db:"reference"`
	Description string        `db:"description"`
	Fingerprint uuid.NullUUID `db:"fingerprint"`
	CreatedAt   time.Time     `db:"created_at"`
	SettledAt   sql.NullTime  `db:"settled_at"`
}

const operationColumns = `id, lane, seq, operation, account_id, to_account_id, hold_id, order_id, command_id, currency, amount, status, reason,
	reference, description, fingerprint, created_at, settled_at`

func (r operationRow) operation() ledger.Operation {
	return ledger.Operation{
		ID: r.ID, Lane: r.Lane, Seq: r.Seq, Kind: r.Kind, AccountID: r.AccountID, ToAccountID: r.ToAccountID.UUID,
		HoldID: r.HoldID.UUID, OrderID: r.OrderID.UUID, CommandID: r.CommandID.UUID, Currency: r.Currency, Amount: r.Amount, Status: r.Status, Reason: r.Reason,
		Reference: r.Reference, Description: r.Description, Fingerprint: r.Fingerprint,
		CreatedAt: r.CreatedAt.UTC(), SettledAt: r.SettledAt.Time.UTC(),
	}
}

// accountRow is an account as it is stored.
type accountRow struct {
	ID        uuid.UUID `db:"id"`
	Lane      int16     `db:"lane"`
	Owner     string    `db:"owner"`
	Reference string    `db:"reference"`
	CreatedAt time.Time `db:"created_at"`
}

// holdRow is a hold as it is stored.
type holdRow struct {
	ID        uuid.UUID         `db:"id"`
	Lane      int16             `db:"lane"`
	AccountID uuid.UUID         `db:"account_id"`
	Currency  string            `db:"currency"`
	Amount    int64             `db:"amount"`
	Captured  int64             `db:"captured"`
	Status    ledger.HoldStatus `db:"status"`
	ExpiresAt time.Time         `db:"expires_at"`
	CreatedAt time.Time         `db:"created_at"`
}

const holdColumns = `id, lane, account_id, currency, amount, captured, status, expires_at, created_at`

// Load fills a book with what the requests touch and locks the balances, all in one global order.
func (s *Store) Load(ctx context.Context, tx *sqlx.Tx, book *ledger.Book, requests []ledger.Request) error {
	if err := loadOperations(ctx, tx, book, requests); err != nil {
		return err
	}
	if err := loadHolds(ctx, tx, book, requests); err != nil {
		return err
	}
	accounts := make(map[uuid.UUID]bool)
	balances := make(map[ledger.Key]bool) // value: it must be there as a row
	for _, r := range requests {
		named, takes, gives := book.Needs(r)
		for _, id := range named {
			accounts[id] = true
		}
		for _, key := range takes {
			if _, ok := balances[key]; !ok {
				balances[key] = false
			}
		}
		for _, key := range gives {
			balances[key] = true
		}
	}
	if err := loadAccounts(ctx, tx, book, requests, accounts); err != nil {
		return err
	}
	if err := nameBalances(ctx, tx, requests, balances); err != nil {
		return err
	}
	for key := range balances {
		if !ledger.IsSystem(key.AccountID) && !accounts[key.AccountID] {
			delete(balances, key)
		}
	}
	missing, err := lockBalances(ctx, tx, book, balances)
	if err != nil || len(missing) == 0 {
		return err
	}
	if err := s.createBalances(ctx, missing); err != nil {
		return err
	}
	_, err = lockBalances(ctx, tx, book, missing)
	return err
}

// loadOperations finds the requests that were settled before.
func loadOperations(ctx context.Context, tx *sqlx.Tx, book *ledger.Book, requests []ledger.Request) error {
	ids, lanes := make(pq.StringArray, len(requests)), make([]int64, len(requests))
	for i, r := range requests {
		ids[i], lanes[i] = r.ID.String(), int64(r.Lane)
	}
	var rows []operationRow
	if err := tx.SelectContext(ctx, &rows, `
		SELECT `+operationColumns+` FROM operations
		WHERE (id, lane) IN (SELECT * FROM unnest($1::uuid[], $2::smallint[]))`, ids, pq.Array(lanes)); err != nil {
		return fmt.Errorf("load operations: %w", err)
	}
	for _, row := range rows {
		book.PutOperation(row.operation())
	}
	return nil
}

// loadHolds finds the holds that requests name.
func loadHolds(ctx context.Context, tx *sqlx.Tx, book *ledger.Book, requests []ledger.Request) error {
	var ids pq.StringArray
	var lanes []int64
	for _, r := range requests {
		if r.HoldID != uuid.Nil {
			ids, lanes = append(ids, r.HoldID.String()), append(lanes, int64(r.Lane))
		}
	}
	if len(ids) == 0 {
		return nil
	}
	var rows []holdRow
	if err := tx.SelectContext(ctx, &rows, `
		SELECT `+holdColumns+` FROM holds WHERE (id, lane) IN (SELECT * FROM unnest($1::uuid[], $2::smallint[]))`,
		ids, pq.Array(lanes)); err != nil {
		return fmt.Errorf("load holds: %w", err)
	}
	for _, row := range rows {
		book.PutHold(ledger.Hold(row))
	}
	return nil
}

// loadAccounts tells the book which of the accounts exist, and takes those from the set that neither exist nor are
// created by one of the requests.
func loadAccounts(ctx context.Context, tx *sqlx.Tx, book *ledger.Book, requests []ledger.Request, accounts map[uuid.UUID]bool) error {
	ids := make(pq.StringArray, 0, len(accounts))
	for id := range accounts {
		ids = append(ids, id.String())
		accounts[id] = false
	}
	var found []accountRow
	if err := tx.SelectContext(ctx, &found, `
		SELECT id, lane, owner, reference, created_at FROM accounts WHERE id = ANY($1::uuid[])`, ids); err != nil {
		return fmt.Errorf("load accounts: %w", err)
	}
	for _, row := range found {
		book.PutAccount(ledger.Account(row))
		accounts[row.ID] = true
	}
	for _, r := range requests {
		if r.Kind == ledger.CreateAccount {
			accounts[r.AccountID] = true
		}
	}
	return nil
}

// nameBalances adds all balances of the accounts whose balances are asked for.
func nameBalances(ctx context.Context, tx *sqlx.Tx, requests []ledger.Request, balances map[ledger.Key]bool) error {
	var asked pq.StringArray
	for _, r := range requests {
		if r.Kind == ledger.Question {
			asked = append(asked, r.AccountID.String())
		}
	}
	if len(asked) == 0 {
		return nil
	}
	var rows []struct {
		AccountID uuid.UUID `db:"account_id"`
		Currency  string    `db:"currency"`
		Lane      int16     `db:"lane"`
	}
	if err := tx.SelectContext(ctx, &rows, `
		SELECT account_id, currency, lane FROM balances WHERE account_id = ANY($1::uuid[])`, asked); err != nil {
		return fmt.Errorf("name balances: %w", err)
	}
	for _, row := range rows {
		key := ledger.Key{AccountID: row.AccountID, Currency: row.Currency, Lane: row.Lane}
		if _, ok := balances[key]; !ok {
			balances[key] = false
		}
	}
	return nil
}

// lockBalances locks and loads balances and returns those that must be there but are not: a row that is not there cannot
// be locked, and two first credits would overwrite each other.
func lockBalances(ctx context.Context, tx *sqlx.Tx, book *ledger.Book, keys map[ledger.Key]bool) (map[ledger.Key]bool, error) {
	accounts, currencies, lanes := keyColumns(keys)
	var rows []struct {
		AccountID uuid.UUID `db:"account_id"`
		Lane      int16     `db:"lane"`
		Currency  string    `db:"currency"`
		Actual    int64     `db:"actual"`
		Frozen    int64     `db:"frozen"`
		Entries   int64     `db:"entries"`
	}
	if err := tx.SelectContext(ctx, &rows, `
		SELECT account_id, lane, currency, actual, frozen, entries FROM balances
		WHERE (account_id, currency, lane) IN (SELECT * FROM unnest($1::uuid[], $2::text[], $3::smallint[]))
		ORDER BY account_id, currency, lane FOR UPDATE`, accounts, currencies, pq.Array(lanes)); err != nil {
		return nil, fmt.Errorf("lock balances: %w", err)
	}
	missing := make(map[ledger.Key]bool)
	for key, needed := range keys {
		if needed {
			missing[key] = true
		}
	}
	for _, row := range rows {
		key := ledger.Key{AccountID: row.AccountID, Currency: row.Currency, Lane: row.Lane}
		book.PutBalance(key, ledger.Balance{Actual: row.Actual, Frozen: row.Frozen, Entries: row.Entries})
		delete(missing, key)
	}
	return missing, nil
}

// createBalances inserts rows of zero, in a short transaction of their own: so they are there for everybody before
// anybody locks them.
func (s *Store) createBalances(ctx context.Context, keys map[ledger.Key]bool) error {
	accounts, currencies, lanes := keyColumns(keys)
	if _, err := s.db.ExecContext(ctx, `
		INSERT INTO balances (account_id, currency, lane)
		SELECT * FROM unnest($1::uuid[], $2::text[], $3::smallint[]) ORDER BY 1, 2, 3
		ON CONFLICT DO NOTHING`, accounts, currencies, pq.Array(lanes)); err != nil {
		return fmt.Errorf("create balances: %w", err)
	}
	return nil
}

func keyColumns(keys map[ledger.Key]bool) (accounts, currencies pq.StringArray, lanes []int64) {
	accounts, currencies, lanes = make(pq.StringArray, 0, len(keys)), make(pq.StringArray, 0, len(keys)), make([]int64, 0, len(keys))
	for key := range keys {
		accounts = append(accounts, key.AccountID.String())
		currencies = append(currencies, key.Currency)
		lanes = append(lanes, int64(key.Lane))
	}
	return accounts, currencies, lanes
}
