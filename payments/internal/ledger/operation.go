package ledger

import (
	"time"

	"github.com/google/uuid"
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
