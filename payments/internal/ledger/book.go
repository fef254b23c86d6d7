package ledger

import (
	"time"

	"github.com/google/uuid"
)

// Book is the part of the ledger that a batch of requests touches. The caller puts in what the database has of the
// requests' References and Needs, applies the requests in the order of their arrival, and stores the Changes.
type Book struct {
	// Now is the time of settlement of the batch's operations and payments.
	Now time.Time
	// Entered is the time of the balances' last entry if that is in the future, since the clock has stepped back. No
	// entry of this batch may have an earlier time.
	Entered time.Time

	operations map[uuid.UUID]*Operation
	accounts   map[uuid.UUID]Account
	balances   map[Key]*Balance
	keys       map[uuid.UUID][]Key // of the balances, by account
	holds      map[uuid.UUID]*Hold
	payments   map[uuid.UUID]*OrderPayment
	waits      map[uuid.UUID]*Wait
	queues     map[Key][]*Wait    // the heads of the queues for money that the batch resumes
	stored     map[uuid.UUID]bool // the waits that were put in
	touched    map[Key]bool
	repeated   []uuid.UUID // orders whose payment's state is to be told again
	changes    Changes
}

// Changes is what a batch has done. Slices are in the order in which it happened.
type Changes struct {
	Accounts   []Account
	Operations []*Operation // new ones
	Completed  []Completion // of what was put in as waiting
	Entries    []Entry
	Payments   []OrderPayment              // every transition; the last one of an order is its state
	States     map[uuid.UUID]*OrderPayment // the last transition of each order
	Repeated   []OrderPayment              // states to be told again, of payments that have not changed
	Balances   map[Key]Balance
	Vaults     map[Key]bool // the new ones among the balances
	Holds      map[uuid.UUID]*Hold
	Waits      map[uuid.UUID]*Wait // what waits from now on, for something else than before, or with a Reply
	Resumes    map[Key]string      // queues for money that need another Resume, with their tenants
	Tenants    map[Key]string      // of balances with their first entry, but for the default one

	// The holds and payments that were put in, as they were then.
	StoredHolds    map[uuid.UUID]Hold
	StoredPayments map[uuid.UUID]OrderPayment
}

// Completion is the end of an operation that was Created before this batch, or at least of what it waited for.
type Completion struct {
	Request   Request
	Operation *Operation
}

// NewBook returns an empty book with room for this many requests.
func NewBook(now time.Time, requests int) *Book {
	return &Book{
		Now:        now,
		operations: make(map[uuid.UUID]*Operation, requests),
		accounts:   make(map[uuid.UUID]Account, requests),
		balances:   make(map[Key]*Balance, 2*requests),
		keys:       make(map[uuid.UUID][]Key, requests),
		holds:      make(map[uuid.UUID]*Hold),
		payments:   make(map[uuid.UUID]*OrderPayment, requests),
		waits:      make(map[uuid.UUID]*Wait),
		queues:     make(map[Key][]*Wait),
		stored:     make(map[uuid.UUID]bool),
		touched:    make(map[Key]bool, 2*requests),
		changes: Changes{
			Operations: make([]*Operation, 0, requests),
			Entries:    make([]Entry, 0, 2*requests),
			Holds:      make(map[uuid.UUID]*Hold),
			Waits:      make(map[uuid.UUID]*Wait),
			Vaults:     make(map[Key]bool),
			Resumes:    make(map[Key]string),
			Tenants:    make(map[Key]string),

			StoredHolds:    make(map[uuid.UUID]Hold),
			StoredPayments: make(map[uuid.UUID]OrderPayment),
		},
	}
}

// PutOperation puts in the record of a request that was settled before.
func (b *Book) PutOperation(op Operation) { b.operations[op.ID] = &op }

// PutAccount puts in an account that exists.
func (b *Book) PutAccount(account Account) { b.accounts[account.ID] = account }

// PutBalance puts in a balance. A balance that is not put in is zero.
func (b *Book) PutBalance(key Key, balance Balance) { *b.balance(key) = balance }

// PutHold puts in a hold.
func (b *Book) PutHold(hold Hold) {
	b.holds[hold.ID], b.changes.StoredHolds[hold.ID] = &hold, hold
}

// PutPayment puts in the payment of an order.
func (b *Book) PutPayment(payment OrderPayment) {
	b.payments[payment.OrderID], b.changes.StoredPayments[payment.OrderID] = &payment, payment
}

// PutWait puts in a request that waits.
func (b *Book) PutWait(wait Wait) {
	b.waits[wait.Request.ID], b.stored[wait.Request.ID] = &wait, true
}

// PutQueue puts in the head of a queue for money, in the order of Seq: as much of it as one Resume is to serve. The
// caller puts in the payments among it as well.
func (b *Book) PutQueue(key Key, head []Wait) {
	queue := make([]*Wait, len(head))
	for i, wait := range head {
		if b.waits[wait.Request.ID] == nil {
			b.PutWait(wait)
		}
		queue[i] = b.waits[wait.Request.ID]
	}
	b.queues[key] = queue
}

// Account returns an account that exists.
func (b *Book) Account(id uuid.UUID) (Account, bool) {
	account, ok := b.accounts[id]
	return account, ok
}

// Operation returns an operation that was applied or put in.
func (b *Book) Operation(id uuid.UUID) (*Operation, bool) {
	op, ok := b.operations[id]
	return op, ok
}

// Balances are an account's balances at this point of its queue, by currency; those that never had an entry are left
// out. The caller must have put in all of them.
func (b *Book) Balances(account uuid.UUID) map[string]Balance {
	balances := make(map[string]Balance)
	for _, key := range b.keys[account] {
		if balance := *b.balances[key]; balance.Entries > 0 {
			balances[key.Currency] = balance
		}
	}
	return balances
}

// Needs names what the requests may touch beside their References. The caller locks it and puts it in.
func (b *Book) Needs(requests []Request) Needs {
	n := Needs{Accounts: make(map[uuid.UUID]bool, len(requests)), Balances: make(map[Key]bool, 2*len(requests))}
	for _, r := range requests {
		r.Command.needs(b, r, &n)
		if r.By.Owner != "" {
			n.Accounts[r.AccountID] = true
		}
	}
	return n
}

// Apply gives a request its effect and returns its operation, or nil if it becomes none or finds nothing to do. A
// request that was settled before changes nothing: its operation is the stored one, which has another Seq than the
// request.
func (b *Book) Apply(r Request) *Operation {
	if op, ok := b.operations[r.ID]; ok {
		b.repeat(r)
		b.ask(r)
		return op
	}
	switch c := r.Command.(type) {
	case settling:
		return b.perform(r, c)
	case applying:
		return c.apply(b, r)
	}
	return nil
}

// perform opens the operation of a request and ends it with what settle returns. With WaitingForFunds it waits instead.
func (b *Book) perform(r Request, c settling) *Operation {
	op := b.open(r)
	if r.Discarded {
		b.close(op, Discarded)
		return op
	}
	reason := c.settle(b, op, r)
	if d, ok := r.Command.(debit); ok && reason == WaitingForFunds {
		b.wait(op, r, d, WaitingForFunds, r.Seq)
	} else {
		b.close(op, reason)
	}
	return op
}

// open adds the operation of a request.
func (b *Book) open(r Request) *Operation {
	op := r.Operation()
	account, ok := b.accounts[r.AccountID]
	op.Stranger = ok && !r.By.Covers(account.Tenant, account.Owner)
	return b.enroll(op)
}

// enroll adds a new operation.
func (b *Book) enroll(op *Operation) *Operation {
	b.operations[op.ID] = op
	b.changes.Operations = append(b.changes.Operations, op)
	return op
}

// close ends an operation, in error if there is a reason.
func (b *Book) close(op *Operation, reason Reason) {
	op.Status, op.Reason, op.SettledAt = Success, reason, b.Now
	if reason != "" {
		op.Status = Error
	}
}

func (b *Book) balance(key Key) *Balance {
	balance, ok := b.balances[key]
	if !ok {
		balance = new(Balance)
		b.balances[key] = balance
		b.keys[key.AccountID] = append(b.keys[key.AccountID], key)
	}
	return balance
}

// Changes returns what has changed since the book was made.
func (b *Book) Changes() Changes {
	b.changes.Balances = make(map[Key]Balance, len(b.touched))
	for key := range b.touched {
		b.changes.Balances[key] = *b.balances[key]
	}
	b.changes.States = make(map[uuid.UUID]*OrderPayment, len(b.changes.Payments))
	for i := range b.changes.Payments {
		p := &b.changes.Payments[i]
		b.changes.States[p.OrderID] = p
	}
	told := make(map[uuid.UUID]bool, len(b.repeated))
	for _, order := range b.repeated {
		if b.changes.States[order] == nil && !told[order] {
			told[order] = true
			b.changes.Repeated = append(b.changes.Repeated, *b.payments[order])
		}
	}
	return b.changes
}
