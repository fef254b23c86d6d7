package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Save stores what a batch has changed, its entries under a time that is not before the one given, one statement per table. Where rows are only inserted, their columns are unnested in the
// SELECT list, which makes the rows one after the other; in FROM each column would be a table of its own first, for a quarter of
// the statement's time.
func (s *Store) Save(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes, notBefore time.Time) error {
	entered, err := saveEntries(ctx, tx, changes, notBefore)
	if err != nil {
		return err
	}
	if len(changes.Vaults) > 0 {
		vaults := make(map[ledger.Key]bool, len(changes.Vaults))
		for _, key := range changes.Vaults {
			vaults[key] = true
		}
		if err := createBalances(ctx, tx, vaults); err != nil {
			return err
		}
	}
	if err := saveBalances(ctx, tx, changes, entered); err != nil {
		return err
	}
	for _, save := range []func(context.Context, *sqlx.Tx, ledger.Changes) error{
		saveAccounts, saveOperations, completeOperations, saveHolds, savePayments, saveRetellings, endWaits, saveWaits, askWaits,
	} {
		if err := save(ctx, tx, changes); err != nil {
			return err
		}
	}
	return nil
}

func saveAccounts(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes) error {
	n := len(changes.Accounts)
	if n == 0 {
		return nil
	}
	ids, lanes, created := make(pg.UUIDs, n), make(pg.Int16s, n), make(pg.Times, n)
	owners, references := texts(n), texts(n)
	for i, a := range changes.Accounts {
		ids[i], owners[i], references[i], created[i], lanes[i] = a.ID, a.Owner, a.Reference, a.CreatedAt, a.Lane
	}
	return exec(ctx, tx, "save accounts", int64(n), `
		INSERT INTO accounts (id, lane, owner, reference, created_at)
		SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::timestamptz[])`,
		ids, lanes, owners, references, created)
}

// saveBalances stores balances, whose last entry was made at this time; zero where none was made.
func saveBalances(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes, entered sql.NullTime) error {
	n := len(changes.Balances)
	if n == 0 {
		return nil
	}
	accounts, currencies, lanes := make(pg.UUIDs, n), texts(n), make(pg.Int16s, n)
	actual, frozen, entries, waiting := bigints(n), bigints(n), bigints(n), bigints(n)
	i := 0
	for key, balance := range changes.Balances {
		accounts[i], currencies[i], lanes[i] = key.AccountID, key.Currency, key.Lane
		actual[i], frozen[i], entries[i], waiting[i] = balance.Actual, balance.Frozen, balance.Entries, balance.Waiting
		i++
	}
	return exec(ctx, tx, "save balances", int64(n), `
		UPDATE balances SET actual = c.actual, frozen = c.frozen, entries = c.entries, waiting = c.waiting,
			entered_at = coalesce($8::timestamptz, entered_at)
		FROM unnest($1::uuid[], $2::text[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
			AS c (account_id, currency, lane, actual, frozen, entries, waiting)
		WHERE balances.account_id = c.account_id AND balances.currency = c.currency AND balances.lane = c.lane`,
		accounts, currencies, lanes, actual, frozen, entries, waiting, entered)
}

// saveEntries stores entries under one time, not before the one given, and returns it.
func saveEntries(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes, notBefore time.Time) (entered sql.NullTime, err error) {
	n := len(changes.Entries)
	if n == 0 {
		return entered, nil
	}
	accounts, operations, lanes := make(pg.UUIDs, n), make(pg.UUIDs, n), make(pg.Int16s, n)
	currencies, kinds := texts(n), texts(n)
	numbers, amounts, frozen, balancesAfter, frozenAfter := bigints(n), bigints(n), bigints(n), bigints(n), bigints(n)
	for i, e := range changes.Entries {
		accounts[i], currencies[i], operations[i], kinds[i] = e.AccountID, e.Currency, e.OperationID, string(e.Operation)
		lanes[i], numbers[i], amounts[i] = e.Lane, e.Number, e.Amount
		frozen[i], balancesAfter[i], frozenAfter[i] = e.Frozen, e.BalanceAfter, e.FrozenAfter
	}
	var stored int
	if err := tx.QueryRowxContext(ctx, `
		WITH now (at) AS MATERIALIZED (
			SELECT greatest(clock_timestamp(), $11::timestamptz)
		), stored AS (
			INSERT INTO entries (account_id, lane, currency, number, operation_id, operation, amount, frozen, balance_after, frozen_after, created_at)
			SELECT unnest($1::uuid[]), unnest($2::smallint[]), unnest($3::text[]), unnest($4::bigint[]), unnest($5::uuid[]), unnest($6::text[]),
				unnest($7::bigint[]), unnest($8::bigint[]), unnest($9::bigint[]), unnest($10::bigint[]), (SELECT at FROM now)
			RETURNING 1
		) SELECT (SELECT count(*) FROM stored), at FROM now`,
		accounts, lanes, currencies, numbers, operations, kinds, amounts, frozen, balancesAfter, frozenAfter,
		sql.NullTime{Time: notBefore, Valid: !notBefore.IsZero()}).Scan(&stored, &entered); err != nil {
		return entered, fmt.Errorf("save entries: %w", err)
	}
	if stored != n {
		return entered, fmt.Errorf("save entries: %d rows changed instead of %d", stored, n)
	}
	return entered, nil
}

func saveOperations(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes) error {
	n := len(changes.Operations)
	if n == 0 {
		return nil
	}
	ids, accounts, lanes, seqs, amounts := make(pg.UUIDs, n), make(pg.UUIDs, n), make(pg.Int16s, n), bigints(n), bigints(n)
	payees, holds, orders, commands, fingerprints := optionalUUIDs(n), optionalUUIDs(n), optionalUUIDs(n), optionalUUIDs(n), optionalUUIDs(n)
	kinds, currencies, statuses, reasons := texts(n), texts(n), texts(n), texts(n)
	references, descriptions, notes := texts(n), texts(n), texts(n)
	created, settled := make(pg.Times, n), make(pg.Times, n)
	for i, op := range changes.Operations {
		ids[i], lanes[i], seqs[i], kinds[i], accounts[i] = op.ID, op.Lane, op.Seq, string(op.Kind), op.AccountID
		payees[i], holds[i], orders[i], commands[i] = op.ToAccountID, op.HoldID, op.OrderID, op.CommandID
		currencies[i], amounts[i], statuses[i], reasons[i] = op.Currency, op.Amount, string(op.Status), string(op.Reason)
		references[i], descriptions[i], notes[i], fingerprints[i] = op.Reference, op.Description, op.Note, op.Fingerprint.UUID
		created[i], settled[i] = op.CreatedAt, op.SettledAt
	}
	return exec(ctx, tx, "save operations", int64(n), `
		INSERT INTO operations (`+operationColumns+`)
		SELECT unnest($1::uuid[]), unnest($2::smallint[]), unnest($3::bigint[]), unnest($4::text[]), unnest($5::uuid[]), unnest($6::uuid[]),
			unnest($7::uuid[]), unnest($8::uuid[]), unnest($9::uuid[]), unnest($10::text[]), unnest($11::bigint[]), unnest($12::text[]),
			unnest($13::text[]), unnest($14::text[]), unnest($15::text[]), unnest($16::text[]), unnest($17::uuid[]),
			unnest($18::timestamptz[]), unnest($19::timestamptz[])`,
		ids, lanes, seqs, kinds, accounts, payees, holds, orders, commands, currencies, amounts,
		statuses, reasons, references, descriptions, notes, fingerprints, created, settled)
}

// completeOperations stores what became of operations that were created before: they have ended, or wait for something
// else now.
func completeOperations(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes) error {
	n := len(changes.Completed)
	if n == 0 {
		return nil
	}
	ids, lanes, statuses, reasons, notes := make(pg.UUIDs, n), make(pg.Int16s, n), texts(n), texts(n), texts(n)
	holds, settled := optionalUUIDs(n), make(pg.Times, n)
	for i, c := range changes.Completed {
		op := c.Operation
		ids[i], lanes[i], statuses[i], reasons[i], notes[i] = op.ID, op.Lane, string(op.Status), string(op.Reason), op.Note
		holds[i], settled[i] = op.HoldID, op.SettledAt
	}
	return exec(ctx, tx, "complete operations", int64(n), `
		UPDATE operations SET status = c.status, reason = c.reason, note = c.note, hold_id = c.hold_id, settled_at = c.settled_at
		FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::timestamptz[])
			AS c (id, lane, status, reason, note, hold_id, settled_at)
		WHERE operations.id = c.id AND operations.lane = c.lane AND operations.status = 'created'`,
		ids, lanes, statuses, reasons, notes, holds, settled)
}

func saveHolds(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes) error {
	n := len(changes.Holds)
	if n == 0 {
		return nil
	}
	ids, accounts, orders, lanes := make(pg.UUIDs, n), make(pg.UUIDs, n), optionalUUIDs(n), make(pg.Int16s, n)
	currencies, statuses, amounts, captured := texts(n), texts(n), bigints(n), bigints(n)
	expires, created := make(pg.Times, n), make(pg.Times, n)
	i := 0
	for _, h := range changes.Holds {
		ids[i], accounts[i], currencies[i], statuses[i] = h.ID, h.AccountID, h.Currency, string(h.Status)
		expires[i], created[i] = h.ExpiresAt, h.CreatedAt
		lanes[i], amounts[i], captured[i], orders[i] = h.Lane, h.Amount, h.Captured, h.OrderID
		i++
	}
	return exec(ctx, tx, "save holds", int64(n), `
		INSERT INTO holds (`+holdColumns+`)
		SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::text[], $5::bigint[], $6::bigint[], $7::text[],
			$8::uuid[], $9::timestamptz[], $10::timestamptz[])
		ON CONFLICT (id, lane) DO UPDATE SET status = excluded.status, captured = excluded.captured WHERE holds.status = 'open'`,
		ids, lanes, accounts, currencies, amounts, captured, statuses, orders, expires, created)
}

func savePayments(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes) error {
	// The last transition of a payment is its state; one that has its first version here is new.
	last := make(map[uuid.UUID]ledger.OrderPayment, len(changes.Payments))
	begun := make(map[uuid.UUID]bool, len(changes.Payments))
	for _, p := range changes.Payments {
		last[p.OrderID] = p
		begun[p.OrderID] = begun[p.OrderID] || p.Version == 1
	}
	begin, change := make([]ledger.OrderPayment, 0, len(last)), make([]ledger.OrderPayment, 0, len(last))
	for id, p := range last {
		if begun[id] {
			begin = append(begin, p)
		} else {
			change = append(change, p)
		}
	}
	if err := insertPayments(ctx, tx, begin); err != nil {
		return err
	}
	return updatePayments(ctx, tx, change)
}

func insertPayments(ctx context.Context, tx *sqlx.Tx, payments []ledger.OrderPayment) error {
	n := len(payments)
	if n == 0 {
		return nil
	}
	orders, accounts, lanes := make(pg.UUIDs, n), make(pg.UUIDs, n), make(pg.Int16s, n)
	currencies, captures, statuses, reasons, notes, previous := texts(n), texts(n), texts(n), texts(n), texts(n), texts(n)
	amounts, captured, refunded, versions := bigints(n), bigints(n), bigints(n), bigints(n)
	created, updated := make(pg.Times, n), make(pg.Times, n)
	for i, p := range payments {
		orders[i], lanes[i], accounts[i], currencies[i], captures[i] = p.OrderID, p.Lane, p.AccountID, p.Currency, p.Capture
		statuses[i], reasons[i], notes[i], previous[i] = p.Status, string(p.Reason), p.Note, p.Previous
		created[i], updated[i] = p.CreatedAt, p.UpdatedAt
		amounts[i], captured[i], refunded[i], versions[i] = p.Amount, p.Captured, p.Refunded, p.Version
	}
	return exec(ctx, tx, "save payments", int64(n), `
		INSERT INTO payments (`+paymentColumns+`, previous)
		SELECT unnest($1::uuid[]), unnest($2::smallint[]), unnest($3::uuid[]), unnest($4::text[]), unnest($5::bigint[]), unnest($6::text[]),
			unnest($7::text[]), unnest($8::text[]), unnest($9::text[]), unnest($10::bigint[]), unnest($11::bigint[]), unnest($12::bigint[]),
			unnest($13::timestamptz[]), unnest($14::timestamptz[]), unnest($15::text[])`,
		orders, lanes, accounts, currencies, amounts, captures, statuses, reasons, notes, captured, refunded, versions, created, updated, previous)
}

func updatePayments(ctx context.Context, tx *sqlx.Tx, payments []ledger.OrderPayment) error {
	n := len(payments)
	if n == 0 {
		return nil
	}
	orders, lanes, updated := make(pg.UUIDs, n), make(pg.Int16s, n), make(pg.Times, n)
	statuses, reasons, notes, previous := texts(n), texts(n), texts(n), texts(n)
	captured, refunded, versions := bigints(n), bigints(n), bigints(n)
	for i, p := range payments {
		orders[i], statuses[i], reasons[i], notes[i] = p.OrderID, p.Status, string(p.Reason), p.Note
		previous[i], updated[i] = p.Previous, p.UpdatedAt
		lanes[i], captured[i], refunded[i], versions[i] = p.Lane, p.Captured, p.Refunded, p.Version
	}
	return exec(ctx, tx, "change payments", int64(n), `
		UPDATE payments SET status = c.status, reason = c.reason, note = c.note, previous = c.previous, captured = c.captured,
			refunded = c.refunded, version = c.version, updated_at = c.updated_at
		FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[],
			$10::timestamptz[])
			AS c (order_id, lane, status, reason, note, previous, captured, refunded, version, updated_at)
		WHERE payments.order_id = c.order_id AND payments.lane = c.lane AND payments.version < c.version`,
		orders, lanes, statuses, reasons, notes, previous, captured, refunded, versions, updated)
}

// exec runs a statement that must change exactly n rows: anything else is a broken promise, and rolls back.
func exec(ctx context.Context, tx *sqlx.Tx, what string, n int64, query string, args ...any) error {
	result, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	changed, err := result.RowsAffected()
	if err == nil && changed != n {
		err = fmt.Errorf("%d rows changed instead of %d", changed, n)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func texts(n int) pg.Texts                 { return make(pg.Texts, n) }
func bigints(n int) pg.Int64s              { return make(pg.Int64s, n) }
func optionalUUIDs(n int) pg.OptionalUUIDs { return make(pg.OptionalUUIDs, n) }
