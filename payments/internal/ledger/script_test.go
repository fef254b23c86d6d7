package ledger_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
)

// script is what happens to one account, a, in roubles, one request after another; after each the queues that were to
// be looked at again are.
type script struct {
	*state
	at       time.Time
	requests []ledger.Request
	results  []ledger.Operation
}

func newScript() *script {
	s := &script{state: newState(), at: now}
	return s.ask(ledger.CreateAccount{})
}

// ask settles a command of account a.
func (s *script) ask(c ledger.Command) *script { return s.do(ledger.Request{Command: c}) }

// do settles a request, twice: the second time must change nothing.
func (s *script) do(r ledger.Request) *script {
	if r.AccountID == uuid.Nil {
		r.AccountID = id(1)
	}
	r.Lane, r.Seq, r.ReceivedAt = contract.Lane(r.AccountID), int64(len(s.requests)+1), s.at
	if r.ID == uuid.Nil {
		r.ID = id(10_000 + len(s.requests))
	}
	s.requests = append(s.requests, r)
	s.results = append(s.results, s.settleAt(s.at, []ledger.Request{r})...)
	s.settleAt(s.at, []ledger.Request{r})
	s.drain(s.at)
	return s
}

// money is what account a has of roubles.
func (s *script) money() ledger.Balance {
	return s.balances[ledger.Key{AccountID: id(1), Currency: "RUB", Lane: contract.Lane(id(1))}]
}

func (s *script) deposit(amount int64) *script {
	return s.ask(ledger.Deposit{Currency: "RUB", Amount: amount})
}

func (s *script) withdraw(amount int64, wait bool) *script {
	return s.ask(ledger.Withdrawal{Currency: "RUB", Amount: amount, WaitForFunds: wait})
}

// option changes the request of an order or of its cancellation.
type option func(r *ledger.Request, order *ledger.Payment)

// order places order n.
func (s *script) order(n int, amount int64, options ...option) *script {
	r := ledger.Request{ID: id(n)}
	c := ledger.Payment{
		OrderID: id(n), Currency: "RUB", Amount: amount, Capture: contract.CaptureAutomatic, AcceptedAt: s.at,
	}
	for _, option := range options {
		option(&r, &c)
	}
	r.Command = c
	return s.do(r)
}

func manual(_ *ledger.Request, c *ledger.Payment) { c.Capture = contract.CaptureManual }
func await(_ *ledger.Request, c *ledger.Payment)  { c.AwaitInventory = true }

func waiting(_ *ledger.Request, c *ledger.Payment) { c.WaitForFunds = true }
func dropped(r *ledger.Request, _ *ledger.Payment) { r.Discarded = true }

func expires(in time.Duration) option {
	return func(_ *ledger.Request, c *ledger.Payment) { c.ExpiresAt = now.Add(in) }
}

func by(account uuid.UUID) option {
	return func(r *ledger.Request, _ *ledger.Payment) { r.AccountID = account }
}

func (s *script) confirm(n int, amount int64) *script {
	return s.ask(ledger.Confirm{OrderID: id(n), Amount: amount})
}

func (s *script) reject(n int) *script {
	return s.ask(ledger.Reject{OrderID: id(n), Note: "too late"})
}

func (s *script) refund(n int, amount int64) *script {
	return s.ask(ledger.Refund{OrderID: id(n), Amount: amount})
}

// end cancels the operation of the nth request, counted from the opening of the account, which is 0.
func (s *script) end(n int) *script {
	return s.ask(ledger.CancelOperation{OperationID: s.requests[n].ID, Note: "no longer needed"})
}

func (s *script) cancel(n int, amount int64, options ...option) *script {
	order := ledger.Payment{Capture: contract.CaptureAutomatic}
	r := ledger.Request{ID: id(500 + n)}
	for _, option := range options {
		option(&r, &order)
	}
	r.Command = ledger.Cancel{OrderID: id(n), Currency: "RUB", Amount: amount, Capture: order.Capture,
		Note: "changed my mind"}
	return s.do(r)
}

func (s *script) stock(n int, there bool) *script {
	return s.do(ledger.Request{ID: uuid.New(), Command: ledger.Inventory{OrderID: id(n), InStock: there}})
}

// later lets time pass, and what is past its time expire, as the look for deadlines does.
func (s *script) later(d time.Duration) *script {
	s.at = s.at.Add(d)
	for _, hold := range s.holds {
		if hold.Status == ledger.Open && !hold.ExpiresAt.After(s.at) {
			s.ask(ledger.Expire{HoldID: hold.ID})
		}
	}
	waits := slices.SortedFunc(maps.Values(s.waits), func(a, b ledger.Wait) int {
		return cmp.Or(a.ExpiresAt.Compare(b.ExpiresAt), cmp.Compare(a.Seq, b.Seq))
	})
	for _, w := range waits {
		if !w.ExpiresAt.IsZero() && !w.ExpiresAt.After(s.at) {
			s.ask(ledger.Expire{WaitID: w.Request.ID})
		}
	}
	return s
}

// story is what the payment of order n went through: its events.
func (s *script) story(n int) (steps []string) {
	for _, p := range s.payments {
		if p.OrderID != id(n) {
			continue
		}
		step := p.Status
		if p.Reason != "" {
			step += ":" + string(p.Reason)
		}
		if p.Note != "" {
			step += fmt.Sprintf(" %q", p.Note)
		}
		if p.Captured > 0 {
			step += fmt.Sprintf(" %d-%d", p.Captured, p.Refunded)
		}
		steps = append(steps, step)
	}
	return steps
}
