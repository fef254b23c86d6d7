package billing_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// Whoever asks again is answered with the present state, as the same event; whoever only delivers again is not.
func TestARepetitionIsAnsweredWithThePresentState(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("1000.00")
	orders := map[string]contract.Order{}
	for _, name := range []string{"paid", "failed", "goods", "money", "held", "refunded", "cancelled", "cancelled first",
		"cancelled too late", "lost", "lost with its cancellation"} {
		orders[name] = paymentstest.Order(account, "10.00")
	}
	change := func(name string, change func(*contract.Order)) {
		o := orders[name]
		change(&o)
		orders[name] = o
	}
	change("failed", func(o *contract.Order) { o.Amount = "5000.00" })
	change("cancelled too late", func(o *contract.Order) { o.Amount = "5000.00" })
	change("goods", func(o *contract.Order) { o.AwaitInventory = true })
	change("money", func(o *contract.Order) { o.AccountID, o.OnInsufficient = b.Account(""), contract.OnInsufficientWait })
	change("held", func(o *contract.Order) { o.Capture = contract.CaptureManual })

	for name, status := range map[string]string{"paid": "succeeded", "failed": "failed", "goods": "created",
		"money": "created", "held": "authorized",
		"refunded": "succeeded", "cancelled": "succeeded", "cancelled too late": "failed"} {
		b.Place(orders[name], status)
	}
	b.Expect(b.Step(orders["refunded"], "refund", `{"amount": "4.00"}`), 200)
	for _, name := range []string{"cancelled", "cancelled first", "cancelled too late"} {
		b.Produce(paymentstest.Cancelled(orders[name], "no more"))
	}
	b.Place(orders["cancelled first"], "cancelled") // and then the order comes
	b.Until(1, `SELECT count(*) FROM payments WHERE order_id = $1 AND status = 'cancelled'`, orders["cancelled"].OrderID)

	marked := func(o contract.Order) contract.Order { o.Repeated = true; return o }
	asked := map[string]func(contract.Order) kafka.Message{}
	for name := range orders {
		asked[name] = paymentstest.Placed
		if strings.HasPrefix(name, "cancelled") || name == "lost with its cancellation" {
			asked[name] = func(o contract.Order) kafka.Message { return paymentstest.Cancelled(o, "no more") }
		}
	}
	before := b.published()
	names := slices.Sorted(maps.Keys(orders))
	for _, name := range names {
		if o := orders[name]; len(before[o.OrderID]) > 0 { // the lost ones were never delivered
			b.Produce(paymentstest.Placed(o), asked[name](o))
		}
	}
	if got := b.published(); !maps.EqualFunc(got, before, slices.Equal[[]string]) {
		t.Errorf("deliveries without a mark have published %v beside %v", got, before)
	}
	for range 2 {
		for _, name := range names {
			b.Produce(asked[name](marked(orders[name])))
		}
		after := b.published()
		for _, name := range names {
			had, has := before[orders[name].OrderID], after[orders[name].OrderID]
			want := had
			if len(had) > 0 { // otherwise this was the first that was heard of the order
				want = append(slices.Clone(had), had[len(had)-1])
			}
			if len(has) != max(1, len(want)) || len(had) > 0 && !slices.Equal(has, want) {
				t.Errorf("%s: there is\n%q\nafter\n%q", name, has, had)
			}
		}
		before = after
	}
	if got := b.Balance(account); got != "964.00" { // one paid, one held, one in part refunded, one lost
		t.Errorf("in the end: %s", got)
	}
}

// published are the events of each order, once everything that was produced before has been settled: an order of
// another account closes each partition.
func (b *bundle) published() map[uuid.UUID][]string {
	b.Helper()
	var last []contract.Order
	for lane := range 4 {
		o := paymentstest.Order(uuid.New(), "1.00")
		for contract.Lane(o.AccountID)%4 != int16(lane) {
			o.AccountID = uuid.New()
		}
		last = append(last, o)
		b.Produce(paymentstest.Placed(o))
	}
	ends := map[string]bool{}
	for _, o := range last {
		ends[o.OrderID.String()] = true
	}
	events := map[uuid.UUID][]string{}
	b.Consume(contract.TopicPayments, func(messages []kafka.Message) bool {
		clear(events)
		seen := 0
		for _, m := range messages {
			subject := m.Header("ce_subject")
			switch {
			case ends[subject]:
				seen++
				continue
			case strings.Contains(string(m.Value), string(ledger.AccountNotFound)): // it closed an earlier look
				continue
			}
			id := uuid.MustParse(subject)
			events[id] = append(events[id], m.Header("ce_id")+" "+m.Header("ce_type")+" "+string(m.Value))
		}
		return seen == len(ends)
	})
	return events
}
