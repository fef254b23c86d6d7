package ledger_test

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

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
		operations: map[uuid.UUID]ledger.Operation{}, accounts: map[uuid.UUID]ledger.Account{},
		balances: map[ledger.Key]ledger.Balance{}, holds: map[uuid.UUID]ledger.Hold{},
		orders: map[uuid.UUID]ledger.OrderPayment{}, waits: map[uuid.UUID]ledger.Wait{},
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
		_, there := s.waits[c.Request.ID]
		expect(there, c)
		delete(s.waits, c.Request.ID)
	}
	maps.Copy(s.balances, changes.Balances)
	for id, hold := range changes.Holds {
		s.holds[id] = *hold
	}
	for id, w := range changes.Waits {
		before, there := s.waits[id]
		expect(!there || before.Request.Reply == nil && w.Request.Reply != nil, w)
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

// number makes an ID of a number, faster than id.
func number(n int) uuid.UUID {
	var out uuid.UUID
	binary.BigEndian.PutUint64(out[8:], uint64(n)+1000)
	return out
}

// drain settles what a credit leaves behind, and what follows from that.
func (s *state) drain(at time.Time) {
	for n := 0; len(s.resumes) > 0; n++ {
		key := s.resumes[0]
		s.resumes = s.resumes[1:]
		s.settleAt(at, []ledger.Request{{
			ID: uuid.New(), AccountID: key.AccountID, Lane: key.Lane, ReceivedAt: at,
			Command: ledger.Resume{Currency: key.Currency},
		}})
		if n > 1000 {
			panic("resuming never ends")
		}
	}
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
		if p.Version != versions[p.OrderID]+1 || p.Previous != statuses[p.OrderID] ||
			!ledger.PaymentCanBecome(p.Previous, p.Status) {
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
	return slices.ContainsFunc(s.payments, func(p ledger.OrderPayment) bool {
		return p.OrderID == op.ID && p.Reason == ledger.WaitingForInventory
	})
}
