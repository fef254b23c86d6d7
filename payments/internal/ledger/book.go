package ledger

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/identity"
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
	Tenants    map[Key]string      // of balances with their first entry, unless it is the default one

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

// Key names a balance. Lane is the account's; a system account has a balance in the lane of each client.
type Key struct {
	AccountID uuid.UUID `db:"account_id"`
	Currency  string    `db:"currency"`
	Lane      int16     `db:"lane"`
}

// Compare orders keys by account, currency and lane.
func (k Key) Compare(other Key) int {
	return cmp.Or(
		bytes.Compare(k.AccountID[:], other.AccountID[:]),
		cmp.Compare(k.Currency, other.Currency), cmp.Compare(k.Lane, other.Lane),
	)
}

// beside is the balance of a system account in the same lane and currency.
func (k Key) beside(system uuid.UUID) Key { return Key{system, k.Currency, k.Lane} }

// Balance is what an account has of one currency, in minor units.
type Balance struct {
	Actual  int64 `db:"actual"`  // free to use
	Frozen  int64 `db:"frozen"`  // set aside by holds
	Entries int64 `db:"entries"` // how many entries there are, which is the number of the last one
	Waiting int64 `db:"waiting"` // how many requests wait for money
}

// Entry is one line of an account's statement: what an operation changed, and what was there afterwards.
type Entry struct {
	Key
	Number       int64     `db:"number"` // per balance, without gaps, from 1
	OperationID  uuid.UUID `db:"operation_id"`
	Operation    Kind      `db:"operation"`
	Amount       int64     `db:"amount"` // change of the actual balance
	Frozen       int64     `db:"frozen"` // change of the frozen balance
	BalanceAfter int64     `db:"balance_after"`
	FrozenAfter  int64     `db:"frozen_after"`
}

const (
	// maxBalance is the most that one operation may move, and that a client may have, frozen money included. It is half of
	// an int64, so that as much may still be given back to the client.
	maxBalance = math.MaxInt64 / 2
	// maxSystem is the most that a system account may have, on either side of zero, before an operation moves money; so
	// the sum still fits into an int64.
	maxSystem = math.MaxInt64 / 4
)

// move takes the operation's amount from one actual balance and adds it to another.
func (b *Book) move(op *Operation, from, to Key) Reason {
	payer, payee := b.balance(from), b.balance(to)
	if !IsSystem(from.AccountID) && payer.Actual < op.Amount {
		return InsufficientFunds
	}
	limit := int64(maxBalance)
	if from.AccountID == Revenue { // what comes back may find as much there
		limit = math.MaxInt64
	}
	// What is frozen may come back to the actual balance, so there must be room for both.
	if op.Amount > maxBalance || !IsSystem(to.AccountID) && payee.Actual > limit-payee.Frozen-op.Amount {
		return BalanceTooLarge
	}
	b.makeRoom(op, from)
	b.makeRoom(op, to)
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
	if balance.Entries == 1 {
		if account := b.accounts[key.AccountID]; !sameTenant(account.Tenant, identity.DefaultTenant) {
			b.changes.Tenants[key] = account.Tenant
		}
	}
	if amount > 0 && balance.Waiting > 0 {
		b.changes.Resumes[key] = b.accounts[key.AccountID].Tenant
	}
	b.changes.Entries = append(b.changes.Entries, Entry{
		Key: key, Number: balance.Entries, OperationID: op.ID, Operation: op.Kind,
		Amount: amount, Frozen: frozen, BalanceAfter: balance.Actual, FrozenAfter: balance.Frozen,
	})
}

// The system accounts. Each has one balance row per lane and currency, so that it is never a hot row; the row of the
// client's lane is used. Only their balances may be negative.
var (
	// External is the world outside: deposits come from it, withdrawals go to it. Its balance is minus what is inside.
	External = uuid.MustParse("00000000-0000-0000-0000-000000000001")
	// Revenue is what was earned, by payments of orders and captured holds.
	Revenue = uuid.MustParse("00000000-0000-0000-0000-000000000002")
)

// IsSystem tells whether an ID is that of a system account, or of one of its vaults.
func IsSystem(account uuid.UUID) bool {
	return [6]byte(account[:6]) == [6]byte{} && (account == External || account == Revenue || account[6] == vaults)
}

// makeRoom empties a system account into a vault when it has very much. The clients of a lane together, and all that
// was ever earned from them, may have more than an int64 of minor units, which in a currency of 18 digits is nine
// units. With vaults there is always room, and one client's money is never in another's way.
func (b *Book) makeRoom(op *Operation, key Key) {
	balance := b.balance(key)
	if !IsSystem(key.AccountID) || -maxSystem <= balance.Actual && balance.Actual <= maxSystem {
		return
	}
	full := key.beside(vault(key.AccountID, balance.Entries))
	from, to, amount := key, full, balance.Actual
	if amount < 0 {
		from, to, amount = full, key, -amount
	}
	carry := &Operation{
		ID:   uuid.NewSHA1(full.AccountID, []byte(full.Currency+strconv.Itoa(int(full.Lane)))),
		Lane: key.Lane, Seq: op.Seq, Kind: KindTransfer, AccountID: from.AccountID, ToAccountID: to.AccountID,
		Currency: key.Currency, Amount: amount, Status: Success, CreatedAt: b.Now, SettledAt: b.Now,
	}
	b.changes.Operations = append(b.changes.Operations, carry)
	b.changes.Vaults[full] = true
	b.enter(carry, from, -amount, 0)
	b.enter(carry, to, amount, 0)
}

// vaults is the seventh byte of a vault's ID, after six zeros: a UUID of version 8, which nobody else makes.
const vaults = 0x80

// vault is an account for what a system account has no room for. The number tells the vaults of a system account apart.
func vault(system uuid.UUID, number int64) (id uuid.UUID) {
	id[6], id[7], id[8] = vaults, system[15], 0x80
	for i := range 6 {
		id[15-i] = byte(number >> (8 * i))
	}
	return id
}
