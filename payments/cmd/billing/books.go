package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/money"
)

// maxAmount bounds the amounts of a load, in minor units.
const maxAmount = 10_000

// books is a billing core in memory, which believes the replies: what it says the accounts have is what they must
// have. As the sums do not depend on the order in which the replies come, it keeps none.
type books struct {
	currency money.Currency
	accounts []uuid.UUID

	mu       sync.Mutex
	balances map[uuid.UUID]*balance
	holds    []held // that nobody has begun to end
	in, out  int64  // deposited; withdrawn and captured
	outcomes map[outcome]int
}

type balance struct{ actual, frozen int64 }

type held struct {
	id, account uuid.UUID
	amount      int64
}

type outcome struct{ operation, result string }

func newBooks(currency money.Currency, accounts int) *books {
	b := &books{currency: currency, balances: make(map[uuid.UUID]*balance, accounts), outcomes: make(map[outcome]int)}
	for range accounts {
		id := newCommandID()
		b.accounts, b.balances[id] = append(b.accounts, id), new(balance)
	}
	return b
}

// entry is a command with what the books know of it.
type entry struct {
	contract.Command
	minor int64
	held  held // which a capture or release ends
}

func (b *books) entry(operation string, account uuid.UUID, minor int64) entry {
	return entry{minor: minor, Command: contract.Command{
		Operation: operation, AccountID: &account, Amount: decimal(b.currency, minor), Currency: b.currency.Code,
	}}
}

// next makes a command at random.
func (b *books) next() entry {
	account, minor := b.accounts[rand.IntN(len(b.accounts))], 1+rand.Int64N(maxAmount)
	switch n := rand.IntN(100); {
	case n < 30:
		return b.entry("deposit", account, minor)
	case n < 50:
		return b.entry("withdraw", account, minor)
	case n < 75:
		to := b.accounts[rand.IntN(len(b.accounts))]
		for to == account {
			to = b.accounts[rand.IntN(len(b.accounts))]
		}
		e := b.entry("transfer", account, minor)
		e.AccountID, e.FromAccountID, e.ToAccountID = nil, &account, &to
		return e
	case n < 90:
		return b.entry("hold", account, minor)
	}
	hold, ok := b.takeHold()
	if !ok {
		return b.entry("deposit", account, minor)
	}
	e := entry{Command: contract.Command{Operation: "capture", HoldID: &hold.id}, minor: hold.amount, held: hold}
	switch rand.IntN(3) {
	case 0:
		e.Operation = "release"
	case 1:
		e.minor = 1 + rand.Int64N(hold.amount)
		e.Amount = decimal(b.currency, e.minor)
	}
	return e
}

// takeHold picks a hold at random, which is then the caller's to end.
func (b *books) takeHold() (held, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.holds) == 0 {
		return held{}, false
	}
	i := rand.IntN(len(b.holds))
	hold := b.holds[i]
	b.holds = slices.Delete(b.holds, i, i+1)
	return hold, true
}

// book takes note of a reply, or tells what is wrong with it.
func (b *books) book(e entry, r reply) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.Status == statusError {
		b.outcomes[outcome{e.Operation, r.Reason}]++
		takes := e.Operation == "withdraw" || e.Operation == "transfer" || e.Operation == "hold"
		if !takes || r.Reason != "insufficient_funds" {
			return fmt.Errorf("%s was refused: %s", e.Operation, r.raw)
		}
		return nil
	}
	b.outcomes[outcome{e.Operation, r.Status}]++
	var done contract.Operation
	if err := r.body(&done); err != nil {
		return fmt.Errorf("the reply to %s cannot be read (%w): %s", e.Operation, err, r.raw)
	}
	switch account := b.payer(e); {
	case r.OperationID == nil || done.ID != *r.OperationID,
		done.Operation != e.Operation, done.CommandID != *e.CommandID,
		done.AccountID != account, done.Currency != b.currency.Code, done.Amount != b.currency.Format(e.minor):
		return fmt.Errorf("the reply to %s of %s on %s is about something else: %s",
			e.Operation, b.currency.Format(e.minor), account, r.raw)
	}
	b.apply(e, done.ID)
	return nil
}

func (b *books) payer(e entry) uuid.UUID {
	switch {
	case e.HoldID != nil:
		return e.held.account
	case e.FromAccountID != nil:
		return *e.FromAccountID
	}
	return *e.AccountID
}

// apply is what a command that succeeded does.
func (b *books) apply(e entry, operation uuid.UUID) {
	at := b.balances[b.payer(e)]
	switch e.Operation {
	case "deposit":
		at.actual += e.minor
		b.in += e.minor
	case "withdraw":
		at.actual -= e.minor
		b.out += e.minor
	case "transfer":
		at.actual -= e.minor
		b.balances[*e.ToAccountID].actual += e.minor
	case "hold":
		at.actual -= e.minor
		at.frozen += e.minor
		b.holds = append(b.holds, held{operation, *e.AccountID, e.minor})
	case "capture":
		at.frozen -= e.held.amount
		at.actual += e.held.amount - e.minor
		b.out += e.minor
	case "release":
		at.frozen -= e.held.amount
		at.actual += e.held.amount
	}
}

// compare checks what the billing core says of an account.
func (b *books) compare(account uuid.UUID, said contract.Balances) error {
	want := b.balances[account]
	actual, frozen := b.currency.Format(want.actual), b.currency.Format(want.frozen)
	if got := said.Actual[b.currency.Code]; got != actual {
		return fmt.Errorf("account %s has %q %s, by the replies it must have %q", account, got, b.currency.Code, actual)
	}
	if got := said.Frozen[b.currency.Code]; got != frozen {
		return fmt.Errorf("account %s has %q %s frozen, by the replies it must have %q",
			account, got, b.currency.Code, frozen)
	}
	return nil
}

// sum is what all accounts have together.
func (b *books) sum() (s balance) {
	for _, account := range b.balances {
		s.actual += account.actual
		s.frozen += account.frozen
	}
	return s
}
