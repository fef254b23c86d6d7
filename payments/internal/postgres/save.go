package postgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/payments/internal/chain"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// The statements of Save, one for each table and what is done to it.
var (
	insertAccounts   = pg.Insert[ledger.Account]("accounts", "")
	insertOperations = pg.Insert[ledger.Operation]("operations", "")
	// Operations that were Created have ended, or wait for something else now.
	completeOperations = pg.Update[ledger.Operation]("operations", []string{"id", "lane"},
		[]string{"status", "reason", "note", "cancelled_by", "hold_id", "settled_at"}, "operations.status = 'created'")
	saveHolds = pg.Insert[ledger.Hold]("holds", `
		ON CONFLICT (id, lane) DO UPDATE SET status = excluded.status, captured = excluded.captured
		WHERE holds.status = 'open'`)
	insertPayments = pg.Insert[ledger.OrderPayment]("payments", "")
	updatePayments = pg.Update[ledger.OrderPayment]("payments", []string{"order_id", "lane"},
		[]string{"status", "reason", "note", "previous", "captured", "refunded", "version", "updated_at"},
		"payments.version < c.version")
	// What waits already has got a Reply.
	saveWaits = pg.Insert[waitRow]("waits", "ON CONFLICT (id, lane) DO UPDATE SET payload = excluded.payload")

	operationKeys = pg.ColumnsOf[ledger.Operation]().Only("id", "lane")
	endWaits      = pg.Statement[ledger.Operation]{What: "end what waits", Columns: operationKeys, InLanes: true,
		Query: "DELETE FROM waits USING " + operationKeys.Rows() + " WHERE waits.id = c.id AND waits.lane = c.lane AND " +
			pg.InLanes("waits.lane", operationKeys.Next())}

	balanceColumns = pg.ColumnsOf[Balance]()
	updateBalances = pg.Statement[Balance]{What: "update balances", Columns: balanceColumns, InLanes: true, Query: `
		UPDATE balances SET actual = c.actual, frozen = c.frozen, entries = c.entries, waiting = c.waiting,
			entered_at = coalesce(c.entered_at, balances.entered_at)
		FROM ` + balanceColumns.Rows() + `
		WHERE balances.account_id = c.account_id AND balances.currency = c.currency AND balances.lane = c.lane
			AND ` + pg.InLanes("balances.lane", balanceColumns.Next())}

	// A balance whose account is not the default tenant's has its first entry.
	setTenants = pg.Update[tenantRow]("balances", []string{"account_id", "currency", "lane"}, []string{"tenant"}, "true")
)

// Save stores what a batch has changed, one statement per table, and what the chain is made of. The batch's entries get
// one time, which is not before notBefore.
func (s *Store) Save(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes, notBefore time.Time) error {
	for i := range changes.Accounts {
		a := &changes.Accounts[i]
		a.OwnerSalt = uuid.New()
		a.OwnerHash = chain.OwnerHash(a.OwnerSalt, a.Owner) // of none, too: so none can be given to it later
	}
	entered, err := saveEntries(ctx, tx, changes, notBefore)
	if err != nil {
		return err
	}
	if len(changes.Vaults) > 0 {
		if err := createBalances(ctx, tx, changes.Vaults); err != nil {
			return err
		}
	}
	balances := make([]*Balance, 0, len(changes.Balances))
	for key, balance := range changes.Balances {
		balances = append(balances, &Balance{key, balance, entered})
	}
	completed := make([]*ledger.Operation, len(changes.Completed))
	for i, c := range changes.Completed {
		completed[i] = c.Operation
	}
	tenants := make([]*tenantRow, 0, len(changes.Tenants))
	for key, tenant := range changes.Tenants {
		tenants = append(tenants, &tenantRow{key, tenant})
	}
	begun, changed := states(changes)
	waits, err := waitRows(maps.Values(changes.Waits))
	if err != nil {
		return err
	}
	for _, save := range []func(context.Context, *sqlx.Tx) error{
		updateBalances.Of(balances),
		insertAccounts.Of(pg.Pointers(changes.Accounts)),
		insertOperations.Of(changes.Operations),
		completeOperations.Of(completed),
		saveHolds.Of(slices.Collect(maps.Values(changes.Holds))),
		insertPayments.Of(begun),
		updatePayments.Of(changed),
		endWaits.Of(completed),
		saveWaits.Of(waits),
		setTenants.Of(tenants),
	} {
		if err := save(ctx, tx); err != nil {
			return err
		}
	}
	return saveRetellings(ctx, tx, changes)
}

var (
	entryColumns  = pg.ColumnsOf[ledger.Entry]()
	insertEntries = fmt.Sprintf(`INSERT INTO entries (%[1]s, created_at) SELECT %[2]s, $%[3]d::timestamptz`,
		entryColumns, entryColumns.Unnested(), len(entryColumns)+1)
)

// saveEntries stores entries, and what the batch has written for the chain, all under one time that is not before
// notBefore. It returns the time, which is null if there are no entries.
func saveEntries(ctx context.Context, tx *sqlx.Tx, changes ledger.Changes, notBefore time.Time) (
	entered sql.NullTime, err error) {
	items, n := chain.Batch(changes), len(changes.Entries)
	if len(items) == 0 {
		return entered, nil
	}
	// A statement of its own: one that wrote two tables would have each row travel through Citus' coordinator.
	if err := tx.GetContext(ctx, &entered, `
		INSERT INTO chain_unlinked (at, items, lane) VALUES (greatest(clock_timestamp(), $1::timestamptz), $2, $3)
		RETURNING at`, sql.NullTime{Time: notBefore, Valid: !notBefore.IsZero()}, items, laneOf(changes)); err != nil {
		return entered, fmt.Errorf("save for the chain: %w", err)
	}
	if n > 0 {
		result, err := tx.ExecContext(ctx, insertEntries,
			append(entryColumns.Arrays(pg.Pointers(changes.Entries)), entered)...)
		if err != nil {
			return entered, fmt.Errorf("save entries: %w", err)
		}
		if stored, err := result.RowsAffected(); err != nil || stored != int64(n) {
			return entered, fmt.Errorf("save entries: %d rows changed instead of %d: %w", stored, n, err)
		}
	}
	entered.Valid = n > 0
	return entered, nil
}

// laneOf is the lane of the first operation of a batch.
func laneOf(changes ledger.Changes) int16 {
	if len(changes.Operations) > 0 {
		return changes.Operations[0].Lane
	}
	if len(changes.Completed) > 0 {
		return changes.Completed[0].Operation.Lane
	}
	return 0
}

// tenantRow is the tenant of a balance.
type tenantRow struct {
	ledger.Key
	Tenant string `db:"tenant"`
}

// states are the states of payments after a batch: of those that it has begun, and of those that it has changed.
func states(changes ledger.Changes) (begun, changed []*ledger.OrderPayment) {
	for id, p := range changes.States {
		if _, stored := changes.StoredPayments[id]; stored {
			changed = append(changed, p)
		} else {
			begun = append(begun, p)
		}
	}
	return begun, changed
}

// waitRows are requests that wait, as they are stored.
func waitRows(waits iter.Seq[*ledger.Wait]) (rows []*waitRow, err error) {
	for w := range waits {
		r := w.Request
		payload, err := json.Marshal(r)
		if err != nil {
			return nil, fmt.Errorf("encode waiting request %s: %w", r.ID, err)
		}
		rows = append(rows, &waitRow{
			Currency: w.Key().Currency, ID: r.ID, Lane: r.Lane, AccountID: r.AccountID, What: w.For, Seq: w.Seq,
			ExpiresAt: sql.NullTime{Time: w.ExpiresAt, Valid: true}, Kind: r.Kind(), Arrival: r.Seq, Payload: string(payload),
			Fingerprint: r.Fingerprint, Traceparent: r.Traceparent, ReceivedAt: r.ReceivedAt,
		})
	}
	return rows, nil
}

// The columns of the tables, and what makes the ledger's types of rows.
var (
	operationColumns = pg.ColumnsOf[operationRow]().String()
	holdColumns      = pg.ColumnsOf[ledger.Hold]().String()
	paymentColumns   = pg.ColumnsOf[ledger.OrderPayment]().String()
	waitColumns      = pg.ColumnsOf[waitRow]().String()
)

// operationRow is an operation as it is stored.
type operationRow struct {
	ledger.Operation
	SettledAt   sql.NullTime `db:"settled_at"`
	PublishedAt sql.NullTime `db:"published_at"`
}

func (r operationRow) operation() ledger.Operation {
	op := r.Operation
	op.CreatedAt, op.SettledAt, op.PublishedAt = op.CreatedAt.UTC(), r.SettledAt.Time.UTC(), r.PublishedAt.Time.UTC()
	op.Note, op.Description = noteOf(op.Kind, op.OrderID, op.Note, op.Description)
	return op
}

// noteOf returns the note and the description of an operation. The version before kept the note of a rejection or a
// cancellation in the description, which these have none of.
func noteOf(kind ledger.Kind, order uuid.UUID, note, description string) (string, string) {
	if order != uuid.Nil && note == "" && (kind == ledger.KindRelease || kind == ledger.KindRefund) {
		return description, ""
	}
	return note, description
}

func holdOf(row ledger.Hold) ledger.Hold {
	row.ExpiresAt, row.CreatedAt = row.ExpiresAt.UTC(), row.CreatedAt.UTC()
	return row
}

func paymentOf(row ledger.OrderPayment) ledger.OrderPayment {
	row.CreatedAt, row.UpdatedAt = row.CreatedAt.UTC(), row.UpdatedAt.UTC()
	// The version before kept the note of a cancellation as the reason.
	if row.Status == contract.PaymentCancelled && row.Reason != ledger.Cancelled {
		row.Note, row.Reason = string(row.Reason), ledger.Cancelled
	}
	return row
}

// waitRow is a request that waits, as it is stored.
type waitRow struct {
	ID          uuid.UUID     `db:"id"`
	Lane        int16         `db:"lane"`
	AccountID   uuid.UUID     `db:"account_id"`
	Currency    string        `db:"currency"`
	What        ledger.Reason `db:"what"`
	Seq         int64         `db:"seq"`
	ExpiresAt   sql.NullTime  `db:"expires_at"`
	Kind        ledger.Kind   `db:"kind"`
	Arrival     int64         `db:"arrival"`
	Payload     string        `db:"payload"`
	Fingerprint uuid.NullUUID `db:"fingerprint"`
	Traceparent string        `db:"traceparent"`
	ReceivedAt  time.Time     `db:"received_at"`
}

func (row waitRow) wait() (ledger.Wait, error) {
	w := ledger.Wait{For: row.What, Seq: row.Seq, Request: ledger.Request{
		ID: row.ID, Seq: row.Arrival, Lane: row.Lane, AccountID: row.AccountID, Fingerprint: row.Fingerprint,
		Traceparent: row.Traceparent, ReceivedAt: row.ReceivedAt.UTC(),
	}}
	if row.ExpiresAt.Valid {
		w.ExpiresAt = row.ExpiresAt.Time.UTC()
	}
	if err := w.Request.Decode(row.Kind, []byte(row.Payload)); err != nil {
		return w, fmt.Errorf("decode waiting request %s: %w", row.ID, err)
	}
	return w, nil
}
