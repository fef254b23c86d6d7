package ledger

import (
	"cmp"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

// KindRefund is the kind of Refund.
const KindRefund Kind = "refund"

// Refund returns what was captured for an order, whole or in part.
type Refund struct {
	Amount  int64     `json:"amount,omitempty"` // 0 is all that is left
	OrderID uuid.UUID `json:"order_id,omitzero"`
	Note    string    `json:"note,omitempty"` // why, in the client's words
}

func (Refund) kind() Kind                           { return KindRefund }
func (c Refund) references(Request) References      { return References{Order: c.OrderID} }
func (c Refund) needs(b *Book, _ Request, n *Needs) { n.payment(b, c.OrderID) }

func (c Refund) operation() Operation {
	return Operation{Kind: KindRefund, OrderID: c.OrderID, Amount: c.Amount, Note: c.Note}
}

func (c Refund) settle(b *Book, op *Operation, r Request) Reason {
	p, ok := b.paymentOf(r, c.OrderID)
	if !ok {
		return PaymentNotFound
	}
	left := p.Captured - p.Refunded
	op.Currency, op.Amount = p.Currency, cmp.Or(c.Amount, left)
	switch {
	case p.Status != contract.PaymentSucceeded && p.Status != contract.PaymentRefunded:
		return PaymentNotCaptured
	case left == 0 || c.Amount > left:
		return AmountExceedsCaptured
	case p.Version >= MaxVersion:
		return TooManyRefunds
	}
	return b.giveBack(op, p, step{status: contract.PaymentRefunded, note: c.Note}, r)
}

// giveBack returns the operation's amount from what was earned to who paid it.
func (b *Book) giveBack(op *Operation, p *OrderPayment, s step, r Request) Reason {
	own := p.balance()
	if reason := b.move(op, own.beside(Revenue), own); reason != "" {
		return reason
	}
	p.Refunded += op.Amount
	b.become(p, s, r)
	return ""
}
