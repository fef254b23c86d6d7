// Package placing is what clients do with orders: place one or many, and cancel one. It derives IDs from idempotency
// keys, makes the events for payments, refuses orders for which there is no room, and has requests that arrive together
// share a transaction. The rules of an order are in package order, all SQL is in package postgres.
package placing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/groupcommit"
	"github.com/altyn-pay/altyn/platform/idempotency"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

const (
	// maxTogether requests share a transaction at most.
	maxTogether = 500
	// maxWaiting requests wait for their transaction at most; one more gets groupcommit.ErrBusy.
	maxWaiting = 10_000
)

// The scopes of idempotency keys: the paths by which requests come. Stored IDs are derived from them, so they never
// change.
const (
	placeScope  = "/api/v1/orders"
	batchScope  = "/api/v1/orders/batch"
	cancelScope = "/api/v1/orders/{id}/cancel"
)

// ErrUnavailable is returned when the database failed before anything was done.
var ErrUnavailable = errors.New("the database is not available; nothing was done")

// OutcomeUnknownError is returned when nobody knows whether a request took effect. The order tells, once it can be
// read.
type OutcomeUnknownError struct {
	OrderID uuid.UUID
	cause   error
}

func (e *OutcomeUnknownError) Error() string {
	return "order " + e.OrderID.String() + ": " + e.cause.Error()
}

// Unwrap returns the cause.
func (e *OutcomeUnknownError) Unwrap() error { return e.cause }

// outcome names the order in the error of a request whose outcome is unknown.
func outcome(id uuid.UUID, err error) error {
	if pg.IsOutcomeUnknown(err) {
		return &OutcomeUnknownError{id, err}
	}
	return err
}

// Client is who asks for something. Clients of different reach never share a key.
type Client struct {
	Reach   identity.Reach // what the request may touch
	Subject string         // who it is; "" where nobody is told apart
}

// scope is where a key of the client comes from.
func (c Client) scope(path string) string { return c.Reach.Namespace() + path }

// Key is a client's idempotency key. The zero Key is none.
type Key struct {
	Text string
	// Sent is how earlier versions read the same key, where they read it differently.
	Sent string
}

// Service places and cancels orders.
type Service struct {
	// Now is the clock by which orders are accepted. It is set before the service is used; default: time.Now.
	Now func() time.Time

	store      *postgres.Store
	currencies *money.Currencies
	changed    func(order.Order)
	wake       func()
	full       func(lane int16) bool
	tracer     *telemetry.Tracer

	placing    *groupcommit.Group[*postgres.Placement, postgres.Placed]
	cancelling *groupcommit.Group[cancellation, cancelled]

	log           *slog.Logger
	placed        prometheus.Counter
	cancellations prometheus.Counter
}

// New makes a service. After a commit it calls changed with each order whose status has changed, and wake when there
// are events to publish. full reports whether a lane has no room for new orders. A nil tracer makes no spans.
func New(store *postgres.Store, currencies *money.Currencies, changed func(order.Order), wake func(),
	full func(lane int16) bool, tracer *telemetry.Tracer, log *slog.Logger, metrics prometheus.Registerer) *Service {
	s := &Service{
		Now: time.Now, store: store, currencies: currencies, changed: changed, wake: wake, full: full, tracer: tracer,
		log: log,
		placed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "altyn_orders_placed_total", Help: "Orders accepted; repetitions of a request do not count."}),
		cancellations: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "altyn_orders_cancellations_total", Help: "Cancellations accepted; repetitions of a request do not count."}),
	}
	alone := func(err error) bool { return !pg.IsTransient(err) }
	s.placing = groupcommit.New(maxTogether, maxWaiting, alone, s.commitPlacements)
	s.cancelling = groupcommit.New(maxTogether, maxWaiting, alone, s.commitCancellations)
	metrics.MustRegister(s.placed, s.cancellations)
	return s
}

// Admit turns a request into an order with an ID. The order is not stored yet, so a caller can begin to watch it before
// Place. Admit returns contract.FieldErrors for a request that is not valid, and outbox.ErrFull when the account's lane
// has no room, unless the same request was accepted before.
func (s *Service) Admit(ctx context.Context, client Client, request order.Request, key Key) (order.Order, error) {
	o, err := s.read(client, request, placeScope, key.Text)
	if err != nil {
		return order.Order{}, err
	}
	if key.Sent != "" {
		before := contract.DerivedID(client.scope(placeScope), o.AccountID, key.Sent)
		found, err := s.store.Placed(ctx, []uuid.UUID{before})
		if err != nil {
			return order.Order{}, err
		}
		if len(found) > 0 {
			o.ID = before
		}
	}
	room, err := s.room(ctx, key.Text != "", o)
	if err == nil && !room[0] {
		err = outbox.ErrFull
	}
	return o, err
}

// Place stores an admitted order with its event. If the same request has placed it before, Place returns it as it is
// now, and repeated. Place returns idempotency.ErrReused when another request has taken the key, and
// *OutcomeUnknownError when the order may have been stored; after any other error nothing was.
func (s *Service) Place(ctx context.Context, o order.Order) (placed order.Order, repeated bool, err error) {
	placement, err := s.placement(ctx, o)
	if err != nil {
		return order.Order{}, false, err
	}
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(attribute.Stringer("altyn.order_id", o.ID))
	}
	result, err := s.placing.Do(ctx, placement)
	if err != nil {
		return order.Order{}, false, outcome(o.ID, err)
	}
	if result.Order.Fingerprint != o.Fingerprint {
		return order.Order{}, false, idempotency.ErrReused
	}
	return *result.Order, !result.New, nil
}

// read checks a request and gives the order its ID: the same key of the same client by the same path always makes the
// same ID.
func (s *Service) read(client Client, request order.Request, path, key string) (order.Order, error) {
	o, err := order.Place(s.currencies, request, s.Now())
	if err != nil {
		return order.Order{}, err
	}
	o = o.For(client.Reach, client.Subject)
	if o.Key = key; key != "" {
		o.ID = contract.DerivedID(client.scope(path), o.AccountID, key)
		return o, nil
	}
	o.Fingerprint = uuid.Nil // nothing is compared with what has no key
	if o.ID, err = uuid.NewV7(); err != nil {
		return order.Order{}, fmt.Errorf("make an ID: %w", err)
	}
	return o, nil
}

// placement adds the order's event, and to both the trace of the request.
func (s *Service) placement(ctx context.Context, o order.Order) (*postgres.Placement, error) {
	event, err := o.PlacedEvent(s.currencies, false)
	event.Traceparent = telemetry.Traceparent(ctx)
	o.TraceID, _ = uuid.Parse(telemetry.TraceID(event.Traceparent)) // zero where there is none
	return &postgres.Placement{Order: o, Event: event}, err
}

// room reports for each order whether there is room for it. An order with a key that was placed before needs none.
func (s *Service) room(ctx context.Context, keyed bool, orders ...order.Order) ([]bool, error) {
	room := make([]bool, len(orders))
	var without []uuid.UUID
	for i, o := range orders {
		if room[i] = !s.full(contract.Lane(o.AccountID)); !room[i] {
			without = append(without, o.ID)
		}
	}
	if !keyed || len(without) == 0 {
		return room, nil
	}
	placed, err := s.store.Placed(ctx, without)
	for i, o := range orders {
		if _, ok := placed[o.ID]; ok {
			room[i] = true
		}
	}
	return room, err
}

// commitPlacements stores the placements of many requests in one transaction.
func (s *Service) commitPlacements(ctx context.Context, placements []*postgres.Placement) ([]postgres.Placed, error) {
	spans := s.tracer.Batch("INSERT orders", trace.SpanKindClient)
	for _, p := range placements {
		spans.Link(p.Event.Traceparent)
	}
	placed, err := s.store.Place(ctx, placements)
	spans.End(err, semconv.DBSystemNamePostgreSQL, semconv.DBOperationName("INSERT"), semconv.DBCollectionName("orders"),
		semconv.DBOperationBatchSize(len(placements)))
	if err != nil {
		return nil, err
	}
	s.wake()
	added := make([]*postgres.Placement, 0, len(placed))
	for i, p := range placed {
		if p.New {
			added = append(added, placements[i])
		}
	}
	s.placed.Add(float64(len(added)))
	telemetry.LogEach(s.log, slog.LevelInfo, "order placed", "order_id", len(added),
		func(i int) string { return added[i].Order.ID.String() }, func(i int) []any {
			return telemetry.WithTraceID(added[i].Order.LogAttributes(), added[i].Event.Traceparent)
		})
	return placed, nil
}
