// Package settlement gives accepted messages their effect, all in the inbox worker's transaction. The rules are in
// package ledger; here is the thin shell around them. Beside it are the workers that put messages into the inbox by
// themselves: for deadlines (Expiry), for the goods of orders (Inventory), and for refunds that are told again
// (Retelling).
package settlement

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/platform/outbox"
)

// Settlement settles batches of the inbox.
type Settlement struct {
	store      *postgres.Store
	present    billing.Presenter
	settled    func(Result)
	log        *slog.Logger
	operations *prometheus.CounterVec
	commands   *prometheus.CounterVec
	latency    *prometheus.HistogramVec
}

// Result is what a committed batch has done.
type Result struct {
	Operations []*ledger.Operation // those of repeated messages too
	More       bool                // the batch put further messages into the inbox
	Inventory  bool                // orders wait for goods from now on, of which something may be stored already
}

// New makes a settlement. It calls settled with the result of each committed batch.
func New(store *postgres.Store, currencies *money.Currencies, log *slog.Logger, metrics prometheus.Registerer,
	settled func(Result)) *Settlement {
	s := &Settlement{
		store: store, present: billing.NewPresenter(currencies), settled: settled, log: log,
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "altyn_operations_total", Help: "Settled operations.",
		}, []string{"operation", "status"}),
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "altyn_commands_total",
			Help: "Commands of the broker that were answered, by the code of the reply; repeated ones too.",
		}, []string{"operation", "code"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "altyn_operation_seconds", Help: "Time from an operation's acceptance to its settlement.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 14),
		}, []string{"operation"}),
	}
	metrics.MustRegister(s.operations, s.commands, s.latency)
	return s
}

// Settle is the inbox.Handler of payments: it loads what the messages touch, lets the ledger decide, and stores the
// changes and what tells of them.
func (s *Settlement) Settle(ctx context.Context, tx *sqlx.Tx, messages []postgres.Message) (
	committed func(), err error) {
	b := newBatch(s.present, messages)
	if err := s.store.Load(ctx, tx, b.book, b.requests); err != nil {
		return nil, err
	}
	changes, err := b.apply()
	if err != nil {
		return nil, err
	}
	if err := s.store.Save(ctx, tx, changes, b.book.Entered); err != nil {
		return nil, err
	}
	told := slices.Concat(changes.Payments, changes.Repeated)
	events := make([]outbox.Message, len(told), len(told)+len(b.replies))
	for i, p := range told {
		if events[i], err = s.event(p); err != nil {
			return nil, err
		}
	}
	if err := outbox.Append(ctx, tx, append(events, b.replies...)...); err != nil {
		return nil, err
	}
	if err := s.resume(ctx, tx, changes.Resumes); err != nil {
		return nil, err
	}
	awaiting := awaitingInventory(changes.Payments)
	if err := s.store.LookForInventory(ctx, tx, awaiting); err != nil {
		return nil, err
	}
	return func() {
		ended := ended(changes)
		s.count(ended, b.answered)
		s.report(b.requests, ended, b.expired, changes.Repeated)
		s.settled(Result{Operations: b.operations, More: len(changes.Resumes) > 0, Inventory: len(awaiting) > 0})
	}, nil
}

// awaitingInventory are the orders that wait for their goods from now on.
func awaitingInventory(payments []ledger.OrderPayment) (orders []uuid.UUID) {
	for _, p := range payments {
		if p.Status == contract.PaymentCreated && p.Reason == ledger.WaitingForInventory {
			orders = append(orders, p.OrderID)
		}
	}
	return orders
}

// resume puts a message into the inbox for each queue for money that needs another Resume. Its ID is fresh, never
// derived: the Resume that this very batch settles is still in the inbox and must not swallow it.
func (s *Settlement) resume(ctx context.Context, tx *sqlx.Tx, keys map[ledger.Key]bool) error {
	if len(keys) == 0 {
		return nil
	}
	messages := make([]postgres.Message, 0, len(keys))
	for key := range keys {
		messages = append(messages, billing.Message(ledger.Request{
			ID: uuid.Must(uuid.NewV7()), AccountID: key.AccountID, Command: ledger.Resume{Currency: key.Currency},
		}, ""))
	}
	_, err := s.store.Inbox().Insert(ctx, tx, messages)
	return err
}

// ended are the operations that a batch has ended.
func ended(changes ledger.Changes) (ended []*ledger.Operation) {
	for _, op := range changes.Operations {
		if op.Status != ledger.Created {
			ended = append(ended, op)
		}
	}
	for _, c := range changes.Completed {
		if c.Operation.Status != ledger.Created {
			ended = append(ended, c.Operation)
		}
	}
	return ended
}

// count tells the metrics what has ended and was answered.
func (s *Settlement) count(ended []*ledger.Operation, answered map[answer]int) {
	for _, op := range ended {
		s.operations.WithLabelValues(string(op.Kind), string(op.Status)).Inc()
		s.latency.WithLabelValues(string(op.Kind)).Observe(op.SettledAt.Sub(op.CreatedAt).Seconds())
	}
	for a, n := range answered {
		s.commands.WithLabelValues(string(a.kind), strconv.Itoa(a.code)).Add(float64(n))
	}
}

// eventTypes are the types of events by the payment's status.
var eventTypes = map[string]string{
	contract.PaymentCreated:    contract.PaymentCreatedType,
	contract.PaymentAuthorized: contract.PaymentAuthorizedType,
	contract.PaymentSucceeded:  contract.PaymentSucceededType,
	contract.PaymentFailed:     contract.PaymentFailedType,
	contract.PaymentCancelled:  contract.PaymentCancelledType,
	contract.PaymentRefunded:   contract.PaymentRefundedType,
}

// event is the event of a payment's state.
func (s *Settlement) event(p ledger.OrderPayment) (outbox.Message, error) {
	state, err := s.present.Payment(p)
	if err != nil {
		return outbox.Message{}, err
	}
	payload, err := json.Marshal(state)
	if err != nil {
		return outbox.Message{}, fmt.Errorf("encode payment %s: %w", p.OrderID, err)
	}
	eventType := eventTypes[p.Status]
	return outbox.Message{
		Lane: p.Lane, Tenant: p.Tenant, ID: contract.EventID(eventType, p.OrderID, p.Version), Type: eventType,
		Topic: contract.TopicPayments, Key: p.AccountID.String(), Subject: p.OrderID.String(),
		Payload: string(payload), Traceparent: p.Traceparent,
	}, nil
}
