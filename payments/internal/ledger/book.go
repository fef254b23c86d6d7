package ledger

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

// Book is the part of the ledger that a batch of requests touches. The caller puts in what the database has of what
// Needs names, applies the requests in the order of their arrival, and stores the Changes.
type Book struct {
	// Now is the time of settlement that operations and payments are stamped with.
	Now time.Time

	operations map[uuid.UUID]*Operation
	accounts   map[uuid.UUID]Account
	balances   map[Key]*Balance
	keys       map[uuid.UUID][]Key // of the balances, by account
	holds      map[uuid.UUID]*Hold
	touched    map[Key]bool
	changes    Changes
}

// Changes is what a batch has done. Slices are in the order in which it happened.
type Changes struct {
	Accounts   []Account
	Operations []*Operation
	Entries    []Entry
	Payments   []OrderPayment // every transition, so the last one of an order is its state
	Balances   map[Key]Balance
	Holds      map[uuid.UUID]*Hold
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
		touched:    make(map[Key]bool, 2*requests),
		changes: Changes{
			Operations: make([]*Operation, 0, requests),
			Entries:    make([]Entry, 0, 2*requests),
			Holds:      make(map[uuid.UUID]*Hold),
		},
	}
}

// PutOperation puts in the record of a request that was settled before.
func (b *Book) PutOperation(op Operation) { b.operations[op.ID] = &op }

// PutAccount puts in an account that exists.
func (b *Book) PutAccount(account Account) { b.accounts[account.ID] = account }

// PutBalance puts in a balance. One that is not put in is zero.
func (b *Book) PutBalance(key Key, balance Balance) { *b.balance(key) = balance }

// PutHold puts in a hold. Holds are put in before Needs is asked.
func (b *Book) PutHold(hold Hold) { b.holds[hold.ID] = &hold }

// Account returns an account that exists.
func (b *Book) Account(id uuid.UUID) (Account, bool) {
	account, ok := b.accounts[id]
	return account, ok
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
	own := Key{r.AccountID, r.Currency, r.Lane}
	switch r.Kind {
	case CreateAccount:
		return []uuid.UUID{r.AccountID}, nil, nil
	case Deposit:
		return []uuid.UUID{r.AccountID}, nil, []Key{own, own.of(External)}
	case Withdraw:
		return []uuid.UUID{r.AccountID}, []Key{own}, []Key{own.of(External)}
	case Payment:
		return []uuid.UUID{r.AccountID}, []Key{own}, []Key{own.of(Revenue)}
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
	case Capture, Release, Expire:
		if hold, ok := b.holds[r.HoldID]; ok {
			own.Currency = hold.Currency
			return []uuid.UUID{r.AccountID}, []Key{own}, []Key{own.of(Revenue)}
		}
		return nil, nil, nil
	}
	panic(fmt.Sprintf("ledger: unknown kind of request %q", r.Kind))
}

// of is the balance of a system account beside this one.
func (k Key) of(system uuid.UUID) Key { return Key{system, k.Currency, k.Lane} }

// Apply settles a request and returns its operation. A request that was settled before changes nothing: the operation
// is the stored one, with another Seq than the request's. An Expire that finds nothing to do has none: nil.
func (b *Book) Apply(r Request) *Operation {
	if op, ok := b.operations[r.ID]; ok {
		return op
	}
	op := Waiting(r)
	op.Status, op.SettledAt = Success, b.Now
	if op.Reason = b.settle(op, r); op.Reason != "" {
		if r.Kind == Expire {
			return nil
		}
		op.Status = Error
	}
	if r.Kind == Payment {
		b.recordPayment(op, r)
	}
	b.operations[op.ID] = op
	b.changes.Operations = append(b.changes.Operations, op)
	return op
}

// Waiting is the operation of a request that has not taken effect.
func Waiting(r Request) *Operation {
	kind := r.Kind
	if kind == Expire {
		kind = Release
	}
	var command uuid.UUID
	if r.Reply != nil {
		command = r.Reply.CommandID
	}
	return &Operation{
		ID: r.ID, Lane: r.Lane, Seq: r.Seq, Kind: kind, AccountID: r.AccountID, ToAccountID: r.ToAccountID, HoldID: r.HoldID,
		OrderID: r.OrderID, CommandID: command, Currency: r.Currency, Amount: r.Amount, Reference: r.Reference, Description: r.Description,
		Fingerprint: r.Fingerprint, CreatedAt: r.ReceivedAt, Status: Created,
	}
}

// WaitingPayment is the payment of an order whose request has not taken effect.
func WaitingPayment(op *Operation) OrderPayment {
	return OrderPayment{
		OrderID: op.OrderID, Lane: op.Lane, AccountID: op.AccountID, Currency: op.Currency, Amount: op.Amount,
		Capture: contract.CaptureAutomatic, Status: contract.PaymentCreated, CreatedAt: op.CreatedAt, UpdatedAt: op.CreatedAt,
	}
}

// settle moves the money of one operation, or returns why it cannot: then nothing has changed.
func (b *Book) settle(op *Operation, r Request) Reason {
	own := Key{r.AccountID, r.Currency, r.Lane}
	if r.Kind == CreateAccount {
		if b.exists(r.AccountID) {
			return AccountExists
		}
		account := Account{ID: r.AccountID, Lane: r.Lane, Owner: r.Owner, Reference: r.Reference, CreatedAt: b.Now}
		b.accounts[account.ID] = account
		b.changes.Accounts = append(b.changes.Accounts, account)
		return ""
	}
	if r.HoldID != uuid.Nil {
		return b.endHold(op, r)
	}
	if !b.exists(r.AccountID) {
		return AccountNotFound
	}
	switch r.Kind {
	case Deposit:
		return b.move(op, own.of(External), own)
	case Withdraw:
		return b.move(op, own, own.of(External))
	case Payment:
		return b.move(op, own, own.of(Revenue))
	case Transfer:
		if r.ToAccountID == r.AccountID {
			return SameAccount
		}
		if !b.exists(r.ToAccountID) {
			return AccountNotFound
		}
		return b.move(op, own, Key{r.ToAccountID, r.Currency, contract.Lane(r.ToAccountID)})
	case HoldFunds:
		return b.hold(op, r, own)
	}
	panic(fmt.Sprintf("ledger: unknown kind of request %q", r.Kind))
}

// move takes the operation's amount from one actual balance and adds it to another.
func (b *Book) move(op *Operation, from, to Key) Reason {
	payer, payee := b.balance(from), b.balance(to)
	if !IsSystem(from.AccountID) && payer.Actual < op.Amount {
		return InsufficientFunds
	}
	// What is frozen may come back to the actual balance, so there must be room for both.
	if payer.Actual-op.Amount > payer.Actual || !IsSystem(to.AccountID) && payee.Actual > math.MaxInt64-payee.Frozen-op.Amount ||
		IsSystem(to.AccountID) && payee.Actual+op.Amount < payee.Actual {
		return BalanceTooLarge
	}
	b.enter(op, from, -op.Amount, 0)
	b.enter(op, to, op.Amount, 0)
	return ""
}

// hold sets the operation's amount aside.
func (b *Book) hold(op *Operation, r Request, own Key) Reason {
	if b.balance(own).Actual < op.Amount {
		return InsufficientFunds
	}
	b.enter(op, own, -op.Amount, op.Amount)
	op.HoldID = op.ID
	b.holds[op.ID] = &Hold{
		ID: op.ID, Lane: r.Lane, AccountID: r.AccountID, Currency: r.Currency, Amount: r.Amount, Status: Open,
		ExpiresAt: r.ReceivedAt.Add(cmp.Or(r.ExpiresIn, DefaultExpiry)), CreatedAt: b.Now,
	}
	b.changes.Holds[op.ID] = b.holds[op.ID]
	return ""
}

// endHold captures or releases a hold: what is captured becomes revenue, the rest goes back to where it was taken from.
func (b *Book) endHold(op *Operation, r Request) Reason {
	hold, ok := b.holds[r.HoldID]
	if !ok || hold.AccountID != r.AccountID {
		return HoldNotFound
	}
	captured, status := int64(0), Released
	switch op.Currency, op.Amount = hold.Currency, hold.Amount; r.Kind {
	case Capture:
		if captured = hold.Amount; r.Amount != 0 {
			captured = r.Amount
		}
		op.Amount, status = captured, Captured
	case Expire:
		status = Expired
	}
	own := Key{hold.AccountID, hold.Currency, hold.Lane}
	revenue := b.balance(own.of(Revenue))
	switch {
	case hold.Status != Open:
		return HoldNotOpen
	case captured > hold.Amount:
		return AmountExceedsHold
	case revenue.Actual+captured < revenue.Actual:
		return BalanceTooLarge
	}
	b.enter(op, own, hold.Amount-captured, -hold.Amount)
	if captured > 0 {
		b.enter(op, own.of(Revenue), captured, 0)
	}
	hold.Status, hold.Captured = status, captured
	b.changes.Holds[hold.ID] = hold
	return ""
}

// enter changes a balance and writes the entry that says so.
func (b *Book) enter(op *Operation, key Key, amount, frozen int64) {
	balance := b.balance(key)
	balance.Actual += amount
	balance.Frozen += frozen
	balance.Entries++
	if !IsSystem(key.AccountID) && (balance.Actual < 0 || balance.Frozen < 0) {
		panic(fmt.Sprintf("ledger: %s %s of %s would leave %d actual and %d frozen in %s",
			op.Kind, op.ID, key.AccountID, balance.Actual, balance.Frozen, key.Currency))
	}
	b.touched[key] = true
	b.changes.Entries = append(b.changes.Entries, Entry{
		Key: key, Number: balance.Entries, OperationID: op.ID, Operation: op.Kind,
		Amount: amount, Frozen: frozen, BalanceAfter: balance.Actual, FrozenAfter: balance.Frozen,
	})
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

// recordPayment writes down what became of an order's payment. A payment that is captured at once has one transition,
// from nothing to its final status.
func (b *Book) recordPayment(op *Operation, r Request) {
	payment := OrderPayment{
		OrderID: r.OrderID, Lane: r.Lane, AccountID: r.AccountID, Currency: r.Currency, Amount: r.Amount, Capture: r.Capture,
		Status: contract.PaymentSucceeded, Captured: r.Amount, Version: 1, CreatedAt: b.Now, UpdatedAt: b.Now,
	}
	if op.Status == Error {
		payment.Status, payment.Reason, payment.Captured = contract.PaymentFailed, op.Reason, 0
	}
	b.changes.Payments = append(b.changes.Payments, payment)
}

// Changes returns what has changed since the book was made.
func (b *Book) Changes() Changes {
	b.changes.Balances = make(map[Key]Balance, len(b.touched))
	for key := range b.touched {
		b.changes.Balances[key] = *b.balances[key]
	}
	return b.changes
}
