package ledger_test

import (
	"cmp"
	"encoding/binary"
	"flag"
	"fmt"
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

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// state is what a database would keep: it plays its part between the batches.
type state struct {
	operations map[uuid.UUID]ledger.Operation
	accounts   map[uuid.UUID]ledger.Account
	balances   map[ledger.Key]ledger.Balance
	holds      map[uuid.UUID]ledger.Hold
	entries    []ledger.Entry
	payments   []ledger.OrderPayment // every version, in the order in which it came to be
	orders     map[uuid.UUID]ledger.OrderPayment
	waits      map[uuid.UUID]ledger.Wait
	resumes    []ledger.Key // that were asked for and not settled yet

	computed map[ledger.Key]ledger.Balance // by check, from the entries alone
	checked  int                           // entries that check has seen
}

func newState() *state {
	return &state{
		operations: map[uuid.UUID]ledger.Operation{}, accounts: map[uuid.UUID]ledger.Account{}, balances: map[ledger.Key]ledger.Balance{},
		holds: map[uuid.UUID]ledger.Hold{}, orders: map[uuid.UUID]ledger.OrderPayment{}, waits: map[uuid.UUID]ledger.Wait{},
		computed: map[ledger.Key]ledger.Balance{},
	}
}

// settle applies one batch as the worker does: what Refers and Needs name is loaded, nothing else.
func (s *state) settle(requests []ledger.Request) []ledger.Operation {
	return s.settleAt(now, requests)
}

// served is how much of a queue one Resume gets to see.
const served = 3

func (s *state) settleAt(now time.Time, requests []ledger.Request) []ledger.Operation {
	book := ledger.NewBook(now, len(requests))
	s.load(book, requests)
	results := make([]ledger.Operation, len(requests))
	for i, r := range requests {
		if op := book.Apply(r); op != nil {
			results[i] = *op
		}
	}
	s.save(book.Changes())
	return results
}

func (s *state) load(book *ledger.Book, requests []ledger.Request) {
	for _, r := range requests {
		hold, order, wait := r.Refers()
		if h, ok := s.holds[hold]; ok {
			book.PutHold(h)
		}
		if p, ok := s.orders[order]; ok {
			book.PutPayment(p)
		}
		if w, ok := s.waits[wait]; ok {
			book.PutWait(w)
		}
	}
	for _, r := range requests {
		if key := (ledger.Key{AccountID: r.AccountID, Currency: r.Currency, Lane: r.Lane}); r.Kind == ledger.Resume {
			queue := s.queue(key)
			queue = queue[:min(len(queue), served)]
			book.PutQueue(key, queue)
			for _, w := range queue {
				if p, ok := s.orders[w.Request.ID]; ok {
					book.PutPayment(p)
				}
			}
		}
	}
	for _, r := range requests {
		for _, id := range []uuid.UUID{r.ID, r.OperationID} {
			if op, ok := s.operations[id]; ok {
				book.PutOperation(op)
			}
		}
		accounts, takes, gives := book.Needs(r)
		for _, id := range accounts {
			if account, ok := s.accounts[id]; ok {
				book.PutAccount(account)
			}
		}
		for _, key := range append(takes, gives...) {
			if balance, ok := s.balances[key]; ok {
				book.PutBalance(key, balance)
			}
		}
	}
}

// queue is what waits for money of a balance.
func (s *state) queue(key ledger.Key) (queue []ledger.Wait) {
	for _, w := range s.waits {
		if w.For == ledger.WaitingForFunds && w.Request.AccountID == key.AccountID && w.Request.Currency == key.Currency {
			queue = append(queue, w)
		}
	}
	slices.SortFunc(queue, func(a, b ledger.Wait) int { return cmp.Compare(a.Seq, b.Seq) })
	return queue
}

// save is as strict as the database: what is new is not there yet, what changes is.
func (s *state) save(changes ledger.Changes) {
	expect := func(ok bool, what any) {
		if !ok {
			panic(fmt.Sprintf("cannot be stored: %+v", what))
		}
	}
	for _, a := range changes.Accounts {
		s.accounts[a.ID] = a
	}
	for _, op := range changes.Operations {
		_, there := s.operations[op.ID]
		expect(!there, op)
		s.operations[op.ID] = *op
	}
	for _, c := range changes.Completed {
		expect(s.operations[c.Operation.ID].Status == ledger.Created, c)
		s.operations[c.Operation.ID] = *c.Operation
	}
	maps.Copy(s.balances, changes.Balances)
	for id, hold := range changes.Holds {
		s.holds[id] = *hold
	}
	for _, w := range changes.Ended {
		_, there := s.waits[w.Request.ID]
		expect(there, w)
		delete(s.waits, w.Request.ID)
	}
	for id, w := range changes.Waits {
		_, there := s.waits[id]
		expect(!there, w)
		s.waits[id] = *w
	}
	for _, p := range changes.Payments {
		s.orders[p.OrderID] = p
	}
	for key := range changes.Resumes {
		s.resumes = append(s.resumes, key)
	}
	s.entries = append(s.entries, changes.Entries...)
	s.payments = append(s.payments, changes.Payments...)
}

// check holds what must always be true of the entries since the last check.
func (s *state) check(t interface{ Fatalf(string, ...any) }) {
	var operation uuid.UUID // whose entries are being summed: they stand together, and are of one currency
	var sum int64
	for _, e := range s.entries[s.checked:] {
		if e.OperationID != operation {
			if sum != 0 {
				t.Fatalf("the entries of %v sum to %d", operation, sum)
			}
			operation, sum = e.OperationID, 0
		}
		sum += e.Amount + e.Frozen
		b := s.computed[e.Key]
		b.Actual, b.Frozen, b.Entries = b.Actual+e.Amount, b.Frozen+e.Frozen, b.Entries+1
		if e.Number != b.Entries || e.BalanceAfter != b.Actual || e.FrozenAfter != b.Frozen {
			t.Fatalf("entry %+v does not follow: %+v", e, b)
		}
		if !ledger.IsSystem(e.AccountID) && (b.Actual < 0 || b.Frozen < 0) {
			t.Fatalf("entry %+v leaves less than nothing: %+v", e, b)
		}
		if s.operations[e.OperationID].Status != ledger.Success {
			t.Fatalf("entry %+v of an operation that did not succeed", e)
		}
		s.computed[e.Key] = b
	}
	s.checked = len(s.entries)
	if sum != 0 {
		t.Fatalf("the entries of %v sum to %d", operation, sum)
	}
	waiting := map[ledger.Key]int64{}
	for _, w := range s.waits {
		if w.For == ledger.WaitingForFunds {
			waiting[ledger.Key{AccountID: w.Request.AccountID, Currency: w.Request.Currency, Lane: w.Request.Lane}]++
		}
	}
	frozen := map[ledger.Key]int64{}
	for _, hold := range s.holds {
		if hold.Status == ledger.Open {
			frozen[ledger.Key{AccountID: hold.AccountID, Currency: hold.Currency, Lane: hold.Lane}] += hold.Amount
		}
	}
	for key, balance := range s.balances {
		if balance.Frozen != frozen[key] {
			t.Fatalf("%v has %d frozen, its open holds are %d", key, balance.Frozen, frozen[key])
		}
		if balance.Waiting != waiting[key] {
			t.Fatalf("%v says that %d wait, but it is %d", key, balance.Waiting, waiting[key])
		}
		if balance.Waiting = 0; balance != s.computed[key] {
			t.Fatalf("%v has %v, by the entries %v", key, balance, s.computed[key])
		}
	}
}

// A small world, so that requests meet: few accounts, amounts about as large as the balances.
var (
	accounts   = []uuid.UUID{id(1), id(2), id(3), id(4)}
	currencies = []string{"RUB", "USDT"}
)

func id(n int) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, n)) }

func drawRequest(t *rapid.T, n int) ledger.Request {
	account := rapid.SampledFrom(accounts).Draw(t, "account")
	r := ledger.Request{
		// Few IDs, so that some requests are repeated.
		ID: id(1000 + rapid.IntRange(0, n).Draw(t, "id")), AccountID: account, Lane: contract.Lane(account), ReceivedAt: now,
		Kind: rapid.SampledFrom([]ledger.Kind{
			ledger.CreateAccount, ledger.Deposit, ledger.Deposit, ledger.Withdraw, ledger.Transfer, ledger.Payment,
			ledger.HoldFunds, ledger.HoldFunds, ledger.Capture, ledger.Release, ledger.Expire,
		}).Draw(t, "kind"),
	}
	switch r.Kind {
	case ledger.CreateAccount:
		return r
	case ledger.Capture, ledger.Release, ledger.Expire:
		r.HoldID = id(1000 + rapid.IntRange(0, n).Draw(t, "hold"))
		if r.Kind == ledger.Capture {
			r.Amount = rapid.Int64Range(0, 100).Draw(t, "captured")
		}
		return r
	}
	r.Currency = rapid.SampledFrom(currencies).Draw(t, "currency")
	r.Amount = rapid.OneOf(rapid.Int64Range(1, 100), rapid.Int64Range(math.MaxInt64/2-100, math.MaxInt64/2+1), rapid.Int64Range(math.MaxInt64-100, math.MaxInt64)).Draw(t, "amount")
	switch r.Kind {
	case ledger.Transfer:
		r.ToAccountID = rapid.SampledFrom(accounts).Draw(t, "payee")
	case ledger.Payment:
		r.OrderID, r.Capture = r.ID, contract.CaptureAutomatic
	case ledger.HoldFunds:
		if rapid.Bool().Draw(t, "past its time") {
			r.ReceivedAt, r.ExpiresIn = now.Add(-time.Hour), time.Minute
		}
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

// However a sequence of requests is cut into batches, and however often each is repeated, the results are the same, sums
// are zero and no client has less than nothing.
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
	twice.settle(slices.DeleteFunc(slices.Clone(requests), func(r ledger.Request) bool { return r.Kind == ledger.Expire }))
	for _, other := range []*state{all, split, twice} {
		other.check(t)
		if !maps.Equal(other.balances, one.balances) || !maps.Equal(other.operations, one.operations) ||
			!slices.Equal(other.entries, one.entries) || !slices.Equal(other.payments, one.payments) || !maps.Equal(other.holds, one.holds) {
			t.Fatalf("another end: %+v\none by one: %+v", other, one)
		}
	}
}

func TestRules(t *testing.T) {
	const rub, most = "RUB", math.MaxInt64 / 2
	open := func(account uuid.UUID) ledger.Request {
		return ledger.Request{AccountID: account, Kind: ledger.CreateAccount}
	}
	ask := func(kind ledger.Kind, account uuid.UUID, amount int64) ledger.Request {
		return ledger.Request{AccountID: account, Kind: kind, Currency: rub, Amount: amount}
	}
	transfer := func(from, to uuid.UUID, amount int64) ledger.Request {
		r := ask(ledger.Transfer, from, amount)
		r.ToAccountID = to
		return r
	}
	a, b, stranger := id(1), id(2), id(3)
	of := func(kind ledger.Kind, account uuid.UUID, n int, amount int64) ledger.Request { // of the hold that request n makes
		return ledger.Request{AccountID: account, Kind: kind, HoldID: id(100 + n), Amount: amount}
	}
	for name, test := range map[string]struct {
		requests []ledger.Request
		reasons  []ledger.Reason // of each request; "" for success
		a, b     int64           // what is left
	}{
		"a deposit and a payment":     {[]ledger.Request{open(a), ask(ledger.Deposit, a, 100), ask(ledger.Payment, a, 60)}, []ledger.Reason{"", "", ""}, 40, 0},
		"to the last unit":            {[]ledger.Request{open(a), ask(ledger.Deposit, a, 100), ask(ledger.Payment, a, 100), ask(ledger.Payment, a, 1)}, []ledger.Reason{"", "", "", ledger.InsufficientFunds}, 0, 0},
		"more than there is":          {[]ledger.Request{open(a), ask(ledger.Deposit, a, 100), ask(ledger.Withdraw, a, 101)}, []ledger.Reason{"", "", ledger.InsufficientFunds}, 100, 0},
		"in the order of arrival":     {[]ledger.Request{open(a), ask(ledger.Payment, a, 1), ask(ledger.Deposit, a, 1)}, []ledger.Reason{"", ledger.InsufficientFunds, ""}, 1, 0},
		"an account that is not open": {[]ledger.Request{ask(ledger.Deposit, stranger, 1), ask(ledger.Payment, stranger, 1)}, []ledger.Reason{ledger.AccountNotFound, ledger.AccountNotFound}, 0, 0},
		"opened twice":                {[]ledger.Request{open(a), open(a)}, []ledger.Reason{"", ledger.AccountExists}, 0, 0},
		"the example of four commands": {[]ledger.Request{open(a), open(b), ask(ledger.Deposit, a, 77700), transfer(a, b, 11100)},
			[]ledger.Reason{"", "", "", ""}, 66600, 11100},
		"a transfer to nobody":       {[]ledger.Request{open(a), ask(ledger.Deposit, a, 5), transfer(a, stranger, 5)}, []ledger.Reason{"", "", ledger.AccountNotFound}, 5, 0},
		"a transfer to oneself":      {[]ledger.Request{open(a), ask(ledger.Deposit, a, 5), transfer(a, a, 5)}, []ledger.Reason{"", "", ledger.SameAccount}, 5, 0},
		"a balance beyond the most":  {[]ledger.Request{open(a), ask(ledger.Deposit, a, most), ask(ledger.Deposit, a, 1)}, []ledger.Reason{"", "", ledger.BalanceTooLarge}, most, 0},
		"a transfer beyond the most": {[]ledger.Request{open(a), open(b), ask(ledger.Deposit, a, 1), ask(ledger.Deposit, b, most), transfer(a, b, 1)}, []ledger.Reason{"", "", "", "", ledger.BalanceTooLarge}, 1, most},
		"what is held cannot be spent": {[]ledger.Request{open(a), open(b), ask(ledger.Deposit, a, 100), ask(ledger.HoldFunds, a, 60), ask(ledger.Withdraw, a, 41), ask(ledger.HoldFunds, a, 41), transfer(a, b, 41), ask(ledger.Withdraw, a, 40)},
			[]ledger.Reason{"", "", "", "", ledger.InsufficientFunds, ledger.InsufficientFunds, ledger.InsufficientFunds, ""}, 0, 0},
		"a hold is captured whole": {[]ledger.Request{open(a), ask(ledger.Deposit, a, 100), ask(ledger.HoldFunds, a, 60), of(ledger.Capture, a, 2, 0), of(ledger.Release, a, 2, 0)},
			[]ledger.Reason{"", "", "", "", ledger.HoldNotOpen}, 40, 0},
		"a hold is captured in part": {[]ledger.Request{open(a), ask(ledger.Deposit, a, 100), ask(ledger.HoldFunds, a, 60), of(ledger.Capture, a, 2, 61), of(ledger.Capture, a, 2, 25), of(ledger.Capture, a, 2, 1)},
			[]ledger.Reason{"", "", "", ledger.AmountExceedsHold, "", ledger.HoldNotOpen}, 75, 0},
		"a hold is released": {[]ledger.Request{open(a), ask(ledger.Deposit, a, 100), ask(ledger.HoldFunds, a, 60), of(ledger.Release, a, 2, 0), of(ledger.Capture, a, 2, 0)},
			[]ledger.Reason{"", "", "", "", ledger.HoldNotOpen}, 100, 0},
		"another's hold": {[]ledger.Request{open(a), open(b), ask(ledger.Deposit, a, 100), ask(ledger.HoldFunds, a, 60), of(ledger.Capture, b, 3, 0), of(ledger.Release, b, 9, 0)},
			[]ledger.Reason{"", "", "", "", ledger.HoldNotFound, ledger.HoldNotFound}, 40, 0},
		"no room for what may come back": {[]ledger.Request{open(a), ask(ledger.Deposit, a, most), ask(ledger.HoldFunds, a, 10), ask(ledger.Deposit, a, 1), of(ledger.Release, a, 2, 0)},
			[]ledger.Reason{"", "", "", ledger.BalanceTooLarge, ""}, most, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newState()
			for i := range test.requests {
				r := &test.requests[i]
				r.ID, r.Lane, r.Seq = id(100+i), contract.Lane(r.AccountID), int64(i+1)
				if r.Kind == ledger.Payment {
					r.OrderID = r.ID
				}
			}
			for i, op := range s.settle(test.requests) {
				if op.Reason != test.reasons[i] || (op.Status == ledger.Success) != (op.Reason == "") {
					t.Errorf("request %d ended with %s %q, want %q", i, op.Status, op.Reason, test.reasons[i])
				}
			}
			s.check(t)
			for account, want := range map[uuid.UUID]int64{a: test.a, b: test.b} {
				if got := s.balances[ledger.Key{AccountID: account, Currency: rub, Lane: contract.Lane(account)}].Actual; got != want {
					t.Errorf("%d is left, want %d", got, want)
				}
			}
		})
	}
}

// Whoever comes first ends a hold; an expiry that comes second leaves no trace.
func TestExpiryAndCapture(t *testing.T) {
	a := id(1)
	request := func(n int, kind ledger.Kind, amount int64) ledger.Request {
		r := ledger.Request{ID: id(n), AccountID: a, Lane: contract.Lane(a), Kind: kind, Currency: "RUB", Amount: amount, ReceivedAt: now, ExpiresIn: time.Minute}
		if kind == ledger.Capture || kind == ledger.Expire {
			r.HoldID, r.Currency = id(12), ""
		}
		return r
	}
	begin := []ledger.Request{request(10, ledger.CreateAccount, 0), request(11, ledger.Deposit, 10), request(12, ledger.HoldFunds, 10)}

	captured := newState()
	captured.settle(append(begin, request(13, ledger.Capture, 0), request(14, ledger.Expire, 0)))
	if h := captured.holds[id(12)]; h.Status != ledger.Captured || h.Captured != 10 || !h.ExpiresAt.Equal(now.Add(time.Minute)) || len(captured.operations) != 4 {
		t.Errorf("captured first: %+v, %d operations", h, len(captured.operations))
	}
	expired := newState()
	expired.settle(append(begin, request(14, ledger.Expire, 0)))
	if h := expired.holds[id(12)]; h.Status != ledger.Open {
		t.Errorf("before its time: %+v", h)
	}
	expired.settleAt(now.Add(time.Minute), []ledger.Request{request(14, ledger.Expire, 0), request(13, ledger.Capture, 0)})
	if h, op := expired.holds[id(12)], expired.operations[id(14)]; h.Status != ledger.Expired || op.Kind != ledger.Release || op.Status != ledger.Success ||
		expired.operations[id(13)].Reason != ledger.HoldNotOpen {
		t.Errorf("expired first: %+v, %+v", h, op)
	}
	for _, s := range []*state{captured, expired} {
		s.check(t)
	}
}

func TestPaymentTellsItsOrder(t *testing.T) {
	s := newState()
	a := id(1)
	pay := func(n int, amount int64) ledger.Request {
		return ledger.Request{ID: id(n), OrderID: id(n), AccountID: a, Lane: contract.Lane(a), Kind: ledger.Payment, Currency: "RUB",
			Amount: amount, Capture: contract.CaptureAutomatic}
	}
	s.settle([]ledger.Request{
		{ID: id(10), AccountID: a, Lane: contract.Lane(a), Kind: ledger.CreateAccount},
		{ID: id(11), AccountID: a, Lane: contract.Lane(a), Kind: ledger.Deposit, Currency: "RUB", Amount: 10},
		pay(12, 7), pay(13, 7), pay(12, 7),
	})
	want := []ledger.OrderPayment{
		{OrderID: id(12), AccountID: a, Lane: contract.Lane(a), Currency: "RUB", Amount: 7, Capture: contract.CaptureAutomatic,
			Status: contract.PaymentSucceeded, Captured: 7, Version: 1, CreatedAt: now, UpdatedAt: now},
		{OrderID: id(13), AccountID: a, Lane: contract.Lane(a), Currency: "RUB", Amount: 7, Capture: contract.CaptureAutomatic,
			Status: contract.PaymentFailed, Reason: ledger.InsufficientFunds, Version: 1, CreatedAt: now, UpdatedAt: now},
	}
	if !slices.Equal(s.payments, want) {
		t.Errorf("payments %+v\nwant %+v", s.payments, want)
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
			r := ledger.Request{ID: number(clients + n), AccountID: client(), Seq: int64(n), ReceivedAt: now,
				Currency: currencies[random.IntN(2)], Amount: 1 + random.Int64N(1000)}
			r.Lane = contract.Lane(r.AccountID)
			switch random.IntN(10) {
			case 0:
				r.Kind, r.Currency, r.Amount = ledger.CreateAccount, "", 0
			case 1, 2, 3:
				r.Kind = ledger.Deposit
			case 4:
				r.Kind = ledger.Withdraw
			case 5, 6:
				r.Kind, r.ToAccountID = ledger.Transfer, client()
			default:
				r.Kind, r.OrderID = ledger.Payment, r.ID
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

// number makes an ID of a number, faster than id.
func number(n int) uuid.UUID {
	var out uuid.UUID
	binary.BigEndian.PutUint64(out[8:], uint64(n)+1000)
	return out
}
