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

// settle applies one batch as the worker does: what References and Needs name is loaded, nothing else.
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
		refs := r.References()
		if h, ok := s.holds[refs.Hold]; ok {
			book.PutHold(h)
		}
		if p, ok := s.orders[refs.Order]; ok {
			book.PutPayment(p)
		}
		if w, ok := s.waits[refs.Wait]; ok {
			book.PutWait(w)
		}
		for _, id := range []uuid.UUID{r.ID, refs.Operation} {
			if op, ok := s.operations[id]; ok {
				book.PutOperation(op)
			}
		}
	}
	for _, r := range requests {
		if key := r.References().Queue; key != (ledger.Key{}) {
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
	needs := book.Needs(requests)
	for id := range needs.Accounts {
		if account, ok := s.accounts[id]; ok {
			book.PutAccount(account)
		}
	}
	for key := range needs.Balances {
		if balance, ok := s.balances[key]; ok {
			book.PutBalance(key, balance)
		}
	}
}

// queue is what waits for money of a balance.
func (s *state) queue(key ledger.Key) (queue []ledger.Wait) {
	for _, w := range s.waits {
		if w.For == ledger.WaitingForFunds && w.Key() == key {
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
			waiting[w.Key()]++
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
	}
	hold := func() uuid.UUID { return id(1000 + rapid.IntRange(0, n).Draw(t, "hold")) }
	currency := func() string { return rapid.SampledFrom(currencies).Draw(t, "currency") }
	amount := func() int64 {
		return rapid.OneOf(rapid.Int64Range(1, 100), rapid.Int64Range(math.MaxInt64/2-100, math.MaxInt64/2+1),
			rapid.Int64Range(math.MaxInt64-100, math.MaxInt64)).Draw(t, "amount")
	}
	switch rapid.SampledFrom([]ledger.Kind{
		ledger.KindCreateAccount, ledger.KindDeposit, ledger.KindDeposit, ledger.KindWithdrawal, ledger.KindTransfer, ledger.KindPayment,
		ledger.KindHoldFunds, ledger.KindHoldFunds, ledger.KindCapture, ledger.KindRelease, ledger.KindExpire,
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
	twice.settle(slices.DeleteFunc(slices.Clone(requests), func(r ledger.Request) bool { return r.Kind() == ledger.KindExpire }))
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
	request := func(account uuid.UUID, c ledger.Command) ledger.Request {
		return ledger.Request{AccountID: account, Command: c}
	}
	open := func(account uuid.UUID) ledger.Request { return request(account, ledger.CreateAccount{}) }
	deposit := func(account uuid.UUID, amount int64) ledger.Request {
		return request(account, ledger.Deposit{Currency: rub, Amount: amount})
	}
	withdraw := func(account uuid.UUID, amount int64) ledger.Request {
		return request(account, ledger.Withdrawal{Currency: rub, Amount: amount})
	}
	pay := func(account uuid.UUID, amount int64) ledger.Request {
		return request(account, ledger.Payment{Currency: rub, Amount: amount})
	}
	hold := func(account uuid.UUID, amount int64) ledger.Request {
		return request(account, ledger.HoldFunds{Currency: rub, Amount: amount})
	}
	transfer := func(from, to uuid.UUID, amount int64) ledger.Request {
		return request(from, ledger.Transfer{Currency: rub, Amount: amount, ToAccountID: to})
	}
	// Of the hold that request n makes.
	capture := func(account uuid.UUID, n int, amount int64) ledger.Request {
		return request(account, ledger.Capture{HoldID: id(100 + n), Amount: amount})
	}
	release := func(account uuid.UUID, n int) ledger.Request {
		return request(account, ledger.Release{HoldID: id(100 + n)})
	}
	a, b, stranger := id(1), id(2), id(3)
	for name, test := range map[string]struct {
		requests []ledger.Request
		reasons  []ledger.Reason // of each request; "" for success
		a, b     int64           // what is left
	}{
		"a deposit and a payment":     {[]ledger.Request{open(a), deposit(a, 100), pay(a, 60)}, []ledger.Reason{"", "", ""}, 40, 0},
		"to the last unit":            {[]ledger.Request{open(a), deposit(a, 100), pay(a, 100), pay(a, 1)}, []ledger.Reason{"", "", "", ledger.InsufficientFunds}, 0, 0},
		"more than there is":          {[]ledger.Request{open(a), deposit(a, 100), withdraw(a, 101)}, []ledger.Reason{"", "", ledger.InsufficientFunds}, 100, 0},
		"in the order of arrival":     {[]ledger.Request{open(a), pay(a, 1), deposit(a, 1)}, []ledger.Reason{"", ledger.InsufficientFunds, ""}, 1, 0},
		"an account that is not open": {[]ledger.Request{deposit(stranger, 1), pay(stranger, 1)}, []ledger.Reason{ledger.AccountNotFound, ledger.AccountNotFound}, 0, 0},
		"opened twice":                {[]ledger.Request{open(a), open(a)}, []ledger.Reason{"", ledger.AccountExists}, 0, 0},
		"the example of four commands": {[]ledger.Request{open(a), open(b), deposit(a, 77700), transfer(a, b, 11100)},
			[]ledger.Reason{"", "", "", ""}, 66600, 11100},
		"a transfer to nobody":       {[]ledger.Request{open(a), deposit(a, 5), transfer(a, stranger, 5)}, []ledger.Reason{"", "", ledger.AccountNotFound}, 5, 0},
		"a transfer to oneself":      {[]ledger.Request{open(a), deposit(a, 5), transfer(a, a, 5)}, []ledger.Reason{"", "", ledger.SameAccount}, 5, 0},
		"a balance beyond the most":  {[]ledger.Request{open(a), deposit(a, most), deposit(a, 1)}, []ledger.Reason{"", "", ledger.BalanceTooLarge}, most, 0},
		"a transfer beyond the most": {[]ledger.Request{open(a), open(b), deposit(a, 1), deposit(b, most), transfer(a, b, 1)}, []ledger.Reason{"", "", "", "", ledger.BalanceTooLarge}, 1, most},
		"what is held cannot be spent": {[]ledger.Request{open(a), open(b), deposit(a, 100), hold(a, 60), withdraw(a, 41), hold(a, 41), transfer(a, b, 41), withdraw(a, 40)},
			[]ledger.Reason{"", "", "", "", ledger.InsufficientFunds, ledger.InsufficientFunds, ledger.InsufficientFunds, ""}, 0, 0},
		"a hold is captured whole": {[]ledger.Request{open(a), deposit(a, 100), hold(a, 60), capture(a, 2, 0), release(a, 2)},
			[]ledger.Reason{"", "", "", "", ledger.HoldNotOpen}, 40, 0},
		"a hold is captured in part": {[]ledger.Request{open(a), deposit(a, 100), hold(a, 60), capture(a, 2, 61), capture(a, 2, 25), capture(a, 2, 1)},
			[]ledger.Reason{"", "", "", ledger.AmountExceedsHold, "", ledger.HoldNotOpen}, 75, 0},
		"a hold is released": {[]ledger.Request{open(a), deposit(a, 100), hold(a, 60), release(a, 2), capture(a, 2, 0)},
			[]ledger.Reason{"", "", "", "", ledger.HoldNotOpen}, 100, 0},
		"another's hold": {[]ledger.Request{open(a), open(b), deposit(a, 100), hold(a, 60), capture(b, 3, 0), release(b, 9)},
			[]ledger.Reason{"", "", "", "", ledger.HoldNotFound, ledger.HoldNotFound}, 40, 0},
		"no room for what may come back": {[]ledger.Request{open(a), deposit(a, most), hold(a, 10), deposit(a, 1), release(a, 2)},
			[]ledger.Reason{"", "", "", ledger.BalanceTooLarge, ""}, most, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newState()
			for i := range test.requests {
				r := &test.requests[i]
				r.ID, r.Lane, r.Seq = id(100+i), contract.Lane(r.AccountID), int64(i+1)
				if c, ok := r.Command.(ledger.Payment); ok {
					c.OrderID = r.ID
					r.Command = c
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
	request := func(n int, c ledger.Command) ledger.Request {
		return ledger.Request{ID: id(n), AccountID: a, Lane: contract.Lane(a), ReceivedAt: now, Command: c}
	}
	capture, expire := request(13, ledger.Capture{HoldID: id(12)}), request(14, ledger.Expire{HoldID: id(12)})
	begin := []ledger.Request{
		request(10, ledger.CreateAccount{}), request(11, ledger.Deposit{Currency: "RUB", Amount: 10}),
		request(12, ledger.HoldFunds{Currency: "RUB", Amount: 10, ExpiresIn: time.Minute}),
	}

	captured := newState()
	captured.settle(append(begin, capture, expire))
	if h := captured.holds[id(12)]; h.Status != ledger.Captured || h.Captured != 10 || !h.ExpiresAt.Equal(now.Add(time.Minute)) || len(captured.operations) != 4 {
		t.Errorf("captured first: %+v, %d operations", h, len(captured.operations))
	}
	expired := newState()
	expired.settle(append(begin, expire))
	if h := expired.holds[id(12)]; h.Status != ledger.Open {
		t.Errorf("before its time: %+v", h)
	}
	expired.settleAt(now.Add(time.Minute), []ledger.Request{expire, capture})
	if h, op := expired.holds[id(12)], expired.operations[id(14)]; h.Status != ledger.Expired || op.Kind != ledger.KindRelease || op.Status != ledger.Success ||
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
		return ledger.Request{ID: id(n), AccountID: a, Lane: contract.Lane(a), Command: ledger.Payment{
			OrderID: id(n), Currency: "RUB", Amount: amount, Capture: contract.CaptureAutomatic,
		}}
	}
	s.settle([]ledger.Request{
		{ID: id(10), AccountID: a, Lane: contract.Lane(a), Command: ledger.CreateAccount{}},
		{ID: id(11), AccountID: a, Lane: contract.Lane(a), Command: ledger.Deposit{Currency: "RUB", Amount: 10}},
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

// number makes an ID of a number, faster than id.
func number(n int) uuid.UUID {
	var out uuid.UUID
	binary.BigEndian.PutUint64(out[8:], uint64(n)+1000)
	return out
}
