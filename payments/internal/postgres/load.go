package postgres

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Load fills a book with what the requests touch, and locks the balances, all in one global order.
func (s *Store) Load(ctx context.Context, tx *sqlx.Tx, book *ledger.Book, requests []ledger.Request) error {
	if err := loadReferences(ctx, tx, book, requests); err != nil {
		return err
	}
	needs := book.Needs(requests)
	if err := nameBalances(ctx, tx, needs); err != nil {
		return err
	}
	missing, err := lockBalances(ctx, tx, book, needs.Balances)
	if err != nil {
		return err
	}
	book.Strange(requests, needs)
	if err := loadAccounts(ctx, tx, book, needs.Accounts); err != nil {
		return err
	}
	if leaveOut(missing, book, requests, needs); len(missing) == 0 {
		return nil
	}
	if err := createBalances(ctx, tx, missing); err != nil {
		return err
	}
	_, err = lockBalances(ctx, tx, book, missing)
	return err
}

// leaveOut removes from the missing balances those that must not be created: of accounts that neither exist nor are
// being opened, and those that only strangers to the account ask for.
func leaveOut(missing map[ledger.Key]bool, book *ledger.Book, requests []ledger.Request, needs ledger.Needs) {
	if len(missing) == 0 {
		return
	}
	wanted := book.Needs(book.Strange(requests, needs)).Balances
	for key := range missing {
		_, exists := book.Account(key.AccountID)
		if !wanted[key] || !exists && !needs.Opened[key.AccountID] && !ledger.IsSystem(key.AccountID) {
			delete(missing, key)
		}
	}
}

// loadReferences puts in what the requests refer to, and the operations of those that were settled before.
func loadReferences(ctx context.Context, tx *sqlx.Tx, book *ledger.Book, requests []ledger.Request) error {
	var operations, holds, payments, waits lookup
	queues := make(map[ledger.Key]bool)
	for _, r := range requests {
		refs := r.References()
		operations.add(r.ID, r.Lane)
		operations.add(refs.Operation, r.Lane)
		holds.add(refs.Hold, r.Lane)
		payments.add(refs.Order, r.Lane)
		waits.add(refs.Wait, r.Lane)
		if refs.Queue != (ledger.Key{}) {
			queues[refs.Queue] = true
		}
	}
	if err := find(ctx, tx, operations, "operations", "id", operationColumns, func(row operationRow) error {
		book.PutOperation(row.operation())
		return nil
	}); err != nil {
		return err
	}
	for _, r := range requests { // a repeated request may be the first one that asks for a reply
		if op, ok := book.Operation(r.ID); ok && op.Status == ledger.Created && r.Reply != nil {
			waits.add(r.ID, r.Lane)
		}
	}
	if err := find(ctx, tx, holds, "holds", "id", holdColumns, func(row ledger.Hold) error {
		book.PutHold(holdOf(row))
		return nil
	}); err != nil {
		return err
	}
	if err := find(ctx, tx, waits, "waits", "id", waitColumns, func(row waitRow) error {
		wait, err := row.wait()
		book.PutWait(wait)
		return err
	}); err != nil {
		return err
	}
	if err := loadQueues(ctx, tx, book, queues, &payments); err != nil {
		return err
	}
	return find(ctx, tx, payments, "payments", "order_id", paymentColumns, func(row ledger.OrderPayment) error {
		book.PutPayment(paymentOf(row))
		return nil
	})
}

// Begun reads for each request the traceparent of the operation with which that began which the request refers to; ""
// where it refers to nothing, or to what is not recorded.
func (s *Store) Begun(ctx context.Context, tx *sqlx.Tx, requests []ledger.Request) (traceparents []string, err error) {
	var operations lookup
	of := make([]uuid.UUID, len(requests))
	for i, r := range requests {
		refs := r.References()
		of[i] = cmp.Or(refs.Order, refs.Hold, refs.Wait, refs.Operation) // each has the ID of its operation
		operations.add(of[i], r.Lane)
	}
	found := make(map[uuid.UUID]string, len(operations.ids))
	err = find(ctx, tx, operations, "operations", "id", "id, traceparent", func(op ledger.Operation) error {
		found[op.ID] = op.Traceparent
		return nil
	})
	traceparents = make([]string, len(requests))
	for i, id := range of {
		traceparents[i] = found[id]
	}
	return traceparents, err
}

// lookup is rows that are to be found, as columns.
type lookup struct {
	ids   pg.UUIDs
	lanes pg.Int16s
}

func (l *lookup) add(id uuid.UUID, lane int16) {
	if id != uuid.Nil {
		l.ids, l.lanes = append(l.ids, id), append(l.lanes, lane)
	}
}

// find calls put with each of the rows that exists. A LATERAL with LIMIT 1 is looked up in the index for each row,
// however many rows the planner expects on either side.
func find[R any](ctx context.Context, tx *sqlx.Tx, l lookup, table, key, columns string, put func(R) error) error {
	if len(l.ids) == 0 {
		return nil
	}
	var rows []R
	if err := tx.SelectContext(ctx, &rows, `
		SELECT found.* FROM unnest($1::uuid[], $2::smallint[]) AS wanted (wanted_id, wanted_lane) CROSS JOIN LATERAL (
			SELECT `+columns+` FROM `+table+` WHERE `+key+` = wanted_id AND lane = wanted_lane
				AND `+pg.InLanes("lane", "$3")+` LIMIT 1) found`,
		l.ids, l.lanes, pg.Lanes(l.lanes)); err != nil {
		return fmt.Errorf("load %s: %w", table, err)
	}
	for _, row := range rows {
		if err := put(row); err != nil {
			return err
		}
	}
	return nil
}

// How many requests of a queue one Resume serves, at most and at least. Those behind them get a Resume of their own, so
// that a batch of many Resumes loads no more than about maxLoaded requests.
const (
	maxServed = 200
	minServed = 4
	maxLoaded = 2000
)

// loadQueues puts in the heads of queues for money, and adds the payments among them to those that are to be loaded.
func loadQueues(
	ctx context.Context, tx *sqlx.Tx, book *ledger.Book, queues map[ledger.Key]bool, payments *lookup) error {
	if len(queues) == 0 {
		return nil
	}
	accounts, currencies, lanes := keyColumns(queues)
	var rows []waitRow
	if err := tx.SelectContext(ctx, &rows, `
		SELECT w.* FROM unnest($1::uuid[], $2::text[], $3::smallint[]) AS q (account_id, currency, lane) CROSS JOIN LATERAL (
			SELECT `+waitColumns+` FROM waits
			WHERE account_id = q.account_id AND currency = q.currency AND lane = q.lane AND what = 'waiting_for_funds'
				AND `+pg.InLanes("lane", "$5")+`
			ORDER BY seq LIMIT $4
		) w ORDER BY w.seq`,
		accounts, currencies, lanes, min(maxServed, max(minServed, maxLoaded/len(queues))), pg.Lanes(lanes)); err != nil {
		return fmt.Errorf("load queues: %w", err)
	}
	heads := make(map[ledger.Key][]ledger.Wait, len(queues))
	for _, row := range rows {
		wait, err := row.wait()
		if err != nil {
			return err
		}
		heads[wait.Key()] = append(heads[wait.Key()], wait)
		payments.add(wait.Request.Operation().OrderID, row.Lane)
	}
	for key, head := range heads {
		book.PutQueue(key, head)
	}
	return nil
}

// nameBalances adds all balances of the accounts in needs.Whole.
func nameBalances(ctx context.Context, tx *sqlx.Tx, needs ledger.Needs) error {
	if len(needs.Whole) == 0 {
		return nil
	}
	var rows []ledger.Key
	if err := tx.SelectContext(ctx, &rows, `
		SELECT account_id, currency, lane FROM balances
		WHERE account_id = ANY($1::uuid[]) AND `+pg.InLanes("lane", "$2"),
		pg.UUIDs(needs.Whole), lanesOf(needs.Whole)); err != nil {
		return fmt.Errorf("name balances: %w", err)
	}
	for _, key := range rows {
		if !needs.Balances[key] {
			needs.Balances[key] = false
		}
	}
	return nil
}

// lockBalances locks and loads balances, and returns those that must exist but do not: a row that does not exist cannot
// be locked, and two first credits would overwrite each other. A balance that has an entry proves that its account
// exists; the account is put in with its tenant. A balance without one may have been created for an account that was
// not created in the end.
func lockBalances(ctx context.Context, tx *sqlx.Tx, book *ledger.Book, keys map[ledger.Key]bool) (
	missing map[ledger.Key]bool, err error) {
	accounts, currencies, lanes := keyColumns(keys)
	var rows []struct {
		Balance
		Tenant string `db:"tenant"`
	}
	if err := tx.SelectContext(ctx, &rows, `
		SELECT locked.* FROM unnest($1::uuid[], $2::text[], $3::smallint[])
			AS wanted (wanted_account, wanted_currency, wanted_lane) CROSS JOIN LATERAL (
			SELECT account_id, lane, currency, actual, frozen, entries, waiting, tenant,
				CASE WHEN entered_at > clock_timestamp() THEN entered_at END AS entered_at FROM balances
			WHERE account_id = wanted_account AND currency = wanted_currency AND lane = wanted_lane
				AND `+pg.InLanes("lane", "$4")+` FOR UPDATE
		) locked`, accounts, currencies, lanes, pg.Lanes(lanes)); err != nil {
		return nil, fmt.Errorf("lock balances: %w", err)
	}
	missing = make(map[ledger.Key]bool)
	for key, needed := range keys {
		if needed {
			missing[key] = true
		}
	}
	for _, row := range rows {
		if row.EnteredAt.Time.After(book.Entered) {
			book.Entered = row.EnteredAt.Time
		}
		book.PutBalance(row.Key, row.Balance.Balance)
		delete(missing, row.Key)
		if _, known := book.Account(row.AccountID); !known && row.Entries > 0 && !ledger.IsSystem(row.AccountID) {
			book.PutAccount(ledger.Account{ID: row.AccountID, Lane: row.Lane, Tenant: row.Tenant})
		}
	}
	return missing, nil
}

// loadAccounts puts in the accounts that exist, except those of which the book knows all that is needed; see
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
	var found []ledger.Account
	if err := tx.SelectContext(ctx, &found, `
		SELECT id, lane, tenant, owner, reference, created_at FROM accounts
		WHERE id = ANY($1::uuid[]) AND `+pg.InLanes("lane", "$2"), ids, lanesOf(ids)); err != nil {
		return fmt.Errorf("load accounts: %w", err)
	}
	for _, account := range found {
		book.PutAccount(account)
	}
	return nil
}

// lanesOf are the lanes of accounts.
func lanesOf(accounts []uuid.UUID) pg.Lanes {
	lanes := make(pg.Lanes, len(accounts))
	for i, account := range accounts {
		lanes[i] = contract.Lane(account)
	}
	return lanes
}

// createBalances inserts rows of zero. Another transaction that inserts one of them waits until this one has ended.
// Then it finds the row there, or inserts it itself.
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
		accounts = append(accounts, key.AccountID)
		currencies = append(currencies, key.Currency)
		lanes = append(lanes, key.Lane)
	}
	return accounts, currencies, lanes
}
