package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// ErrKeyReused refuses a request whose key came with another request before.
var ErrKeyReused = errors.New("the key came with another request before")

// Cancellation is a request to cancel an order.
type Cancellation struct {
	OrderID     uuid.UUID     `db:"order_id"`
	Request     uuid.NullUUID `db:"request"` // derived from the client's key, if it gave one
	Fingerprint uuid.UUID     `db:"fingerprint"`
	Reason      string        `db:"reason"`
	At          time.Time     `db:"at"` // set by Cancel: when it began the cancellation
	Traceparent string        `db:"-"`
}

// repeats tells whether both are one request of the client's.
func (c Cancellation) repeats(first Cancellation) bool {
	return c.Request.Valid && c.Request == first.Request
}

// Cancelled is what became of a request to cancel an order.
type Cancelled struct {
	Order order.Order
	// New tells that this request made the order cancelling.
	New bool
	// Repeated tells that an earlier request with the same key did.
	Repeated bool
	// Err is why the order is not cancelled: ErrNotFound, order.ErrFailed or ErrKeyReused.
	Err error
}

// Cancel begins the cancellation of orders in one transaction, with their history and the events that tell payments of
// it, and returns one result for each request. event makes such an event. A request may be repeated any number of
// times: an order is cancelled once. After an error nothing was stored, unless pg.IsOutcomeUnknown(err).
func (s *Store) Cancel(ctx context.Context, requests []Cancellation,
	event func(order.Order, order.Transition) (order.Event, error)) ([]Cancelled, error) {
	var results []Cancelled
	tried := make(map[beginning]bool)
	try := func(tx *sqlx.Tx) error {
		ids := make([]uuid.UUID, len(requests))
		for i, c := range requests {
			ids[i] = c.OrderID
		}
		orders, err := s.Lock(ctx, tx, ids)
		if err != nil {
			return err
		}
		// Under the locks: what another request has written by now is seen.
		begun, err := selectCancellations(ctx, tx, ids)
		if err != nil {
			return err
		}
		var changes cancelling
		results, changes, err = cancel(orders, begun, tried, requests, event, time.Now())
		if err != nil {
			return err
		}
		if err := s.Save(ctx, tx, changes.orders, changes.transitions); err != nil {
			return err
		}
		if err := insertCancellations(ctx, tx, changes.requests); err != nil {
			return err
		}
		return outbox.Append(ctx, tx, changes.events...)
	}
	if err := pg.UntilKnown(ctx, func() error { return pg.InTx(ctx, s.db, try) }); err != nil {
		return nil, fmt.Errorf("cancel %d orders: %w", len(requests), err)
	}
	return results, nil
}

// beginning is what one try of a call has done. When it is not known whether that was committed, the next try recognises it.
type beginning struct {
	order   uuid.UUID
	at      int64 // in microseconds
	request int   // its index in the call
}

// cancelling is what requests have changed: one element of each list for each order.
type cancelling struct {
	requests    []Cancellation
	orders      []order.Order
	transitions []order.Transition
	events      []outbox.Message
}

// cancel decides on requests one after another; those of one order see each other, as those of different transactions do. It
// adds what it has begun to what was tried before.
func cancel(orders map[uuid.UUID]order.Order, begun map[uuid.UUID]Cancellation, tried map[beginning]bool, requests []Cancellation,
	event func(order.Order, order.Transition) (order.Event, error), now time.Time) ([]Cancelled, cancelling, error) {
	results := make([]Cancelled, len(requests))
	var changes cancelling
	for i, c := range requests {
		result := &results[i]
		o, there := orders[c.OrderID]
		first, again := begun[c.OrderID]
		switch {
		case !there:
			result.Err = ErrNotFound
			continue
		case again && tried[beginning{o.ID, first.At.UnixMicro(), i}]:
			result.Order, result.New = o, true
			continue
		case again && c.repeats(first):
			// Whatever has become of the order since.
			if result.Order, result.Repeated = o, true; c.Fingerprint != first.Fingerprint {
				result.Err = ErrKeyReused
			}
			continue
		}
		transition, err := o.Cancel(c.Reason, now)
		if err != nil {
			result.Err = err
			continue
		}
		if result.Order = o; transition == nil {
			continue
		}
		result.New = true
		told, err := event(o, *transition)
		if err != nil {
			return nil, cancelling{}, err
		}
		c.At = transition.At
		tried[beginning{o.ID, c.At.UnixMicro(), i}] = true
		orders[o.ID], begun[o.ID] = o, c
		changes.requests, changes.orders = append(changes.requests, c), append(changes.orders, o)
		changes.transitions = append(changes.transitions, *transition)
		changes.events = append(changes.events, message(told, c.Traceparent))
	}
	return results, changes, nil
}

func selectCancellations(ctx context.Context, tx *sqlx.Tx, ids []uuid.UUID) (map[uuid.UUID]Cancellation, error) {
	var rows []Cancellation
	if err := tx.SelectContext(ctx, &rows, `
		SELECT order_id, request, fingerprint, reason, at FROM cancellations WHERE order_id = ANY($1::uuid[])`, pg.UUIDs(ids)); err != nil {
		return nil, fmt.Errorf("read cancellations: %w", err)
	}
	cancellations := make(map[uuid.UUID]Cancellation, len(rows))
	for _, c := range rows {
		cancellations[c.OrderID] = c
	}
	return cancellations, nil
}

// insertCancellations stores the requests that began a cancellation, and has the orders watched until they are cancelled: the
// sweep over the orders has passed most of them.
func insertCancellations(ctx context.Context, tx *sqlx.Tx, cancellations []Cancellation) error {
	n := len(cancellations)
	if n == 0 {
		return nil
	}
	orders, requests, fingerprints := make(pg.UUIDs, n), make(pg.OptionalUUIDs, n), make(pg.UUIDs, n)
	reasons, at := texts(n), make(pg.Times, n)
	for i, c := range cancellations {
		orders[i], fingerprints[i], reasons[i], at[i] = c.OrderID, c.Fingerprint, c.Reason, c.At
		requests[i] = c.Request.UUID
	}
	return exec(ctx, tx, "save cancellations", n, `
		WITH watched AS (
			INSERT INTO unsettled (order_id, due_at) SELECT unnest($1::uuid[]), clock_timestamp()
			ON CONFLICT (order_id) DO UPDATE SET due_at = excluded.due_at
		)
		INSERT INTO cancellations (order_id, request, fingerprint, reason, at)
		SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[])`,
		orders, requests, fingerprints, reasons, at)
}
