package ledger_test

import (
	"flag"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
)

func drawRequest(t *rapid.T, n int) ledger.Request {
	account := rapid.SampledFrom(accounts).Draw(t, "account")
	r := ledger.Request{
		// Few IDs, so that some requests are repeated.
		ID: id(1000 + rapid.IntRange(0, n).Draw(t, "id")), AccountID: account, Lane: contract.Lane(account), ReceivedAt: now,
	}
	hold := func() uuid.UUID { return id(1000 + rapid.IntRange(0, n).Draw(t, "hold")) }
	currency := func() string { return rapid.SampledFrom(currencies).Draw(t, "currency") }
	amount := func() int64 {
		return rapid.OneOf(rapid.Int64Range(1, 100), rapid.Int64Range(math.MaxInt64/2-100, math.MaxInt64/2+1),
			rapid.Int64Range(math.MaxInt64-100, math.MaxInt64)).Draw(t, "amount")
	}
	switch rapid.SampledFrom([]ledger.Kind{
		ledger.KindCreateAccount, ledger.KindDeposit, ledger.KindDeposit, ledger.KindWithdrawal, ledger.KindTransfer,
		ledger.KindPayment, ledger.KindHoldFunds, ledger.KindHoldFunds, ledger.KindCapture, ledger.KindRelease,
		ledger.KindExpire,
	}).Draw(t, "kind") {
	case ledger.KindCreateAccount:
		r.Command = ledger.CreateAccount{}
	case ledger.KindDeposit:
		r.Command = ledger.Deposit{Currency: currency(), Amount: amount()}
	case ledger.KindWithdrawal:
		r.Command = ledger.Withdrawal{Currency: currency(), Amount: amount()}
	case ledger.KindTransfer:
		r.Command = ledger.Transfer{
			Currency: currency(), Amount: amount(), ToAccountID: rapid.SampledFrom(accounts).Draw(t, "payee"),
		}
	case ledger.KindPayment:
		r.Command = ledger.Payment{
			Currency: currency(), Amount: amount(), OrderID: r.ID, Capture: contract.CaptureAutomatic,
		}
	case ledger.KindHoldFunds:
		c := ledger.HoldFunds{Currency: currency(), Amount: amount()}
		if rapid.Bool().Draw(t, "past its time") {
			r.ReceivedAt, c.ExpiresIn = now.Add(-time.Hour), time.Minute
		}
		r.Command = c
	case ledger.KindCapture:
		r.Command = ledger.Capture{HoldID: hold(), Amount: rapid.Int64Range(0, 100).Draw(t, "captured")}
	case ledger.KindRelease:
		r.Command = ledger.Release{HoldID: hold()}
	case ledger.KindExpire:
		r.Command = ledger.Expire{HoldID: hold()}
	}
	return r
}

func drawRequests(t *rapid.T) []ledger.Request {
	n := rapid.IntRange(1, 120).Draw(t, "requests")
	requests := make([]ledger.Request, n)
	for i := range requests {
		requests[i] = drawRequest(t, n)
		requests[i].Seq = int64(i + 1)
	}
	return requests
}

// However a sequence of requests is cut into batches, and however often each is repeated, the results are the same,
// sums are zero and no client has less than nothing.
func TestAnyBatchingGivesTheSame(t *testing.T) { rapid.Check(t, anyBatching) }

// FuzzAnyBatching looks for a counterexample guided by coverage: go test -fuzz AnyBatching ./payments/internal/ledger
func FuzzAnyBatching(f *testing.F) { f.Fuzz(rapid.MakeFuzz(anyBatching)) }

func anyBatching(t *rapid.T) {
	requests := drawRequests(t)
	one, all, split, twice := newState(), newState(), newState(), newState()
	var results []ledger.Operation
	for _, r := range requests {
		results = append(results, one.settle([]ledger.Request{r})...)
	}
	one.check(t)

	if got := all.settle(requests); !slices.Equal(got, results) {
		t.Fatalf("all at once: %+v\none by one: %+v", got, results)
	}
	var got []ledger.Operation
	for rest := requests; len(rest) > 0; {
		n := rapid.IntRange(1, len(rest)).Draw(t, "batch")
		got, rest = append(got, split.settle(rest[:n])...), rest[n:]
	}
	if !slices.Equal(got, results) {
		t.Fatalf("in batches: %+v\none by one: %+v", got, results)
	}
	for _, r := range requests {
		twice.settle([]ledger.Request{r, r})
	}
	// An expiry leaves no record: one that came before its hold, as none does in life, would find it now.
	twice.settle(slices.DeleteFunc(slices.Clone(requests),
		func(r ledger.Request) bool { return r.Kind() == ledger.KindExpire }))
	for _, other := range []*state{all, split, twice} {
		other.check(t)
		if !maps.Equal(other.balances, one.balances) || !maps.Equal(other.operations, one.operations) ||
			!slices.Equal(other.entries, one.entries) || !slices.Equal(other.payments, one.payments) ||
			!maps.Equal(other.holds, one.holds) {
			t.Fatalf("another end: %+v\none by one: %+v", other, one)
		}
	}
}

var operations = flag.Int("operations", 200_000, "number of operations that TestManyOperations settles")

// Many random operations of many accounts, in batches of random sizes; the figure is printed.
func TestManyOperations(t *testing.T) {
	const clients, batch = 500, 1000
	random := rand.New(rand.NewPCG(1, 2))
	client := func() uuid.UUID { return number(random.IntN(clients)) }
	s, begin, n := newState(), time.Now(), 0
	for n < *operations {
		requests := make([]ledger.Request, 1+random.IntN(batch))
		for i := range requests {
			n++
			r := ledger.Request{ID: number(clients + n), AccountID: client(), Seq: int64(n), ReceivedAt: now}
			r.Lane = contract.Lane(r.AccountID)
			currency, amount := currencies[random.IntN(2)], 1+random.Int64N(1000)
			switch random.IntN(10) {
			case 0:
				r.Command = ledger.CreateAccount{}
			case 1, 2, 3:
				r.Command = ledger.Deposit{Currency: currency, Amount: amount}
			case 4:
				r.Command = ledger.Withdrawal{Currency: currency, Amount: amount}
			case 5, 6:
				r.Command = ledger.Transfer{Currency: currency, Amount: amount, ToAccountID: client()}
			default:
				r.Command = ledger.Payment{Currency: currency, Amount: amount, OrderID: r.ID}
			}
			if requests[i] = r; i > 0 && random.IntN(20) == 0 {
				requests[i] = requests[random.IntN(i)] // a duplicate
			}
		}
		s.settle(requests)
		s.check(t)
		// What is checked need not be kept.
		s.entries, s.payments, s.checked = nil, nil, 0
		clear(s.operations)
	}
	t.Logf("%d operations in %.1f s", n, time.Since(begin).Seconds())
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
		switch rapid.SampledFrom([]string{
			"deposit", "deposit", "withdraw", "withdraw", "transfer", "hold", "order", "order", "order", "confirm", "reject",
			"refund", "cancel", "end", "end", "inventory", "inventory", "time", "resume", "resume", "repeat",
			"settle", "settle",
		}).Draw(t, "what") {
		case "deposit":
			r.Command = ledger.Deposit{Currency: "RUB", Amount: amount()}
		case "withdraw":
			r.Command = ledger.Withdrawal{Currency: "RUB", Amount: amount(), WaitForFunds: rapid.Bool().Draw(t, "wait")}
		case "transfer":
			r.Command = ledger.Transfer{Currency: "RUB", Amount: amount(),
				ToAccountID: accounts[rapid.IntRange(0, 2).Draw(t, "payee")]}
		case "hold":
			r.Command = ledger.HoldFunds{Currency: "RUB", Amount: amount()}
		case "order":
			r.ID = order
			c := ledger.Payment{OrderID: order, Currency: "RUB", Amount: amount(), AcceptedAt: at,
				Capture: contract.CaptureAutomatic}
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
			pauses := []time.Duration{time.Minute, time.Hour, 25 * time.Hour, 8 * 24 * time.Hour}
			at = at.Add(rapid.SampledFrom(pauses).Draw(t, "later"))
			for _, hold := range s.holds {
				accept(ledger.Request{ID: uuid.New(), AccountID: hold.AccountID, Lane: hold.Lane,
					Command: ledger.Expire{HoldID: hold.ID}})
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
	s.settleAt(now, slices.DeleteFunc(history, func(r ledger.Request) bool {
		return r.Kind() == ledger.KindResume || r.Kind() == ledger.KindInventory
	}))
	if !maps.Equal(before, s.balances) {
		t.Fatalf("repeated, it has other balances: %v instead of %v", s.balances, before)
	}
}
