package ledger_test

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

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

// drain settles what a credit leaves behind, and what follows from that.
func (s *state) drain(at time.Time) {
	for n := 0; len(s.resumes) > 0; n++ {
		key := s.resumes[0]
		s.resumes = s.resumes[1:]
		s.settleAt(at, []ledger.Request{{
			ID: uuid.New(), AccountID: key.AccountID, Lane: key.Lane, ReceivedAt: at, Command: ledger.Resume{Currency: key.Currency},
		}})
		if n > 1000 {
			panic("resuming never ends")
		}
	}
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

func manual(_ *ledger.Request, c *ledger.Payment)  { c.Capture = contract.CaptureManual }
func await(_ *ledger.Request, c *ledger.Payment)   { c.AwaitInventory = true }
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
	r.Command = ledger.Cancel{OrderID: id(n), Currency: "RUB", Amount: amount, Capture: order.Capture, Note: "changed my mind"}
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

// The specification of the saga, flow by flow.
func TestSaga(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		script         *script
		story          []string // of order 1
		actual, frozen int64
		last           ledger.Reason // of the last request's operation
	}{
		"paid at once":          {newScript().deposit(10).order(1, 7), []string{"succeeded 7-0"}, 3, 0, ""},
		"refused at once":       {newScript().deposit(6).order(1, 7), []string{"failed:insufficient_funds"}, 6, 0, ledger.InsufficientFunds},
		"placed after its time": {newScript().deposit(10).order(1, 7, expires(0)), []string{"failed:expired"}, 10, 0, ledger.PastDeadline},
		"given up by an operator": {newScript().deposit(10).order(1, 7, dropped).cancel(1, 7),
			[]string{"failed:discarded"}, 10, 0, ""},

		"confirmed whole":  {newScript().deposit(10).order(1, 7, manual).confirm(1, 0), []string{"authorized", "succeeded 7-0"}, 3, 0, ""},
		"confirmed partly": {newScript().deposit(10).order(1, 7, manual).confirm(1, 5), []string{"authorized", "succeeded 5-0"}, 5, 0, ""},
		"confirmed too much": {newScript().deposit(10).order(1, 7, manual).confirm(1, 8),
			[]string{"authorized"}, 3, 7, ledger.AmountExceedsHold},
		"confirmed twice": {newScript().deposit(10).order(1, 7, manual).confirm(1, 0).confirm(1, 0),
			[]string{"authorized", "succeeded 7-0"}, 3, 0, ledger.PaymentNotAuthorized},
		"confirmed without a hold": {newScript().deposit(10).order(1, 7).confirm(1, 0), []string{"succeeded 7-0"}, 3, 0, ledger.PaymentNotAuthorized},
		"confirmed from nothing":   {newScript().deposit(10).confirm(1, 0), nil, 10, 0, ledger.PaymentNotFound},
		"rejected":                 {newScript().deposit(10).order(1, 7, manual).reject(1), []string{"authorized", `failed:rejected "too late"`}, 10, 0, ""},
		"rejected, then confirmed": {newScript().deposit(10).order(1, 7, manual).reject(1).confirm(1, 0),
			[]string{"authorized", `failed:rejected "too late"`}, 10, 0, ledger.PaymentNotAuthorized},
		"a hold that nobody wanted": {newScript().deposit(10).order(1, 7, manual).later(7 * 24 * time.Hour),
			[]string{"authorized", "failed:expired"}, 10, 0, ""},
		"a hold just before its end": {newScript().deposit(10).order(1, 7, manual).later(7*24*time.Hour - time.Microsecond),
			[]string{"authorized"}, 3, 7, ""},
		"a hold with its own deadline": {newScript().deposit(10).order(1, 7, manual, expires(time.Minute)).later(time.Minute),
			[]string{"authorized", "failed:expired"}, 10, 0, ""},
		"an order's hold is not its client's to capture": {newScript().deposit(10).order(1, 7, manual).ask(ledger.Capture{HoldID: id(1)}),
			[]string{"authorized"}, 3, 7, ledger.HoldOfOrder},
		"nor to release": {newScript().deposit(10).order(1, 7, manual).ask(ledger.Release{HoldID: id(1)}),
			[]string{"authorized"}, 3, 7, ledger.HoldOfOrder},

		"refunded whole":    {newScript().deposit(10).order(1, 7).refund(1, 0), []string{"succeeded 7-0", "refunded 7-7"}, 10, 0, ""},
		"refunded in parts": {newScript().deposit(10).order(1, 7).refund(1, 2).refund(1, 0), []string{"succeeded 7-0", "refunded 7-2", "refunded 7-7"}, 10, 0, ""},
		"refunded too much": {newScript().deposit(10).order(1, 7).refund(1, 2).refund(1, 6),
			[]string{"succeeded 7-0", "refunded 7-2"}, 5, 0, ledger.AmountExceedsCaptured},
		"refunded when nothing is left": {newScript().deposit(10).order(1, 7).refund(1, 7).refund(1, 0),
			[]string{"succeeded 7-0", "refunded 7-7"}, 10, 0, ledger.AmountExceedsCaptured},
		"refunded more than was confirmed": {newScript().deposit(10).order(1, 7, manual).confirm(1, 5).refund(1, 6),
			[]string{"authorized", "succeeded 5-0"}, 5, 0, ledger.AmountExceedsCaptured},
		"refunded before it is captured": {newScript().deposit(10).order(1, 7, manual).refund(1, 0), []string{"authorized"}, 3, 7, ledger.PaymentNotCaptured},
		"refunded after it has failed":   {newScript().order(1, 7).refund(1, 0), []string{"failed:insufficient_funds"}, 0, 0, ledger.PaymentNotCaptured},

		"cancelled when paid": {newScript().deposit(10).order(1, 7).cancel(1, 7), []string{"succeeded 7-0", `cancelled:cancelled "changed my mind" 7-7`}, 10, 0, ""},
		"cancelled when partly refunded": {newScript().deposit(10).order(1, 7).refund(1, 2).cancel(1, 7),
			[]string{"succeeded 7-0", "refunded 7-2", `cancelled:cancelled "changed my mind" 7-7`}, 10, 0, ""},
		"cancelled when wholly refunded": {newScript().deposit(10).order(1, 7).refund(1, 0).cancel(1, 7),
			[]string{"succeeded 7-0", "refunded 7-7", `cancelled:cancelled "changed my mind" 7-7`}, 10, 0, ""},
		"cancelled when held": {newScript().deposit(10).order(1, 7, manual).cancel(1, 7).confirm(1, 0),
			[]string{"authorized", `cancelled:cancelled "changed my mind"`}, 10, 0, ledger.PaymentNotAuthorized},
		"cancelled when partly confirmed": {newScript().deposit(10).order(1, 7, manual).confirm(1, 5).cancel(1, 7),
			[]string{"authorized", "succeeded 5-0", `cancelled:cancelled "changed my mind" 5-5`}, 10, 0, ""},
		"cancelled when waiting for goods": {newScript().deposit(10).order(1, 7, await).cancel(1, 7).stock(1, true),
			[]string{"created:waiting_for_inventory", `cancelled:cancelled "changed my mind"`}, 10, 0, ""},
		"cancelled when waiting for money": {newScript().deposit(6).order(1, 7, waiting).cancel(1, 7).deposit(4),
			[]string{"created:waiting_for_funds", `cancelled:cancelled "changed my mind"`}, 10, 0, ""},
		"cancelled when it has failed": {newScript().order(1, 7).cancel(1, 7), []string{"failed:insufficient_funds"}, 0, 0, ""},
		"cancelled before it is placed": {newScript().deposit(10).cancel(1, 7).order(1, 7),
			[]string{`cancelled:cancelled "changed my mind"`}, 10, 0, ledger.Cancelled},
		"cancelled by another account": {newScript().deposit(10).order(1, 7).cancel(1, 7, by(id(2))),
			[]string{"succeeded 7-0"}, 3, 0, ""},
		"refunded after it is cancelled": {newScript().deposit(10).order(1, 7).cancel(1, 7).refund(1, 0),
			[]string{"succeeded 7-0", `cancelled:cancelled "changed my mind" 7-7`}, 10, 0, ledger.PaymentNotCaptured},

		"goods are there": {newScript().deposit(10).order(1, 7, await).stock(1, true),
			[]string{"created:waiting_for_inventory", "created:inventory_completed", "succeeded 7-0"}, 3, 0, ""},
		"goods are there, then not": {newScript().deposit(10).order(1, 7, await).stock(1, true).stock(1, false).stock(1, true),
			[]string{"created:waiting_for_inventory", "created:inventory_completed", "succeeded 7-0"}, 3, 0, ""},
		"goods are not there": {newScript().deposit(10).order(1, 7, await).stock(1, false).stock(1, true),
			[]string{"created:waiting_for_inventory", "failed:out_of_stock"}, 10, 0, ""},
		"goods are there, money is not": {newScript().deposit(6).order(1, 7, await).stock(1, true),
			[]string{"created:waiting_for_inventory", "created:inventory_completed", "failed:insufficient_funds"}, 6, 0, ""},
		"goods are there, money is held": {newScript().deposit(10).order(1, 7, await, manual).stock(1, true).confirm(1, 0),
			[]string{"created:waiting_for_inventory", "created:inventory_completed", "authorized", "succeeded 7-0"}, 3, 0, ""},
		"goods are there, money comes later": {newScript().order(1, 7, await, waiting).stock(1, true).deposit(8),
			[]string{"created:waiting_for_inventory", "created:inventory_completed", "created:waiting_for_funds", "succeeded 7-0"}, 1, 0, ""},
		"goods of an order that asks for none": {newScript().deposit(10).order(1, 7).stock(1, false), []string{"succeeded 7-0"}, 3, 0, ""},
		"goods nobody answers for": {newScript().deposit(10).order(1, 7, await).later(15 * time.Minute),
			[]string{"created:waiting_for_inventory", "failed:expired"}, 10, 0, ""},
		"waiting for goods stops nobody": {newScript().deposit(10).order(1, 7, await).withdraw(10, false).stock(1, true),
			[]string{"created:waiting_for_inventory", "created:inventory_completed", "failed:insufficient_funds"}, 0, 0, ""},
		"an account that is not there": {newScript().order(1, 7, await, by(id(3))),
			[]string{"failed:account_not_found"}, 0, 0, ledger.AccountNotFound},

		"money comes": {newScript().order(1, 7, waiting).deposit(6).deposit(1), []string{"created:waiting_for_funds", "succeeded 7-0"}, 0, 0, ""},
		"money comes for a hold": {newScript().order(1, 7, waiting, manual).deposit(8).confirm(1, 0),
			[]string{"created:waiting_for_funds", "authorized", "succeeded 7-0"}, 1, 0, ""},
		"money does not come": {newScript().deposit(6).order(1, 7, waiting).later(24 * time.Hour),
			[]string{"created:waiting_for_funds", "failed:expired"}, 6, 0, ""},
		"money comes too late": {newScript().order(1, 7, waiting, expires(time.Minute)).later(time.Minute).deposit(7),
			[]string{"created:waiting_for_funds", "failed:expired"}, 7, 0, ""},
		"later debits wait behind": {newScript().deposit(5).withdraw(8, true).order(1, 2).deposit(4),
			[]string{"created:waiting_for_funds", "failed:insufficient_funds"}, 1, 0, ""},
		"goods that come late queue up late": {newScript().order(1, 5, await, waiting).withdraw(8, true).stock(1, true).deposit(8).deposit(4),
			[]string{"created:waiting_for_inventory", "created:inventory_completed", "created:waiting_for_funds"}, 4, 0, ""},
		"it does not give up before its time": {newScript().order(1, 7, waiting).later(24*time.Hour - time.Microsecond).
			ask(ledger.Expire{WaitID: id(1)}),
			[]string{"created:waiting_for_funds"}, 0, 0, ""},
		"credits pass": {newScript().deposit(5).order(1, 2, manual).withdraw(8, true).confirm(1, 1).refund(1, 0),
			[]string{"authorized", "succeeded 1-0", "refunded 1-1"}, 5, 0, ""},
		"the head gives up, the next one goes on": {newScript().deposit(5).withdraw(8, true).later(time.Minute).order(1, 2).later(24*time.Hour - time.Minute),
			[]string{"created:waiting_for_funds", "succeeded 2-0"}, 3, 0, ""},
		"the head is ended, the next one goes on": {newScript().deposit(5).withdraw(8, true).order(1, 2).end(2),
			[]string{"created:waiting_for_funds", "succeeded 2-0"}, 3, 0, ""},
		"an order's payment is not its client's to end": {newScript().order(1, 7, waiting).end(1),
			[]string{"created:waiting_for_funds"}, 0, 0, ledger.OperationOfOrder},
		"nor when it has ended": {newScript().deposit(7).order(1, 7).end(2), []string{"succeeded 7-0"}, 0, 0, ledger.OperationOfOrder},
		"the head is cancelled, the next one goes on": {newScript().deposit(5).order(2, 8, waiting).order(1, 2).cancel(2, 8),
			[]string{"created:waiting_for_funds", "succeeded 2-0"}, 3, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := test.script
			s.check(t)
			s.checkSaga(t)
			if got := s.story(1); !slices.Equal(got, test.story) {
				t.Errorf("the payment went through %q\nwant %q", got, test.story)
			}
			if b := s.balances[ledger.Key{AccountID: id(1), Currency: "RUB", Lane: contract.Lane(id(1))}]; b.Actual != test.actual || b.Frozen != test.frozen {
				t.Errorf("%d is left and %d frozen, want %d and %d", b.Actual, b.Frozen, test.actual, test.frozen)
			}
			if op := s.results[len(s.results)-1]; op.Reason != test.last && op.Reason != ledger.WaitingForFunds {
				t.Errorf("the last operation ended with %q, want %q", op.Reason, test.last)
			}
		})
	}
}

// What waits takes effect in the order of its acceptance, as far as the money goes, however many there are.
func TestAQueueForMoneyIsFirstInFirstOut(t *testing.T) {
	t.Parallel()
	s := newScript().withdraw(100, true)
	for range 20 {
		s.withdraw(10, false)
	}
	s.deposit(155)
	for i, op := range s.results[1:22] {
		want := ledger.Success
		if i > 5 {
			want = ledger.Error
		}
		if got := s.operations[op.ID]; got.Status != want {
			t.Errorf("withdrawal %d ended with %s %s", i, got.Status, got.Reason)
		}
	}
	s.check(t)
	s.checkSaga(t)
}

// What holds money until a deadline, or brings one itself, waits behind others no longer than that: it would be over
// as soon as it began.
func TestWhatWaitsBehindOthersHasItsOwnDeadline(t *testing.T) {
	t.Parallel()
	const day, year = 24 * time.Hour, 365 * 24 * time.Hour
	for _, test := range []struct {
		command  ledger.Command
		deadline time.Duration
	}{
		{ledger.HoldFunds{Currency: "RUB", Amount: 5, ExpiresIn: time.Minute}, time.Minute},
		{ledger.HoldFunds{Currency: "RUB", Amount: 5}, day},
		{ledger.Withdrawal{Currency: "RUB", Amount: 5, ExpiresIn: time.Minute}, time.Minute},
		{ledger.HoldFunds{Currency: "RUB", Amount: 5, ExpiresIn: year}, ledger.MaxFundsExpiry},
		{ledger.Withdrawal{Currency: "RUB", Amount: 5}, day},
		{ledger.Transfer{Currency: "RUB", Amount: 5, ToAccountID: id(2)}, day},
		{ledger.Payment{Currency: "RUB", Amount: 5, OrderID: id(1), Capture: contract.CaptureManual, AcceptedAt: now}, day},
		{ledger.Payment{Currency: "RUB", Amount: 5, OrderID: id(1), Capture: contract.CaptureAutomatic}, day}, // what is settled at once has no AcceptedAt
		{ledger.Payment{Currency: "RUB", Amount: 5, OrderID: id(1), Capture: contract.CaptureAutomatic, ExpiresAt: now.Add(year)}, ledger.MaxFundsExpiry},
	} {
		// The version before took deadlines of up to a year.
		s := newScript().do(ledger.Request{AccountID: id(2), Command: ledger.CreateAccount{}}).
			ask(ledger.Withdrawal{Currency: "RUB", Amount: 50, WaitForFunds: true, ExpiresIn: year})
		r := ledger.Request{Command: test.command}
		if _, ok := test.command.(ledger.Payment); ok {
			r.ID = id(1)
		}
		s.do(r)
		if s.later(test.deadline - time.Microsecond); s.operations[s.results[3].ID].Status != ledger.Created {
			t.Errorf("%+v ended before its time", test.command)
		}
		s.later(time.Microsecond).deposit(60)
		op := s.operations[s.results[3].ID]
		if op.Status != ledger.Error || op.Reason != ledger.PastDeadline {
			t.Errorf("%+v ended with %s %s", test.command, op.Status, op.Reason)
		}
		s.check(t)
		s.checkSaga(t)
	}
}

// Deadlines go by the clock of the database, which has stored their message: a process whose own clock is behind meets
// them too.
func TestADeadlineIsMetWhateverTheTimeOfTheProcess(t *testing.T) {
	t.Parallel()
	s := newScript().deposit(10).order(1, 7, manual).withdraw(20, true)
	for _, c := range []ledger.Expire{{HoldID: id(1)}, {WaitID: s.results[3].ID}} {
		s.settleAt(now, []ledger.Request{{
			ID: uuid.New(), AccountID: id(1), Lane: contract.Lane(id(1)), ReceivedAt: now.Add(7 * 24 * time.Hour), Command: c,
		}})
	}
	if hold, op := s.holds[id(1)], s.operations[s.results[3].ID]; hold.Status != ledger.Expired || op.Reason != ledger.PastDeadline {
		t.Errorf("%+v, %+v", hold, op)
	}
	s.check(t)
	s.checkSaga(t)
}

// Several steps of one payment in one batch are stored as one change.
func TestManyStepsInOneBatch(t *testing.T) {
	t.Parallel()
	s := newScript().order(1, 7, await, waiting)
	request := func(n int, c ledger.Command) ledger.Request {
		return ledger.Request{ID: id(n), Seq: int64(n), AccountID: id(1), Lane: contract.Lane(id(1)), ReceivedAt: s.at, Command: c}
	}
	s.settle([]ledger.Request{
		request(50, ledger.Inventory{OrderID: id(1), InStock: true}), request(51, ledger.Deposit{Currency: "RUB", Amount: 6}),
		request(52, ledger.Cancel{OrderID: id(1), Currency: "RUB", Amount: 7, Capture: contract.CaptureAutomatic}),
	})
	want := []string{"created:waiting_for_inventory", "created:inventory_completed", "created:waiting_for_funds", "cancelled:cancelled"}
	if got := s.story(1); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	s.check(t)
	s.checkSaga(t)
}

// A transfer from an account of another lane resumes what waits.
func TestATransferFromAnotherLaneResumes(t *testing.T) {
	t.Parallel()
	payer := id(2)
	if contract.Lane(payer) == contract.Lane(id(1)) {
		t.Fatal("both accounts are in one lane")
	}
	s := newScript().do(ledger.Request{AccountID: payer, Command: ledger.CreateAccount{}}).
		do(ledger.Request{AccountID: payer, Command: ledger.Deposit{Currency: "RUB", Amount: 9}}).order(1, 7, waiting).
		do(ledger.Request{AccountID: payer, Command: ledger.Transfer{Currency: "RUB", Amount: 9, ToAccountID: id(1)}})
	if got, want := s.story(1), []string{"created:waiting_for_funds", "succeeded 7-0"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// The number of a payment's versions has a bound, but a cancellation always finds room.
func TestRefundsAreBounded(t *testing.T) {
	t.Parallel()
	s := newScript().deposit(2000).order(1, 2000)
	for range ledger.MaxVersion {
		s.refund(1, 1)
	}
	if op := s.results[len(s.results)-1]; op.Reason != ledger.TooManyRefunds {
		t.Errorf("%+v", op)
	}
	s.cancel(1, 2000)
	if p := s.orders[id(1)]; p.Status != contract.PaymentCancelled || p.Refunded != 2000 || p.Version != ledger.MaxVersion+1 {
		t.Errorf("%+v", p)
	}
	s.checkSaga(t)
}

// checkSaga holds payments, holds, waiting requests and operations against each other.
func (s *state) checkSaga(t interface{ Fatalf(string, ...any) }) {
	earned := map[uuid.UUID]int64{}
	for _, e := range s.entries {
		if e.AccountID == ledger.Revenue {
			earned[s.operations[e.OperationID].OrderID] += e.Amount
		}
	}
	versions := map[uuid.UUID]int64{}
	statuses := map[uuid.UUID]string{}
	for _, p := range s.payments {
		if p.Version != versions[p.OrderID]+1 || p.Previous != statuses[p.OrderID] || !ledger.PaymentCanBecome(p.Previous, p.Status) {
			t.Fatalf("payment %+v follows version %d, %s", p, versions[p.OrderID], statuses[p.OrderID])
		}
		versions[p.OrderID], statuses[p.OrderID] = p.Version, p.Status
	}
	for _, p := range s.orders {
		w, waits := s.waits[p.OrderID]
		hold := s.holds[p.OrderID]
		if earned[p.OrderID] != p.Captured-p.Refunded || p.Captured > p.Amount || p.Refunded > p.Captured {
			t.Fatalf("payment %+v has earned %d", p, earned[p.OrderID])
		}
		if (p.Status == contract.PaymentAuthorized) != (hold.Status == ledger.Open) {
			t.Fatalf("payment %+v with hold %+v", p, hold)
		}
		if (p.Status == contract.PaymentCreated) != waits || waits && w.For != p.Reason {
			t.Fatalf("payment %+v waits: %v, %+v", p, waits, w)
		}
	}
	for _, op := range s.operations {
		if w, waits := s.waits[op.ID]; waits != (op.Status == ledger.Created) || waits && w.For != op.Reason {
			t.Fatalf("operation %+v waits: %v, %+v", op, waits, w)
		}
		if p, ok := s.orders[op.OrderID]; op.Kind == ledger.KindPayment && (!ok || p.OrderID != op.ID) {
			t.Fatalf("operation %+v without a payment", op)
		}
	}
}

// Random sagas of a few accounts, requests repeated and cut into batches as it comes, time passing: the books are
// always right, what waits is served in its order, and in the end nothing waits that could go on.
func TestRandomSagas(t *testing.T) { t.Parallel(); rapid.Check(t, randomSagas) }

// FuzzRandomSagas looks for a counterexample guided by coverage.
func FuzzRandomSagas(f *testing.F) { f.Fuzz(rapid.MakeFuzz(randomSagas)) }

func randomSagas(t *rapid.T) {
	const orders = 6
	s, at := newState(), now
	var history, batch []ledger.Request
	accept := func(r ledger.Request) {
		r.Seq, r.ReceivedAt = int64(len(history)+1), at
		history, batch = append(history, r), append(batch, r)
	}
	for n, account := range accounts[:3] {
		accept(ledger.Request{ID: id(n), AccountID: account, Lane: contract.Lane(account), Command: ledger.CreateAccount{}})
	}
	settle := func() {
		if len(batch) == 0 {
			return
		}
		s.settleAt(at, batch)
		batch = nil
		s.check(t)
		s.checkSaga(t)
		s.checkQueues(t)
	}
	for range rapid.IntRange(1, 80).Draw(t, "requests") {
		account := accounts[rapid.IntRange(0, 2).Draw(t, "account")]
		amount := func() int64 { return rapid.Int64Range(1, 20).Draw(t, "amount") }
		r := ledger.Request{ID: uuid.New(), AccountID: account, Lane: contract.Lane(account)}
		// An order belongs to one account.
		number := rapid.IntRange(0, orders-1).Draw(t, "order")
		payer := accounts[number%3]
		order := id(100 + number)
		step := func(c ledger.Command) { r.AccountID, r.Lane, r.Command = payer, contract.Lane(payer), c }
		switch rapid.SampledFrom([]string{"deposit", "deposit", "withdraw", "withdraw", "transfer", "hold", "order", "order", "order", "confirm", "reject",
			"refund", "cancel", "end", "end", "inventory", "inventory", "time", "resume", "resume", "repeat", "settle", "settle"}).Draw(t, "what") {
		case "deposit":
			r.Command = ledger.Deposit{Currency: "RUB", Amount: amount()}
		case "withdraw":
			r.Command = ledger.Withdrawal{Currency: "RUB", Amount: amount(), WaitForFunds: rapid.Bool().Draw(t, "wait")}
		case "transfer":
			r.Command = ledger.Transfer{Currency: "RUB", Amount: amount(), ToAccountID: accounts[rapid.IntRange(0, 2).Draw(t, "payee")]}
		case "hold":
			r.Command = ledger.HoldFunds{Currency: "RUB", Amount: amount()}
		case "order":
			r.ID = order
			c := ledger.Payment{OrderID: order, Currency: "RUB", Amount: amount(), AcceptedAt: at, Capture: contract.CaptureAutomatic}
			if rapid.Bool().Draw(t, "manual") {
				c.Capture = contract.CaptureManual
			}
			c.AwaitInventory, c.WaitForFunds = rapid.Bool().Draw(t, "await"), rapid.Bool().Draw(t, "wait")
			step(c)
		case "confirm":
			step(ledger.Confirm{OrderID: order, Amount: rapid.Int64Range(0, 20).Draw(t, "captured")})
		case "reject":
			step(ledger.Reject{OrderID: order})
		case "refund":
			step(ledger.Refund{OrderID: order, Amount: rapid.Int64Range(0, 20).Draw(t, "refunded")})
		case "cancel":
			r.ID = id(200 + number)
			step(ledger.Cancel{OrderID: order, Currency: "RUB", Amount: amount(), Capture: contract.CaptureAutomatic})
		case "end":
			target := history[rapid.IntRange(0, len(history)-1).Draw(t, "which")]
			r.AccountID, r.Lane = target.AccountID, target.Lane
			r.Command = ledger.CancelOperation{OperationID: target.ID}
		case "inventory":
			r.ID = id(300 + number)
			step(ledger.Inventory{OrderID: order, InStock: rapid.Bool().Draw(t, "in stock")})
		case "time":
			settle()
			at = at.Add(rapid.SampledFrom([]time.Duration{time.Minute, time.Hour, 25 * time.Hour, 8 * 24 * time.Hour}).Draw(t, "later"))
			for _, hold := range s.holds {
				accept(ledger.Request{ID: uuid.New(), AccountID: hold.AccountID, Lane: hold.Lane, Command: ledger.Expire{HoldID: hold.ID}})
			}
			for _, w := range s.waits {
				r := w.Request
				accept(ledger.Request{ID: uuid.New(), AccountID: r.AccountID, Lane: r.Lane, Command: ledger.Expire{WaitID: r.ID}})
			}
			continue
		case "resume":
			if len(s.resumes) == 0 {
				continue
			}
			key := s.resumes[0]
			s.resumes = s.resumes[1:]
			r.AccountID, r.Lane, r.Command = key.AccountID, key.Lane, ledger.Resume{Currency: key.Currency}
		case "repeat":
			if len(history) > 0 {
				again := history[rapid.IntRange(0, len(history)-1).Draw(t, "which")]
				batch = append(batch, again)
			}
			continue
		case "settle":
			settle()
			continue
		}
		accept(r)
	}
	settle()
	s.drain(at)
	s.check(t)
	s.checkSaga(t)
	s.checkQueues(t)
	for key, balance := range s.balances {
		if balance.Waiting == 0 {
			continue
		}
		head := s.operations[s.queue(key)[0].Request.ID]
		if head.Amount <= balance.Actual || !patient(s.queue(key)[0].Request) {
			t.Fatalf("%+v could go on with %+v", head, balance)
		}
	}
	// All of it once more changes nothing. The goods' messages are left out: one that came before its order would find it
	// now.
	before := maps.Clone(s.balances)
	s.settleAt(now, slices.DeleteFunc(history, func(r ledger.Request) bool { return r.Kind() == ledger.KindResume || r.Kind() == ledger.KindInventory }))
	if !maps.Equal(before, s.balances) {
		t.Fatalf("repeated, it has other balances: %v instead of %v", s.balances, before)
	}
}

// patient tells whether a request waits for money of its own accord.
func patient(r ledger.Request) bool {
	switch c := r.Command.(type) {
	case ledger.Withdrawal:
		return c.WaitForFunds
	case ledger.Payment:
		return c.WaitForFunds
	}
	return false
}

// checkQueues expects the debits of each balance in the order in which they were accepted, but for those that waited
// for goods.
func (s *state) checkQueues(t interface{ Fatalf(string, ...any) }) {
	last := map[ledger.Key]int64{}
	for _, e := range s.entries {
		op := s.operations[e.OperationID]
		debits := []ledger.Kind{ledger.KindWithdrawal, ledger.KindTransfer, ledger.KindHoldFunds, ledger.KindPayment}
		debit := slices.Contains(debits, op.Kind)
		if !debit || e.Amount >= 0 || ledger.IsSystem(e.AccountID) || s.awaited(op) {
			continue
		}
		if op.Seq < last[e.Key] {
			t.Fatalf("operation %+v was overtaken by number %d", op, last[e.Key])
		}
		last[e.Key] = op.Seq
	}
}

func (s *state) awaited(op ledger.Operation) bool {
	return slices.ContainsFunc(s.payments, func(p ledger.OrderPayment) bool { return p.OrderID == op.ID && p.Reason == ledger.WaitingForInventory })
}

// What was earned may be given back, so there is room for it whatever has come in since: a cancellation always takes
// effect.
func TestThereIsRoomForWhatComesBack(t *testing.T) {
	t.Parallel()
	const most = math.MaxInt64
	s := newScript()
	for n := range 4 {
		for amount := int64(most); amount > 0; amount /= 2 {
			s.deposit(amount)
		}
		s.order(n+1, 1).order(100+n, most/8, manual).confirm(100+n, 0)
	}
	for amount := int64(most); amount > 0; amount /= 2 {
		s.deposit(amount)
	}
	for n := range 4 {
		s.cancel(n+1, 1).cancel(100+n, most/8, manual)
		if p, q := s.orders[id(n+1)], s.orders[id(100+n)]; p.Status != contract.PaymentCancelled || q.Status != contract.PaymentCancelled && q.Status != contract.PaymentFailed {
			t.Errorf("%+v, %+v", p, q)
		}
	}
	s.check(t)
	s.checkSaga(t)
}

// A waiting request ends in one way: by a credit, by its deadline or by being cancelled, whatever comes first. The
// record of a cancellation keeps what it has found.
func TestAWaitingOperationEndsOnce(t *testing.T) {
	t.Parallel()
	const never = -1
	for name, test := range map[string]struct {
		script *script
		reason ledger.Reason // with which the operation of request n ended
		n      int
		last   ledger.Reason // of the last request
		actual int64
	}{
		"cancelled":                      {newScript().deposit(5).withdraw(8, true).end(2), ledger.Cancelled, 2, "", 5},
		"cancelled before money":         {newScript().deposit(5).withdraw(8, true).end(2).deposit(5), ledger.Cancelled, 2, "", 10},
		"cancelled after money":          {newScript().deposit(5).withdraw(8, true).deposit(5).end(2), "", 2, ledger.OperationFinal, 2},
		"cancelled after its time":       {newScript().withdraw(8, true).later(24 * time.Hour).end(1), ledger.PastDeadline, 1, ledger.OperationFinal, 0},
		"its time after being cancelled": {newScript().withdraw(8, true).end(1).later(24 * time.Hour), ledger.Cancelled, 1, "", 0},
		"cancelled twice":                {newScript().withdraw(8, true).end(1).end(1), ledger.Cancelled, 1, ledger.OperationFinal, 0},
		"cancelled behind another one":   {newScript().deposit(5).withdraw(8, true).withdraw(2, false).end(3).deposit(3), ledger.Cancelled, 3, "", 0},
		"cancelled when it is done":      {newScript().deposit(5).withdraw(5, true).end(2), "", 2, ledger.OperationFinal, 0},
		"cancelled when it was refused":  {newScript().withdraw(5, false).end(1), ledger.InsufficientFunds, 1, ledger.OperationFinal, 0},
		"a cancellation is nothing to cancel": {newScript().withdraw(8, true).end(1).end(2), ledger.Cancelled, 1,
			ledger.OperationNotFound, 0},
		"cancelled by another account": {newScript().withdraw(8, true).do(ledger.Request{AccountID: id(2), Command: ledger.CancelOperation{OperationID: id(10_001)}}),
			ledger.WaitingForFunds, 1, ledger.OperationNotFound, 0},
		"nothing": {newScript().ask(ledger.CancelOperation{OperationID: id(3)}), "", never, ledger.OperationNotFound, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := test.script
			s.check(t)
			s.checkSaga(t)
			if test.n != never {
				op := s.operations[s.requests[test.n].ID]
				if op.Reason != test.reason || (op.Note != "") != (op.Reason == ledger.Cancelled) {
					t.Errorf("it ended with %q and the note %q, want %q", op.Reason, op.Note, test.reason)
				}
			}
			if op := s.results[len(s.results)-1]; op.Reason != test.last {
				t.Errorf("the last request ended with %q, want %q", op.Reason, test.last)
			}
			if b := s.balances[ledger.Key{AccountID: id(1), Currency: "RUB", Lane: contract.Lane(id(1))}]; b.Actual != test.actual || b.Waiting > 1 {
				t.Errorf("%+v is left, want %d", b, test.actual)
			}
		})
	}
}
