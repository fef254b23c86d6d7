// Package status keeps orders in step with their payments. The Worker reads the topic payments and applies each fetch
// in one transaction; the Healer announces orders again whose payment has not been heard of. Events may come any number
// of times and in any order, since each carries the payment's whole state and its version. One bad event never stops
// the others: what cannot be read goes to the dead letters, what can be read but not applied is parked.
package status

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/stage"
	"github.com/altyn-pay/altyn/platform/strictjson"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// Group is the consumer group of the workers, which share the topic's partitions.
const Group = "orders"

// known are the events that the worker understands.
var known = map[string]bool{
	contract.PaymentCreatedType: true, contract.PaymentAuthorizedType: true, contract.PaymentSucceededType: true,
	contract.PaymentFailedType: true, contract.PaymentCancelledType: true, contract.PaymentRefundedType: true,
}

var errUnknownOrder = errors.New("unknown order")

// Worker applies the events of payments to their orders. Any number may run, in any number of processes.
type Worker struct {
	// Now is the clock of the orders' histories. It is set before the worker is used; default: time.Now.
	Now func() time.Time

	store      *postgres.Store
	currencies *money.Currencies
	producer   *kafka.Producer // of dead letters
	changed    func(order.Order)
	log        *slog.Logger

	statuses *prometheus.CounterVec
	answered prometheus.Counter
	latency  *prometheus.HistogramVec
	parked   prometheus.Counter
	dead     prometheus.Counter
	undone   prometheus.Counter
}

// New makes a worker. After a commit it calls changed with each order that has changed. A worker that only redrives
// parked events needs no producer.
func New(store *postgres.Store, currencies *money.Currencies, producer *kafka.Producer, changed func(order.Order),
	log *slog.Logger, metrics prometheus.Registerer) *Worker {
	w := &Worker{
		Now: time.Now, store: store, currencies: currencies, producer: producer, changed: changed, log: log,
		statuses: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "altyn_orders_status_total", Help: "Orders that have come to a status."}, []string{"status"}),
		answered: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "altyn_orders_answered_total", Help: "Orders whose payment was heard of: decided, or waiting."}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "altyn_orders_settled_seconds",
			Help:    "Time from an order's acceptance until its payment was decided, by whether it waited for goods or money.",
			Buckets: []float64{.005, .01, .015, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 86400},
		}, []string{"waited"}),
		parked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "altyn_orders_parked_total", Help: "Events of payments set aside because they could not be applied."}),
		dead: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "altyn_orders_dead_letters_total",
			Help: "Messages on the topic payments that could not be read or are of no known order."}),
		undone: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "altyn_orders_undone_total",
			Help: "Orders of which something was said that payments, which was restored, does not know any more."}),
	}
	for _, waited := range []string{"false", "true"} { // rates need a zero to begin with
		w.latency.WithLabelValues(waited)
	}
	metrics.MustRegister(w.statuses, w.answered, w.latency, w.parked, w.dead, w.undone, store.ParkedGauges())
	return w
}

// event is a message that could be read.
type event struct {
	message kafka.Message
	payment order.Payment
	parked  uuid.UUID            // its ID among the parked events when it is redriven, else zero
	record  func(*sqlx.Tx) error // writes down that it is redriven; else nil
}

// Handle is the kafka.Handler of the topic payments. It returns nil once every message of the batch has taken effect or
// is kept where an operator finds it. After an error, which means that the database or the broker is away, the batch
// must be handled again.
func (w *Worker) Handle(ctx context.Context, messages []kafka.Message) error {
	events := make([]event, 0, len(messages))
	var dead, mistaken, newer []postgres.Refused
	for _, m := range messages {
		payment, err := w.read(m)
		switch {
		case errors.Is(err, order.ErrCurrency):
			mistaken = append(mistaken, postgres.Refused{Message: m, Reason: err})
		case errors.Is(err, order.ErrUnknown):
			newer = append(newer, postgres.Refused{Message: m, Reason: err})
		case err != nil:
			dead = append(dead, postgres.Refused{Message: m, Reason: err})
		default:
			events = append(events, event{message: m, payment: payment})
		}
	}
	unknown, err := w.apply(ctx, events)
	if err != nil {
		return err
	}
	if err := w.park(ctx, mistaken); err != nil {
		return err
	}
	if err := w.keep(ctx, newer); err != nil {
		return err
	}
	return w.deadLetter(ctx, append(dead, unknown...))
}

// read decodes a message. A panic is the error of that message.
func (w *Worker) read(m kafka.Message) (payment order.Payment, err error) {
	err = kafka.Read(m, func() error {
		header := kafka.EventOf(m)
		if !known[header.Type] {
			err := fmt.Errorf("no such event on this topic: ce_type %q", header.Type)
			if strings.HasPrefix(header.Type, "payment.") {
				err = fmt.Errorf("%w: %w", order.ErrUnknown, err)
			}
			return err
		}
		eventID, err := contract.ParseID(header.ID)
		if err != nil {
			return fmt.Errorf("ce_id %q is not a UUID", header.ID)
		}
		var state contract.Payment
		if err := strictjson.UnmarshalEvent(m.Value, &state); err != nil {
			return fmt.Errorf("not a payment: %w", err)
		}
		payment, err = order.ReadPayment(w.currencies, eventID, state)
		payment.PublishedAt = m.Time
		return err
	})
	return payment, err
}

// apply applies events, as many as possible in one transaction, and returns those of unknown orders. An event that
// makes the transaction fail is parked; when the database is away, apply returns its error.
func (w *Worker) apply(ctx context.Context, events []event) (unknown []postgres.Refused, err error) {
	if len(events) == 0 {
		return nil, nil
	}
	settle := func(events []event) error {
		return stage.Guard(w.log, func() error {
			more, err := w.runOnce(ctx, events)
			unknown = append(unknown, more...)
			return err
		})
	}
	blames := func(err error) bool { return ctx.Err() == nil && !pg.IsTransient(err) }
	if err = settle(events); err == nil || !blames(err) {
		return unknown, err
	}
	if len(events) > 1 {
		w.log.Warn("a batch of events failed; looking for the one that causes it", "events", len(events), "error", err)
	}
	err = stage.Isolate(events, err, settle, blames, func(e event, err error) error {
		return w.park(ctx, []postgres.Refused{{Message: e.message, Reason: err}})
	})
	return unknown, err
}

// runOnce applies events in one transaction: load, decide, store.
func (w *Worker) runOnce(ctx context.Context, events []event) (unknown []postgres.Refused, err error) {
	ids := make([]uuid.UUID, len(events))
	for i, e := range events {
		ids[i] = e.payment.OrderID
	}
	var result outcome
	err = w.store.InTx(ctx, func(tx *sqlx.Tx) error {
		orders, err := w.store.Lock(ctx, tx, ids)
		if err != nil {
			return err
		}
		result = decide(orders, events, w.Now())
		if err := w.store.Save(ctx, tx, result.changed, result.transitions); err != nil {
			return err
		}
		if err := w.cancelAgain(ctx, tx, result); err != nil {
			return err
		}
		if err := w.store.Unpark(ctx, tx, result.redriven); err != nil {
			return err
		}
		if err := w.store.Park(ctx, tx, result.impossible); err != nil {
			return err
		}
		return record(tx, events)
	})
	if err != nil {
		return nil, err
	}
	w.report(result)
	return result.unknown, nil
}

// cancelAgain announces the cancellation of the orders whose payment must not go on: payments was restored.
func (w *Worker) cancelAgain(ctx context.Context, tx *sqlx.Tx, result outcome) error {
	var cancellations []postgres.Cancellation
	var events []order.Event
	for _, t := range result.transitions {
		if !t.Undoes() || t.To != order.Cancelling {
			continue
		}
		o := result.changed[slices.IndexFunc(result.changed, func(o order.Order) bool { return o.ID == t.OrderID })]
		event, err := o.CancelledEvent(w.currencies, o.Note, t.At, true)
		if err != nil {
			return err
		}
		events = append(events, event)
		cancellations = append(cancellations, postgres.Cancellation{
			OrderID: o.ID, Fingerprint: order.CancellationFingerprint(o.Note), Note: o.Note, At: t.At})
	}
	if len(events) == 0 {
		return nil
	}
	if err := w.store.CancelAgain(ctx, tx, cancellations); err != nil {
		return err
	}
	return w.store.Announce(ctx, tx, events...)
}

// record writes down which events are redriven.
func record(tx *sqlx.Tx, events []event) error {
	for _, e := range events {
		if e.record != nil {
			if err := e.record(tx); err != nil {
				return err
			}
		}
	}
	return nil
}

// outcome is what a batch of events does.
type outcome struct {
	changed     []order.Order // in their last state
	causes      []*event      // of those states
	transitions []order.Transition
	answered    int       // orders whose payment was not heard of before
	settled     []settled // payments that were decided
	impossible  []postgres.Refused
	unknown     []postgres.Refused
	redriven    []uuid.UUID // parked events that need not be parked any more
}

// settled is a payment that was decided.
type settled struct {
	took   time.Duration // from acceptance to decision
	waited bool          // for goods or money
}

// decide applies events, in their order, to the orders that were loaded.
func decide(orders map[uuid.UUID]order.Order, events []event, now time.Time) outcome {
	var result outcome
	var changed []uuid.UUID
	causes := make(map[uuid.UUID]*event, len(orders))
	for i := range events {
		e := &events[i]
		o, ok := orders[e.payment.OrderID]
		if !ok {
			list := &result.unknown
			if e.parked != uuid.Nil { // it stays where it is
				list = &result.impossible
			}
			*list = append(*list, postgres.Refused{Message: e.message, Reason: errUnknownOrder})
			continue
		}
		waited, first := o.Waits(), o.PaymentVersion == 0
		transition, err := o.Apply(e.payment, now)
		if err != nil {
			result.impossible = append(result.impossible, postgres.Refused{Message: e.message, Reason: err})
			continue
		}
		if e.parked != uuid.Nil {
			result.redriven = append(result.redriven, e.parked)
		}
		if transition == nil {
			continue
		}
		orders[o.ID] = o
		if first {
			result.answered++
		}
		if causes[o.ID] == nil {
			changed = append(changed, o.ID)
		}
		causes[o.ID] = e
		result.transitions = append(result.transitions, *transition)
		if transition.From == order.Pending && transition.To.Settled() {
			result.settled = append(result.settled, settled{transition.At.Sub(o.CreatedAt), waited})
		}
	}
	for _, id := range changed {
		result.changed, result.causes = append(result.changed, orders[id]), append(result.causes, causes[id])
	}
	return result
}

// report counts and logs what was committed.
func (w *Worker) report(result outcome) {
	for _, t := range result.transitions {
		if t.From != t.To {
			w.statuses.WithLabelValues(string(t.To)).Inc()
		}
	}
	w.answered.Add(float64(result.answered))
	for _, s := range result.settled {
		w.latency.WithLabelValues(strconv.FormatBool(s.waited)).Observe(s.took.Seconds())
	}
	for _, t := range result.transitions {
		if t.Undoes() {
			w.undone.Inc()
			w.log.Warn("what was said of an order is undone: payments was restored", "order_id", t.OrderID, "was", t.From,
				"is", t.To)
		}
	}
	now := map[order.Status][]int{} // what has changed, by status
	for i, o := range result.changed {
		w.changed(o)
		now[o.Status] = append(now[o.Status], i)
	}
	for status, list := range now {
		telemetry.LogEach(w.log, slog.LevelInfo, "order "+string(status), "order_id", len(list),
			func(i int) string { return result.changed[list[i]].ID.String() }, func(i int) []any {
				cause := result.causes[list[i]].message
				return telemetry.WithTraceID(result.changed[list[i]].LogAttributes(), kafka.EventOf(cause).Traceparent)
			})
	}
	w.reportParked(result.impossible)
}
