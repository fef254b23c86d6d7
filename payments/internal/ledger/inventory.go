package ledger

import "github.com/google/uuid"

// KindInventory is the kind of Inventory.
const KindInventory Kind = "inventory"

// Inventory tells whether the goods of an order are there. A payment that waits for them goes on to the money, or
// fails. Only the first answer counts. The debit takes its place in the queue now, so that waiting for goods stops
// nobody.
type Inventory struct {
	OrderID uuid.UUID `json:"order_id,omitzero"`
	InStock bool      `json:"in_stock,omitempty"`
}

func (Inventory) kind() Kind { return KindInventory }
func (c Inventory) references(Request) References {
	return References{Order: c.OrderID, Wait: c.OrderID}
}

func (c Inventory) needs(b *Book, _ Request, n *Needs) { n.wait(b, c.OrderID) }
func (c Inventory) apply(b *Book, r Request) *Operation {
	w, ok := b.waits[c.OrderID]
	if !ok || w.Request.AccountID != r.AccountID || w.For != WaitingForInventory {
		return nil
	}
	if !c.InStock {
		b.finish(w, OutOfStock)
		return nil
	}
	b.become(b.payments[c.OrderID], created(InventoryCompleted), w.Request)
	w.Request.Command.(Payment).charge(b, b.unwait(w), w.Request, r.Seq)
	return nil
}
