package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
)

// Save stores what a batch has changed, one statement per table.
func (s *Store) Save(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes) error {
	for _, save := range []func(context.Context, *sqlx.Tx, ledger.Changes) error{
		saveAccounts, saveBalances, saveEntries, saveOperations, completeOperations, saveHolds, savePayments, endWaits, saveWaits,
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
	ids, owners, references, created, lanes := texts(n), texts(n), texts(n), texts(n), make([]int64, n)
	for i, a := range changes.Accounts {
		ids[i], owners[i], references[i], created[i], lanes[i] = a.ID.String(), a.Owner, a.Reference, timestamp(a.CreatedAt), int64(a.Lane)
	}
	return exec(ctx, tx, "save accounts", int64(n), `
		INSERT INTO accounts (id, lane, owner, reference, created_at)
		SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::timestamptz[])`,
		ids, pq.Array(lanes), owners, references, created)
}

func saveBalances(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes) error {
	n := len(changes.Balances)
	if n == 0 {
		return nil
	}
	accounts, currencies := make(pq.StringArray, 0, n), make(pq.StringArray, 0, n)
	lanes, actual, frozen, entries, waiting := make([]int64, 0, n), make([]int64, 0, n), make([]int64, 0, n), make([]int64, 0, n), make([]int64, 0, n)
	for key, balance := range changes.Balances {
		accounts, currencies, lanes = append(accounts, key.AccountID.String()), append(currencies, key.Currency), append(lanes, int64(key.Lane))
		actual, frozen, entries = append(actual, balance.Actual), append(frozen, balance.Frozen), append(entries, balance.Entries)
		waiting = append(waiting, balance.Waiting)
	}
	return exec(ctx, tx, "save balances", int64(n), `
		UPDATE balances SET actual = c.actual, frozen = c.frozen, entries = c.entries, waiting = c.waiting
		FROM unnest($1::uuid[], $2::text[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
			AS c (account_id, currency, lane, actual, frozen, entries, waiting)
		WHERE balances.account_id = c.account_id AND balances.currency = c.currency AND balances.lane = c.lane`,
		accounts, currencies, pq.Array(lanes), pq.Array(actual), pq.Array(frozen), pq.Array(entries), pq.Array(waiting))
}

func saveEntries(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes) error {
	n := len(changes.Entries)
	if n == 0 {
		return nil
	}
	accounts, currencies, operations, kinds := texts(n), texts(n), texts(n), texts(n)
	lanes, numbers, amounts := make([]int64, n), make([]int64, n), make([]int64, n)
	frozen, balancesAfter, frozenAfter := make([]int64, n), make([]int64, n), make([]int64, n)
	for i, e := range changes.Entries {
		accounts[i], currencies[i], operations[i], kinds[i] = e.AccountID.String(), e.Currency, e.OperationID.String(), string(e.Operation)
		lanes[i], numbers[i], amounts[i] = int64(e.Lane), e.Number, e.Amount
		frozen[i], balancesAfter[i], frozenAfter[i] = e.Frozen, e.BalanceAfter, e.FrozenAfter
	}
	return exec(ctx, tx, "save entries", int64(n), `
		INSERT INTO entries (account_id, lane, currency, number, operation_id, operation, amount, frozen, balance_after, frozen_after)
		SELECT account_id, lane, currency, number, operation_id, operation, amount, frozen, balance_after, frozen_after
		FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::bigint[], $5::uuid[], $6::text[], $7::bigint[], $8::bigint[],
			$9::bigint[], $10::bigint[]) WITH ORDINALITY
			AS e (account_id, lane, currency, number, operation_id, operation, amount, frozen, balance_after, frozen_after, n)
		ORDER BY n`,
		accounts, pq.Array(lanes), currencies, pq.Array(numbers), operations, kinds, pq.Array(amounts), pq.Array(frozen),
		pq.Array(balancesAfter), pq.Array(frozenAfter))
}

func saveOperations(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes) error {
	n := len(changes.Operations)
	if n == 0 {
		return nil
	}
	ids, kinds, accounts, currencies := texts(n), texts(n), texts(n), texts(n)
	statuses, reasons, references, descriptions := texts(n), texts(n), texts(n), texts(n)
	created, settled := texts(n), make([]sql.NullString, n)
	lanes, seqs, amounts := make([]int64, n), make([]int64, n), make([]int64, n)
	payees, holds, orders, commands, fingerprints := make([]sql.NullString, n), make([]sql.NullString, n), make([]sql.NullString, n),
		make([]sql.NullString, n), make([]sql.NullString, n)
	for i, op := range changes.Operations {
		ids[i], kinds[i], accounts[i], currencies[i] = op.ID.String(), string(op.Kind), op.AccountID.String(), op.Currency
		statuses[i], reasons[i], references[i], descriptions[i] = string(op.Status), string(op.Reason), op.Reference, op.Description
		created[i], settled[i] = timestamp(op.CreatedAt), optionalTimestamp(op.SettledAt)
		lanes[i], seqs[i], amounts[i] = int64(op.Lane), op.Seq, op.Amount
		payees[i], holds[i] = optional(op.ToAccountID), optional(op.HoldID)
		orders[i], commands[i] = optional(op.OrderID), optional(op.CommandID)
		fingerprints[i] = sql.NullString{String: op.Fingerprint.UUID.String(), Valid: op.Fingerprint.Valid}
	}
	return exec(ctx, tx, "save operations", int64(n), `
		INSERT INTO operations (`+operationColumns+`)
		SELECT `+operationColumns+`
		FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::text[], $5::uuid[], $6::uuid[], $7::uuid[], $8::uuid[], $9::uuid[],
			$10::text[], $11::bigint[], $12::text[], $13::text[], $14::text[], $15::text[], $16::uuid[], $17::timestamptz[],
			$18::timestamptz[])
			AS o (`+operationColumns+`)`,
		ids, pq.Array(lanes), pq.Array(seqs), kinds, accounts, pq.Array(payees), pq.Array(holds), pq.Array(orders), pq.Array(commands), currencies, pq.Array(amounts),
		statuses, reasons, references, descriptions, pq.Array(fingerprints), created, pq.Array(settled))
}

// completeOperations stores what became of operations that were created before: they have ended, or wait for something
// else now.
func completeOperations(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes) error {
	n := len(changes.Completed)
	if n == 0 {
		return nil
	}
	ids, statuses, reasons := texts(n), texts(n), texts(n)
	lanes, holds, settled := make([]int64, n), make([]sql.NullString, n), make([]sql.NullString, n)
	for i, c := range changes.Completed {
		op := c.Operation
		ids[i], lanes[i], statuses[i], reasons[i] = op.ID.String(), int64(op.Lane), string(op.Status), string(op.Reason)
		holds[i], settled[i] = optional(op.HoldID), optionalTimestamp(op.SettledAt)
	}
	return exec(ctx, tx, "complete operations", int64(n), `
		UPDATE operations SET status = c.status, reason = c.reason, hold_id = c.hold_id, settled_at = c.settled_at
		FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::uuid[], $6::timestamptz[])
			AS c (id, lane, status, reason, hold_id, settled_at)
		WHERE operations.id = c.id AND operations.lane = c.lane AND operations.status = 'created'`,
		ids, pq.Array(lanes), statuses, reasons, pq.Array(holds), pq.Array(settled))
}

func saveHolds(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes) error {
	n := len(changes.Holds)
	if n == 0 {
		return nil
	}
	ids, accounts, currencies, statuses := texts(n), texts(n), texts(n), texts(n)
	expires, created, orders := texts(n), texts(n), make([]sql.NullString, n)
	lanes, amounts, captured := make([]int64, n), make([]int64, n), make([]int64, n)
	i := 0
	for _, h := range changes.Holds {
		ids[i], accounts[i], currencies[i], statuses[i] = h.ID.String(), h.AccountID.String(), h.Currency, string(h.Status)
		expires[i], created[i] = timestamp(h.ExpiresAt), timestamp(h.CreatedAt)
		lanes[i], amounts[i], captured[i], orders[i] = int64(h.Lane), h.Amount, h.Captured, optional(h.OrderID)
		i++
	}
	return exec(ctx, tx, "save holds", int64(n), `
		INSERT INTO holds (`+holdColumns+`)
		SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::text[], $5::bigint[], $6::bigint[], $7::text[],
			$8::uuid[], $9::timestamptz[], $10::timestamptz[])
		ON CONFLICT (id, lane) DO UPDATE SET status = excluded.status, captured = excluded.captured WHERE holds.status = 'open'`,
		ids, pq.Array(lanes), accounts, currencies, pq.Array(amounts), pq.Array(captured), statuses, pq.Array(orders), expires, created)
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
	orders, accounts, currencies, captures, statuses, reasons := texts(n), texts(n), texts(n), texts(n), texts(n), texts(n)
	previous, created, updated := texts(n), texts(n), texts(n)
	lanes, amounts, captured, refunded, versions := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	for i, p := range payments {
		orders[i], accounts[i], currencies[i], captures[i] = p.OrderID.String(), p.AccountID.String(), p.Currency, p.Capture
		statuses[i], reasons[i], created[i], updated[i] = p.Status, string(p.Reason), timestamp(p.CreatedAt), timestamp(p.UpdatedAt)
		lanes[i], amounts[i], captured[i], refunded[i], versions[i] = int64(p.Lane), p.Amount, p.Captured, p.Refunded, p.Version
		previous[i] = p.Previous
	}
	return exec(ctx, tx, "save payments", int64(n), `
		INSERT INTO payments (`+paymentColumns+`, previous)
		SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[],
			$9::bigint[], $10::bigint[], $11::bigint[], $12::timestamptz[], $13::timestamptz[], $14::text[])`,
		orders, pq.Array(lanes), accounts, currencies, pq.Array(amounts), captures, statuses, reasons, pq.Array(captured),
		pq.Array(refunded), pq.Array(versions), created, updated, previous)
}

func updatePayments(ctx context.Context, tx *sqlx.Tx, payments []ledger.OrderPayment) error {
	n := len(payments)
	if n == 0 {
		return nil
	}
	orders, statuses, reasons, previous, updated := texts(n), texts(n), texts(n), texts(n), texts(n)
	lanes, captured, refunded, versions := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	for i, p := range payments {
		orders[i], statuses[i], reasons[i], previous[i], updated[i] = p.OrderID.String(), p.Status, string(p.Reason), p.Previous, timestamp(p.UpdatedAt)
		lanes[i], captured[i], refunded[i], versions[i] = int64(p.Lane), p.Captured, p.Refunded, p.Version
	}
	return exec(ctx, tx, "change payments", int64(n), `
		UPDATE payments SET status = c.status, reason = c.reason, previous = c.previous, captured = c.captured, refunded = c.refunded,
			version = c.version, updated_at = c.updated_at
		FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::timestamptz[])
			AS c (order_id, lane, status, reason, previous, captured, refunded, version, updated_at)
		WHERE payments.order_id = c.order_id AND payments.lane = c.lane AND payments.version < c.version`,
		orders, pq.Array(lanes), statuses, reasons, previous, pq.Array(captured), pq.Array(refunded), pq.Array(versions), updated)
}

// exec runs a statement that must change exactly n rows: anything else is a broken promise, and rolls back.
func exec(ctx context.Context, tx *sqlx.Tx, what string, n int64, query string, args ...any) error {
	result, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if changed, err := result.RowsAffected(); err != nil || changed != n {
		return fmt.Errorf("%s: %d rows changed instead of %d (%v)", what, changed, n, err)
	}
	return nil
}

func texts(n int) pq.StringArray { return make(pq.StringArray, n) }

func optional(id uuid.UUID) sql.NullString {
	return sql.NullString{String: id.String(), Valid: id != uuid.Nil}
}

// timestamp writes a time for an array parameter, to the microsecond, which is what PostgreSQL keeps.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.999999Z07:00") }

func optionalTimestamp(t time.Time) sql.NullString {
	return sql.NullString{String: timestamp(t), Valid: !t.IsZero()}
}
