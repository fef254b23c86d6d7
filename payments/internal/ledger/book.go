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

	operations map[uuid.UUID]*Operation
	accounts   map[uuid.UUID]bool
	balances   map[Key]*Balance
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
}

// NewBook returns an empty book.
func NewBook(now time.Time) *Book {
	return &Book{
		Now:        now,
		operations: make(map[uuid.UUID]*Operation),
		accounts:   make(map[uuid.UUID]bool),
		balances:   make(map[Key]*Balance),
		touched:    make(map[Key]bool),
	}
}

// PutOperation puts in the record of a request that was settled before.
func (b *Book) PutOperation(op Operation) { b.operations[op.ID] = &op }

// PutAccount puts in an account that exists.
func (b *Book) PutAccount(id uuid.UUID) { b.accounts[id] = true }

// PutBalance puts in a balance. One that is not put in is zero.
func (b *Book) PutBalance(key Key, balance Balance) { b.balances[key] = &balance }

// Needs names what a request may touch: the accounts whose existence matters to it, and the balances it takes from and
// gives to. What it gives to must be in the database as a row, so that it can be locked.
func Needs(r Request) (accounts []uuid.UUID, takes, gives []Key) {
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
	}
	panic(fmt.Sprintf("ledger: unknown kind of request %q", r.Kind))
}

// of is the balance of a system account beside this one.
func (k Key) of(system uuid.UUID) Key { return Key{system, k.Currency, k.Lane} }

// Apply settles a request and returns its operation. A request that was settled before changes nothing: the operation
// is the stored one, with another Seq than the request's.
func (b *Book) Apply(r Request) *Operation {
	if op, ok := b.operations[r.ID]; ok {
		return op
	}
	op := Waiting(r)
	op.Status, op.SettledAt = Success, b.Now
	if op.Reason = b.settle(op, r); op.Reason != "" {
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
	return &Operation{
		ID: r.ID, Lane: r.Lane, Seq: r.Seq, Kind: r.Kind, AccountID: r.AccountID, ToAccountID: r.ToAccountID,
		OrderID: r.OrderID, Currency: r.Currency, Amount: r.Amount, Reference: r.Reference, Description: r.Description,
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
		if b.accounts[r.AccountID] {
			return AccountExists
		}
		b.accounts[r.AccountID] = true
		b.changes.Accounts = append(b.changes.Accounts, Account{r.AccountID, r.Lane, r.Owner, r.Reference})
		return ""
	}
	if !b.accounts[r.AccountID] {
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
		if !b.accounts[r.ToAccountID] {
			return AccountNotFound
		}
		return b.move(op, own, Key{r.ToAccountID, r.Currency, contract.Lane(r.ToAccountID)})
	}
	panic(fmt.Sprintf("ledger: unknown kind of request %q", r.Kind))
}

// move takes the operation's amount from one actual balance and adds it to another.
func (b *Book) move(op *Operation, from, to Key) Reason {
	payer, payee := b.balance(from), b.balance(to)
	if !IsSystem(from.AccountID) && payer.Actual < op.Amount {
		return InsufficientFunds
	}
	if payer.Actual-op.Amount > payer.Actual || payee.Actual+op.Amount < payee.Actual {
		return BalanceTooLarge
	}
	b.enter(op, from, -op.Amount, 0)
	b.enter(op, to, op.Amount, 0)
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
