// Package postgres holds all SQL of payments: what a settlement loads and stores, and what the API reads.
package postgres

import (
	"database/sql"
	"embed"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/currencies"
	"github.com/altyn-pay/altyn/platform/idempotency"
	"github.com/altyn-pay/altyn/platform/inbox"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations is the schema of payments, in the order in which it is applied.
func Migrations() []pg.Migrations {
	return []pg.Migrations{inbox.Migrations(), outbox.Migrations(), idempotency.Migrations(), pg.Embedded("payments", files), currencies.Migrations()}
}

// Store reads and writes the ledger's tables.
type Store struct {
	db    *sqlx.DB
	inbox *inbox.Inbox[*ledger.Request]
}

// New returns a store over the service's database.
func New(db *sqlx.DB) *Store { return &Store{db, inbox.New(db, codec{})} }

// Inbox is where requests wait to take effect.
func (s *Store) Inbox() *inbox.Inbox[*ledger.Request] { return s.inbox }

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
	Note        string        `db:"note"`
	Fingerprint uuid.NullUUID `db:"fingerprint"`
	CreatedAt   time.Time     `db:"created_at"`
	SettledAt   sql.NullTime  `db:"settled_at"`
}

const operationColumns = `id, lane, seq, operation, account_id, to_account_id, hold_id, order_id, command_id, currency, amount, status, reason,
	reference, description, note, fingerprint, created_at, settled_at`

func (r operationRow) operation() ledger.Operation {
	// The version before kept the note of a rejection or a cancellation in the description, which these have none of.
	if r.OrderID.Valid && r.Note == "" && (r.Kind == ledger.KindRelease || r.Kind == ledger.KindRefund) {
		r.Note, r.Description = r.Description, ""
	}
	return ledger.Operation{
		ID: r.ID, Lane: r.Lane, Seq: r.Seq, Kind: r.Kind, AccountID: r.AccountID, ToAccountID: r.ToAccountID.UUID,
		HoldID: r.HoldID.UUID, OrderID: r.OrderID.UUID, CommandID: r.CommandID.UUID, Currency: r.Currency, Amount: r.Amount, Status: r.Status, Reason: r.Reason,
		Reference: r.Reference, Description: r.Description, Note: r.Note, Fingerprint: r.Fingerprint,
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
	OrderID   uuid.NullUUID     `db:"order_id"`
	ExpiresAt time.Time         `db:"expires_at"`
	CreatedAt time.Time         `db:"created_at"`
}

const holdColumns = `id, lane, account_id, currency, amount, captured, status, order_id, expires_at, created_at`

func (r holdRow) hold() ledger.Hold {
	return ledger.Hold{
		ID: r.ID, Lane: r.Lane, AccountID: r.AccountID, Currency: r.Currency, Amount: r.Amount, Captured: r.Captured, Status: r.Status,
		OrderID: r.OrderID.UUID, ExpiresAt: r.ExpiresAt.UTC(), CreatedAt: r.CreatedAt.UTC(),
	}
}

// paymentRow is the payment of an order as it is stored.
type paymentRow struct {
	OrderID   uuid.UUID     `db:"order_id"`
	Lane      int16         `db:"lane"`
	AccountID uuid.UUID     `db:"account_id"`
	Currency  string        `db:"currency"`
	Amount    int64         `db:"amount"`
	Capture   string        `db:"capture"`
	Status    string        `db:"status"`
	Reason    ledger.Reason `db:"reason"`
	Note      string        `db:"note"`
	Captured  int64         `db:"captured"`
	Refunded  int64         `db:"refunded"`
	Version   int64         `db:"version"`
	CreatedAt time.Time     `db:"created_at"`
	UpdatedAt time.Time     `db:"updated_at"`
}

const paymentColumns = `order_id, lane, account_id, currency, amount, capture, status, reason, note, captured, refunded, version, created_at, updated_at`

func (r paymentRow) payment() ledger.OrderPayment {
	// The version before kept the note of a cancellation as the reason.
	if r.Status == contract.PaymentCancelled && r.Reason != ledger.Cancelled {
		r.Note, r.Reason = string(r.Reason), ledger.Cancelled
	}
	return ledger.OrderPayment{
		OrderID: r.OrderID, Lane: r.Lane, AccountID: r.AccountID, Currency: r.Currency, Amount: r.Amount, Capture: r.Capture, Status: r.Status,
		Reason: r.Reason, Note: r.Note, Captured: r.Captured, Refunded: r.Refunded, Version: r.Version, CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(),
	}
}
