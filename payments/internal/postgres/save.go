package postgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Save stores what a batch has changed, one statement per table. Its entries get one time, which is not before
// notBefore.
//
// Where rows are only inserted, their columns are unnested in the SELECT list, which makes the rows one after the
// other; in FROM each column would be a table of its own first, for a quarter of the statement's time.
func (s *Store) Save(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes, notBefore time.Time) error {
	entered, err := saveEntries(ctx, tx, changes.Entries, notBefore)
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
	if err := saveBalances(ctx, tx, changes.Balances, entered); err != nil {
		return err
	}
	for _, save := range []func(context.Context, *sqlx.Tx, ledger.Changes) error{
		saveAccounts, saveOperations, completeOperations, saveHolds, savePayments, saveRetellings,
		endWaits, saveWaits, askWaits,
	} {
		if err := save(ctx, tx, changes); err != nil {
			return err
		}
	}
	return nil
}

// saveEntries stores entries under one time, not before the one given, and returns it.
func saveEntries(ctx context.Context, tx *sqlx.Tx, entries []ledger.Entry, notBefore time.Time) (
	entered sql.NullTime, err error) {
	n := len(entries)
	if n == 0 {
		return entered, nil
	}
	var stored int
	if err := tx.QueryRowxContext(ctx, `
		WITH now (at) AS MATERIALIZED (
			SELECT greatest(clock_timestamp(), $1::timestamptz)
		), stored AS (
			INSERT INTO entries (account_id, lane, currency, number, operation_id, operation, amount, frozen,
				balance_after, frozen_after, created_at)
			SELECT unnest($2::uuid[]), unnest($3::smallint[]), unnest($4::text[]), unnest($5::bigint[]), unnest($6::uuid[]),
				unnest($7::text[]), unnest($8::bigint[]), unnest($9::bigint[]), unnest($10::bigint[]), unnest($11::bigint[]),
				(SELECT at FROM now)
			RETURNING 1
		) SELECT (SELECT count(*) FROM stored), at FROM now`,
		sql.NullTime{Time: notBefore, Valid: !notBefore.IsZero()},
		uuids(n, func(i int) uuid.UUID { return entries[i].AccountID }),
		smallints(n, func(i int) int16 { return entries[i].Lane }),
		texts(n, func(i int) string { return entries[i].Currency }),
		bigints(n, func(i int) int64 { return entries[i].Number }),
		uuids(n, func(i int) uuid.UUID { return entries[i].OperationID }),
		texts(n, func(i int) string { return string(entries[i].Operation) }),
		bigints(n, func(i int) int64 { return entries[i].Amount }),
		bigints(n, func(i int) int64 { return entries[i].Frozen }),
		bigints(n, func(i int) int64 { return entries[i].BalanceAfter }),
		bigints(n, func(i int) int64 { return entries[i].FrozenAfter }),
	).Scan(&stored, &entered); err != nil {
		return entered, fmt.Errorf("save entries: %w", err)
	}
	if stored != n {
		return entered, fmt.Errorf("save entries: %d rows changed instead of %d", stored, n)
	}
	return entered, nil
}

// saveBalances stores balances. entered is the time of their new entries, null where there are none.
func saveBalances(
	ctx context.Context, tx *sqlx.Tx, balances map[ledger.Key]ledger.Balance, entered sql.NullTime) error {
	n := len(balances)
	if n == 0 {
		return nil
	}
	keys := slices.Collect(maps.Keys(balances))
	return pg.ExecExactly(ctx, tx, "save balances", n, `
		UPDATE balances SET actual = c.actual, frozen = c.frozen, entries = c.entries, waiting = c.waiting,
			entered_at = coalesce($1::timestamptz, entered_at)
		FROM unnest($2::uuid[], $3::text[], $4::smallint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
			AS c (account_id, currency, lane, actual, frozen, entries, waiting)
		WHERE balances.account_id = c.account_id AND balances.currency = c.currency AND balances.lane = c.lane`,
		entered,
		uuids(n, func(i int) uuid.UUID { return keys[i].AccountID }),
		texts(n, func(i int) string { return keys[i].Currency }),
		smallints(n, func(i int) int16 { return keys[i].Lane }),
		bigints(n, func(i int) int64 { return balances[keys[i]].Actual }),
		bigints(n, func(i int) int64 { return balances[keys[i]].Frozen }),
		bigints(n, func(i int) int64 { return balances[keys[i]].Entries }),
		bigints(n, func(i int) int64 { return balances[keys[i]].Waiting }))
}

func saveAccounts(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes) error {
	accounts, n := changes.Accounts, len(changes.Accounts)
	if n == 0 {
		return nil
	}
	return pg.ExecExactly(ctx, tx, "save accounts", n, `
		INSERT INTO accounts (id, lane, owner, reference, created_at)
		SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::timestamptz[])`,
		uuids(n, func(i int) uuid.UUID { return accounts[i].ID }),
		smallints(n, func(i int) int16 { return accounts[i].Lane }),
		texts(n, func(i int) string { return accounts[i].Owner }),
		texts(n, func(i int) string { return accounts[i].Reference }),
		times(n, func(i int) time.Time { return accounts[i].CreatedAt }))
}

func saveOperations(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes) error {
	ops, n := changes.Operations, len(changes.Operations)
	if n == 0 {
		return nil
	}
	return pg.ExecExactly(ctx, tx, "save operations", n, `
		INSERT INTO operations (`+operationColumns+`)
		SELECT unnest($1::uuid[]), unnest($2::smallint[]), unnest($3::bigint[]), unnest($4::text[]), unnest($5::uuid[]),
			unnest($6::uuid[]), unnest($7::uuid[]), unnest($8::uuid[]), unnest($9::uuid[]), unnest($10::text[]),
			unnest($11::bigint[]), unnest($12::text[]), unnest($13::text[]), unnest($14::text[]), unnest($15::text[]),
			unnest($16::text[]), unnest($17::uuid[]), unnest($18::timestamptz[]), unnest($19::timestamptz[])`,
		uuids(n, func(i int) uuid.UUID { return ops[i].ID }),
		smallints(n, func(i int) int16 { return ops[i].Lane }),
		bigints(n, func(i int) int64 { return ops[i].Seq }),
		texts(n, func(i int) string { return string(ops[i].Kind) }),
		uuids(n, func(i int) uuid.UUID { return ops[i].AccountID }),
		optionalUUIDs(n, func(i int) uuid.UUID { return ops[i].ToAccountID }),
		optionalUUIDs(n, func(i int) uuid.UUID { return ops[i].HoldID }),
		optionalUUIDs(n, func(i int) uuid.UUID { return ops[i].OrderID }),
		optionalUUIDs(n, func(i int) uuid.UUID { return ops[i].CommandID }),
		texts(n, func(i int) string { return ops[i].Currency }),
		bigints(n, func(i int) int64 { return ops[i].Amount }),
		texts(n, func(i int) string { return string(ops[i].Status) }),
		texts(n, func(i int) string { return string(ops[i].Reason) }),
		texts(n, func(i int) string { return ops[i].Reference }),
		texts(n, func(i int) string { return ops[i].Description }),
		texts(n, func(i int) string { return ops[i].Note }),
		optionalUUIDs(n, func(i int) uuid.UUID { return ops[i].Fingerprint.UUID }),
		times(n, func(i int) time.Time { return ops[i].CreatedAt }),
		times(n, func(i int) time.Time { return ops[i].SettledAt }))
}

// completeOperations stores what became of operations that were Created: they have ended, or wait for something else
// now.
func completeOperations(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes) error {
	n := len(changes.Completed)
	if n == 0 {
		return nil
	}
	op := func(i int) *ledger.Operation { return changes.Completed[i].Operation }
	return pg.ExecExactly(ctx, tx, "complete operations", n, `
		UPDATE operations SET status = c.status, reason = c.reason, note = c.note, hold_id = c.hold_id,
			settled_at = c.settled_at
		FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::timestamptz[])
			AS c (id, lane, status, reason, note, hold_id, settled_at)
		WHERE operations.id = c.id AND operations.lane = c.lane AND operations.status = 'created'`,
		uuids(n, func(i int) uuid.UUID { return op(i).ID }),
		smallints(n, func(i int) int16 { return op(i).Lane }),
		texts(n, func(i int) string { return string(op(i).Status) }),
		texts(n, func(i int) string { return string(op(i).Reason) }),
		texts(n, func(i int) string { return op(i).Note }),
		optionalUUIDs(n, func(i int) uuid.UUID { return op(i).HoldID }),
		times(n, func(i int) time.Time { return op(i).SettledAt }))
}

func saveHolds(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes) error {
	holds, n := slices.Collect(maps.Values(changes.Holds)), len(changes.Holds)
	if n == 0 {
		return nil
	}
	return pg.ExecExactly(ctx, tx, "save holds", n, `
		INSERT INTO holds (`+holdColumns+`)
		SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::text[], $5::bigint[], $6::bigint[], $7::text[],
			$8::uuid[], $9::timestamptz[], $10::timestamptz[])
		ON CONFLICT (id, lane) DO UPDATE SET status = excluded.status, captured = excluded.captured
			WHERE holds.status = 'open'`,
		uuids(n, func(i int) uuid.UUID { return holds[i].ID }),
		smallints(n, func(i int) int16 { return holds[i].Lane }),
		uuids(n, func(i int) uuid.UUID { return holds[i].AccountID }),
		texts(n, func(i int) string { return holds[i].Currency }),
		bigints(n, func(i int) int64 { return holds[i].Amount }),
		bigints(n, func(i int) int64 { return holds[i].Captured }),
		texts(n, func(i int) string { return string(holds[i].Status) }),
		optionalUUIDs(n, func(i int) uuid.UUID { return holds[i].OrderID }),
		times(n, func(i int) time.Time { return holds[i].ExpiresAt }),
		times(n, func(i int) time.Time { return holds[i].CreatedAt }))
}

// savePayments stores the state of each payment, which is its last transition. One that has its first version here is
// new.
func savePayments(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes) error {
	last := make(map[uuid.UUID]*ledger.OrderPayment, len(changes.Payments))
	begun := make(map[uuid.UUID]bool, len(changes.Payments))
	for i := range changes.Payments {
		p := &changes.Payments[i]
		last[p.OrderID] = p
		begun[p.OrderID] = begun[p.OrderID] || p.Version == 1
	}
	begin, change := make([]*ledger.OrderPayment, 0, len(last)), make([]*ledger.OrderPayment, 0, len(last))
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

func insertPayments(ctx context.Context, tx *sqlx.Tx, payments []*ledger.OrderPayment) error {
	n := len(payments)
	if n == 0 {
		return nil
	}
	return pg.ExecExactly(ctx, tx, "save payments", n, `
		INSERT INTO payments (`+paymentColumns+`, previous)
		SELECT unnest($1::uuid[]), unnest($2::smallint[]), unnest($3::uuid[]), unnest($4::text[]), unnest($5::bigint[]),
			unnest($6::text[]), unnest($7::text[]), unnest($8::text[]), unnest($9::text[]), unnest($10::bigint[]),
			unnest($11::bigint[]), unnest($12::bigint[]), unnest($13::timestamptz[]), unnest($14::timestamptz[]),
			unnest($15::text[])`,
		uuids(n, func(i int) uuid.UUID { return payments[i].OrderID }),
		smallints(n, func(i int) int16 { return payments[i].Lane }),
		uuids(n, func(i int) uuid.UUID { return payments[i].AccountID }),
		texts(n, func(i int) string { return payments[i].Currency }),
		bigints(n, func(i int) int64 { return payments[i].Amount }),
		texts(n, func(i int) string { return payments[i].Capture }),
		texts(n, func(i int) string { return payments[i].Status }),
		texts(n, func(i int) string { return string(payments[i].Reason) }),
		texts(n, func(i int) string { return payments[i].Note }),
		bigints(n, func(i int) int64 { return payments[i].Captured }),
		bigints(n, func(i int) int64 { return payments[i].Refunded }),
		bigints(n, func(i int) int64 { return payments[i].Version }),
		times(n, func(i int) time.Time { return payments[i].CreatedAt }),
		times(n, func(i int) time.Time { return payments[i].UpdatedAt }),
		texts(n, func(i int) string { return payments[i].Previous }))
}

func updatePayments(ctx context.Context, tx *sqlx.Tx, payments []*ledger.OrderPayment) error {
	n := len(payments)
	if n == 0 {
		return nil
	}
	return pg.ExecExactly(ctx, tx, "change payments", n, `
		UPDATE payments SET status = c.status, reason = c.reason, note = c.note, previous = c.previous, captured = c.captured,
			refunded = c.refunded, version = c.version, updated_at = c.updated_at
		FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[],
			$9::bigint[], $10::timestamptz[])
			AS c (order_id, lane, status, reason, note, previous, captured, refunded, version, updated_at)
		WHERE payments.order_id = c.order_id AND payments.lane = c.lane AND payments.version < c.version`,
		uuids(n, func(i int) uuid.UUID { return payments[i].OrderID }),
		smallints(n, func(i int) int16 { return payments[i].Lane }),
		texts(n, func(i int) string { return payments[i].Status }),
		texts(n, func(i int) string { return string(payments[i].Reason) }),
		texts(n, func(i int) string { return payments[i].Note }),
		texts(n, func(i int) string { return payments[i].Previous }),
		bigints(n, func(i int) int64 { return payments[i].Captured }),
		bigints(n, func(i int) int64 { return payments[i].Refunded }),
		bigints(n, func(i int) int64 { return payments[i].Version }),
		times(n, func(i int) time.Time { return payments[i].UpdatedAt }))
}

func endWaits(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes) error {
	waits, n := changes.Ended, len(changes.Ended)
	if n == 0 {
		return nil
	}
	return pg.ExecExactly(ctx, tx, "end what waits", n, `
		DELETE FROM waits USING unnest($1::uuid[], $2::smallint[]) AS ended (id, lane)
		WHERE waits.id = ended.id AND waits.lane = ended.lane`,
		uuids(n, func(i int) uuid.UUID { return waits[i].Request.ID }),
		smallints(n, func(i int) int16 { return waits[i].Request.Lane }))
}

func saveWaits(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes) error {
	waits, n := slices.Collect(maps.Values(changes.Waits)), len(changes.Waits)
	if n == 0 {
		return nil
	}
	payloads, err := encodeWaits(waits)
	if err != nil {
		return err
	}
	r := func(i int) *ledger.Request { return &waits[i].Request }
	return pg.ExecExactly(ctx, tx, "save what waits", n, `
		INSERT INTO waits (currency, `+waitColumns+`)
		SELECT * FROM unnest($1::text[], $2::uuid[], $3::smallint[], $4::uuid[], $5::text[], $6::bigint[],
			$7::timestamptz[], $8::text[], $9::bigint[], $10::text[], $11::uuid[], $12::text[], $13::timestamptz[])`,
		texts(n, func(i int) string { return waits[i].Key().Currency }),
		uuids(n, func(i int) uuid.UUID { return r(i).ID }),
		smallints(n, func(i int) int16 { return r(i).Lane }),
		uuids(n, func(i int) uuid.UUID { return r(i).AccountID }),
		texts(n, func(i int) string { return string(waits[i].For) }),
		bigints(n, func(i int) int64 { return waits[i].Seq }),
		times(n, func(i int) time.Time { return waits[i].ExpiresAt }),
		texts(n, func(i int) string { return string(r(i).Kind()) }),
		bigints(n, func(i int) int64 { return r(i).Seq }),
		texts(n, func(i int) string { return payloads[i] }),
		optionalUUIDs(n, func(i int) uuid.UUID { return r(i).Fingerprint.UUID }),
		texts(n, func(i int) string { return r(i).Traceparent }),
		times(n, func(i int) time.Time { return r(i).ReceivedAt }))
}

// askWaits stores the Reply that waiting requests have got.
func askWaits(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes) error {
	waits, n := slices.Collect(maps.Values(changes.Asked)), len(changes.Asked)
	if n == 0 {
		return nil
	}
	payloads, err := encodeWaits(waits)
	if err != nil {
		return err
	}
	return pg.ExecExactly(ctx, tx, "ask for the replies of what waits", n, `
		UPDATE waits SET payload = asked.payload
		FROM unnest($1::uuid[], $2::smallint[], $3::text[]) AS asked (id, lane, payload)
		WHERE waits.id = asked.id AND waits.lane = asked.lane`,
		uuids(n, func(i int) uuid.UUID { return waits[i].Request.ID }),
		smallints(n, func(i int) int16 { return waits[i].Request.Lane }),
		texts(n, func(i int) string { return payloads[i] }))
}

// encodeWaits returns the payloads of requests that wait.
func encodeWaits(waits []*ledger.Wait) ([]string, error) {
	payloads := make([]string, len(waits))
	for i, w := range waits {
		payload, err := json.Marshal(w.Request)
		if err != nil {
			return nil, fmt.Errorf("encode waiting request %s: %w", w.Request.ID, err)
		}
		payloads[i] = string(payload)
	}
	return payloads, nil
}
