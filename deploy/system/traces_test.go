package system

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/localkafka"
	"github.com/altyn-pay/altyn/testkit/otlptest"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// tracedOrders is how many orders are traced on each broker.
var tracedOrders = map[localkafka.Kind]int{localkafka.Embedded: 1000, localkafka.Apache: 60}

const clientSpan = "00f067aa0ba902b7" // of a client that traces by itself

// traced is a stack of which every trace is recorded.
type traced struct {
	*saga
	teller *teller

	mu   sync.Mutex
	told []told
}

// told is a message that was to come, as the last one of what a request has caused.
type told struct {
	flow        string
	tracedEvent        // that was to come
	way         string // the names of its span and of those above it, up to the first of the trace
}

type tracedEvent struct{ topic, subject, event string }

// Each request is one trace, from the client to the last status that it causes, whatever happens on the way. What acts
// on an order later, in a trace of its own, is linked to the order's.
func TestEachOrderIsOneTrace(t *testing.T) { onEachBroker(t, eachOrderIsOneTrace) }

func eachOrderIsOneTrace(t *testing.T, kind localkafka.Kind) {
	collector := otlptest.New(t)
	services := stack.Instances(1, 1, 1)
	for i := range services {
		services[i].Env = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL, "OTEL_BSP_SCHEDULE_DELAY=100"}
		if services[i].Program == stack.Orders {
			services[i].Env = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.GRPC,
				"OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_BSP_SCHEDULE_DELAY=100"}
		}
	}
	s := newSaga(t, kind, services)
	b := &traced{saga: s, teller: newTeller(s.bundle, contract.TopicReplies)}
	flows := []struct {
		name string
		run  func(flow string, account uuid.UUID) error
	}{
		{"paid", b.paid}, {"no money", b.noMoney}, {"no account", b.noAccount}, {"goods come", b.goodsCome},
		{"no goods", b.noGoods}, {"money comes", b.moneyComes}, {"cancelled before", b.cancelledBefore},
		{"cancelled after", b.cancelledAfter}, {"refunded", b.refunded}, {"confirmed", b.confirmed},
		{"rejected", b.rejected}, {"wait expires", b.waitExpires}, {"hold expires", b.holdExpires},
		{"command", b.command}, {"command with a trace", b.tracedCommand},
	}
	accounts := b.accounts(tracedOrders[kind], "100.00")
	if err := load.Each(t.Context(), len(accounts), 64, func(i int) error {
		flow := flows[i%len(flows)]
		if err := flow.run(flow.name, accounts[i]); err != nil {
			return fmt.Errorf("%s: %w", flow.name, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	whole := func() error { return b.check(collector.Traces()) }
	if err := wait.Within(patience, 200*time.Millisecond, whole); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d traces with %d spans", len(collector.Traces()), len(collector.Spans()))
}

// check returns what is missing, or torn.
func (b *traced) check(traces map[string][]otlptest.Span) error {
	var errs []error
	ways := map[tracedEvent]string{}
	spans := map[string]otlptest.Span{}
	for id, trace := range traces {
		if err := otlptest.Torn(trace, clientSpan); err != nil {
			errs = append(errs, fmt.Errorf("trace %s: %w", id, err))
		}
		for _, span := range trace {
			spans[id+span.ID()] = span
		}
	}
	for id, trace := range traces {
		for _, span := range trace {
			for _, link := range span.Links {
				if of := fmt.Sprintf("%x%x", link.TraceId, link.SpanId); spans[of].Span == nil {
					errs = append(errs, fmt.Errorf("%s links to %s, which is not there", span.Name, of))
				}
			}
			if span.Name != "process payments" && span.Name != "send billing.replies" {
				continue
			}
			way := span.Name
			for above := spans[id+span.Parent()]; above.Span != nil; above = spans[id+above.Parent()] {
				way += " < " + above.Name
			}
			ways[tracedEvent{span.Attribute("messaging.destination.name"), span.Attribute("cloudevents.event_subject"),
				span.Attribute("cloudevents.event_type")}] = way
		}
	}
	errs = append(errs, apart(traces, spans)...)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, want := range b.told {
		if way := ways[want.tracedEvent]; way != want.way {
			errs = append(errs, fmt.Errorf("%s: the way of %s is\n%s, want\n%s", want.flow, want.tracedEvent, way, want.way))
		}
	}
	if len(errs) > 10 {
		errs = append(errs[:10], fmt.Errorf("and %d more", len(errs)-10))
	}
	return errors.Join(errs...)
}

// later are the spans that go on with an order from outside its trace. Each must link to where the payment began.
var later = []string{"settle confirm", "settle reject", "settle refund", "settle cancel", "settle expire",
	"settle inventory"}

// apart returns what is not connected: an order is its own trace and all that are linked to it. Those of batches, which
// are about many orders, do not count.
func apart(traces map[string][]otlptest.Span, spans map[string]otlptest.Span) (errs []error) {
	placed := map[string]string{} // the traces of orders
	for id, trace := range traces {
		for _, span := range trace {
			if span.Attribute("cloudevents.event_type") == contract.OrderPlacedType {
				placed[span.Attribute("cloudevents.event_subject")] = id
			}
		}
	}
	for id, trace := range traces {
		linked := map[string]bool{id: true}
		for _, span := range trace {
			if !slices.Contains(later, span.Name) {
				continue
			}
			var begun int
			for _, link := range span.Links {
				linked[hex.EncodeToString(link.TraceId)] = true
				switch to := spans[fmt.Sprintf("%x%x", link.TraceId, link.SpanId)]; {
				case to.Span == nil: // as is told above
				case to.Name == "settle payment":
					begun++
				case to.Name != span.Name: // that would be the first time of what has come again
					errs = append(errs, fmt.Errorf("%s links to %s", span.Name, to.Name))
				}
			}
			if begun != 1 {
				errs = append(errs, fmt.Errorf("%s has %d links to where its payment began", span.Name, begun))
			}
		}
		for _, span := range trace {
			if order := span.Attribute("cloudevents.event_subject"); placed[order] != "" && !linked[placed[order]] {
				errs = append(errs, fmt.Errorf("%s of %s has no link to the trace of the order", span.Name, order))
			}
		}
	}
	return errs
}

// The ways of an event of a payment, upwards.
const (
	tell      = "process payments < send payments < "
	byOrders  = " < process orders < send orders < "
	ofPlacing = tell + "settle payment" + byOrders + "POST /api/v1/orders < POST < POST /api/v1/orders"
	ofWaiting = tell + "resume payments < settle payment" + byOrders +
		"POST /api/v1/orders < POST < POST /api/v1/orders"
	ofCancelling = tell + "settle cancel" + byOrders +
		"POST /api/v1/orders/{id}/cancel < POST < POST /api/v1/orders/*"
	ofHold = tell + "settle expire < expire hold"
)

// ofStep is the way of an event that a step of a payment has caused.
func ofStep(step string) string {
	return tell + "settle " + step + " < POST /api/v1/payments/{order_id}/" + step + " < POST < POST /api/v1/payments/*"
}

// expect notes that an order's payment was to come to a status, in a certain way.
func (b *traced) expect(flow string, order uuid.UUID, event, way string) {
	b.note(told{flow, tracedEvent{contract.TopicPayments, order.String(), event}, way})
}

func (b *traced) note(t told) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told = append(b.told, t)
}

// order places an order and waits until it has a status, and a reason if that is not empty.
func (b *traced) order(order load.NewOrder, status, reason string) (uuid.UUID, error) {
	order.Currency = "RUB"
	placed, err := b.client.Place(b.Context(), uuid.NewString(), order)
	if err != nil {
		return placed.ID, err
	}
	return placed.ID, b.becomes(placed.ID, status, reason)
}

func (b *traced) becomes(id uuid.UUID, status, reason string) error {
	return wait.Within(patience, 50*time.Millisecond, func() error {
		var order load.Order
		if err := b.client.Get(b.Context(), load.OrdersPath+"/"+id.String(), &order); err != nil {
			return err
		}
		if order.Status != status || reason != "" && order.Reason != reason {
			return fmt.Errorf("order %+v is not %s %s", order, status, reason)
		}
		return nil
	})
}

func (b *traced) ends(flow string, order load.NewOrder, status, reason, event string) error {
	id, err := b.order(order, status, reason)
	b.expect(flow, id, event, ofPlacing)
	return err
}

func (b *traced) paid(flow string, account uuid.UUID) error {
	return b.ends(flow, load.NewOrder{AccountID: account, Amount: "60.00"}, "paid", "", contract.PaymentSucceededType)
}

func (b *traced) noMoney(flow string, account uuid.UUID) error {
	return b.ends(flow, load.NewOrder{AccountID: account, Amount: "100.01"}, "failed", "insufficient_funds",
		contract.PaymentFailedType)
}

func (b *traced) noAccount(flow string, _ uuid.UUID) error {
	return b.ends(flow, load.NewOrder{AccountID: uuid.New(), Amount: "1.00"}, "failed", "account_not_found",
		contract.PaymentFailedType)
}

func (b *traced) awaitGoods(flow string, account uuid.UUID, word, status, event string) error {
	order := load.NewOrder{AccountID: account, Amount: "60.00", AwaitInventory: true}
	id, err := b.order(order, "pending", "waiting_for_inventory")
	if err != nil {
		return err
	}
	b.expect(flow, id, event, ofWaiting)
	return errors.Join(b.tell(account, goods(id, word)), b.becomes(id, status, ""))
}

func (b *traced) goodsCome(flow string, account uuid.UUID) error {
	return b.awaitGoods(flow, account, contract.InventoryCompleted, "paid", contract.PaymentSucceededType)
}

func (b *traced) noGoods(flow string, account uuid.UUID) error {
	return b.awaitGoods(flow, account, contract.InventoryFailed, "failed", contract.PaymentFailedType)
}

func (b *traced) moneyComes(flow string, account uuid.UUID) error {
	id, err := b.order(load.NewOrder{AccountID: account, Amount: "100.01",
		OnInsufficient: contract.OnInsufficientWait}, "pending", "waiting_for_funds")
	if err != nil {
		return err
	}
	b.expect(flow, id, contract.PaymentSucceededType, ofWaiting)
	return errors.Join(b.post("/api/v1/accounts/"+account.String()+"/deposits", uuid.NewString(), amount("1.00"), nil),
		b.becomes(id, "paid", ""))
}

func (b *traced) cancel(flow string, id uuid.UUID) error {
	b.expect(flow, id, contract.PaymentCancelledType, ofCancelling)
	_, err := b.client.Cancel(b.Context(), uuid.NewString(), id, "")
	return errors.Join(err, b.becomes(id, "cancelled", ""))
}

func (b *traced) cancelledBefore(flow string, account uuid.UUID) error {
	id, err := b.order(load.NewOrder{AccountID: account, Amount: "60.00", AwaitInventory: true}, "pending", "")
	if err != nil {
		return err
	}
	return b.cancel(flow, id)
}

func (b *traced) cancelledAfter(flow string, account uuid.UUID) error {
	id, err := b.order(load.NewOrder{AccountID: account, Amount: "60.00"}, "paid", "")
	if err != nil {
		return err
	}
	return b.cancel(flow, id)
}

func (b *traced) refunded(flow string, account uuid.UUID) error {
	id, err := b.order(load.NewOrder{AccountID: account, Amount: "60.00"}, "paid", "")
	if err != nil {
		return err
	}
	b.expect(flow, id, contract.PaymentRefundedType, ofStep("refund"))
	for _, amount := range []string{"20.00", "10.00", ""} {
		if _, err := b.client.Refund(b.Context(), uuid.NewString(), id, amount); err != nil {
			return err
		}
	}
	return nil
}

func (b *traced) held(account uuid.UUID, expires string) (uuid.UUID, error) {
	return b.order(load.NewOrder{AccountID: account, Amount: "60.00", Capture: contract.CaptureManual,
		ExpiresIn: expires}, "authorized", "")
}

func (b *traced) confirmed(flow string, account uuid.UUID) error {
	id, err := b.held(account, "")
	if err != nil {
		return err
	}
	b.expect(flow, id, contract.PaymentAuthorizedType, ofPlacing)
	b.expect(flow, id, contract.PaymentSucceededType, ofStep("confirm"))
	_, err = b.client.Confirm(b.Context(), uuid.NewString(), id, "")
	return errors.Join(err, b.becomes(id, "paid", ""))
}

func (b *traced) rejected(flow string, account uuid.UUID) error {
	id, err := b.held(account, "")
	if err != nil {
		return err
	}
	b.expect(flow, id, contract.PaymentFailedType, ofStep("reject"))
	_, err = b.client.Reject(b.Context(), uuid.NewString(), id, "")
	return errors.Join(err, b.becomes(id, "failed", "rejected"))
}

func (b *traced) waitExpires(flow string, account uuid.UUID) error {
	id, err := b.order(load.NewOrder{AccountID: account, Amount: "60.00", AwaitInventory: true, ExpiresIn: "3s"},
		"pending", "")
	b.expect(flow, id, contract.PaymentFailedType, ofWaiting)
	return err
}

// The end of a hold that nobody confirms is a trace of its own, which is linked to the order's.
func (b *traced) holdExpires(flow string, account uuid.UUID) error {
	id, err := b.held(account, "5s")
	b.expect(flow, id, contract.PaymentFailedType, ofHold)
	return err
}

func (b *traced) command(flow string, account uuid.UUID) error { return b.deposit(flow, account) }

// A client of the broker that traces by itself finds what follows in its own trace, whether or not it asks for it.
func (b *traced) tracedCommand(flow string, account uuid.UUID) error {
	return b.deposit(flow, account, kafka.Header{Key: "traceparent",
		Value: fmt.Appendf(nil, "00-%x-%s-00", [16]byte(uuid.New()), clientSpan)})
}

func (b *traced) deposit(flow string, account uuid.UUID, headers ...kafka.Header) error {
	id := uuid.New()
	m, err := record(account, contract.Command{CommandID: &id, Operation: "deposit", AccountID: &account,
		Amount: "1.00", Currency: "RUB"})
	if err != nil {
		return err
	}
	m.Headers = headers
	reply, err := b.teller.send(b.Context(), question{contract.TopicReplies, id}, m)
	if err != nil {
		return err
	}
	b.note(told{flow, tracedEvent{contract.TopicReplies, reply.OperationID.String(), contract.ReplyType},
		"send billing.replies < settle deposit < process billing.commands"})
	return nil
}
