package placing

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/idempotency"
	"github.com/altyn-pay/altyn/platform/identity"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// Cancel begins to cancel an order that the client reaches, and returns it. Cancelling it again changes nothing;
// repeated reports that the first time was this very request. Cancel returns contract.FieldErrors,
// postgres.ErrNotFound, order.ErrFailed, idempotency.ErrReused, or *OutcomeUnknownError when the cancellation may have
// begun; after any other error nothing was done.
func (s *Service) Cancel(ctx context.Context, client Client, id uuid.UUID, reason, key string) (
	o order.Order, repeated bool, err error) {
	if err := contract.CheckText(reason, contract.MaxReason); err != nil {
		return order.Order{}, false, contract.Invalid("reason", "%v", err)
	}
	request := cancellation{by: client.Reach, traceparent: telemetry.Traceparent(ctx), Cancellation: postgres.Cancellation{
		OrderID: id, Fingerprint: order.CancellationFingerprint(reason), Subject: client.Subject, Key: key, Note: reason,
	}}
	if key != "" {
		// An order has one account, so its own ID scopes the key at least as far.
		request.Request = uuid.NullUUID{UUID: contract.DerivedID(client.scope(cancelScope), id, key), Valid: true}
	}
	result, err := s.cancelling.Do(ctx, request)
	if err != nil {
		return order.Order{}, false, outcome(id, err)
	}
	return result.order, result.repeated, result.err
}

// cancellation is a request to cancel an order.
type cancellation struct {
	postgres.Cancellation
	by          identity.Reach
	traceparent string
}

// repeats reports whether both are one request of the client's.
func (c cancellation) repeats(first postgres.Cancellation) bool {
	return c.Request.Valid && c.Request == first.Request
}

// cancelled is what became of a cancellation.
type cancelled struct {
	order    order.Order
	begun    bool  // by this request
	repeated bool  // an earlier request with the same key began it
	err      error // why the order is not cancelled
}

// commitCancellations begins the cancellation of orders in one transaction, with their history and their events. It
// returns one result for each request. After an error nothing was stored, unless pg.IsOutcomeUnknown(err).
func (s *Service) commitCancellations(ctx context.Context, requests []cancellation) ([]cancelled, error) {
	asked := make([]postgres.Asked, len(requests))
	for i, c := range requests {
		asked[i] = postgres.Asked{OrderID: c.OrderID, By: c.by}
	}
	d := decision{service: s, tried: make(map[attempt]bool)}
	cancel := func(tx *sqlx.Tx) error {
		orders, err := s.store.LockReached(ctx, tx, asked)
		if err != nil {
			return err
		}
		// By a later statement: it sees what others have committed before the orders were locked.
		begun, err := s.store.Cancellations(ctx, tx, slices.Collect(maps.Keys(orders)))
		if err != nil {
			return err
		}
		if err := d.decide(orders, begun, requests, s.Now()); err != nil {
			return err
		}
		if err := s.store.Save(ctx, tx, d.orders, d.transitions); err != nil {
			return err
		}
		if err := s.store.SaveCancellations(ctx, tx, d.begun); err != nil {
			return err
		}
		return s.store.Announce(ctx, tx, d.events...)
	}
	if err := pg.UntilKnown(ctx, func() error { return s.store.InTx(ctx, cancel) }); err != nil {
		return nil, fmt.Errorf("cancel %d orders: %w", len(requests), err)
	}
	var begun []int
	for i, r := range d.results {
		if r.begun { // by an earlier try too
			s.wake()
			s.cancellations.Inc()
			s.changed(r.order)
			begun = append(begun, i)
		}
	}
	telemetry.LogEach(s.log, slog.LevelInfo, "order cancelling", "order_id", len(begun),
		func(i int) string { return requests[begun[i]].OrderID.String() }, func(i int) []any {
			return telemetry.WithTraceID(d.results[begun[i]].order.LogAttributes(), requests[begun[i]].traceparent)
		})
	return d.results, nil
}

// attempt is a cancellation that one try of the transaction began. When it is not known whether that try was committed,
// the next one recognises it.
type attempt struct {
	order   uuid.UUID
	at      int64 // in microseconds
	request int   // its index
}

// decision is what requests to cancel change.
type decision struct {
	service *Service
	tried   map[attempt]bool

	results []cancelled // one of each request
	// One of each order that begins to be cancelled:
	begun       []postgres.Cancellation
	orders      []order.Order
	transitions []order.Transition
	events      []order.Event
}

// decide takes requests one after another. Those of one order see each other, as they do in different transactions.
func (d *decision) decide(orders map[uuid.UUID]order.Order, begun map[uuid.UUID]postgres.Cancellation,
	requests []cancellation, now time.Time) error {
	*d = decision{service: d.service, tried: d.tried, results: make([]cancelled, len(requests))}
	for i, c := range requests {
		result := &d.results[i]
		o, there := orders[c.OrderID]
		if !there || !c.by.Covers(o.Tenant, o.Subject) {
			result.err = postgres.ErrNotFound
			continue
		}
		first, again := begun[o.ID]
		switch {
		case again && d.tried[attempt{o.ID, first.At.UnixMicro(), i}]:
			*result = cancelled{order: o, begun: true}
			continue
		case again && c.repeats(first):
			*result = cancelled{order: o, repeated: true} // whatever has become of the order since
			if c.Fingerprint != first.Fingerprint {
				result.err = idempotency.ErrReused
			}
			continue
		}
		transition, err := o.Cancel(c.Note, now)
		if err != nil {
			result.err = err
			continue
		}
		result.order = o
		if transition == nil {
			continue
		}
		result.begun = true
		event, err := o.CancelledEvent(d.service.currencies, c.Note, transition.At, false)
		if err != nil {
			return err
		}
		event.Traceparent = c.traceparent
		c.At = transition.At
		d.tried[attempt{o.ID, c.At.UnixMicro(), i}] = true
		orders[o.ID] = o
		begun[o.ID] = c.Cancellation
		d.begun = append(d.begun, c.Cancellation)
		d.orders = append(d.orders, o)
		d.transitions = append(d.transitions, *transition)
		d.events = append(d.events, event)
	}
	return nil
}
