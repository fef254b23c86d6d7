// Package settlement gives accepted messages their effect: it loads what a batch touches, lets the ledger decide, and
// stores the changes and the events that tell of them, all in the inbox worker's transaction. The rules are in package
// ledger; here is the thin shell around them.
package settlement

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

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
	More       bool                // it has put further messages into the inbox
	Inventory  bool                // orders wait for their goods from now on, of which something may be stored
}

// New makes a settlement. settled is called with the result of each committed batch.
func New(store *postgres.Store, currencies *money.Currencies, log *slog.Logger, metrics prometheus.Registerer, settled func(Result)) *Settlement {
	s := &Settlement{
		store: store, present: billing.NewPresenter(currencies), settled: settled, log: log,
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "altyn_operations_total", Help: "Settled operations.",
		}, []string{"operation", "status"}),
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "altyn_commands_total", Help: "Commands of the broker that were answered, by the code of the reply; repeated ones too.",
		}, []string{"operation", "code"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "altyn_operation_seconds", Help: "Time from an operation's acceptance to its settlement.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 14),
		}, []string{"operation"}),
	}
	metrics.MustRegister(s.operations, s.commands, s.latency)
	return s
}

// answer is what commands are counted by.
type answer struct {
	kind ledger.Kind
	code int
}

// Settle is the inbox.Handler of payments.
func (s *Settlement) Settle(ctx context.Context, tx *sqlx.Tx, batch []postgres.Message) (committed func(), err error) {
	requests := make([]ledger.Request, len(batch))
	for i, m := range batch {
		requests[i] = billing.Request(m)
	}
	// To the microsecond, as the database keeps it: an answer right after the commit and one years later are the same.
	book := ledger.NewBook(time.Now().UTC().Truncate(time.Microsecond), len(requests))
	if err := s.store.Load(ctx, tx, book, requests); err != nil {
		return nil, err
	}
	operations := make([]*ledger.Operation, 0, len(requests))
	var replies []outbox.Message
	answered := make(map[answer]int)
	respond := func(r ledger.Request, op *ledger.Operation) error {
		// What waits gets its reply when it is final, and that is the reply to its repetitions too.
		if r.Reply == nil || op != nil && op.Status == ledger.Created && op.Fingerprint == r.Fingerprint {
			return nil
		}
		reply, code, err := s.present.Reply(book, r, op)
		if err == nil {
			replies = append(replies, reply)
			answered[answer{r.Kind(), code}]++
		}
		return err
	}
	var waiting []ledger.Completion // commands of this batch that wait
	var expired []*ledger.Operation // by which holds were released
	for _, r := range requests {
		op := book.Apply(r)
		if op != nil {
			operations = append(operations, op)
			if r.Kind() == ledger.KindExpire && op.Seq == r.Seq {
				expired = append(expired, op)
			}
		}
		if err := respond(r, op); err != nil {
			return nil, err
		}
		if op != nil && op.Status == ledger.Created {
			waiting = wait(waiting, r, op)
		}
	}
	for _, c := range waiting { // until a later request of this batch has ended it
		if err := respond(c.Request, c.Operation); err != nil {
			return nil, err
		}
	}
	changes := book.Changes()
	for _, c := range changes.Completed {
		operations = append(operations, c.Operation)
		if err := respond(c.Request, c.Operation); err != nil {
			return nil, err
		}
	}
	if err := s.store.Save(ctx, tx, changes, book.Entered); err != nil {
		return nil, err
	}
	told := slices.Concat(changes.Payments, changes.Repeated)
	events := make([]outbox.Message, len(told), len(told)+len(replies))
	for i, p := range told {
		if events[i], err = s.event(p); err != nil {
			return nil, err
		}
	}
	if err := outbox.Append(ctx, tx, append(events, replies...)...); err != nil {
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
		s.count(changes)
		s.report(requests, expired, changes)
		for a, n := range answered {
			s.commands.WithLabelValues(string(a.kind), strconv.Itoa(a.code)).Add(float64(n))
		}
		s.settled(Result{Operations: operations, More: len(changes.Resumes) > 0, Inventory: len(awaiting) > 0})
	}, nil
}

// wait adds a request to those of a batch that wait, or, where it repeats one that nobody was to be answered for, its reply.
func wait(waiting []ledger.Completion, r ledger.Request, op *ledger.Operation) []ledger.Completion {
	if op.Seq == r.Seq {
		return append(waiting, ledger.Completion{Request: r, Operation: op})
	}
	for i, c := range waiting {
		if c.Operation == op && c.Request.Reply == nil && c.Request.Fingerprint == r.Fingerprint {
			waiting[i].Request.Reply = r.Reply
		}
	}
	return waiting
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

// resume puts a message into the inbox for each queue for money that is to be looked at again. It has an ID of its own,
// never a derived one: one that is being settled in this very batch is still in the inbox and must not swallow it.
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

// count tells the metrics what has ended.
func (s *Settlement) count(changes ledger.Changes) {
	ended := func(op *ledger.Operation) {
		if op.Status == ledger.Created {
			return
		}
		s.operations.WithLabelValues(string(op.Kind), string(op.Status)).Inc()
		s.latency.WithLabelValues(string(op.Kind)).Observe(op.SettledAt.Sub(op.CreatedAt).Seconds())
	}
	for _, op := range changes.Operations {
		ended(op)
	}
	for _, c := range changes.Completed {
		ended(c.Operation)
	}
}

// eventTypes are the types of the events that tell of a payment's statuses.
var eventTypes = map[string]string{
	contract.PaymentCreated:    contract.PaymentCreatedType,
	contract.PaymentAuthorized: contract.PaymentAuthorizedType,
	contract.PaymentSucceeded:  contract.PaymentSucceededType,
	contract.PaymentFailed:     contract.PaymentFailedType,
	contract.PaymentCancelled:  contract.PaymentCancelledType,
	contract.PaymentRefunded:   contract.PaymentRefundedType,
}

// event is the message that tells of a payment's transition.
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
		Lane: p.Lane, ID: contract.EventID(eventType, p.OrderID, p.Version), Type: eventType, Topic: contract.TopicPayments,
		Key: p.AccountID.String(), Subject: p.OrderID.String(), Payload: string(payload), Traceparent: p.Traceparent,
	}, nil
}
