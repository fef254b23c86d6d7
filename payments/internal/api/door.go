package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/payments/internal/settlement"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/inbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/telemetry"
	"github.com/altyn-pay/altyn/platform/watch"
)

// errKeyReused is the answer to an Idempotency-Key that came with another request before.
var errKeyReused = errors.New("the key came with another request before")

// Results is where the results of requests are waited for.
type Results = watch.Hub[*ledger.Operation]

// NewResults makes it; Poll sees the results of other processes.
func NewResults(store *postgres.Store, log *slog.Logger) *Results {
	return watch.New(log, store.Settled)
}

// Door takes requests in over HTTP. It does what the broker's receiver does, have the inbox accept a message, and then waits
// for its result: nothing but the settlement moves money.
type Door struct {
	store   *postgres.Store
	results *Results
	intake  *inbox.Intake[*ledger.Request]
}

// NewDoor makes a door.
func NewDoor(store *postgres.Store, results *Results, intake *inbox.Intake[*ledger.Request]) *Door {
	return &Door{store: store, results: results, intake: intake}
}

// result is what became of a request.
type result struct {
	operation *ledger.Operation // in status Created when there is no result yet
	replayed  bool              // the operation is that of an earlier request with the same key
	err       error             // errKeyReused or outcomeUnknown; only of submitAll
}

// patience is how long somebody waits for a result, and whether one that waits for money is result enough.
type patience struct {
	wait  time.Duration
	funds bool
}

// enough tells whether an operation need not be waited for any longer.
func (p patience) enough(op *ledger.Operation) bool {
	return op.Status != ledger.Created || !p.funds && op.Reason == ledger.WaitingForFunds
}

// submit has a request accepted and waits for its result.
func (d *Door) submit(ctx context.Context, r ledger.Request, p patience) (result, error) {
	watched := d.results.Subscribe(r.ID)
	defer watched.Close()
	arrivals, err := d.intake.Accept(ctx, settlement.Message(r, telemetry.Traceparent(ctx)))
	if err != nil {
		err = fmt.Errorf("accept request: %w", err)
		if pg.IsOutcomeUnknown(err) {
			err = outcomeUnknown(ctx, shown(r), err)
		}
		return result{}, err
	}
	waiting, cancel := awhile(ctx, p.wait)
	defer cancel()
	out, err := d.result(ctx, waiting, watched, r, arrivals[0], p)
	if err != nil {
		return result{}, outcomeUnknown(ctx, shown(r), err)
	}
	return out, out.err
}

// outcomeUnknown is the problem of a request that may have taken effect: err keeps Altyn from telling. It is for every error
// after a request was accepted too. Once ctx has ended nobody waits for the answer, and the error stays what it is.
func outcomeUnknown(ctx context.Context, id uuid.UUID, err error) error {
	var p *httpserver.Problem
	if ctx.Err() != nil || errors.As(err, &p) {
		return err
	}
	p = httpserver.OutcomeUnknown(operationPath+id.String(), err)
	p.OperationID = id.String()
	return p
}

// submitAll has requests accepted in one transaction, in their order, and waits for their results.
func (d *Door) submitAll(ctx context.Context, requests []ledger.Request, p patience) ([]result, error) {
	messages, watched := make([]postgres.Message, len(requests)), make([]*watch.Watch[*ledger.Operation], len(requests))
	for i, r := range requests {
		messages[i] = settlement.Message(r, telemetry.Traceparent(ctx))
		watched[i] = d.results.Subscribe(r.ID)
		defer watched[i].Close()
	}
	arrivals, err := d.intake.Accept(ctx, messages...)
	if err != nil && !pg.IsOutcomeUnknown(err) {
		return nil, fmt.Errorf("accept requests: %w", err)
	}
	waiting, cancel := awhile(ctx, p.wait)
	defer cancel()
	results := make([]result, len(requests))
	for i, r := range requests {
		wrong := err
		if wrong == nil {
			results[i], wrong = d.result(ctx, waiting, watched[i], r, arrivals[i], p)
		}
		if wrong != nil {
			results[i] = result{err: outcomeUnknown(ctx, shown(r), wrong)}
		}
	}
	return results, ctx.Err()
}

// result waits for the result of an accepted request until waiting ends.
func (d *Door) result(ctx, waiting context.Context, watched *watch.Watch[*ledger.Operation], r ledger.Request, arrival inbox.Arrival, p patience) (result, error) {
	reused := func(op *ledger.Operation) bool { return r.Fingerprint.Valid && op.Fingerprint != r.Fingerprint }
	op, settled := watched.Until(waiting, func(op *ledger.Operation) bool { return p.enough(op) || reused(op) })
	if !settled {
		if ctx.Err() != nil {
			return result{}, ctx.Err()
		}
		var err error
		if op, err = d.operation(ctx, r.ID); err != nil {
			return result{}, err
		}
	}
	if reused(op) {
		return result{err: errKeyReused}, nil
	}
	return result{operation: op, replayed: !arrival.Made(op.Seq)}, nil
}

// drainWait is how long a request still waits for its result once the server drains: the settlement goes on meanwhile, and
// the drain takes twice as long.
const drainWait = 5 * time.Second

// awhile is a context that ends after the wait, or drainWait after the server has begun to drain.
func awhile(ctx context.Context, wait time.Duration) (context.Context, context.CancelFunc) {
	waiting, cancel := context.WithTimeout(ctx, wait)
	stop := context.AfterFunc(httpserver.Draining(ctx), func() {
		ending := time.AfterFunc(drainWait, cancel)
		context.AfterFunc(waiting, func() { ending.Stop() })
	})
	return waiting, func() { stop(); cancel() }
}

// await reads an operation, or ErrNotFound, and waits at most so long for it to be final.
func (d *Door) await(ctx context.Context, id uuid.UUID, wait time.Duration) (*ledger.Operation, error) {
	watched := d.results.Subscribe(id)
	defer watched.Close()
	op, err := d.operation(ctx, id)
	if err == nil && op.Status != ledger.Created || wait == 0 || err != nil && !errors.Is(err, postgres.ErrNotFound) {
		return op, err
	}
	waiting, cancel := awhile(ctx, wait)
	defer cancel()
	if final, ok := watched.Until(waiting, patience{funds: true}.enough); ok {
		return final, nil
	}
	// It may be another one by now, that waits.
	return d.operation(ctx, id)
}

// payment reads the payment of an order, or ErrNotFound, and waits at most so long for it to be decided. One whose message
// has not taken effect is created.
func (d *Door) payment(ctx context.Context, order uuid.UUID, wait time.Duration) (ledger.OrderPayment, error) {
	// The operation that pays an order has the order's ID.
	op, err := d.await(ctx, order, wait)
	if err != nil {
		return ledger.OrderPayment{}, err
	}
	if op.Kind != ledger.Payment {
		return ledger.OrderPayment{}, postgres.ErrNotFound
	}
	payment, err := d.store.Payment(ctx, order)
	if !errors.Is(err, postgres.ErrNotFound) {
		return payment, err
	}
	m, err := d.store.Waiting(ctx, order)
	if errors.Is(err, postgres.ErrNotFound) { // it has taken effect between the two looks
		return d.store.Payment(ctx, order)
	}
	if err != nil {
		return ledger.OrderPayment{}, err
	}
	return ledger.WaitingPayment(settlement.Request(m)), nil
}

// operation reads an operation, or ErrNotFound; one whose message has not taken effect is in status Created.
func (d *Door) operation(ctx context.Context, id uuid.UUID) (*ledger.Operation, error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	// A message can take effect between two looks, but only in this direction, so the third one finds it.
	for range 2 {
		settled, err := d.store.Settled(ctx, []uuid.UUID{id})
		if err != nil {
			return nil, err
		}
		if op, ok := settled[id]; ok {
			return op, nil
		}
		m, err := d.store.Waiting(ctx, id)
		if errors.Is(err, postgres.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		r := settlement.Request(m)
		if r.Kind.Operation() == "" {
			break
		}
		return ledger.Waiting(r), nil
	}
	return nil, postgres.ErrNotFound
}
