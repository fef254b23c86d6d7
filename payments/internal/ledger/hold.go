package ledger

import (
	"cmp"
	"time"

	"github.com/google/uuid"
)

// Hold is money that is set aside for a while. Its ID is that of the operation that made it.
type Hold struct {
	ID        uuid.UUID  `db:"id"`
	Lane      int16      `db:"lane"`
	AccountID uuid.UUID  `db:"account_id"`
	Currency  string     `db:"currency"`
	Amount    int64      `db:"amount"`
	Captured  int64      `db:"captured"`
	Status    HoldStatus `db:"status"`
	OrderID   uuid.UUID  `db:"order_id"` // set where the payment of an order holds the money
	ExpiresAt time.Time  `db:"expires_at"`
	CreatedAt time.Time  `db:"created_at"`
}

// balance is the balance that the money was taken from.
func (h *Hold) balance() Key { return Key{h.AccountID, h.Currency, h.Lane} }

// HoldStatus is where a hold stands. All but Open are final.
type HoldStatus string

// The statuses of a hold.
const (
	Open     HoldStatus = "open"
	Captured HoldStatus = "captured"
	Released HoldStatus = "released"
	Expired  HoldStatus = "expired"
)

// KindHoldFunds is the kind of HoldFunds.
const KindHoldFunds Kind = "hold"

// HoldFunds sets money of an account aside: it moves from actual to frozen.
type HoldFunds struct {
	Currency    string        `json:"currency,omitempty"`
	Amount      int64         `json:"amount,omitempty"`
	ExpiresIn   time.Duration `json:"expires_in,omitempty"` // 0 is HoldExpiry
	Reference   string        `json:"reference,omitempty"`
	Description string        `json:"description,omitempty"`
}

func (HoldFunds) kind() Kind { return KindHoldFunds }

// A later request of the same batch may capture the hold.
func (c HoldFunds) needs(_ *Book, r Request, n *Needs) {
	own := c.from(r)
	n.spends(own, own.beside(Revenue))
}

func (c HoldFunds) operation() Operation {
	return Operation{
		Kind: KindHoldFunds, Currency: c.Currency, Amount: c.Amount, Reference: c.Reference, Description: c.Description,
	}
}

func (c HoldFunds) settle(b *Book, op *Operation, r Request) Reason {
	if !b.reaches(r, r.AccountID) {
		return AccountNotFound
	}
	return b.spend(op, r, c)
}

func (c HoldFunds) from(r Request) Key          { return r.balance(c.Currency) }
func (HoldFunds) patient() bool                 { return false }
func (c HoldFunds) deadline(r Request) deadline { return deadline{from: r.ReceivedAt, in: c.ExpiresIn} }

func (c HoldFunds) take(b *Book, op *Operation, r Request) Reason {
	return b.hold(op, c.from(r), uuid.Nil, c.deadline(r).or(HoldExpiry))
}

// hold sets the operation's amount aside.
func (b *Book) hold(op *Operation, own Key, order uuid.UUID, expires time.Time) Reason {
	if b.balance(own).Actual < op.Amount {
		return InsufficientFunds
	}
	if op.Amount > maxBalance {
		return BalanceTooLarge
	}
	b.enter(op, own, -op.Amount, op.Amount)
	op.HoldID = op.ID
	hold := &Hold{
		ID: op.ID, Lane: own.Lane, AccountID: own.AccountID, Currency: own.Currency, Amount: op.Amount, Status: Open,
		OrderID: order, ExpiresAt: expires, CreatedAt: b.Now,
	}
	b.holds[op.ID], b.changes.Holds[op.ID] = hold, hold
	return ""
}

// free ends a hold: what is captured becomes revenue, the rest goes back to the balance it was taken from.
func (b *Book) free(op *Operation, hold *Hold, captured int64, status HoldStatus) Reason {
	op.HoldID, op.Currency = hold.ID, hold.Currency
	op.Amount = cmp.Or(captured, hold.Amount)
	switch {
	case hold.Status != Open:
		return HoldNotOpen
	case captured > hold.Amount:
		return AmountExceedsHold
	}
	own := hold.balance()
	if captured > 0 {
		b.makeRoom(op, own.beside(Revenue))
	}
	b.enter(op, own, hold.Amount-captured, -hold.Amount)
	if captured > 0 {
		b.enter(op, own.beside(Revenue), captured, 0)
	}
	hold.Status, hold.Captured = status, captured
	b.changes.Holds[hold.ID] = hold
	return ""
}

// KindCapture is the kind of Capture.
const KindCapture Kind = "capture"

// Capture ends a hold of the request's account: what is captured is earned, the rest is released.
type Capture struct {
	Currency    string    `json:"currency,omitempty"` // the hold's, where there is an amount
	Amount      int64     `json:"amount,omitempty"`   // 0 is all that is held
	HoldID      uuid.UUID `json:"hold_id,omitzero"`
	Reference   string    `json:"reference,omitempty"`
	Description string    `json:"description,omitempty"`
}

func (Capture) kind() Kind                           { return KindCapture }
func (c Capture) references(Request) References      { return References{Hold: c.HoldID} }
func (c Capture) needs(b *Book, _ Request, n *Needs) { n.hold(b, c.HoldID) }

func (c Capture) operation() Operation {
	return Operation{
		Kind: KindCapture, HoldID: c.HoldID, Currency: c.Currency, Amount: c.Amount,
		Reference: c.Reference, Description: c.Description,
	}
}

func (c Capture) settle(b *Book, op *Operation, r Request) Reason {
	hold, reason := b.ownHold(op, r, c.HoldID, c.Amount)
	if reason != "" {
		return reason
	}
	return b.free(op, hold, cmp.Or(c.Amount, hold.Amount), Captured)
}

// KindRelease is the kind of Release.
const KindRelease Kind = "release"

// Release ends a hold of the request's account: the money moves back from frozen to actual.
type Release struct {
	HoldID      uuid.UUID `json:"hold_id,omitzero"`
	Reference   string    `json:"reference,omitempty"`
	Description string    `json:"description,omitempty"`
}

func (Release) kind() Kind                           { return KindRelease }
func (c Release) references(Request) References      { return References{Hold: c.HoldID} }
func (c Release) needs(b *Book, _ Request, n *Needs) { n.hold(b, c.HoldID) }

func (c Release) operation() Operation {
	return Operation{Kind: KindRelease, HoldID: c.HoldID, Reference: c.Reference, Description: c.Description}
}

func (c Release) settle(b *Book, op *Operation, r Request) Reason {
	hold, reason := b.ownHold(op, r, c.HoldID, 0)
	if reason != "" {
		return reason
	}
	return b.free(op, hold, 0, Released)
}

// hold adds what the end of a hold touches. If the hold is not in the book, an earlier request of the batch may make
// it; that request needs the same.
func (n *Needs) hold(b *Book, id uuid.UUID) {
	if hold, ok := b.holds[id]; ok {
		n.spends(hold.balance(), hold.balance().beside(Revenue))
	}
}

// ownHold finds the hold that a client wants to end.
func (b *Book) ownHold(op *Operation, r Request, id uuid.UUID, amount int64) (*Hold, Reason) {
	hold, ok := b.holds[id]
	switch {
	case !ok || hold.AccountID != r.AccountID || !b.reaches(r, hold.AccountID):
		return nil, HoldNotFound
	case hold.OrderID != uuid.Nil:
		op.Currency, op.Amount = hold.Currency, cmp.Or(amount, hold.Amount)
		return nil, HoldOfOrder
	}
	return hold, ""
}
