// Package ledger holds the rules by which money moves, and nothing else: no I/O, no clock, no randomness. A Book is
// loaded with the state that a batch of requests touches, the requests are applied one after another in memory, and the
// Book hands back what has changed.
//
// The ledger is double-entry. Every operation that succeeds writes entries whose amounts, actual and frozen together,
// sum to zero: what a client gains, another account loses. Money that enters or leaves Altyn, and money that is earned,
// has its other side in system accounts.
package ledger

import (
	"bytes"
	"cmp"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

// Kind is what an operation does.
type Kind string

// The kinds of operations.
const (
	CreateAccount Kind = "create_account"
	Deposit       Kind = "deposit"
	Withdraw      Kind = "withdraw"
	Transfer      Kind = "transfer"
	HoldFunds     Kind = "hold"    // moves money from actual to frozen
	Capture       Kind = "capture" // of a hold: what is captured is earned, the rest is released
	Release       Kind = "release" // of a hold: it moves back from frozen to actual
	Payment       Kind = "payment" // of an order
	Refund        Kind = "refund"  // of an order's payment, whole or in part

	// CancelOperation ends an operation that is still Created. Its record makes it repeatable; what clients see is the
	// operation that it ends.
	CancelOperation Kind = "cancel_operation"
)

// Kinds of requests that are no operations of their own. What they do to money, if anything, is a Capture, a Release or a
// Refund.
const (
	// Confirm captures what is held for an order, whole or in part. Its operation is a Capture.
	Confirm Kind = "confirm"
	// Reject releases what is held for an order. Its operation is a Release.
	Reject Kind = "reject"
	// Cancel ends the payment of an order, wherever it stands, and gives back what was taken.
	Cancel Kind = "cancel"
	// Inventory tells whether the goods of an order are there.
	Inventory Kind = "inventory"
	// Expire ends what has a deadline: it releases a hold or gives up what waits. When there is nothing to do any more, there
	// is no operation.
	Expire Kind = "expire"
	// Resume serves what waits for money in one currency of an account, after a credit.
	Resume Kind = "resume"
	// Question asks for the balances of an account, in the order of its queue. It changes nothing and leaves no record.
	Question Kind = "balance"
	// Refusal is a command that cannot be understood. It changes nothing and leaves no record; it is in the queue so that it
	// is answered in its turn.
	Refusal Kind = "refusal"
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

// The reasons. Each begins its comment with the HTTP status of an answer that has it as its code.
const (
	AccountNotFound   Reason = "account_not_found"   // 404: there is no account with this ID
	AccountExists     Reason = "account_exists"      // 422: there is an account with this ID already
	SameAccount       Reason = "same_account"        // 422: payer and payee are the same account
	InsufficientFunds Reason = "insufficient_funds"  // 422: the account has less than that free to use
	BalanceTooLarge   Reason = "balance_too_large"   // 422: the amount, or what the client would have, is more than half of an int64 of minor units
	HoldNotFound      Reason = "hold_not_found"      // 404: there is no hold with this ID
	HoldNotOpen       Reason = "hold_not_open"       // 422: the hold was captured, released or has expired
	AmountExceedsHold Reason = "amount_exceeds_hold" // 422: more is to be captured than is held
	HoldOfOrder       Reason = "hold_of_order"       // 422: the hold ends through its order's payment only

	PaymentNotFound       Reason = "payment_not_found"       // 404: there is no payment of an order with this ID
	PaymentNotAuthorized  Reason = "payment_not_authorized"  // 422: nothing is held that could be confirmed or rejected
	PaymentNotCaptured    Reason = "payment_not_captured"    // 422: nothing was captured that could be refunded
	AmountExceedsCaptured Reason = "amount_exceeds_captured" // 422: more is to be refunded than is left of what was captured
	TooManyRefunds        Reason = "too_many_refunds"        // 422: the payment was refunded too often

	CurrencyMismatch Reason = "currency_mismatch" // 422: the order is in a currency that is not known, or has other digits, in payments

	Rejected     Reason = "rejected"     // 422: the payment was rejected
	OutOfStock   Reason = "out_of_stock" // 422: the inventory has not got the goods
	PastDeadline Reason = "expired"      // 422: the deadline passed before it could be done
	Cancelled    Reason = "cancelled"    // 422: it was cancelled before it could be done
	Discarded    Reason = "discarded"    // 422: an operator gave it up after it could not be processed

	OperationNotFound Reason = "operation_not_found" // 404: there is no operation with this ID
	OperationFinal    Reason = "operation_final"     // 422: the operation has ended, and cannot be cancelled any more
	OperationOfOrder  Reason = "operation_of_order"  // 422: the operation ends through its order only
)

// Reasons for which something is still Created.
const (
	WaitingForFunds     Reason = contract.WaitingForFunds
	WaitingForInventory Reason = contract.WaitingForInventory
	InventoryCompleted  Reason = "inventory_completed" // the goods are set aside; the payment goes on to the money
)

// HoldStatus is where a hold stands. All but Open are final.
type HoldStatus string

// The statuses of a hold.
const (
	Open     HoldStatus = "open"
	Captured HoldStatus = "captured"
	Released HoldStatus = "released"
	Expired  HoldStatus = "expired"
)

// The system accounts. Each has one balance row per lane and currency, so that it is never a hot row; the row of the
// client's lane is used. Only their balances may be negative.
var (
	// External is the world outside: deposits come from it, withdrawals go to it. Its balance is minus what is inside.
	External = uuid.MustParse("00000000-0000-0000-0000-000000000001")
	// Revenue is what was earned, by payments of orders and captured holds.
	Revenue = uuid.MustParse("00000000-0000-0000-0000-000000000002")
)

// IsSystem tells whether an ID is that of a system account, or of one of its vaults.
func IsSystem(account uuid.UUID) bool {
	return [6]byte(account[:6]) == [6]byte{} && (account == External || account == Revenue || account[6] == vaults)
}

// vaults is the seventh byte of the IDs of vaults, the six before it are zero: a UUID of version 8, which nobody else makes.
const vaults = 0x80

// vault is an account for what a system account has no room for, in its lane. The number tells its vaults apart.
func vault(system uuid.UUID, number int64) (id uuid.UUID) {
	id[6], id[7], id[8] = vaults, system[15], 0x80
	for i := range 6 {
		id[15-i] = byte(number >> (8 * i))
	}
	return id
}

// Request is one accepted message: it asks for an operation. Amounts are in minor units and positive.
type Request struct {
	ID          uuid.UUID     `json:"-"` // becomes the operation's
	Seq         int64         `json:"-"` // arrival number: an account's requests are applied in its order
	Lane        int16         `json:"-"` // of AccountID
	AccountID   uuid.UUID     `json:"-"` // whose queue it is in: who pays, or who is paid by a deposit
	Kind        Kind          `json:"-"`
	Fingerprint uuid.NullUUID `json:"-"` // of the client's request, where it came with a key
	ReceivedAt  time.Time     `json:"-"`

	Currency    string        `json:"currency,omitempty"`     // not of a capture or release: the hold's counts
	Amount      int64         `json:"amount,omitempty"`       // of a capture: 0 is the whole hold
	ToAccountID uuid.UUID     `json:"to_account_id,omitzero"` // of a transfer
	HoldID      uuid.UUID     `json:"hold_id,omitzero"`       // of a capture, a release or the expiry of a hold
	WaitID      uuid.UUID     `json:"wait_id,omitzero"`       // of the expiry of what waits
	OperationID uuid.UUID     `json:"operation_id,omitzero"`  // of a CancelOperation: what is to be ended
	ExpiresIn   time.Duration `json:"expires_in,omitempty"`   // of a hold or what waits, from ReceivedAt on; 0 is the default
	Owner       string        `json:"owner,omitempty"`        // of a new account
	Reference   string        `json:"reference,omitempty"`
	Description string        `json:"description,omitempty"`
	// WaitForFunds lets a withdrawal or payment wait for money that is not there, instead of failing.
	WaitForFunds bool `json:"wait_for_funds,omitempty"`

	// Of the payment of an order.
	OrderID        uuid.UUID `json:"order_id,omitzero"`
	Capture        string    `json:"capture,omitempty"` // contract.CaptureAutomatic or CaptureManual
	AwaitInventory bool      `json:"await_inventory,omitempty"`
	AcceptedAt     time.Time `json:"accepted_at,omitzero"` // of the order: deadlines count from it
	ExpiresAt      time.Time `json:"expires_at,omitzero"`  // the order's deadline, where it has one of its own
	InStock        bool      `json:"in_stock,omitempty"`   // of Inventory
	Note           string    `json:"note,omitempty"`       // of Cancel, Reject, Refund and CancelOperation: why, in the client's words
	Refused        Reason    `json:"refused,omitempty"`    // of Payment and Cancel: why there can be no payment; Currency is a name of money.Foreign's
	Repeated       bool      `json:"repeated,omitempty"`   // of Payment and Cancel: orders has heard no answer and asks again

	CommandID   uuid.UUID `json:"command_id,omitzero"` // the client's own, where it came otherwise than over the broker
	Reply       *Reply    `json:"reply,omitempty"`     // how to answer a command of the broker
	Traceparent string    `json:"-"`                   // for the events that follow
	Discarded   bool      `json:"-"`                   // an operator has given it up: it ends in error whatever it asks
}

// The deadlines of what does not bring its own, from acceptance on.
const (
	InventoryExpiry = contract.InventoryExpiry // of what waits for inventory
	FundsExpiry     = contract.FundsExpiry     // of what waits for money
	HoldExpiry      = contract.HoldExpiry      // of a hold
)

// MaxFundsExpiry is the longest time that anything waits for money, from acceptance on.
const MaxFundsExpiry = 30 * 24 * time.Hour

// accepted is when a request was accepted, which is when its time begins.
func (r Request) accepted() time.Time {
	if r.Kind == Payment && !r.AcceptedAt.IsZero() {
		return r.AcceptedAt
	}
	return r.ReceivedAt
}

// deadline is when the time of a request is over.
func (r Request) deadline(otherwise time.Duration) time.Time {
	if !r.ExpiresAt.IsZero() {
		return r.ExpiresAt
	}
	return r.accepted().Add(cmp.Or(r.ExpiresIn, otherwise))
}

// Refers names the hold, the order's payment and the waiting request that a request is about, where it is about any: what
// the database has of them is put into the book before Needs is asked.
func (r Request) Refers() (hold, order, wait uuid.UUID) {
	switch r.Kind {
	case Payment:
		if r.Repeated { // otherwise its payment begins with it
			return uuid.Nil, r.OrderID, uuid.Nil
		}
	case Capture, Release:
		return r.HoldID, uuid.Nil, uuid.Nil
	case Confirm, Reject:
		return r.OrderID, r.OrderID, uuid.Nil // an order's hold has its ID
	case Refund:
		return uuid.Nil, r.OrderID, uuid.Nil
	case Cancel:
		return r.OrderID, r.OrderID, r.OrderID
	case Inventory:
		return uuid.Nil, r.OrderID, r.OrderID
	case Expire:
		if r.WaitID != uuid.Nil {
			return uuid.Nil, r.WaitID, r.WaitID
		}
		return r.HoldID, r.HoldID, uuid.Nil
	case CancelOperation:
		return uuid.Nil, uuid.Nil, r.OperationID
	}
	return uuid.Nil, uuid.Nil, uuid.Nil
}

// Operation is the kind of the operation that a request becomes, or "" where it becomes none of its own.
func (k Kind) Operation() Kind {
	switch k {
	case Confirm:
		return Capture
	case Reject, Expire:
		return Release
	case Cancel, Inventory, Resume, Question, Refusal:
		return ""
	}
	return k
}

// Operations are the kinds of requests by which clients see an operation.
func Operations() []Kind {
	return []Kind{CreateAccount, Deposit, Withdraw, Transfer, HoldFunds, Capture, Release, Payment, Confirm, Reject, Refund}
}

// Reply says how a command is answered. It has no influence on what the command does.
type Reply struct {
	Topic     string    `json:"topic"`
	CommandID uuid.UUID `json:"command_id"`
	Operation string    `json:"operation"` // as the command named it

	// Of a Refusal: why.
	Code   int    `json:"code,omitempty"`
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// Account is a client of the ledger. Its balances are kept per currency.
type Account struct {
	ID        uuid.UUID
	Lane      int16
	Owner     string
	Reference string
	CreatedAt time.Time
}

// Key names a balance. Lane is the account's; for a system account it is that of the client on the other side.
type Key struct {
	AccountID uuid.UUID
	Currency  string
	Lane      int16
}

// Compare orders keys as a comparison of their accounts, currencies and lanes does.
func (k Key) Compare(other Key) int {
	return cmp.Or(bytes.Compare(k.AccountID[:], other.AccountID[:]), cmp.Compare(k.Currency, other.Currency), cmp.Compare(k.Lane, other.Lane))
}

// Balance is what an account has of one currency, in minor units.
type Balance struct {
	Actual  int64 // free to use
	Frozen  int64 // set aside by holds
	Entries int64 // how many entries it has; the number of the last one
	Waiting int64 // how many requests wait for it to grow
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
	HoldID      uuid.UUID
	OrderID     uuid.UUID
	CommandID   uuid.UUID // the client's own, where the request was a command with one
	Currency    string
	Amount      int64
	Status      Status
	Reason      Reason
	Reference   string
	Description string
	Note        string // why it was asked for or cancelled, in the client's words
	Fingerprint uuid.NullUUID
	CreatedAt   time.Time
	SettledAt   time.Time
}

// Hold is money that is set aside for a while. Its ID is that of the operation that made it.
type Hold struct {
	ID        uuid.UUID
	Lane      int16
	AccountID uuid.UUID
	Currency  string
	Amount    int64
	Captured  int64
	Status    HoldStatus
	OrderID   uuid.UUID // whose payment it is of, if it is one's
	ExpiresAt time.Time
	CreatedAt time.Time
}

// Wait is a request that was accepted and cannot take effect yet. Its operation is Created meanwhile.
type Wait struct {
	Request   Request
	For       Reason    // WaitingForInventory or WaitingForFunds
	Seq       int64     // its place in the queue for money: the arrival number of what made it wait
	ExpiresAt time.Time // zero only of what an earlier version has put aside behind another one
}

// key is the balance that a debit takes from.
func (r Request) key() Key { return Key{r.AccountID, r.Currency, r.Lane} }

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
	Note      string // what a client said of the last step, if it was one's
	Captured  int64
	Refunded  int64
	Version   int64 // counts its transitions, from 1
	CreatedAt time.Time
	UpdatedAt time.Time

	Previous    string // the status before this one
	Traceparent string // of the message that caused this version; it is not stored
}
