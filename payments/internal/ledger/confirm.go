package ledger

import (
	"cmp"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

// KindConfirm is the kind of Confirm.
const KindConfirm Kind = "confirm"

// Confirm captures what is held for an order, whole or in part; the rest is released. Its operation is a capture.
type Confirm struct {
	Amount  int64     `json:"amount,omitempty"` // 0 is all that is held
	OrderID uuid.UUID `json:"order_id,omitzero"`
}

func (Confirm) kind() Kind { return KindConfirm }

// The hold of an order has the order's ID.
func (c Confirm) references(Request) References      { return References{Hold: c.OrderID, Order: c.OrderID} }
func (c Confirm) needs(b *Book, _ Request, n *Needs) { n.payment(b, c.OrderID) }

func (c Confirm) operation() Operation {
	return Operation{Kind: KindCapture, OrderID: c.OrderID, Amount: c.Amount}
}

func (c Confirm) settle(b *Book, op *Operation, r Request) Reason {
	p, reason := b.authorized(op, r, c.OrderID, c.Amount)
	if reason != "" {
		return reason
	}
	captured := cmp.Or(c.Amount, p.Amount)
	if reason := b.free(op, b.holds[p.OrderID], captured, Captured); reason != "" {
		op.Amount = captured
		return reason
	}
	p.Captured = captured
	b.become(p, step{status: contract.PaymentSucceeded}, r)
	return ""
}

// KindReject is the kind of Reject.
const KindReject Kind = "reject"

// Reject releases what is held for an order. Its operation is a release.
type Reject struct {
	OrderID uuid.UUID `json:"order_id,omitzero"`
	Note    string    `json:"note,omitempty"` // why, in the client's words
}

func (Reject) kind() Kind                           { return KindReject }
func (c Reject) references(Request) References      { return References{Hold: c.OrderID, Order: c.OrderID} }
func (c Reject) needs(b *Book, _ Request, n *Needs) { n.payment(b, c.OrderID) }

func (c Reject) operation() Operation {
	return Operation{Kind: KindRelease, OrderID: c.OrderID, Note: c.Note}
}

func (c Reject) settle(b *Book, op *Operation, r Request) Reason {
	p, reason := b.authorized(op, r, c.OrderID, 0)
	if reason != "" {
		return reason
	}
	if reason := b.free(op, b.holds[p.OrderID], 0, Released); reason != "" {
		return reason
	}
	b.become(p, step{contract.PaymentFailed, Rejected, c.Note}, r)
	return ""
}

// payment adds what a step of an order's payment touches. If the payment is not in the book, an earlier request of the
// batch may begin it; that request needs the same.
func (n *Needs) payment(b *Book, order uuid.UUID) {
	if p, ok := b.payments[order]; ok {
		n.spends(p.balance(), p.balance().beside(Revenue))
	}
}

// paymentOf finds a payment that a request may touch.
func (b *Book) paymentOf(r Request, order uuid.UUID) (*OrderPayment, bool) {
	p, ok := b.payments[order]
	if !ok || p.AccountID != r.AccountID || !r.of(p.Tenant) || r.By.Owner != "" && !b.reaches(r, p.AccountID) {
		return nil, false
	}
	return p, true
}

// authorized finds the payment whose hold is to be confirmed or rejected.
func (b *Book) authorized(op *Operation, r Request, order uuid.UUID, amount int64) (*OrderPayment, Reason) {
	p, ok := b.paymentOf(r, order)
	if !ok {
		return nil, PaymentNotFound
	}
	op.Currency, op.Amount = p.Currency, cmp.Or(amount, p.Amount)
	if p.Status != contract.PaymentAuthorized {
		return nil, PaymentNotAuthorized
	}
	return p, ""
}
