package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Load fills a book with what the requests touch and locks the balances, all in one global order.
func (s *Store) Load(ctx context.Context, tx *sqlx.Tx, book *ledger.Book, requests []ledger.Request) error {
	for _, load := range []func(context.Context, *sqlx.Tx, *ledger.Book, []ledger.Request) error{
		loadOperations, loadHolds, loadPayments, loadWaits, loadQueues,
	} {
		if err := load(ctx, tx, book, requests); err != nil {
			return err
		}
	}
	needs := book.Needs(requests)
	if err := nameBalances(ctx, tx, needs); err != nil {
		return err
	}
	missing, err := lockBalances(ctx, tx, book, needs.Balances)
	if err != nil {
		return err
	}
	if err := loadAccounts(ctx, tx, book, needs.Accounts); err != nil {
		return err
	}
	for key := range missing {
		created := needs.Accounts[key.AccountID]
		if _, exists := book.Account(key.AccountID); !exists && !created && !ledger.IsSystem(key.AccountID) {
			delete(missing, key)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if err := createBalances(ctx, tx, missing); err != nil {
		return err
	}
	_, err = lockBalances(ctx, tx, book, missing)
	return err
}

// loadOperations finds the requests that were settled before, and the operations that are to be cancelled.
func loadOperations(ctx context.Context, tx *sqlx.Tx, book *ledger.Book, requests []ledger.Request) error {
	ids, lanes := make(pg.UUIDs, len(requests)), make(pg.Int16s, len(requests))
	for i, r := range requests {
		ids[i], lanes[i] = r.ID, r.Lane
	}
	cancelled, of := referred(requests, func(r ledger.Request) uuid.UUID { return r.References().Operation })
	ids, lanes = append(ids, cancelled...), append(lanes, of...)
	var rows []operationRow
	if err := tx.SelectContext(ctx, &rows, `
		SELECT found.* FROM unnest($1::uuid[], $2::smallint[]) AS wanted (wanted_id, wanted_lane) CROSS JOIN LATERAL (
			SELECT `+operationColumns+` FROM operations WHERE id = wanted_id AND lane = wanted_lane LIMIT 1
		) found`, ids, lanes); err != nil {
		return fmt.Errorf("load operations: %w", err)
	}
	for _, row := range rows {
		book.PutOperation(row.operation())
	}
	return nil
}

// referred collects what requests refer to, as columns; without any there is nothing to load.
func referred(requests []ledger.Request, which func(ledger.Request) uuid.UUID) (ids pg.UUIDs, lanes pg.Int16s) {
	for _, r := range requests {
		if id := which(r); id != uuid.Nil {
			ids, lanes = append(ids, id), append(lanes, r.Lane)
		}
	}
	return ids, lanes
}

// loadHolds finds the holds that requests are about.
func loadHolds(ctx context.Context, tx *sqlx.Tx, book *ledger.Book, requests []ledger.Request) error {
	ids, lanes := referred(requests, func(r ledger.Request) uuid.UUID { return r.References().Hold })
	if len(ids) == 0 {
		return nil
	}
	var rows []holdRow
	if err := tx.SelectContext(ctx, &rows, `
		SELECT found.* FROM unnest($1::uuid[], $2::smallint[]) AS wanted (wanted_id, wanted_lane) CROSS JOIN LATERAL (
			SELECT `+holdColumns+` FROM holds WHERE id = wanted_id AND lane = wanted_lane LIMIT 1
		) found`,
		ids, lanes); err != nil {
		return fmt.Errorf("load holds: %w", err)
	}
	for _, row := range rows {
		book.PutHold(row.hold())
	}
	return nil
}

// loadPayments finds the payments that requests are about.
func loadPayments(ctx context.Context, tx *sqlx.Tx, book *ledger.Book, requests []ledger.Request) error {
	ids, lanes := referred(requests, func(r ledger.Request) uuid.UUID { return r.References().Order })
	return putPayments(ctx, tx, book, ids, lanes)
}

func putPayments(ctx context.Context, tx *sqlx.Tx, book *ledger.Book, orders pg.UUIDs, lanes pg.Int16s) error {
	if len(orders) == 0 {
		return nil
	}
	var rows []paymentRow
	if err := tx.SelectContext(ctx, &rows, `
		SELECT found.* FROM unnest($1::uuid[], $2::smallint[]) AS wanted (wanted_id, wanted_lane) CROSS JOIN LATERAL (
			SELECT `+paymentColumns+` FROM payments WHERE order_id = wanted_id AND lane = wanted_lane LIMIT 1
		) found`,
		orders, lanes); err != nil {
		return fmt.Errorf("load payments: %w", err)
	}
	for _, row := range rows {
		book.PutPayment(row.payment())
	}
	return nil
}

// loadAccounts puts in those of the accounts that exist, as far as the book does not know all that is wanted of them: see
// ledger.Needs.
func loadAccounts(ctx context.Context, tx *sqlx.Tx, book *ledger.Book, accounts map[uuid.UUID]bool) error {
	var ids pg.UUIDs
	for id, whole := range accounts {
		if _, known := book.Account(id); whole || !known {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	var found []accountRow
	if err := tx.SelectContext(ctx, &found, `
		SELECT id, lane, owner, reference, created_at FROM accounts WHERE id = ANY($1::uuid[])`, ids); err != nil {
		return fmt.Errorf("load accounts: %w", err)
	}
	for _, row := range found {
		book.PutAccount(ledger.Account(row))
	}
	return nil
}

// nameBalances adds all balances of the accounts of which all are needed.
func nameBalances(ctx context.Context, tx *sqlx.Tx, needs ledger.Needs) error {
	if len(needs.Whole) == 0 {
		return nil
	}
	var rows []struct {
		AccountID uuid.UUID `db:"account_id"`
		Currency  string    `db:"currency"`
		Lane      int16     `db:"lane"`
	}
	if err := tx.SelectContext(ctx, &rows, `
		SELECT account_id, currency, lane FROM balances WHERE account_id = ANY($1::uuid[])`, pg.UUIDs(needs.Whole)); err != nil {
		return fmt.Errorf("name balances: %w", err)
	}
	for _, row := range rows {
		key := ledger.Key{AccountID: row.AccountID, Currency: row.Currency, Lane: row.Lane}
		needs.Balances[key] = needs.Balances[key]
	}
	return nil
}

// lockBalances locks and loads balances and returns those that must be there but are not: a row that is not there cannot
// be locked, and two first credits would overwrite each other. It puts in the accounts that exist since a balance of theirs has
// an entry; one without may have been made for an account that was not created in the end.
func lockBalances(ctx context.Context, tx *sqlx.Tx, book *ledger.Book, keys map[ledger.Key]bool) (missing map[ledger.Key]bool, err error) {
	owners, currencies, lanes := keyColumns(keys)
	rows, err := tx.QueryContext(ctx, `
		SELECT locked.* FROM unnest($1::uuid[], $2::text[], $3::smallint[])
			AS wanted (wanted_account, wanted_currency, wanted_lane) CROSS JOIN LATERAL (
			SELECT account_id, lane, currency, actual, frozen, entries, waiting,
				CASE WHEN entered_at > clock_timestamp() THEN entered_at END FROM balances
			WHERE account_id = wanted_account AND currency = wanted_currency AND lane = wanted_lane FOR UPDATE
		) locked`, owners, currencies, lanes)
	if err != nil {
		return nil, fmt.Errorf("lock balances: %w", err)
	}
	defer rows.Close()
	missing = make(map[ledger.Key]bool)
	for key, needed := range keys {
		if needed {
			missing[key] = true
		}
	}
	for rows.Next() {
		var (
			key     ledger.Key
			balance ledger.Balance
			entered sql.NullTime
		)
		if err := rows.Scan(&key.AccountID, &key.Lane, &key.Currency, &balance.Actual, &balance.Frozen, &balance.Entries, &balance.Waiting, &entered); err != nil {
			return nil, fmt.Errorf("lock balances: %w", err)
		}
		if entered.Time.After(book.Entered) {
			book.Entered = entered.Time
		}
		book.PutBalance(key, balance)
		delete(missing, key)
		if _, known := book.Account(key.AccountID); !known && balance.Entries > 0 && !ledger.IsSystem(key.AccountID) {
			book.PutAccount(ledger.Account{ID: key.AccountID, Lane: key.Lane})
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("lock balances: %w", err)
	}
	return missing, nil
}

// createBalances inserts rows of zero. Another transaction that inserts one of them waits until this one has ended, and finds it
// there then, or inserts it itself.
func createBalances(ctx context.Context, tx *sqlx.Tx, keys map[ledger.Key]bool) error {
	accounts, currencies, lanes := keyColumns(keys)
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO balances (account_id, currency, lane)
		SELECT * FROM unnest($1::uuid[], $2::text[], $3::smallint[]) ORDER BY 1, 2, 3
		ON CONFLICT DO NOTHING`, accounts, currencies, lanes); err != nil {
		return fmt.Errorf("create balances: %w", err)
	}
	return nil
}

// keyColumns are the keys of balances in the one global order in which they are locked.
func keyColumns[V any](keys map[ledger.Key]V) (accounts pg.UUIDs, currencies pg.Texts, lanes pg.Int16s) {
	for _, key := range slices.SortedFunc(maps.Keys(keys), ledger.Key.Compare) {
		accounts, currencies, lanes = append(accounts, key.AccountID), append(currencies, key.Currency), append(lanes, key.Lane)
	}
	return accounts, currencies, lanes
}
