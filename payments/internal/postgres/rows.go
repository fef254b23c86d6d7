package postgres

import (
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

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
	SettledAt sql.NullTime `db:"settled_at"`
}

func (r operationRow) operation() ledger.Operation {
	op := r.Operation
	op.CreatedAt, op.SettledAt = op.CreatedAt.UTC(), r.SettledAt.Time.UTC()
	// The version before kept the note of a rejection or a cancellation in the description, which these have none of.
	if op.OrderID != uuid.Nil && op.Note == "" && (op.Kind == ledger.KindRelease || op.Kind == ledger.KindRefund) {
		op.Note, op.Description = op.Description, ""
	}
	return op
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
