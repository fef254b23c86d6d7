package ledger

import (
	"time"

	"github.com/google/uuid"
)

// KindExpire is the kind of Expire.
const KindExpire Kind = "expire"

// Expire ends what has waited or was held until its deadline. Its operation is the release of the hold, if there is
// still one to release. Deadlines are judged by the database's clock, which has also dated the message; the clock of
// this process may be behind.
type Expire struct {
	HoldID uuid.UUID `json:"hold_id,omitzero"` // one of these two
	WaitID uuid.UUID `json:"wait_id,omitzero"`
}

func (Expire) kind() Kind { return KindExpire }
func (c Expire) references(Request) References {
	if c.WaitID != uuid.Nil {
		return References{Order: c.WaitID, Wait: c.WaitID}
	}
	return References{Hold: c.HoldID, Order: c.HoldID}
}

func (c Expire) needs(b *Book, _ Request, n *Needs) {
	if !n.wait(b, c.WaitID) {
		n.hold(b, c.HoldID)
	}
}

func (c Expire) operation() Operation { return Operation{Kind: KindRelease, HoldID: c.HoldID} }

func (c Expire) apply(b *Book, r Request) *Operation {
	over := func(deadline time.Time) bool {
		return b.past(deadline) || !deadline.IsZero() && !r.ReceivedAt.Before(deadline)
	}
	if c.WaitID != uuid.Nil {
		if w, ok := b.waits[c.WaitID]; ok && w.Request.AccountID == r.AccountID && over(w.ExpiresAt) {
			b.finish(w, PastDeadline)
		}
		return nil
	}
	hold, ok := b.holds[c.HoldID]
	if !ok || hold.AccountID != r.AccountID || hold.Status != Open || !over(hold.ExpiresAt) {
		return nil
	}
	r.By.Tenant = b.accounts[hold.AccountID].Tenant
	op := b.open(r)
	b.close(op, b.free(op, hold, 0, Expired))
	if p, ok := b.payments[hold.OrderID]; ok {
		op.OrderID = p.OrderID
		b.become(p, failed(PastDeadline), r)
	}
	return op
}

// past tells whether a deadline, if there is one, is over.
func (b *Book) past(deadline time.Time) bool { return !deadline.IsZero() && !b.Now.Before(deadline) }
