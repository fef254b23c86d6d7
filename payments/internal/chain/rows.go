package chain

import (
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
)

// Columns are the columns that the hash of a row covers, as SQL, in the order of the canonical form. The functions below
// write the same of the ledger's types. A reason is a code, but for that of a cancelled payment, where earlier versions
// kept what the client said; and while an operation waits, what it waits for changes.
var Columns = map[Kind]string{
	Account: `id, lane, created_at`,
	Entry:   `account_id, lane, currency, number, operation_id, operation, amount, frozen, balance_after, frozen_after`,
	Hold:    `id, lane, account_id, currency, amount, captured, status, order_id, expires_at, created_at`,
	Operation: `id, lane, seq, operation, account_id, to_account_id, hold_id, order_id, command_id, currency, amount,
		status, CASE WHEN status = 'created' THEN '' ELSE reason END, created_at, settled_at`,
	Payment: `order_id, lane, account_id, currency, amount, capture, status,
		CASE WHEN status = 'cancelled' THEN '' ELSE reason END, captured, refunded, version, created_at, updated_at, previous`,
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
	r.UUID(a.ID)
	r.Int16(a.Lane)
	r.Time(a.CreatedAt)
	w.add(Account, false, a.ID)
}

func (w *writer) entry(e *ledger.Entry) {
	r := &w.row
	r.Begin(Entry)
	r.UUID(e.AccountID)
	r.Int16(e.Lane)
	r.Text(e.Currency)
	r.Int64(e.Number)
	r.UUID(e.OperationID)
	r.Text(string(e.Operation))
	r.Int64(e.Amount)
	r.Int64(e.Frozen)
	r.Int64(e.BalanceAfter)
	r.Int64(e.FrozenAfter)
	w.add(Entry, false, e.OperationID)
}

func (w *writer) hold(h *ledger.Hold, gone bool) {
	r := &w.row
	r.Begin(Hold)
	r.UUID(h.ID)
	r.Int16(h.Lane)
	r.UUID(h.AccountID)
	r.Text(h.Currency)
	r.Int64(h.Amount)
	r.Int64(h.Captured)
	r.Text(string(h.Status))
	r.Optional(h.OrderID)
	r.Time(h.ExpiresAt)
	r.Time(h.CreatedAt)
	w.add(Hold, gone, h.ID)
}

func (w *writer) operation(op *ledger.Operation, gone bool) {
	r := &w.row
	r.Begin(Operation)
	r.UUID(op.ID)
	r.Int16(op.Lane)
	r.Int64(op.Seq)
	r.Text(string(op.Kind))
	r.UUID(op.AccountID)
	r.Optional(op.ToAccountID)
	r.Optional(op.HoldID)
	r.Optional(op.OrderID)
	r.Optional(op.CommandID)
	r.Text(op.Currency)
	r.Int64(op.Amount)
	r.Text(string(op.Status))
	if op.Status == ledger.Created {
		r.Text("")
	} else {
		r.Text(string(op.Reason))
	}
	r.Time(op.CreatedAt)
	r.Time(op.SettledAt)
	w.add(Operation, gone, op.ID)
}

func (w *writer) payment(p *ledger.OrderPayment, gone bool) {
	r := &w.row
	r.Begin(Payment)
	r.UUID(p.OrderID)
	r.Int16(p.Lane)
	r.UUID(p.AccountID)
	r.Text(p.Currency)
	r.Int64(p.Amount)
	r.Text(p.Capture)
	r.Text(p.Status)
	if p.Status == contract.PaymentCancelled {
		r.Text("")
	} else {
		r.Text(string(p.Reason))
	}
	r.Int64(p.Captured)
	r.Int64(p.Refunded)
	r.Int64(p.Version)
	r.Time(p.CreatedAt)
	r.Time(p.UpdatedAt)
	r.Text(p.Previous)
	w.add(Payment, gone, p.OrderID)
}

// add adds the row that was written last.
func (w *writer) add(kind Kind, gone bool, id uuid.UUID) {
	w.items = Item{Kind: kind, Gone: gone, ID: id, Hash: w.row.Hash()}.Append(w.items)
}
