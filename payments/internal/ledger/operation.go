package ledger

import (
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

// Operation is the permanent record of a request and its result.
type Operation struct {
	ID          uuid.UUID     `db:"id"`
	Lane        int16         `db:"lane"`
	Seq         int64         `db:"seq"`
	Kind        Kind          `db:"operation"`
	Tenant      string        `db:"tenant"` // who asked for it; "" of the system's own
	AccountID   uuid.UUID     `db:"account_id"`
	ToAccountID uuid.UUID     `db:"to_account_id"`
	HoldID      uuid.UUID     `db:"hold_id"`
	OrderID     uuid.UUID     `db:"order_id"`
	CommandID   uuid.UUID     `db:"command_id"` // the client's own, where the request was a command with one
	Currency    string        `db:"currency"`
	Amount      int64         `db:"amount"`
	Status      Status        `db:"status"`
	Reason      Reason        `db:"reason"`
	Reference   string        `db:"reference"`
	Description string        `db:"description"`
	Note        string        `db:"note"` // why it was asked for or cancelled, in the client's words
	Fingerprint uuid.NullUUID `db:"fingerprint"`
	Stranger    bool          `db:"stranger"` // who asked did not reach the account, which has nothing to do with it
	CreatedAt   time.Time     `db:"created_at"`
	SettledAt   time.Time     `db:"settled_at"`
}

// Status is where an operation stands. Success and Error are final.
type Status string

// The statuses of an operation.
const (
	Created Status = "created"
	Success Status = "success"
	Error   Status = "error"
)

// KindCancelOperation is the kind of CancelOperation.
const KindCancelOperation Kind = "cancel_operation"

// CancelOperation ends an operation that is still Created. Apart from orders' payments, whatever is Created waits for
// money in a queue. The record of a cancellation makes it repeatable; clients see only the operation that it ended.
type CancelOperation struct {
	OperationID uuid.UUID `json:"operation_id,omitzero"`
	Note        string    `json:"note,omitempty"` // why, in the client's words
}

func (CancelOperation) kind() Kind { return KindCancelOperation }
func (c CancelOperation) references(Request) References {
	return References{Wait: c.OperationID, Operation: c.OperationID}
}

func (c CancelOperation) needs(b *Book, _ Request, n *Needs) { n.wait(b, c.OperationID) }

func (c CancelOperation) operation() Operation {
	return Operation{Kind: KindCancelOperation, Note: c.Note}
}

func (c CancelOperation) settle(b *Book, _ *Operation, r Request) Reason {
	op, ok := b.operations[c.OperationID]
	switch {
	case !ok || op.AccountID != r.AccountID || op.Kind == KindCancelOperation || !r.of(op.Tenant),
		r.By.Owner != "" && (op.Stranger || !b.reaches(r, op.AccountID)):
		return OperationNotFound
	case op.OrderID != uuid.Nil:
		return OperationOfOrder
	case op.Status != Created:
		return OperationFinal
	}
	op.Note = c.Note
	b.finish(b.waits[op.ID], Cancelled)
	return ""
}

// Reason says why an operation ended in Error, in a closed list of codes.
type Reason string

// The reasons. Each begins its comment with the HTTP status of an answer that has it as its code.
const (
	AccountNotFound   Reason = "account_not_found"  // 404: there is no account with this ID
	AccountExists     Reason = "account_exists"     // 422: there is an account with this ID already
	SameAccount       Reason = "same_account"       // 422: payer and payee are the same account
	InsufficientFunds Reason = "insufficient_funds" // 422: the account has less than that free to use
	// 422: the amount, or what the client would have, is more than half of an int64 of minor units
	BalanceTooLarge   Reason = "balance_too_large"
	HoldNotFound      Reason = "hold_not_found"      // 404: there is no hold with this ID
	HoldNotOpen       Reason = "hold_not_open"       // 422: the hold was captured, released or has expired
	AmountExceedsHold Reason = "amount_exceeds_hold" // 422: more is to be captured than is held
	HoldOfOrder       Reason = "hold_of_order"       // 422: the hold ends through its order's payment only

	PaymentNotFound      Reason = "payment_not_found"      // 404: there is no payment of an order with this ID
	PaymentNotAuthorized Reason = "payment_not_authorized" // 422: nothing is held that could be confirmed or rejected
	PaymentNotCaptured   Reason = "payment_not_captured"   // 422: nothing was captured that could be refunded
	// 422: more is to be refunded than is left of what was captured
	AmountExceedsCaptured Reason = "amount_exceeds_captured"
	TooManyRefunds        Reason = "too_many_refunds" // 422: the payment was refunded too often

	// 422: the order is in a currency that is not known, or has other digits, in payments
	CurrencyMismatch Reason = "currency_mismatch"

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
