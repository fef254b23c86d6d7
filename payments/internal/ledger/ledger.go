// Package ledger holds the rules by which money moves, and nothing else: no I/O, no clock, no randomness. A Book is
// loaded with the state that a batch of requests touches, the requests are applied one after another in memory, and the
// Book hands back what has changed.
//
// The ledger is double-entry. Every operation that succeeds writes entries whose amounts, actual and frozen together,
// sum to zero: what a client gains, another account loses. Money that enters or leaves Altyn, and money that is earned,
// has its other side in system accounts.
package ledger

import (
	"time"

	"github.com/google/uuid"
)

// Kind is what an operation does.
type Kind string

// The kinds of operations.
const (
	CreateAccount Kind = "create_account"
	Deposit       Kind = "deposit"
	Withdraw      Kind = "withdraw"
	Transfer      Kind = "transfer"
	Payment       Kind = "payment" // of an order
)

// Status is where an operation stands. Success and Error are final.
type Status string

// The statuses of an operation.
const (
	Created Status = "created"
	Success Status = "success"
	Error   Status = "error"
)

// Reason says why an operation ended in Error, in a closed list of codes.
type Reason string

// The reasons.
const (
	AccountNotFound   Reason = "account_not_found"
	AccountExists     Reason = "account_exists"
	SameAccount       Reason = "same_account"
	InsufficientFunds Reason = "insufficient_funds"
	BalanceTooLarge   Reason = "balance_too_large" // the sum would not fit an int64 of minor units
)

// The system accounts. Each has one balance row per lane and currency, so that it is never a hot row; the row of the
// client's lane is used. Only their balances may be negative.
var (
	// External is the world outside: deposits come from it, withdrawals go to it. Its balance is minus what is inside.
	External = uuid.MustParse("00000000-0000-0000-0000-000000000001")
	// Revenue is what was earned by payments.
	Revenue = uuid.MustParse("00000000-0000-0000-0000-000000000002")
)

// IsSystem tells whether an ID is that of a system account.
func IsSystem(account uuid.UUID) bool { return account == External || account == Revenue }

// Request is one accepted message: it asks for an operation. Amounts are in minor units and positive.
type Request struct {
	ID          uuid.UUID     `json:"-"` // becomes the operation's
	Seq         int64         `json:"-"` // arrival number: an account's requests are applied in its order
	Lane        int16         `json:"-"` // of AccountID
	AccountID   uuid.UUID     `json:"-"` // whose queue it is in: who pays, or who is paid by a deposit
	Kind        Kind          `json:"-"`
	Fingerprint uuid.NullUUID `json:"-"` // of the client's request, where it came with a key
	ReceivedAt  time.Time     `json:"-"`

	Currency    string    `json:"currency,omitempty"`
	Amount      int64     `json:"amount,omitempty"`
	ToAccountID uuid.UUID `json:"to_account_id,omitzero"`
	OrderID     uuid.UUID `json:"order_id,omitzero"`
	Capture     string    `json:"capture,omitempty"` // of a payment: contract.CaptureAutomatic
	Owner       string    `json:"owner,omitempty"`   // of a new account
	Reference   string    `json:"reference,omitempty"`
	Description string    `json:"description,omitempty"`
}

// Account is a client of the ledger. Its balances are kept per currency.
type Account struct {
	ID        uuid.UUID
	Lane      int16
	Owner     string
	Reference string
}

// Key names a balance. Lane is the account's; for a system account it is that of the client on the other side.
type Key struct {
	AccountID uuid.UUID
	Currency  string
	Lane      int16
}

// Balance is what an account has of one currency, in minor units.
type Balance struct {
	Actual  int64 // free to use
	Frozen  int64 // set aside by holds
	Entries int64 // how many entries it has; the number of the last one
}

// Entry is one line of an account's statement: what an operation changed, and what was there afterwards.
type Entry struct {
	Key
	Number       int64 // per balance, without gaps, from 1
	OperationID  uuid.UUID
	Operation    Kind
	Amount       int64 // change of the actual balance
	Frozen       int64 // change of the frozen balance
	BalanceAfter int64
	FrozenAfter  int64
}

// Operation is the permanent record of a request and its result.
type Operation struct {
	ID          uuid.UUID
	Lane        int16
	Seq         int64
	Kind        Kind
	AccountID   uuid.UUID
	ToAccountID uuid.UUID
	OrderID     uuid.UUID
	Currency    string
	Amount      int64
	Status      Status
	Reason      Reason
	Reference   string
	Description string
	Fingerprint uuid.NullUUID
	CreatedAt   time.Time
	SettledAt   time.Time
}

// OrderPayment is the payment of an order as a saga sees it. Its statuses are those of contract.Payment.
type OrderPayment struct {
	OrderID   uuid.UUID
	Lane      int16
	AccountID uuid.UUID
	Currency  string
	Amount    int64
	Capture   string
	Status    string
	Reason    Reason
	Captured  int64
	Refunded  int64
	Version   int64 // counts its transitions, from 1
	CreatedAt time.Time
	UpdatedAt time.Time
}
