// Package settlement gives accepted messages their effect, in the transaction of the inbox. The rules are in package
// ledger; this is the thin shell around them. It also has the workers that put messages into the inbox by themselves:
// for deadlines (Expiry), for the goods of orders (Inventory), and for refunds that are told again (Retelling).
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
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// Settlement settles batches of the inbox.
type Settlement struct {
	// Now is the clock by which operations are settled. It is set before the settlement is used; default: time.Now.
	Now func() time.Time

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
		Now: time.Now, store: store, present: billing.NewPresenter(currencies), settled: settled, log: log,
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
	b := newBatch(s.present, s.Now(), messages)
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
	if err := s.follow(ctx, tx, b); err != nil {
		return nil, err
	}
	epoch, err := s.store.Epoch(ctx, tx)
	if err != nil {
		return nil, err
	}
	told := slices.Concat(changes.Payments, changes.Repeated)
	events := make([]outbox.Message, len(told), len(told)+len(b.replies))
	for i, p := range told {
		if events[i], err = s.event(p, epoch); err != nil {
			return nil, err
		}
	}
	events = append(events, b.replies...)
	spans := telemetry.BatchOf(ctx)
	for i := range events {
		events[i].Traceparent = spans.Resume(events[i].Traceparent, "resume "+events[i].Topic)
	}
	if err := outbox.Append(ctx, tx, events...); err != nil {
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
		s.report(b.requests, ended, b.expired, changes)
		s.settled(Result{Operations: b.operations, More: len(changes.Resumes) > 0, Inventory: len(awaiting) > 0})
	}, nil
}

// follow links the spans of requests to those in which began what they are about: the order's payment, the hold, the
// operation, or the same request when it came for the first time. It costs a look at the operations of those that are
// recorded.
func (s *Settlement) follow(ctx context.Context, tx *sqlx.Tx, b *batch) error {
	spans := telemetry.BatchOf(ctx)
	var recorded []ledger.Request
	for _, r := range b.requests {
		if !spans.Records(r.Traceparent) {
			continue
		}
		recorded = append(recorded, r)
		if op, ok := b.book.Operation(r.ID); ok && op.Seq != r.Seq {
			spans.Follow(r.Traceparent, op.Traceparent)
		}
	}
	begun, err := s.store.Begun(ctx, tx, recorded)
	for i, traceparent := range begun {
		spans.Follow(recorded[i].Traceparent, traceparent)
	}
	return err
}

// awaitingInventory returns the orders that wait for their goods from now on.
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
func (s *Settlement) resume(ctx context.Context, tx *sqlx.Tx, queues map[ledger.Key]string) error {
	if len(queues) == 0 {
		return nil
	}
	messages := make([]postgres.Message, 0, len(queues))
	for key, tenant := range queues {
		m := billing.Message(ledger.Request{
			ID: uuid.Must(uuid.NewV7()), AccountID: key.AccountID, Command: ledger.Resume{Currency: key.Currency},
		}, "")
		m.Tenant = tenant
		messages = append(messages, m)
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

// event is the event of a payment's state in an epoch of the database.
func (s *Settlement) event(p ledger.OrderPayment, epoch int64) (outbox.Message, error) {
	state, err := s.present.Payment(p)
	if err != nil {
		return outbox.Message{}, err
	}
	state.Version += epoch * contract.Epoch
	payload, err := json.Marshal(state)
	if err != nil {
		return outbox.Message{}, fmt.Errorf("encode payment %s: %w", p.OrderID, err)
	}
	eventType := eventTypes[p.Status]
	return outbox.Message{
		Lane: p.Lane, Tenant: p.Tenant, ID: contract.EventID(eventType, p.OrderID, state.Version), Type: eventType,
		Topic: contract.TopicPayments, Key: p.AccountID.String(), Subject: p.OrderID.String(),
		Payload: string(payload), Traceparent: p.Traceparent,
	}, nil
}

// batch is the messages of one transaction, and what becomes of them.
type batch struct {
	present    billing.Presenter
	book       *ledger.Book
	requests   []ledger.Request
	operations []*ledger.Operation
	expired    []*ledger.Operation // the releases of holds whose time was over
	replies    []outbox.Message
	answered   map[answer]int
}

// answer is what commands are counted by.
type answer struct {
	kind ledger.Kind
	code int
}

func newBatch(present billing.Presenter, now time.Time, messages []postgres.Message) *batch {
	n := len(messages)
	b := &batch{
		present: present, requests: make([]ledger.Request, n), operations: make([]*ledger.Operation, 0, n),
		answered: make(map[answer]int),
		// To the microsecond, as the database keeps it: an answer right after the commit and one years later are the same.
		book: ledger.NewBook(now.UTC().Truncate(time.Microsecond), n),
	}
	for i, m := range messages {
		b.requests[i] = billing.Request(m)
	}
	return b
}

// apply applies the requests to the book, which is loaded by now, and answers them.
func (b *batch) apply() (ledger.Changes, error) {
	var waiting []ledger.Completion // requests of this batch that wait
	for _, r := range b.requests {
		op := b.book.Apply(r)
		if err := b.respond(r, op); err != nil {
			return ledger.Changes{}, err
		}
		if op == nil {
			continue
		}
		b.operations = append(b.operations, op)
		if op.Seq == r.Seq && telemetry.Sampled(r.Traceparent) {
			op.Traceparent = r.Traceparent
		}
		if r.Kind() == ledger.KindExpire && op.Seq == r.Seq {
			b.expired = append(b.expired, op)
		}
		if op.Status == ledger.Created {
			waiting = wait(waiting, r, op)
		}
	}
	for _, c := range waiting { // a later request of the batch may have ended it
		if err := b.respond(c.Request, c.Operation); err != nil {
			return ledger.Changes{}, err
		}
	}
	changes := b.book.Changes()
	for _, c := range changes.Completed {
		b.operations = append(b.operations, c.Operation)
		if err := b.respond(c.Request, c.Operation); err != nil {
			return ledger.Changes{}, err
		}
	}
	return changes, nil
}

// respond adds the reply to a request that has asked for one. While the operation waits there is no reply; the one that
// is sent at its end also answers its repetitions.
func (b *batch) respond(r ledger.Request, op *ledger.Operation) error {
	if r.Reply == nil || op != nil && op.Status == ledger.Created && op.Fingerprint == r.Fingerprint {
		return nil
	}
	reply, code, err := b.present.Reply(b.book, r, op)
	if err != nil {
		return err
	}
	b.replies = append(b.replies, reply)
	b.answered[answer{r.Kind(), code}]++
	return nil
}

// wait adds a request to those of the batch that wait. If it repeats one that has asked for no reply, that one gets its
// Reply instead.
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

// report logs the operations that have ended, what could not be understood, holds whose time was over, and payments
// that wait or were told again.
func (s *Settlement) report(
	requests []ledger.Request, ended, expired []*ledger.Operation, changes ledger.Changes) {
	each := func(message, key string, n int, id func(i int) string, about func(i int) []any) {
		telemetry.LogEach(s.log, slog.LevelInfo, message, key, n, id, about)
	}
	request := func(op *ledger.Operation) ledger.Request {
		for _, r := range requests {
			if r.ID == op.ID {
				return r
			}
		}
		for _, c := range changes.Completed {
			if c.Operation == op {
				return c.Request
			}
		}
		return ledger.Request{}
	}
	for status, message := range map[ledger.Status]string{
		ledger.Success: "operation succeeded", ledger.Error: "operation ended in error",
	} {
		list := slices.DeleteFunc(slices.Clone(ended), func(op *ledger.Operation) bool { return op.Status != status })
		each(message, "operation_id", len(list), func(i int) string {
			if op := list[i]; op.Kind == ledger.KindCancelOperation { // nobody sees it, only the operation that it is about
				return request(op).References().Operation.String()
			}
			return list[i].ID.String()
		}, func(i int) []any {
			op := list[i]
			attributes := append([]any{"operation", op.Kind, "account_id", op.AccountID, "tenant", op.Tenant},
				named("order_id", op.OrderID, "hold_id", op.HoldID, "command_id", op.CommandID)...)
			if op.Reason != "" {
				attributes = append(attributes, "reason", op.Reason)
			}
			return telemetry.WithTraceID(attributes, request(op).Traceparent)
		})
	}
	payments := func(message string, list []ledger.OrderPayment) {
		each(message, "order_id", len(list), func(i int) string { return list[i].OrderID.String() }, func(i int) []any {
			p := list[i]
			return telemetry.WithTraceID([]any{"account_id", p.AccountID, "tenant", p.Tenant, "status", p.Status,
				"reason", p.Reason, "version", p.Version}, p.Traceparent)
		})
	}
	payments("payment waits", slices.DeleteFunc(slices.Clone(changes.Payments),
		func(p ledger.OrderPayment) bool { return p.Status != contract.PaymentCreated }))
	payments("payment told again", changes.Repeated)
	each("hold expired", "hold_id", len(expired), func(i int) string { return expired[i].HoldID.String() },
		func(i int) []any {
			op := expired[i]
			return append([]any{"account_id", op.AccountID, "tenant", op.Tenant}, named("order_id", op.OrderID)...)
		})
	var refused []billing.ReplyTo
	for _, r := range requests {
		if r.Kind() != ledger.KindRefusal || r.Reply == nil {
			continue
		}
		if how, err := billing.ReplyToOf(r); err == nil {
			refused = append(refused, how)
		}
	}
	each("command refused", "command_id", len(refused), func(i int) string { return refused[i].CommandID.String() },
		func(i int) []any {
			r := refused[i]
			return []any{"operation", r.Operation, "reason", r.Reason, "detail", r.Detail}
		})
}

// Describe names what a message is about, for the log.
func Describe(m postgres.Message) []any {
	refs, op := m.Body.References(), m.Body.Operation()
	if op == nil {
		return named("order_id", refs.Order)
	}
	return named("order_id", op.OrderID, "hold_id", op.HoldID, "operation_id", refs.Operation)
}

// named returns the pairs of a key and an ID, without those whose ID is uuid.Nil.
func named(pairs ...any) (attributes []any) {
	for i := 0; i+1 < len(pairs); i += 2 {
		if id, ok := pairs[i+1].(uuid.UUID); ok && id != uuid.Nil {
			attributes = append(attributes, pairs[i], id)
		}
	}
	return attributes
}
