package chain

import (
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
)

// Columns are the columns that the hash of a row covers, in their order. The functions below write the same of the
// ledger's types. A reason is a code, but for that of a cancelled payment, where earlier versions kept what the client
// said; and while an operation waits, what it waits for changes.
var Columns = map[Kind][]Column{
	Account: {UUID("id"), Small("lane"), Timestamp("created_at"), Text("tenant")},
	Entry: {
		UUID("account_id"), Small("lane"), Text("currency"), Big("number"), UUID("operation_id"), Text("operation"),
		Big("amount"), Big("frozen"), Big("balance_after"), Big("frozen_after"),
	},
	Hold: {
		UUID("id"), Small("lane"), UUID("account_id"), Text("currency"), Big("amount"), Big("captured"), Text("status"),
		OptionalUUID("order_id"), Timestamp("expires_at"), Timestamp("created_at"),
	},
	Operation: {
		UUID("id"), Small("lane"), Big("seq"), Text("operation"), UUID("account_id"), OptionalUUID("to_account_id"),
		OptionalUUID("hold_id"), OptionalUUID("order_id"), OptionalUUID("command_id"), Text("currency"), Big("amount"),
		Text("status"), Text("CASE WHEN status = 'created' THEN '' ELSE reason END"), Timestamp("created_at"),
		OptionalTimestamp("settled_at"), Text("tenant"), Bool("stranger"),
	},
	Payment: {
		UUID("order_id"), Small("lane"), UUID("account_id"), Text("currency"), Big("amount"), Text("capture"), Text("status"),
		Text("CASE WHEN status = 'cancelled' THEN '' ELSE reason END"), Big("captured"), Big("refunded"), Big("version"),
		Timestamp("created_at"), Timestamp("updated_at"), Text("previous"), Text("tenant"),
	},
}

// Batch returns the items of what a batch has changed.
func Batch(c ledger.Changes) []byte {
	n := len(c.Accounts) + len(c.Operations) + 2*len(c.Completed) + len(c.Entries) + 2*len(c.Holds) + 2*len(c.States)
	w := writer{items: make([]byte, 0, n*itemSize)}
	for i := range c.Accounts {
		w.account(&c.Accounts[i])
	}
	for _, op := range c.Operations {
		w.operation(op, false)
	}
	for _, completion := range c.Completed {
		op := completion.Operation
		if op.Status == ledger.Created { // it waits for something else now, which no hash covers
			continue
		}
		waited := *op
		waited.Status, waited.HoldID, waited.SettledAt = ledger.Created, uuid.Nil, time.Time{}
		w.operation(&waited, true)
		w.operation(op, false)
	}
	for i := range c.Entries {
		w.entry(&c.Entries[i])
	}
	for id, hold := range c.Holds {
		if stored, ok := c.StoredHolds[id]; ok {
			w.hold(&stored, true)
		}
		w.hold(hold, false)
	}
	for id, p := range c.States {
		if stored, ok := c.StoredPayments[id]; ok {
			w.payment(&stored, true)
		}
		w.payment(p, false)
	}
	return w.items
}

// writer writes rows and collects their items.
type writer struct {
	row   Row
	items []byte
}

func (w *writer) account(a *ledger.Account) {
	r := &w.row
	r.Begin(Account)
	r.uuid(a.ID)
	r.small(a.Lane)
	r.time(a.CreatedAt)
	r.text(a.Tenant)
	w.add(Account, false, a.ID)
}

func (w *writer) entry(e *ledger.Entry) {
	r := &w.row
	r.Begin(Entry)
	r.uuid(e.AccountID)
	r.small(e.Lane)
	r.text(e.Currency)
	r.big(e.Number)
	r.uuid(e.OperationID)
	r.text(string(e.Operation))
	r.big(e.Amount)
	r.big(e.Frozen)
	r.big(e.BalanceAfter)
	r.big(e.FrozenAfter)
	w.add(Entry, false, e.OperationID)
}

func (w *writer) hold(h *ledger.Hold, gone bool) {
	r := &w.row
	r.Begin(Hold)
	r.uuid(h.ID)
	r.small(h.Lane)
	r.uuid(h.AccountID)
	r.text(h.Currency)
	r.big(h.Amount)
	r.big(h.Captured)
	r.text(string(h.Status))
	r.optional(h.OrderID)
	r.time(h.ExpiresAt)
	r.time(h.CreatedAt)
	w.add(Hold, gone, h.ID)
}

func (w *writer) operation(op *ledger.Operation, gone bool) {
	r := &w.row
	r.Begin(Operation)
	r.uuid(op.ID)
	r.small(op.Lane)
	r.big(op.Seq)
	r.text(string(op.Kind))
	r.uuid(op.AccountID)
	r.optional(op.ToAccountID)
	r.optional(op.HoldID)
	r.optional(op.OrderID)
	r.optional(op.CommandID)
	r.text(op.Currency)
	r.big(op.Amount)
	r.text(string(op.Status))
	if op.Status == ledger.Created {
		r.text("")
	} else {
		r.text(string(op.Reason))
	}
	r.time(op.CreatedAt)
	r.optionalTime(op.SettledAt)
	r.text(op.Tenant)
	r.present(op.Stranger)
	w.add(Operation, gone, op.ID)
}

func (w *writer) payment(p *ledger.OrderPayment, gone bool) {
	r := &w.row
	r.Begin(Payment)
	r.uuid(p.OrderID)
	r.small(p.Lane)
	r.uuid(p.AccountID)
	r.text(p.Currency)
	r.big(p.Amount)
	r.text(p.Capture)
	r.text(p.Status)
	if p.Status == contract.PaymentCancelled {
		r.text("")
	} else {
		r.text(string(p.Reason))
	}
	r.big(p.Captured)
	r.big(p.Refunded)
	r.big(p.Version)
	r.time(p.CreatedAt)
	r.time(p.UpdatedAt)
	r.text(p.Previous)
	r.text(p.Tenant)
	w.add(Payment, gone, p.OrderID)
}

// add adds the row that was written last.
func (w *writer) add(kind Kind, gone bool, id uuid.UUID) {
	w.items = Item{Kind: kind, Gone: gone, ID: id, Hash: w.row.Hash()}.Append(w.items)
}
