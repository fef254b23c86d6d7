package status_test

import (
	"context"
	"testing"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// newer makes an event one of a type that this version does not know.
func newer(m kafka.Message) kafka.Message {
	m.Headers = append([]kafka.Header(nil), m.Headers...)
	for i, h := range m.Headers {
		if h.Key == "ce_type" {
			m.Headers[i].Value = []byte("payment.disputed")
		}
	}
	return m
}

// What a newer version of payments says is kept, once however often it comes, for a version of orders that knows it. It
// is neither a dead letter nor an operator's work.
func TestWhatIsNotKnownIsKept(t *testing.T) {
	t.Parallel()
	b := setup(t)
	orders := b.place(t, 2)
	messages := []kafka.Message{newer(event(t, orders[0], contract.PaymentSucceeded, 1, nil)),
		event(t, orders[1], contract.PaymentSucceeded, 1, func(p *contract.Payment) { p.Status = "disputed" }),
		event(t, orders[1], contract.PaymentSucceeded, 2, nil)}
	for range 2 {
		b.handle(t, messages...)
	}
	if got := b.parked(t); len(got) != 2 || got[0].Attempts != 0 || got[1].Attempts != 0 || len(b.list(t)) != 0 ||
		b.gauge(t, "altyn_orders_parked_events") != 0 || b.gauge(t, "altyn_orders_kept_events") != 2 {
		t.Errorf("set aside %+v, for operators %+v", got, b.list(t))
	}
	if found, err := b.store.Whereabouts(t.Context(), orders[0]); err != nil || len(found.Parked) != 1 ||
		found.Parked[0].Type != "payment.disputed" || found.Parked[0].Attempts != 0 {
		t.Errorf("what explains the order is %+v, %v", found.Parked, err)
	}
	if b.status(t, orders[0]) != order.Pending || b.status(t, orders[1]) != order.Paid ||
		b.metric(t, "altyn_orders_dead_letters_total", "") != 0 {
		t.Error("an order has another status, or there is a dead letter")
	}
}

// What an earlier version has kept is taken up by one that knows it. What is outdated by then is over, what turns out
// to be wrong is parked, and what is still not known stays.
func TestWhatWasKeptIsTakenUp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	orders := b.place(t, 4)
	b.handle(t, event(t, orders[1], contract.PaymentRefunded, 2, nil))
	<-b.changes
	kept := []kafka.Message{
		event(t, orders[0], contract.PaymentSucceeded, 1, nil),
		event(t, orders[1], contract.PaymentSucceeded, 1, nil),
		event(t, orders[2], contract.PaymentSucceeded, 1, func(p *contract.Payment) { p.CapturedAmount = "1e3" }),
		newer(event(t, orders[3], contract.PaymentSucceeded, 1, nil)),
	}
	refused := make([]postgres.Refused, len(kept))
	for i := range kept {
		kept[i].Offset = int64(10 + i)
		refused[i] = postgres.Refused{Message: kept[i], Reason: order.ErrUnknown}
	}
	if err := b.store.Keep(t.Context(), refused); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- b.worker.TakeUp(ctx) }()
	if changed := <-b.changes; changed.ID != orders[0].ID || changed.Status != order.Paid {
		t.Errorf("published %+v", changed)
	}
	stop() // the batch in flight is finished
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := b.parked(t); len(got) != 2 || got[0].Offset != 12 || got[0].Attempts != 1 || got[1].Offset != 13 ||
		got[1].Attempts != 0 || b.status(t, orders[3]) != order.Pending {
		t.Errorf("set aside %+v", got)
	}
	o := orders[1]
	if history, err := b.store.Transitions(t.Context(), o); err != nil || len(history) != 1 {
		t.Errorf("what was outdated has left %+v, %v", history, err)
	}
}
