package ledger

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/altyn-pay/altyn/platform/contract"
)

// The saga of an order's payment. Each step is a request like any other, in the queue of the account that pays, and each
// change of the payment is a version of it, which becomes one event.
//
//	Payment     begins it: waits for inventory or money, debits, holds, or fails
//	Inventory   lets it go on to the money, or fails it
//	Confirm     captures what is held, whole or in part
//	Reject      releases what is held
//	Refund      returns what was captured, whole or in part
//	Cancel      ends it wherever it stands and gives everything back, even before it has begun
//	Expire      fails what has waited or was held for too long
//	Resume      serves what waits for money

// successors is the state machine: the statuses that may follow each; "" is before the beginning. A constraint of the
// database says the same again.
var successors = map[string][]string{
	"": {contract.PaymentCreated, contract.PaymentAuthorized, contract.PaymentSucceeded, contract.PaymentFailed, contract.PaymentCancelled},
	contract.PaymentCreated: {contract.PaymentCreated, contract.PaymentAuthorized, contract.PaymentSucceeded, contract.PaymentFailed,
		contract.PaymentCancelled},
	contract.PaymentAuthorized: {contract.PaymentSucceeded, contract.PaymentFailed, contract.PaymentCancelled},
	contract.PaymentSucceeded:  {contract.PaymentRefunded, contract.PaymentCancelled},
	contract.PaymentRefunded:   {contract.PaymentRefunded, contract.PaymentCancelled},
	contract.PaymentFailed:     {},
	contract.PaymentCancelled:  {},
}

// PaymentCanBecome tells whether a payment may go from one status to the next; "" is before its beginning.
func PaymentCanBecome(from, to string) bool { return slices.Contains(successors[from], to) }

// MaxVersion bounds the versions of a payment, and so its events and the lines of its order's timeline: beyond it there
// are no more refunds, but for the one of a cancellation.
const MaxVersion = 1000

// step is what becomes of a payment.
type step struct {
	status string
	reason Reason
}

func created(reason Reason) step { return step{contract.PaymentCreated, reason} }
func failed(reason Reason) step  { return step{contract.PaymentFailed, reason} }

// become makes the payment's next version, which r has caused. Amounts are changed by the caller before.
func (b *Book) become(p *OrderPayment, s step, r Request) {
	if !PaymentCanBecome(p.Status, s.status) {
		panic(fmt.Sprintf("ledger: the payment of order %s is %q and cannot become %s", p.OrderID, p.Status, s.status))
	}
	p.Previous, p.Status, p.Reason, p.Note, p.Traceparent = p.Status, s.status, s.reason, r.Note, r.Traceparent
	p.Version++
	if b.Now.After(p.UpdatedAt) { // the clocks of two processes may differ, but a payment's times do not run backwards
		p.UpdatedAt = b.Now
	}
	b.changes.Payments = append(b.changes.Payments, *p)
}

// begin is a payment of which nothing is known yet.
func (b *Book) begin(r Request) *OrderPayment {
	p := &OrderPayment{
		OrderID: r.OrderID, Lane: r.Lane, AccountID: r.AccountID, Currency: r.Currency, Amount: r.Amount, Capture: r.Capture,
		CreatedAt: b.Now, UpdatedAt: b.Now,
	}
	b.payments[p.OrderID] = p
	return p
}

// pay begins the payment of an order.
func (b *Book) pay(op *Operation, r Request) {
	p := b.begin(r)
	switch {
	case r.Discarded:
		b.close(op, Discarded)
	case r.Refused != "":
		b.close(op, r.Refused)
	case !b.exists(r.AccountID):
		b.close(op, AccountNotFound)
	case b.past(r.ExpiresAt):
		b.close(op, PastDeadline)
	case r.AwaitInventory:
		b.wait(op, r, WaitingForInventory, r.Seq)
		b.become(p, created(WaitingForInventory), r)
		return
	default:
		b.charge(op, r, r.Seq)
		return
	}
	b.follow(op, r)
}

// charge takes or holds the money of a payment, or has it wait for the money. seq is its place in that queue.
func (b *Book) charge(op *Operation, r Request, seq int64) {
	reason := b.settle(op, r, false)
	if reason == WaitingForFunds {
		b.wait(op, r, WaitingForFunds, seq)
		b.become(b.payments[r.OrderID], created(WaitingForFunds), r)
		return
	}
	b.close(op, reason)
	b.follow(op, r)
}

// follow takes a payment where its operation has ended.
func (b *Book) follow(op *Operation, r Request) {
	p := b.payments[r.OrderID]
	switch {
	case op.Status == Error:
		b.become(p, failed(op.Reason), r)
	case r.Capture == contract.CaptureManual:
		b.become(p, step{status: contract.PaymentAuthorized}, r)
	default:
		p.Captured = p.Amount
		b.become(p, step{status: contract.PaymentSucceeded}, r)
	}
}

// inventory lets a payment that waits for its goods go on, or ends it. The first answer counts. The debit takes its place
// in the account's queue now: waiting for goods stops nobody.
func (b *Book) inventory(r Request) {
	w, ok := b.waits[r.OrderID]
	if !ok || w.Request.AccountID != r.AccountID || w.For != WaitingForInventory {
		return
	}
	request := w.Request
	request.Traceparent = r.Traceparent
	if !r.InStock {
		b.giveUp(w, OutOfStock)
		return
	}
	b.become(b.payments[r.OrderID], created(InventoryCompleted), r)
	op := b.unwait(w)
	b.charge(op, request, r.Seq)
}

// confirm captures what is held for an order; the rest is released.
func (b *Book) confirm(op *Operation, r Request) Reason {
	p, reason := b.authorized(op, r)
	if reason != "" {
		return reason
	}
	captured := cmp.Or(r.Amount, p.Amount)
	if reason := b.free(op, b.holds[p.OrderID], captured, Captured); reason != "" {
		op.Amount = captured
		return reason
	}
	p.Captured = captured
	b.become(p, step{status: contract.PaymentSucceeded}, r)
	return ""
}

// reject releases what is held for an order.
func (b *Book) reject(op *Operation, r Request) Reason {
	p, reason := b.authorized(op, r)
	if reason != "" {
		return reason
	}
	if reason := b.free(op, b.holds[p.OrderID], 0, Released); reason != "" {
		return reason
	}
	b.become(p, failed(Rejected), r)
	return ""
}

// authorized finds the payment that a Confirm or Reject is about.
func (b *Book) authorized(op *Operation, r Request) (*OrderPayment, Reason) {
	p, ok := b.payments[r.OrderID]
	if !ok || p.AccountID != r.AccountID {
		return nil, PaymentNotFound
	}
	op.Currency, op.Amount = p.Currency, cmp.Or(r.Amount, p.Amount)
	if p.Status != contract.PaymentAuthorized {
		return nil, PaymentNotAuthorized
	}
	return p, ""
}

// refund returns money that was captured: an amount, or all that is left.
func (b *Book) refund(op *Operation, r Request) Reason {
	p, ok := b.payments[r.OrderID]
	if !ok || p.AccountID != r.AccountID {
		return PaymentNotFound
	}
	left := p.Captured - p.Refunded
	op.Currency, op.Amount = p.Currency, cmp.Or(r.Amount, left)
	switch {
	case p.Status != contract.PaymentSucceeded && p.Status != contract.PaymentRefunded:
		return PaymentNotCaptured
	case left == 0 || r.Amount > left:
		return AmountExceedsCaptured
	case p.Version >= MaxVersion:
		return TooManyRefunds
	}
	return b.giveBack(op, p, step{status: contract.PaymentRefunded}, r)
}

// giveBack returns the operation's amount from what was earned to who paid it.
func (b *Book) giveBack(op *Operation, p *OrderPayment, s step, r Request) Reason {
	own := Key{p.AccountID, p.Currency, p.Lane}
	if reason := b.move(op, own.of(Revenue), own); reason != "" {
		return reason
	}
	p.Refunded += op.Amount
	b.become(p, s, r)
	return ""
}

// cancel is the compensation of an order. One that overtakes its order leaves a cancelled payment, which the order then
// meets. A payment that has failed stays so.
func (b *Book) cancel(r Request) *Operation {
	cancelled := step{contract.PaymentCancelled, Cancelled}
	p, ok := b.payments[r.OrderID]
	switch {
	case !ok:
		placed := r
		placed.ID, placed.Kind = r.OrderID, Payment
		op := b.open(placed)
		b.close(op, Cancelled)
		b.become(b.begin(r), cancelled, r)
		return op
	case p.AccountID != r.AccountID:
		return nil // an order has one account: whoever says otherwise is not its
	}
	switch p.Status {
	case contract.PaymentCreated:
		op := b.unwait(b.waits[r.OrderID])
		op.Note = r.Note
		b.close(op, Cancelled)
		b.become(p, cancelled, r)
	case contract.PaymentAuthorized:
		op := b.compensation(p, r, Release)
		b.close(op, b.free(op, b.holds[p.OrderID], 0, Released))
		b.become(p, cancelled, r)
		return op
	case contract.PaymentSucceeded, contract.PaymentRefunded:
		left := p.Captured - p.Refunded
		if left == 0 {
			b.become(p, cancelled, r)
			return nil
		}
		own := b.balance(Key{p.AccountID, p.Currency, p.Lane})
		if own.Actual > math.MaxInt64-own.Frozen-left {
			return nil // orders asks again, until the client has made room
		}
		op := b.compensation(p, r, Refund)
		op.Amount = left
		if reason := b.giveBack(op, p, cancelled, r); reason != "" {
			panic(fmt.Sprintf("ledger: cancel order %s: %s", p.OrderID, reason)) // an operator must look
		}
		b.close(op, "")
		return op
	}
	b.repeat(r)
	return nil
}

// repeat has the present state of a payment told again, to an orders that asks because it has not heard of it. The same message
// delivered twice does not ask.
func (b *Book) repeat(r Request) {
	if p, ok := b.payments[r.OrderID]; ok && r.Repeated && p.AccountID == r.AccountID {
		b.repeated = append(b.repeated, p.OrderID)
	}
}

// compensation opens the operation by which a cancellation gives money back.
func (b *Book) compensation(p *OrderPayment, r Request, kind Kind) *Operation {
	return b.open(Request{
		ID: r.ID, Seq: r.Seq, Lane: r.Lane, AccountID: r.AccountID, Kind: kind, ReceivedAt: r.ReceivedAt, OrderID: p.OrderID,
		Currency: p.Currency, Amount: p.Amount, Note: r.Note,
	})
}

// WaitingPayment is the payment of an order whose request has not taken effect.
func WaitingPayment(r Request) OrderPayment {
	return OrderPayment{
		OrderID: r.OrderID, Lane: r.Lane, AccountID: r.AccountID, Currency: r.Currency, Amount: r.Amount, Capture: r.Capture,
		Status: contract.PaymentCreated, CreatedAt: r.ReceivedAt, UpdatedAt: r.ReceivedAt,
	}
}
