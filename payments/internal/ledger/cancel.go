package ledger

import (
	"fmt"
	"math"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

// KindCancel is the kind of Cancel.
const KindCancel Kind = "cancel"

// Cancel is the compensation of an order: it ends the payment wherever it stands and gives back what was taken. If it
// overtakes its order, it leaves a cancelled payment, which the order then meets. A failed payment stays failed.
type Cancel struct {
	// The order's, as in Payment.
	Currency    string    `json:"currency,omitempty"`
	Amount      int64     `json:"amount,omitempty"`
	Reference   string    `json:"reference,omitempty"`
	Description string    `json:"description,omitempty"`
	OrderID     uuid.UUID `json:"order_id,omitzero"`
	Capture     string    `json:"capture,omitempty"`
	Note        string    `json:"note,omitempty"` // why, in the client's words
	Refused     Reason    `json:"refused,omitempty"`
	Repeated    bool      `json:"repeated,omitempty"`
}

func (Cancel) kind() Kind { return KindCancel }
func (c Cancel) references(Request) References {
	return References{Hold: c.OrderID, Order: c.OrderID, Wait: c.OrderID}
}

func (c Cancel) needs(b *Book, r Request, n *Needs) {
	if n.wait(b, c.OrderID) {
		return
	}
	if _, begun := b.payments[c.OrderID]; begun {
		n.payment(b, c.OrderID)
	} else if c.Refused == "" { // its order may be earlier in the batch
		own := r.balance(c.Currency)
		n.spends(own, own.beside(Revenue))
	}
}

// Which operation it becomes depends on where the payment stands.
func (c Cancel) apply(b *Book, r Request) *Operation {
	p, ok := b.payments[c.OrderID]
	switch {
	case !ok:
		return c.beforehand(b, r)
	case p.AccountID != r.AccountID || !r.of(p.Tenant):
		return nil // only the account that pays the order may cancel it, and only the order's tenant
	}
	cancelled := step{contract.PaymentCancelled, Cancelled, c.Note}
	switch p.Status {
	case contract.PaymentCreated:
		op := b.unwait(b.waits[c.OrderID])
		op.Note = c.Note
		b.close(op, Cancelled)
		b.become(p, cancelled, r)
	case contract.PaymentAuthorized:
		op := c.compensation(b, p, r, KindRelease)
		b.close(op, b.free(op, b.holds[p.OrderID], 0, Released))
		b.become(p, cancelled, r)
		return op
	case contract.PaymentSucceeded, contract.PaymentRefunded:
		left := p.Captured - p.Refunded
		if left == 0 {
			b.become(p, cancelled, r)
			return nil
		}
		own := b.balance(p.balance())
		if own.Actual > math.MaxInt64-own.Frozen-left {
			return nil // orders asks again, until the client has made room
		}
		op := c.compensation(b, p, r, KindRefund)
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

// beforehand cancels an order that has not come yet: it begins the payment in the order's place.
func (c Cancel) beforehand(b *Book, r Request) *Operation {
	order := Payment{
		Currency: c.Currency, Amount: c.Amount, Reference: c.Reference, Description: c.Description,
		OrderID: c.OrderID, Capture: c.Capture,
	}
	placed := r
	placed.ID, placed.Command = c.OrderID, order
	op := b.open(placed)
	op.Note = c.Note
	b.close(op, Cancelled)
	b.become(b.begin(order.payment(r)), step{contract.PaymentCancelled, Cancelled, c.Note}, r)
	return op
}

// compensation opens the operation by which money is given back.
func (c Cancel) compensation(b *Book, p *OrderPayment, r Request, kind Kind) *Operation {
	return b.enroll(r.record(Operation{
		Kind: kind, OrderID: p.OrderID, Currency: p.Currency, Amount: p.Amount, Note: c.Note,
	}))
}

func (c Cancel) repeated() (order uuid.UUID, again bool) { return c.OrderID, c.Repeated }

// repeatable is a command that orders may send again to ask for the payment's state, of which it has not heard.
type repeatable interface {
	repeated() (order uuid.UUID, again bool)
}

// repeat has the state of a payment told again if orders asks for it. A message that is merely delivered twice does not
// ask.
func (b *Book) repeat(r Request) {
	c, ok := r.Command.(repeatable)
	if !ok {
		return
	}
	order, again := c.repeated()
	if p, ok := b.payments[order]; ok && again && p.AccountID == r.AccountID && r.of(p.Tenant) {
		b.repeated = append(b.repeated, order)
	}
}
