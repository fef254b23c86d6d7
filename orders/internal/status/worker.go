// Package status keeps the orders in step with their payments: a worker reads the topic payments and applies a whole
// fetch in one transaction. Events may come any number of times and in any order, since each carries the payment's
// state and version. One bad event never stops the others: what cannot be read goes to the dead letters, what can be
// read but not applied is parked.
package status

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/stage"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// Group is the consumer group of the workers, which share the topic's partitions.
const Group = "orders"

// Worker applies what payments tells. Any number may run, in any number of processes.
type Worker struct {
	store      *postgres.Store
	currencies *money.Currencies
	producer   *kafka.Producer // of dead letters
	changed    func(order.Order)
	log        *slog.Logger

	statuses *prometheus.CounterVec
	latency  prometheus.Histogram
	parked   prometheus.Counter
	dead     prometheus.Counter
}

// New makes a worker; changed is called with each order's new state once it is committed. A worker that only redrives what is
// parked needs no producer.
func New(store *postgres.Store, currencies *money.Currencies, producer *kafka.Producer, changed func(order.Order),
	log *slog.Logger, metrics prometheus.Registerer) *Worker {
	w := &Worker{
		store: store, currencies: currencies, producer: producer, changed: changed, log: log,
		statuses: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "altyn_orders_status_total", Help: "Orders that have come to a status."}, []string{"status"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "altyn_orders_settled_seconds", Help: "Time from an order's acceptance until its payment was decided.",
			Buckets: []float64{.005, .01, .015, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 86400}}),
		parked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "altyn_orders_parked_total", Help: "Events of payments set aside because they could not be applied."}),
		dead: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "altyn_orders_dead_letters_total", Help: "Messages on the topic payments that could not be read or are of no known order."}),
	}
	metrics.MustRegister(w.statuses, w.latency, w.parked, w.dead, store.ParkedGauge())
	return w
}

// event is a message that could be read.
type event struct {
	message kafka.Message
	payment order.Payment
	parked  uuid.UUID // its ID among the parked ones, when it is applied again
}

// Handle is the kafka.Handler of the topic payments. It returns nil once every message of the batch has taken effect or
// is kept where an operator finds it; an error means that the database or the broker is away, and that the same batch
// is to be handled again.
func (w *Worker) Handle(ctx context.Context, messages []kafka.Message) error {
	events := make([]event, 0, len(messages))
	var dead, mistaken []refused
	for _, m := range messages {
		payment, err := w.read(m)
		switch {
		case errors.Is(err, order.ErrCurrency):
			mistaken = append(mistaken, refused{m, err})
		case err != nil:
			dead = append(dead, refused{m, err})
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
	return w.bury(ctx, append(dead, unknown...))
}

// known are the events that this service understands.
var known = map[string]bool{
	contract.PaymentCreatedType: true, contract.PaymentAuthorizedType: true, contract.PaymentSucceededType: true,
	contract.PaymentFailedType: true, contract.PaymentCancelledType: true, contract.PaymentRefundedType: true,
}

func (w *Worker) read(m kafka.Message) (payment order.Payment, reason error) {
	reason = kafka.Read(m, func() (err error) {
		payment, err = w.payment(m)
		return err
	})
	return payment, reason
}

func (w *Worker) payment(m kafka.Message) (order.Payment, error) {
	header := kafka.EventOf(m)
	if !known[header.Type] {
		return order.Payment{}, fmt.Errorf("no such event on this topic: ce_type %q", header.Type)
	}
	eventID, err := contract.ParseID(header.ID)
	if err != nil {
		return order.Payment{}, fmt.Errorf("ce_id %q is not a UUID", header.ID)
	}
	var state contract.Payment
	if err := httpserver.UnmarshalEvent(m.Value, &state); err != nil {
		return order.Payment{}, fmt.Errorf("not a payment: %w", err)
	}
	return order.ReadPayment(w.currencies, eventID, state)
}

// apply gives events their effect in one transaction, and returns those of orders that are not there. When that fails
// for another reason than the state of the database, the event that causes it is found and parked, and the others take effect.
func (w *Worker) apply(ctx context.Context, events []event) (unknown []refused, err error) {
	if len(events) == 0 {
		return nil, nil
	}
	apply := func(part []event) error {
		more, err := w.applyOnce(ctx, part)
		unknown = append(unknown, more...)
		return err
	}
	blames := func(err error) bool { return ctx.Err() == nil && !pg.IsTransient(err) }
	err = apply(events)
	if err != nil && blames(err) {
		w.log.Warn("a batch of events failed; looking for the one that causes it", "events", len(events), "error", err)
		err = stage.Isolate(events, err, apply, blames, func(e event, cause error) error {
			return w.park(ctx, []refused{{e.message, cause}})
		})
	}
	if err != nil {
		return nil, err
	}
	return unknown, nil
}

// applyOnce is one transaction: load, decide, store. A panic fails it like an error.
func (w *Worker) applyOnce(ctx context.Context, events []event) (unknown []refused, err error) {
	defer func() {
		if p := recover(); p != nil {
			w.log.Error("applying events panicked", "panic", p, "stack", string(debug.Stack()))
			unknown, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
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
		result = decide(orders, events, time.Now())
		if err := w.store.Save(ctx, tx, result.changed, result.transitions); err != nil {
			return err
		}
		if err := w.store.Unpark(ctx, tx, result.redriven); err != nil {
			return err
		}
		return w.store.Park(ctx, tx, toPark(result.impossible))
	})
	if err != nil {
		return nil, err
	}
	w.report(result)
	return result.unknown, nil
}

// report tells of what was committed.
func (w *Worker) report(result outcome) {
	for _, t := range result.transitions {
		if t.From != t.To {
			w.statuses.WithLabelValues(string(t.To)).Inc()
		}
	}
	for _, d := range result.settled {
		w.latency.Observe(d.Seconds())
	}
	var failed []order.Order
	for _, o := range result.changed {
		if w.changed(o); o.Status == order.Failed {
			failed = append(failed, o)
		}
	}
	telemetry.LogEach(w.log, slog.LevelInfo, "order failed", "order_id", len(failed), func(i int) (string, []any) {
		return failed[i].ID.String(), []any{"reason", failed[i].Reason, "account_id", failed[i].AccountID}
	})
	w.reportParked(result.impossible)
}
