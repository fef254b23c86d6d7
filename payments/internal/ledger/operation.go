package ledger

import (
	"cmp"
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
	CommandID   uuid.UUID     `db:"command_id"`   // the client's own, where the request was a command with one
	Subject     string        `db:"subject"`      // who asked for it; "" where nobody is told apart
	Key         string        `db:"key"`          // the client's, with which it was asked for; "" for none
	CancelledBy uuid.UUID     `db:"cancelled_by"` // the record of the CancelOperation that ended it
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
	PublishedAt time.Time     `db:"published_at"` // when the broker got the request; zero where it did not come from one
	Traceparent string        `db:"traceparent"`  // of the request, if that is recorded: what acts on it later links to it
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
	op.Note, op.CancelledBy = c.Note, r.ID
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

// A debit takes money from a balance or sets it aside. A debit that cannot take effect yet waits: a payment waits for
// inventory by itself, and any debit waits for money in the queue of its balance. Later debits of the balance wait
// behind it, so that they take effect in the order in which they were accepted. What gives money or ends a request
// passes the queue. The balance counts its queue; whoever credits it, in whichever lane, leaves a Resume behind.
type debit interface {
	Command
	// from is the balance that the money is in.
	from(r Request) Key
	// patient tells whether the debit waits for money that is not there, instead of failing.
	patient() bool
	// deadline is when the debit's time is over, while it waits and while it is held.
	deadline(r Request) deadline
	// take moves the money, or returns why it cannot: then nothing has changed.
	take(b *Book, op *Operation, r Request) Reason
}

// deadline is when the time of a debit is over.
type deadline struct {
	from time.Time     // its acceptance
	in   time.Duration // 0 is the usual time
	at   time.Time     // zero is from plus in
}

// or is the deadline; usual is the time of a debit that brings none.
func (d deadline) or(usual time.Duration) time.Time {
	if !d.at.IsZero() {
		return d.at
	}
	return d.from.Add(cmp.Or(d.in, usual))
}

// The usual times, from acceptance on.
const (
	InventoryExpiry = contract.InventoryExpiry // waiting for inventory
	FundsExpiry     = contract.FundsExpiry     // waiting for money
	HoldExpiry      = contract.HoldExpiry      // of a hold
)

// MaxFundsExpiry is the longest time that anything waits for money, from acceptance on.
const MaxFundsExpiry = 30 * 24 * time.Hour

// Wait is a debit that was accepted and cannot take effect yet. Its operation is Created.
type Wait struct {
	Request   Request
	For       Reason    // WaitingForInventory or WaitingForFunds
	Seq       int64     // its place in the queue for money: the arrival number of what made it wait
	ExpiresAt time.Time // zero only if an earlier version put it behind another one
}

// Key is the balance that the debit takes from.
func (w *Wait) Key() Key { return w.debit().from(w.Request) }

func (w *Wait) debit() debit { return w.Request.Command.(debit) }

// wait adds what the end of a waiting request touches, or returns false if none waits under this ID.
func (n *Needs) wait(b *Book, id uuid.UUID) bool {
	w, ok := b.waits[id]
	if ok {
		w.Request.Command.needs(b, w.Request, n)
	}
	return ok
}

// spend gives a debit its effect, or returns why it cannot: then nothing has changed. WaitingForFunds means that it
// must wait, behind others or for money of its own.
func (b *Book) spend(op *Operation, r Request, c debit) Reason {
	if b.balance(c.from(r)).Waiting > 0 {
		return WaitingForFunds
	}
	return b.take(op, r, c)
}

// take is spend for the debit whose turn it is.
func (b *Book) take(op *Operation, r Request, c debit) Reason {
	reason := c.take(b, op, r)
	if reason == InsufficientFunds && c.patient() {
		return WaitingForFunds
	}
	return reason
}

// wait puts a debit aside until what it waits for is there.
func (b *Book) wait(op *Operation, r Request, c debit, what Reason, seq int64) {
	op.Status, op.Reason = Created, what
	w := &Wait{Request: r, For: what, Seq: seq}
	deadline := c.deadline(r)
	switch {
	case what == WaitingForInventory:
		w.ExpiresAt = deadline.or(InventoryExpiry)
	case c.patient():
		w.ExpiresAt = deadline.or(FundsExpiry)
	default: // behind another debit; the deadline may be that of its hold, which is later than anything may wait
		w.ExpiresAt = earlier(deadline.or(FundsExpiry), deadline.from.Add(MaxFundsExpiry))
	}
	if what == WaitingForFunds {
		key := c.from(r)
		b.balance(key).Waiting++
		b.touched[key] = true
	}
	b.waits[r.ID], b.changes.Waits[r.ID] = w, w
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// unwait takes a debit out of its queue and returns its operation. The caller closes it or has it wait again.
func (b *Book) unwait(w *Wait) *Operation {
	id := w.Request.ID
	delete(b.waits, id)
	delete(b.changes.Waits, id)
	if w.For == WaitingForFunds {
		key := w.Key()
		balance := b.balance(key)
		balance.Waiting--
		b.touched[key] = true
		if balance.Waiting > 0 {
			b.changes.Resumes[key] = b.accounts[key.AccountID].Tenant // the next one may need less
		}
	}
	op := b.operationOf(w)
	if b.stored[id] {
		delete(b.stored, id)
		b.changes.Completed = append(b.changes.Completed, Completion{w.Request, op})
	}
	return op
}

// operationOf is the operation of a request that waits.
func (b *Book) operationOf(w *Wait) *Operation {
	op, ok := b.operations[w.Request.ID]
	if !ok {
		op = w.Request.Operation()
		op.Reason = w.For
		b.operations[op.ID] = op
	}
	return op
}

// finish ends what waits.
func (b *Book) finish(w *Wait, reason Reason) {
	op := b.unwait(w)
	b.close(op, reason)
	if c, ok := w.Request.Command.(Payment); ok {
		c.ended(b, op, w.Request)
	}
}

// ask gives a waiting request the Reply of its repetition if it has none: the command came in a batch over HTTP first,
// and now over the broker.
func (b *Book) ask(r Request) {
	w, ok := b.waits[r.ID]
	if !ok || r.Reply == nil || w.Request.Reply != nil || w.Request.Fingerprint != r.Fingerprint {
		return
	}
	w.Request.Reply = r.Reply
	b.changes.Waits[r.ID] = w
}

// KindResume is the kind of Resume.
const KindResume Kind = "resume"

// Resume serves a queue for money after a credit: one debit after another, until one must keep waiting. If only the
// head of the queue was put in, unwait leaves another Resume for the rest.
type Resume struct {
	Currency string `json:"currency,omitempty"`
}

func (Resume) kind() Kind                        { return KindResume }
func (c Resume) references(r Request) References { return References{Queue: r.balance(c.Currency)} }

func (c Resume) needs(b *Book, r Request, n *Needs) {
	own := r.balance(c.Currency)
	n.account(r.AccountID)
	n.gives(own)
	for _, w := range b.queues[own] {
		w.Request.Command.needs(b, w.Request, n)
	}
}

func (c Resume) apply(b *Book, r Request) *Operation {
	key := r.balance(c.Currency)
	for queue := b.queues[key]; len(queue) > 0; queue = b.queues[key] {
		head := queue[0]
		if b.waits[head.Request.ID] == head { // or else an earlier request of the batch has ended it
			reason := b.take(b.operationOf(head), head.Request, head.debit())
			if reason == WaitingForFunds {
				return nil
			}
			b.finish(head, reason)
		}
		b.queues[key] = queue[1:]
	}
	return nil
}
