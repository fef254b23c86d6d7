package ledger

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

// Book is the part of the ledger that a batch of requests touches. The caller puts in what the database has of what
// Needs names, applies the requests in the order of their arrival, and stores the Changes.
type Book struct {
	// Now is the time of settlement that operations and payments are stamped with.
	Now time.Time
	// Entered is the time of the last entry of the balances, where that is in the future: the clock has stepped back since.
	// No entry of this batch is to be before it.
	Entered time.Time

	operations map[uuid.UUID]*Operation
	accounts   map[uuid.UUID]Account
	balances   map[Key]*Balance
	keys       map[uuid.UUID][]Key // of the balances, by account
	holds      map[uuid.UUID]*Hold
	payments   map[uuid.UUID]*OrderPayment
	waits      map[uuid.UUID]*Wait
	queues     map[Key][]*Wait    // the heads of the queues for money, of which a Resume is in the batch
	stored     map[uuid.UUID]bool // waits that were put in
	touched    map[Key]bool
	repeated   []uuid.UUID // orders of which the payment's state is asked for again
	changes    Changes
}

// Changes is what a batch has done. Slices are in the order in which it happened.
type Changes struct {
	Accounts   []Account
	Operations []*Operation // new ones
	Completed  []Completion
	Entries    []Entry
	Payments   []OrderPayment // every transition, so the last one of an order is its state
	Repeated   []OrderPayment // states to be told again; none of a payment that has changed
	Balances   map[Key]Balance
	Vaults     []Key // balances among them that are new
	Holds      map[uuid.UUID]*Hold
	Waits      map[uuid.UUID]*Wait // what waits now, or waits for something else than before
	Ended      []*Wait             // what was put in and waits no more
	Asked      map[uuid.UUID]*Wait // what was put in and goes on waiting, with a Reply from now on
	Resumes    map[Key]bool        // queues that are to be looked at again, each by a Resume
}

// Completion is the end of an operation that was Created before this batch.
type Completion struct {
	Request   Request
	Operation *Operation
}

// NewBook returns an empty book with room for so many requests.
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
			Asked:      make(map[uuid.UUID]*Wait),
			Resumes:    make(map[Key]bool),
		},
	}
}

// PutOperation puts in the record of a request that was settled before.
func (b *Book) PutOperation(op Operation) { b.operations[op.ID] = &op }

// PutAccount puts in an account that exists.
func (b *Book) PutAccount(account Account) { b.accounts[account.ID] = account }

// PutBalance puts in a balance. One that is not put in is zero.
func (b *Book) PutBalance(key Key, balance Balance) { *b.balance(key) = balance }

// PutHold puts in a hold.
func (b *Book) PutHold(hold Hold) { b.holds[hold.ID] = &hold }

// PutPayment puts in the payment of an order.
func (b *Book) PutPayment(payment OrderPayment) { b.payments[payment.OrderID] = &payment }

// PutWait puts in a request that waits.
func (b *Book) PutWait(wait Wait) {
	b.waits[wait.Request.ID], b.stored[wait.Request.ID] = &wait, true
}

// PutQueue puts in the head of a queue for money, in the order of Seq: as much of it as a Resume is to serve. The payments
// among it are to be put in too.
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

// Operation returns the operation of a request that was applied, or that was put in.
func (b *Book) Operation(id uuid.UUID) (*Operation, bool) {
	op, ok := b.operations[id]
	return op, ok
}

func (b *Book) exists(account uuid.UUID) bool {
	_, ok := b.accounts[account]
	return ok
}

// Balances are an account's balances at this point of the queue, by currency, as far as there was ever an entry. The caller
// must have put in all of them.
func (b *Book) Balances(account uuid.UUID) map[string]Balance {
	balances := make(map[string]Balance)
	for _, key := range b.keys[account] {
		if balance := *b.balances[key]; balance.Entries > 0 {
			balances[key.Currency] = balance
		}
	}
	return balances
}

// Needs names what a request may touch: the accounts whose existence matters to it, and the balances it takes from and
// gives to. What it gives to must be in the database as a row, so that it can be locked.
func (b *Book) Needs(r Request) (accounts []uuid.UUID, takes, gives []Key) {
	own := r.key()
	if _, begun := b.payments[r.OrderID]; r.Refused != "" && (r.Kind == Payment || !begun) {
		return nil, nil, nil // it moves no money, and there are no balances in its currency
	}
	switch r.Kind {
	case CreateAccount:
		return []uuid.UUID{r.AccountID}, nil, nil
	case Deposit:
		return []uuid.UUID{r.AccountID}, nil, []Key{own, own.of(External)}
	case Withdraw:
		takes, gives = []Key{own}, []Key{own.of(External)}
	case Payment:
		takes, gives = []Key{own}, []Key{own.of(Revenue)}
	case Transfer:
		payee := Key{r.ToAccountID, r.Currency, contract.Lane(r.ToAccountID)}
		return []uuid.UUID{r.AccountID, r.ToAccountID}, []Key{own}, []Key{payee}
	case HoldFunds:
		// A later request of the same batch may capture it.
		return []uuid.UUID{r.AccountID}, []Key{own}, []Key{own.of(Revenue)}
	case Question:
		// Of what currencies there are balances, only the database knows.
		return []uuid.UUID{r.AccountID}, nil, nil
	case Refusal:
		return nil, nil, nil
	case Resume:
		accounts, gives = []uuid.UUID{r.AccountID}, []Key{own}
		for _, wait := range b.queues[own] {
			a, t, g := b.Needs(wait.Request)
			accounts, takes, gives = append(accounts, a...), append(takes, t...), append(gives, g...)
		}
		return accounts, takes, gives
	case Capture, Release, Confirm, Reject, Refund, Cancel, Inventory, Expire, CancelOperation:
		hold, order, wait := r.Refers()
		if w, ok := b.waits[wait]; ok {
			return b.Needs(w.Request)
		}
		if h, ok := b.holds[hold]; ok {
			own.Currency = h.Currency
		} else if p, ok := b.payments[order]; ok {
			own.Currency = p.Currency
		} else if r.Kind != Cancel { // which may follow its order in the same batch, and brings the currency
			return nil, nil, nil
		}
		return []uuid.UUID{r.AccountID}, []Key{own}, []Key{own.of(Revenue)}
	default:
		panic(fmt.Sprintf("ledger: unknown kind of request %q", r.Kind))
	}
	if r.WaitForFunds {
		gives = append(gives, own) // the row says that something waits
	}
	return []uuid.UUID{r.AccountID}, takes, gives
}

// of is the balance of a system account beside this one.
func (k Key) of(system uuid.UUID) Key { return Key{system, k.Currency, k.Lane} }

// Apply settles a request and returns its operation. A request that was settled before changes nothing: the operation
// is the stored one, with another Seq than the request's. A request that becomes no operation, or finds nothing to do, has
// none: nil.
func (b *Book) Apply(r Request) *Operation {
	if op, ok := b.operations[r.ID]; ok {
		b.repeat(r)
		b.ask(r)
		return op
	}
	switch r.Kind {
	case Cancel:
		return b.cancel(r)
	case Inventory:
		b.inventory(r)
		return nil
	case Expire:
		return b.expire(r)
	case Resume:
		b.resume(r)
		return nil
	}
	op := b.open(r)
	switch {
	case r.Kind == Payment:
		b.pay(op, r)
	case r.Discarded:
		b.close(op, Discarded)
	default:
		if reason := b.settle(op, r, false); reason == WaitingForFunds {
			b.wait(op, r, WaitingForFunds, r.Seq)
		} else {
			b.close(op, reason)
		}
	}
	return op
}

// open begins the operation of a request.
func (b *Book) open(r Request) *Operation {
	op := Waiting(r)
	b.operations[op.ID] = op
	b.changes.Operations = append(b.changes.Operations, op)
	return op
}

// close ends an operation: with success where there is no reason why not.
func (b *Book) close(op *Operation, reason Reason) {
	op.Status, op.Reason, op.SettledAt = Success, reason, b.Now
	if reason != "" {
		op.Status = Error
	}
}

// Waiting is the operation of a request that has not taken effect.
func Waiting(r Request) *Operation {
	command := r.CommandID
	if r.Reply != nil {
		command = r.Reply.CommandID
	}
	return &Operation{
		ID: r.ID, Lane: r.Lane, Seq: r.Seq, Kind: r.Kind.Operation(), AccountID: r.AccountID, ToAccountID: r.ToAccountID, HoldID: r.HoldID,
		OrderID: r.OrderID, CommandID: command, Currency: r.Currency, Amount: r.Amount, Reference: r.Reference,
		Description: r.Description, Note: r.Note, Fingerprint: r.Fingerprint, CreatedAt: r.ReceivedAt, Status: Created,
	}
}

// settle moves the money of one operation, or returns why it cannot: then nothing has changed. WaitingForFunds means that
// the request is to wait: behind others that wait for the same money, unless it is its turn, or because it asks for that.
func (b *Book) settle(op *Operation, r Request, turn bool) Reason {
	own := r.key()
	switch r.Kind {
	case CreateAccount:
		if b.exists(r.AccountID) {
			return AccountExists
		}
		account := Account{ID: r.AccountID, Lane: r.Lane, Owner: r.Owner, Reference: r.Reference, CreatedAt: b.Now}
		b.accounts[account.ID] = account
		b.changes.Accounts = append(b.changes.Accounts, account)
		return ""
	case Capture, Release:
		return b.endHold(op, r)
	case Confirm:
		return b.confirm(op, r)
	case Reject:
		return b.reject(op, r)
	case Refund:
		return b.refund(op, r)
	case CancelOperation:
		return b.cancelOperation(r)
	}
	if !b.exists(r.AccountID) {
		return AccountNotFound
	}
	if r.Kind == Deposit {
		return b.move(op, own.of(External), own)
	}
	if r.Kind == Transfer {
		if r.ToAccountID == r.AccountID {
			return SameAccount
		}
		if !b.exists(r.ToAccountID) {
			return AccountNotFound
		}
	}
	if b.balance(own).Waiting > 0 && !turn {
		return WaitingForFunds
	}
	reason := b.debit(op, r, own)
	if reason == InsufficientFunds && r.WaitForFunds {
		return WaitingForFunds
	}
	return reason
}

// debit takes or sets aside money of a balance that nobody waits for.
func (b *Book) debit(op *Operation, r Request, own Key) Reason {
	switch r.Kind {
	case Withdraw:
		return b.move(op, own, own.of(External))
	case Transfer:
		return b.move(op, own, Key{r.ToAccountID, r.Currency, contract.Lane(r.ToAccountID)})
	case HoldFunds:
		return b.hold(op, r, own)
	case Payment:
		if r.Capture == contract.CaptureManual {
			return b.hold(op, r, own)
		}
		return b.move(op, own, own.of(Revenue))
	}
	panic(fmt.Sprintf("ledger: unknown kind of request %q", r.Kind))
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
	told := make(map[uuid.UUID]bool, len(b.repeated))
	if len(b.repeated) > 0 {
		for _, p := range b.changes.Payments {
			told[p.OrderID] = true
		}
	}
	for _, order := range b.repeated {
		if !told[order] {
			told[order] = true
			b.changes.Repeated = append(b.changes.Repeated, *b.payments[order])
		}
	}
	return b.changes
}
