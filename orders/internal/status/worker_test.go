package status_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/placing"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/orders/internal/status"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/kafkatest"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// bundle is a worker between a database and a broker of its own.
type bundle struct {
	db       postgrestest.DB
	store    *postgres.Store
	broker   kafka.Config
	producer *kafka.Producer
	worker   *status.Worker
	metrics  *prometheus.Registry
	changes  chan order.Order
}

func setup(t *testing.T) *bundle {
	b := &bundle{
		db: postgrestest.Database(t, "orders", postgres.Migrations()...), broker: kafkatest.Broker(t),
		changes: make(chan order.Order, 10_000),
	}
	if err := kafka.EnsureTopics(t.Context(), b.broker, contract.TopicPayments,
		contract.DeadLetter(contract.TopicPayments)); err != nil {
		t.Fatal(err)
	}
	b.store = postgres.New(b.db.Service)
	b.producer = newProducer(t, b.broker)
	b.newWorker()
	return b
}

// newWorker is what a restart makes.
func (b *bundle) newWorker() {
	b.metrics = prometheus.NewRegistry()
	b.worker = status.New(b.store, currencies(), b.producer, func(o order.Order) { b.changes <- o }, quiet, b.metrics)
}

var (
	quiet      = slog.New(slog.DiscardHandler)
	currencies = sync.OnceValue(func() *money.Currencies {
		table, err := money.LoadCurrencies("")
		if err != nil {
			panic(err)
		}
		return table
	})
)

func newProducer(t *testing.T, broker kafka.Config) *kafka.Producer {
	t.Helper()
	producer, err := kafka.NewProducer(broker, quiet, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(producer.Close)
	return producer
}

// place stores n orders of 10.00 RUB, each of an account of its own.
func (b *bundle) place(t *testing.T, n int) []order.Order {
	t.Helper()
	return b.placeFor(t, identity.Default, n)
}

// placeFor is place for somebody, whose subject is the owner to whom he is restricted.
func (b *bundle) placeFor(t *testing.T, by identity.Reach, n int) []order.Order {
	t.Helper()
	placements := make([]*postgres.Placement, n)
	orders := make([]order.Order, n)
	for i := range n {
		o, err := order.Place(currencies(), order.Request{AccountID: uuid.NewString(), Amount: "10.00", Currency: "RUB"},
			time.Now())
		if err != nil {
			t.Fatal(err)
		}
		o = o.For(by, by.Owner)
		o.ID = uuid.Must(uuid.NewV7())
		placements[i], orders[i] = &postgres.Placement{Order: o, Event: placedEvent(t, o)}, o
	}
	if _, err := b.store.Place(t.Context(), placements); err != nil {
		t.Fatal(err)
	}
	return orders
}

func placedEvent(t *testing.T, o order.Order) order.Event {
	t.Helper()
	event, err := o.PlacedEvent(currencies(), false)
	if err != nil {
		t.Fatal(err)
	}
	return event
}

// cancel begins to cancel an order, as a client does.
func (b *bundle) cancel(t *testing.T, id uuid.UUID, reason string) {
	t.Helper()
	service := placing.New(b.store, currencies(), func(order.Order) {}, func() {}, nil, nil, quiet,
		prometheus.NewRegistry())
	if _, _, err := service.Cancel(t.Context(), placing.Client{}, id, reason, ""); err != nil {
		t.Fatal(err)
	}
}

// types are the events by the statuses they tell of.
var types = map[string]string{
	contract.PaymentCreated: contract.PaymentCreatedType, contract.PaymentAuthorized: contract.PaymentAuthorizedType,
	contract.PaymentSucceeded: contract.PaymentSucceededType, contract.PaymentFailed: contract.PaymentFailedType,
	contract.PaymentCancelled: contract.PaymentCancelledType, contract.PaymentRefunded: contract.PaymentRefundedType,
}

// event is the message that tells of a payment's state.
func event(t *testing.T, o order.Order, paymentStatus string, version int64,
	change func(*contract.Payment)) kafka.Message {
	t.Helper()
	p := contract.Payment{
		OrderID: o.ID, AccountID: o.AccountID, Amount: "10.00", Currency: "RUB", Capture: contract.CaptureAutomatic,
		Status: paymentStatus, CapturedAmount: "0.00", RefundedAmount: "0.00", Version: version,
		CreatedAt: contract.Time(time.Now()), UpdatedAt: contract.Time(time.Now()),
	}
	switch paymentStatus {
	case contract.PaymentSucceeded:
		p.CapturedAmount = "10.00"
	case contract.PaymentRefunded:
		p.CapturedAmount, p.RefundedAmount = "10.00", "4.00"
	case contract.PaymentFailed:
		p.Reason = "insufficient_funds"
	}
	if change != nil {
		change(&p)
	}
	payload, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	header := kafka.Event{
		ID: contract.EventID(types[paymentStatus], o.ID, version).String(), Type: types[paymentStatus], Source: "/payments",
		Subject: o.ID.String(), Time: time.Now(),
	}
	return kafka.Message{
		Topic: contract.TopicPayments, Partition: 1, Key: []byte(o.AccountID.String()), Value: payload,
		Headers: header.Headers(),
	}
}

// handle numbers the messages as a partition would and hands them to the worker.
func (b *bundle) handle(t *testing.T, messages ...kafka.Message) {
	t.Helper()
	for i := range messages {
		messages[i].Offset = int64(i)
	}
	if err := b.worker.Handle(t.Context(), messages); err != nil {
		t.Fatal(err)
	}
}

func (b *bundle) status(t *testing.T, o order.Order) order.Status {
	t.Helper()
	stored, err := b.store.Order(t.Context(), identity.Default, o.ID)
	if err != nil {
		t.Fatal(err)
	}
	return stored.Status
}

type parkedEvent struct {
	Offset   int64
	Attempts int
	Reason   string
}

func (b *bundle) parked(t *testing.T) (list []parkedEvent) {
	t.Helper()
	if err := b.db.Service.Select(&list, `
		SELECT "offset", attempts, reason FROM parked_events ORDER BY "offset"`); err != nil {
		t.Fatal(err)
	}
	return list
}

// deadLetters waits for n messages on the topic's dead letters.
func (b *bundle) deadLetters(t *testing.T, n int) []kafka.Message {
	t.Helper()
	consumer, err := kafka.NewConsumer(b.broker, "test", []string{contract.DeadLetter(contract.TopicPayments)}, quiet,
		prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var letters []kafka.Message
	err = consumer.Run(ctx, func(_ context.Context, messages []kafka.Message) error {
		if letters = append(letters, messages...); len(letters) >= n {
			cancel()
		}
		return nil
	})
	if err != nil || len(letters) != n {
		t.Fatalf("%v: %d dead letters instead of %d", err, len(letters), n)
	}
	return letters
}

func (b *bundle) metric(t *testing.T, name, label string) float64 {
	t.Helper()
	families, err := b.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return 0
}

func TestOrdersFollowTheirPayments(t *testing.T) {
	t.Parallel()
	b := setup(t)
	orders := b.place(t, 2)
	paid, failed := event(t, orders[0], contract.PaymentSucceeded, 1, nil),
		event(t, orders[1], contract.PaymentFailed, 1, nil)
	b.handle(t, paid, failed)
	for i, want := range []order.Status{order.Paid, order.Failed} {
		o, err := b.store.Order(t.Context(), identity.Default, orders[i].ID)
		if err != nil || o.Status != want || o.UpdatedAt.Before(o.CreatedAt) || o.Captured != int64(1-i)*1000 ||
			(o.Reason != "") != (i == 1) {
			t.Errorf("%v: %+v", err, o)
		}
		if published := <-b.changes; !reflect.DeepEqual(published, o) {
			t.Errorf("published %+v of %+v", published, o)
		}
		history, err := b.store.Transitions(t.Context(), o)
		if err != nil || len(history) != 1 ||
			history[0].EventID.UUID.String() != []kafka.Message{paid, failed}[i].Header("ce_id") {
			t.Errorf("%v: history %+v", err, history)
		}
	}
	if b.metric(t, "altyn_orders_status_total", "paid") != 1 || b.metric(t, "altyn_orders_status_total", "failed") != 1 ||
		b.metric(t, "altyn_orders_settled_seconds", "false") != 2 || b.metric(t, "altyn_orders_answered_total", "") != 2 {
		t.Error("the metrics do not tell")
	}
}

// Every event comes twice and in any order, in batches of any size, to workers that are restarted in between: the
// orders end as if each had come once.
func TestEveryEventTwiceInAnyOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	orders := b.place(t, 60)
	histories := [][]string{
		{contract.PaymentSucceeded},
		{contract.PaymentFailed},
		{contract.PaymentCreated, contract.PaymentSucceeded, contract.PaymentRefunded},
		{contract.PaymentCreated, contract.PaymentAuthorized, contract.PaymentFailed},
		{contract.PaymentAuthorized},
		{contract.PaymentCreated, contract.PaymentCreated, contract.PaymentSucceeded, contract.PaymentRefunded,
			contract.PaymentRefunded},
	}
	wants := []order.Status{order.Paid, order.Failed, order.Paid, order.Failed, order.Authorized, order.Paid}
	var messages []kafka.Message
	for i, o := range orders {
		for n, s := range histories[i%len(histories)] {
			m := event(t, o, s, int64(n+1), nil)
			messages = append(messages, m, m)
		}
	}
	random := rand.New(rand.NewPCG(3, 4))
	random.Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
	for rest := messages; len(rest) > 0; {
		n := min(len(rest), 1+random.IntN(40))
		b.handle(t, rest[:n]...)
		if n%2 == 0 { // the process ended before the offsets were committed
			b.newWorker()
			b.handle(t, rest[:n]...)
		}
		rest = rest[n:]
	}
	for i, o := range orders {
		stored, err := b.store.Order(t.Context(), identity.Default, o.ID)
		if err != nil || stored.Status != wants[i%len(wants)] ||
			stored.PaymentVersion != int64(len(histories[i%len(histories)])) {
			t.Errorf("%v: %+v after %v", err, stored, histories[i%len(histories)])
		}
		history, err := b.store.Transitions(t.Context(), o)
		if err != nil || int64(len(history)) != stored.Version-1 || history[len(history)-1].To != stored.Status {
			t.Errorf("%v: history %+v of %+v", err, history, stored)
		}
	}
	if parked := b.parked(t); len(parked) > 0 {
		t.Errorf("parked %+v", parked)
	}
}

// Every version of a payment is a line of the order's history, in one batch or in many, and the status counts once.
func TestEveryVersionIsALine(t *testing.T) {
	t.Parallel()
	b := setup(t)
	waiting := func(reason string) func(*contract.Payment) { return func(p *contract.Payment) { p.Reason = reason } }
	type line struct {
		from, to order.Status
		reason   string
	}
	for _, size := range []int{1, 6} {
		o := b.place(t, 1)[0]
		messages := []kafka.Message{
			event(t, o, contract.PaymentCreated, 1, waiting("waiting_for_inventory")),
			event(t, o, contract.PaymentCreated, 2, waiting("inventory_completed")),
			event(t, o, contract.PaymentCreated, 3, waiting("waiting_for_funds")),
			event(t, o, contract.PaymentSucceeded, 4, nil),
			event(t, o, contract.PaymentRefunded, 5, nil),
			event(t, o, contract.PaymentRefunded, 6, func(p *contract.Payment) { p.RefundedAmount = "10.00" }),
		}
		for rest := messages; len(rest) > 0; rest = rest[size:] {
			b.handle(t, rest[:size]...)
			b.handle(t, rest[:size]...)
		}
		stored, err := b.store.Order(t.Context(), identity.Default, o.ID)
		if err != nil || stored.Status != order.Paid || stored.Reason != "" || stored.Refunded != 1000 ||
			stored.Version != 7 {
			t.Errorf("%v: %+v", err, stored)
		}
		history, err := b.store.Transitions(t.Context(), o)
		if err != nil || len(history) != len(messages) {
			t.Fatalf("%v: history %+v", err, history)
		}
		for i, want := range []line{
			{order.Pending, order.Pending, "waiting_for_inventory"}, {order.Pending, order.Pending, "inventory_completed"},
			{order.Pending, order.Pending, "waiting_for_funds"}, {order.Pending, order.Paid, ""},
			{order.Paid, order.Paid, contract.PaymentRefunded}, {order.Paid, order.Paid, contract.PaymentRefunded},
		} {
			h := history[i]
			if (line{h.From, h.To, h.Reason}) != want || h.Number != int64(i+2) ||
				h.EventID.UUID.String() != messages[i].Header("ce_id") {
				t.Errorf("line %d: %+v instead of %+v", i, h, want)
			}
		}
	}
	if paid, settled := b.metric(t, "altyn_orders_status_total", "paid"),
		b.metric(t, "altyn_orders_settled_seconds", "true"); paid != 2 || settled != 2 ||
		b.metric(t, "altyn_orders_status_total", "pending") != 0 || b.metric(t, "altyn_orders_answered_total", "") != 2 {
		t.Errorf("%v paid, %v settled", paid, settled)
	}
}

// An order that is being cancelled waits for its payment's end, and keeps why it is cancelled.
func TestACancelledOrderWaitsForThePaymentsEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	orders := b.place(t, 3)
	for _, o := range orders {
		b.cancel(t, o.ID, "why")
	}
	because := func(p *contract.Payment) { p.Reason = "why" }
	messages := []kafka.Message{
		event(t, orders[0], contract.PaymentSucceeded, 1, nil), event(t, orders[1], contract.PaymentCreated, 1, nil),
		event(t, orders[0], contract.PaymentCancelled, 2, because), event(t, orders[1], contract.PaymentFailed, 2, nil),
		event(t, orders[2], contract.PaymentAuthorized, 1, nil),
	}
	b.handle(t, messages...)
	b.handle(t, messages...)
	wants := []order.Order{
		{Status: order.Cancelled, Reason: "cancelled", Note: "why"}, {Status: order.Failed, Reason: "insufficient_funds"},
		{Status: order.Cancelling, Reason: "cancelled", Note: "why"},
	}
	for i, o := range orders {
		stored, err := b.store.Order(t.Context(), identity.Default, o.ID)
		if err != nil || stored.Status != wants[i].Status || stored.Reason != wants[i].Reason ||
			stored.Note != wants[i].Note {
			t.Errorf("%v: order %d is %+v", err, i, stored)
		}
		history, err := b.store.Transitions(t.Context(), o)
		if err != nil || int64(len(history)) != stored.Version-1 || history[1].From != order.Cancelling ||
			history[1].To != order.Cancelling ||
			history[1].Reason != []string{contract.PaymentSucceeded, contract.PaymentCreated, contract.PaymentAuthorized}[i] {
			t.Errorf("%v: history %+v", err, history)
		}
	}
	if parked := b.parked(t); len(parked) > 0 || b.metric(t, "altyn_orders_status_total", "cancelled") != 1 ||
		b.metric(t, "altyn_orders_status_total", "cancelling") != 0 {
		t.Errorf("parked %+v, or the metrics are wrong", parked)
	}
}

func TestWhatCannotBeReadGoesToTheDeadLetters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	o := b.place(t, 1)[0]
	good := event(t, o, contract.PaymentSucceeded, 1, nil)
	change := func(f func(*kafka.Message)) kafka.Message {
		m := good
		m.Headers = append([]kafka.Header(nil), m.Headers...)
		f(&m)
		return m
	}
	unknown := o
	unknown.ID = uuid.New()
	reasons := []string{"not a payment", "not a payment", "ce_type", "ce_type", "ce_id", "status", "captured_amount",
		"unknown order"}
	b.handle(t,
		change(func(m *kafka.Message) { m.Value = []byte("\x00\xff") }),
		change(func(m *kafka.Message) { m.Value, m.Key = nil, nil }),
		change(func(m *kafka.Message) { m.Headers = nil }),
		change(func(m *kafka.Message) {
			m.Headers = append(m.Headers, kafka.Header{Key: "ce_type", Value: []byte("order.placed")})
		}),
		change(func(m *kafka.Message) { m.Headers = append(m.Headers, kafka.Header{Key: "ce_id", Value: []byte("17")}) }),
		event(t, o, contract.PaymentSucceeded, 1, func(p *contract.Payment) { p.Status = "" }),
		event(t, o, contract.PaymentSucceeded, 1, func(p *contract.Payment) { p.CapturedAmount = "1e3" }),
		event(t, unknown, contract.PaymentSucceeded, 1, nil),
		good,
	)
	if got := b.status(t, o); got != order.Paid {
		t.Errorf("the good one has not taken effect: %s", got)
	}
	seen := map[string]kafka.Message{}
	for _, letter := range b.deadLetters(t, len(reasons)) {
		seen[letter.Header("dlq_offset")] = letter
	}
	for i, reason := range reasons {
		letter := seen[fmt.Sprint(i)]
		if !strings.Contains(letter.Header("dlq_reason"), reason) || letter.Header("dlq_topic") != contract.TopicPayments ||
			letter.Header("dlq_partition") != "1" {
			t.Errorf("%d: %q instead of %q", i, letter.Headers, reason)
		}
	}
	if string(seen["0"].Value) != "\x00\xff" || len(b.parked(t)) != 0 ||
		b.metric(t, "altyn_orders_dead_letters_total", "") != float64(len(reasons)) {
		t.Error("the message was not kept as it was, or events were parked")
	}
}

// A panic while a message is read, here for want of the currencies, makes a dead letter of that one, as does what the
// consumer could not read.
func TestAPanicConcernsOneMessage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	o := b.place(t, 1)[0]
	panics := event(t, o, contract.PaymentSucceeded, 1, nil)
	panics.Offset = 1
	worker := status.New(b.store, nil, b.producer, func(order.Order) {}, quiet, prometheus.NewRegistry())
	if err := worker.Handle(t.Context(), []kafka.Message{
		panics,
		{Topic: contract.TopicPayments, Offset: 2, Unreadable: &kafka.UnreadableError{First: 2, Last: 9,
			Cause: errors.New("it is damaged")}},
	}); err != nil {
		t.Fatal(err)
	}
	for _, letter := range b.deadLetters(t, 2) {
		reasons := map[string]string{"1": "panicked", "2": "offsets 2 to 9 cannot be read: it is damaged"}
		want := reasons[letter.Header("dlq_offset")]
		if want == "" || !strings.Contains(letter.Header("dlq_reason"), want) {
			t.Errorf("dead letter %q, want %q", letter.Headers, want)
		}
	}
}

func TestAnImpossibleEventIsParkedAndStopsNobody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	orders := b.place(t, 3)
	messages := []kafka.Message{
		event(t, orders[0], contract.PaymentFailed, 1, nil),
		event(t, orders[0], contract.PaymentSucceeded, 2, nil), // a failed order cannot be paid
		event(t, orders[1], contract.PaymentSucceeded, 1, func(p *contract.Payment) { p.AccountID = uuid.New() }),
		event(t, orders[2], contract.PaymentSucceeded, 1, nil),
		event(t, orders[1], contract.PaymentSucceeded, 2, nil),
	}
	b.handle(t, messages...)
	b.handle(t, messages...)
	for i, want := range []order.Status{order.Failed, order.Paid, order.Paid} {
		if got := b.status(t, orders[i]); got != want {
			t.Errorf("order %d is %s", i, got)
		}
	}
	parked := b.parked(t)
	if len(parked) != 2 || parked[0].Offset != 1 || parked[1].Offset != 2 || parked[0].Attempts != 2 ||
		!strings.Contains(parked[0].Reason, "cannot become paid") || !strings.Contains(parked[1].Reason, "another account") {
		t.Errorf("parked %+v", parked)
	}
	if n := b.metric(t, "altyn_orders_parked_total", ""); n != 4 {
		t.Errorf("the metric tells %v", n)
	}
}

// An event whose effect the database refuses is found among the others and parked.
func TestAPoisonousEventIsFound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	orders := b.place(t, 100)
	const poison = 37
	if _, err := b.db.Owner.Exec(fmt.Sprintf(`
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'poison'; END $$;
		CREATE TRIGGER refuse BEFORE UPDATE ON orders FOR EACH ROW WHEN (new.id = '%s') EXECUTE FUNCTION refuse()`,
		orders[poison].ID)); err != nil {
		t.Fatal(err)
	}
	var messages []kafka.Message
	for _, o := range orders {
		messages = append(messages, event(t, o, contract.PaymentSucceeded, 1, nil))
	}
	messages = append(messages, event(t, order.Order{ID: uuid.New()}, contract.PaymentSucceeded, 1, nil))
	b.handle(t, messages...)
	for i, o := range orders {
		if got := b.status(t, o); (got == order.Paid) == (i == poison) {
			t.Errorf("order %d is %s", i, got)
		}
	}
	if parked := b.parked(t); len(parked) != 1 || parked[0].Offset != poison ||
		!strings.Contains(parked[0].Reason, "poison") {
		t.Errorf("parked %+v", parked)
	}
	if len(b.changes) != len(orders)-1 {
		t.Errorf("%d changes were told", len(b.changes))
	}
	b.deadLetters(t, 1)
}

// While the database or the broker is away nothing is lost: the batch comes again.
func TestTroubleIsNotTheEvents(t *testing.T) {
	t.Parallel()
	b := setup(t)
	o := b.place(t, 1)[0]
	good, bad := event(t, o, contract.PaymentSucceeded, 1, nil), kafka.Message{Topic: contract.TopicPayments, Offset: 1}

	away, err := pg.Open(pg.Config{Host: "127.0.0.1", Port: 1, SSLMode: "disable", MaxConns: 1}.Defaults("orders"))
	if err != nil {
		t.Fatal(err)
	}
	defer away.Close()
	broken := status.New(postgres.New(away), currencies(), b.producer, func(order.Order) {}, quiet,
		prometheus.NewRegistry())
	if err := broken.Handle(t.Context(), []kafka.Message{bad, good}); !pg.IsUnavailable(err) {
		t.Errorf("without a database: %v", err)
	}
	lonely := newProducer(t, kafkatest.Config("127.0.0.1:1"))
	broken = status.New(b.store, currencies(), lonely, func(order.Order) {}, quiet, prometheus.NewRegistry())
	stopping, stop := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer stop()
	if err := broken.Handle(stopping, []kafka.Message{bad, good}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a broker, an unreadable message is lost: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.worker.Handle(ended, []kafka.Message{good}); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}

	b.handle(t, good, bad)
	b.deadLetters(t, 1)
	if got := b.status(t, o); got != order.Paid || len(b.parked(t)) != 0 {
		t.Errorf("the order is %s, parked %+v", got, b.parked(t))
	}
}
