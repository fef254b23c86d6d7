package billing

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/idempotency"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/inbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/telemetry"
	"github.com/altyn-pay/altyn/platform/watch"
)

// Message makes the inbox message of a request, in the lane of its account. Its tenant is that of who asks. If the
// system itself asks, the caller sets the tenant of the account.
func Message(r ledger.Request, traceparent string) postgres.Message {
	r.Lane, r.Traceparent = contract.Lane(r.AccountID), traceparent
	return postgres.Message{
		ID: r.ID, Lane: r.Lane, AccountID: r.AccountID, Kind: string(r.Kind()), Body: &r,
		Fingerprint: r.Fingerprint, Traceparent: traceparent, Tenant: r.By.Tenant,
		PublishedAt: sql.NullTime{Time: r.PublishedAt, Valid: !r.PublishedAt.IsZero()},
	}
}

// Request reads the request of a message that the inbox hands over.
func Request(m postgres.Message) ledger.Request {
	r := *m.Body
	r.Seq, r.Traceparent = m.Seq, m.Traceparent
	r.ReceivedAt, r.PublishedAt = m.ReceivedAt.UTC(), m.PublishedAt.Time.UTC()
	return r
}

// Claim claims the key of an identified request for a new account. The ID of such a request depends on that of the
// account, which the client may choose, so the ID does not show that the same key came with another account before.
func Claim(r ledger.Request, scope, key string) idempotency.Claim {
	c := idempotency.Claim{
		Key: contract.DerivedID(r.By.Namespace()+scope, uuid.Nil, key), Fingerprint: r.Fingerprint.UUID,
		Makes: map[uuid.UUID]uuid.UUID{r.ID: r.Fingerprint.UUID},
	}
	c.Others = []uuid.UUID{c.Key} // the request without a chosen ID
	return c
}

// ClaimedKeys are the keys in package idempotency under which an operation may have come: that of a new account, or
// that of a batch.
func ClaimedKeys(op ledger.Operation) (keys []uuid.UUID) {
	for _, by := range []identity.Reach{{Tenant: op.Tenant}, {Tenant: op.Tenant, Owner: op.Subject}} {
		if op.Key != "" {
			keys = append(keys, contract.DerivedID(by.Namespace()+accountsScope, uuid.Nil, op.Key),
				contract.DerivedID(by.Namespace()+batchScope, uuid.Nil, op.Key))
		}
		if op.CommandID != uuid.Nil && op.Kind == ledger.KindCreateAccount {
			keys = append(keys, contract.DerivedID(by.Namespace()+contract.TopicCommands, uuid.Nil, op.CommandID.String()))
		}
	}
	return keys
}

// The paths by which these come, as the scopes of keys.
const accountsScope, batchScope = "/api/v1/accounts", "/api/v1/operations/batch"

// Identify gives a request its ID and its fingerprint. With a key, the ID is derived from the key, its scope and the
// account that is charged, so that a repeated request is the same message; without one it is fresh. A new account gets
// its ID in the same way unless the client has chosen one. A key belongs to the tenant that asks, or to the subject if
// the request is restricted to it.
func Identify(r *ledger.Request, scope, key string) error {
	scope = r.By.Namespace() + scope
	if key == "" {
		r.ID = uuid.Must(uuid.NewV7())
	} else {
		r.ID = contract.DerivedID(scope, r.AccountID, key)
	}
	if r.Kind() == ledger.KindCreateAccount && r.AccountID == uuid.Nil {
		if key == "" {
			r.AccountID = uuid.Must(uuid.NewV7())
		} else {
			r.AccountID = contract.DerivedID(scope+"#account", uuid.Nil, key)
		}
	}
	r.Lane = contract.Lane(r.AccountID)
	if key == "" {
		return nil
	}
	// The fingerprint is of what was asked, not of where it came in and where the answer goes.
	digest, err := r.Digest()
	r.Fingerprint = uuid.NullUUID{UUID: digest, Valid: err == nil}
	return err
}

// outcome is what became of an accepted request.
type outcome struct {
	operation *ledger.Operation // in status Created when there is no result yet
	replayed  bool              // the operation is that of an earlier request with the same key
	err       error             // idempotency.ErrReused or outcomeUnknown
}

// do has the inbox accept a request and waits for its result.
func (s *Service) do(ctx context.Context, r ledger.Request, call Call) (outcome, error) {
	outcomes, err := s.doAll(ctx, []ledger.Request{r}, call)
	if err != nil {
		return outcome{}, err
	}
	return outcomes[0], outcomes[0].err
}

// doAll has the inbox accept requests in one transaction, in their order, and waits for their results.
func (s *Service) doAll(ctx context.Context, requests []ledger.Request, call Call) ([]outcome, error) {
	messages := make([]postgres.Message, len(requests))
	watched := make([]*watch.Watch[*ledger.Operation], len(requests))
	for i, r := range requests {
		messages[i] = Message(r, telemetry.Traceparent(ctx))
		watched[i] = s.results.Subscribe(r.ID)
		defer watched[i].Close()
	}
	arrivals, err := s.intake.Accept(ctx, messages...)
	if err != nil && !pg.IsOutcomeUnknown(err) {
		return nil, fmt.Errorf("accept requests: %w", err)
	}
	waiting, cancel := awhile(ctx, call.wait())
	defer cancel()
	outcomes := make([]outcome, len(requests))
	for i, r := range requests {
		wrong := err
		if wrong == nil {
			outcomes[i], wrong = s.result(ctx, waiting, watched[i], r, arrivals[i], call)
		}
		if wrong != nil {
			outcomes[i] = outcome{err: outcomeUnknown(ctx, shown(r), wrong)}
		}
	}
	return outcomes, ctx.Err()
}

// result waits for the result of an accepted request until waiting ends.
func (s *Service) result(ctx, waiting context.Context, watched *watch.Watch[*ledger.Operation],
	r ledger.Request, arrival inbox.Arrival, call Call) (outcome, error) {
	reused := func(op *ledger.Operation) bool { return r.Fingerprint.Valid && op.Fingerprint != r.Fingerprint }
	op, settled := watched.Until(waiting, func(op *ledger.Operation) bool { return call.enough(op) || reused(op) })
	if !settled {
		if ctx.Err() != nil {
			return outcome{}, ctx.Err()
		}
		var err error
		if op, err = s.operation(ctx, r.ID); err != nil {
			return outcome{}, err
		}
	}
	if reused(op) {
		return outcome{err: idempotency.ErrReused}, nil
	}
	return outcome{operation: op, replayed: !arrival.Made(op.Seq)}, nil
}

// drainWait is how long a request still waits for its result once the server drains: the settlement goes on
// meanwhile, and the drain takes twice as long.
const drainWait = 5 * time.Second

// awhile returns a context that ends after the wait, when the client's token expires, or drainWait after the server has
// begun to drain.
func awhile(ctx context.Context, wait time.Duration) (context.Context, context.CancelFunc) {
	valid, end := identity.UntilExpired(ctx)
	waiting, cancel := context.WithTimeout(valid, wait)
	stop := context.AfterFunc(httpserver.Draining(ctx), func() {
		ending := time.AfterFunc(drainWait, cancel)
		context.AfterFunc(waiting, func() { ending.Stop() })
	})
	return waiting, func() { stop(); cancel(); end() }
}

// await reads an operation, or returns postgres.ErrNotFound. It waits at most so long for the operation to be final,
// and just as long if there is no such operation.
func (s *Service) await(ctx context.Context, by identity.Reach, id uuid.UUID, wait time.Duration) (
	*ledger.Operation, error) {
	watched := s.results.Subscribe(id)
	defer watched.Close()
	op, err := s.visible(ctx, by, id)
	if err == nil && final(op) || wait == 0 || err != nil && !errors.Is(err, postgres.ErrNotFound) {
		return op, err
	}
	waiting, cancel := awhile(ctx, wait)
	defer cancel()
	mine := func(op *ledger.Operation) bool { return final(op) && by.Covers(op.Tenant, by.Owner) }
	if op, ok := watched.Until(waiting, mine); ok && by.Owner == "" {
		return op, nil
	}
	if op, err = s.visible(ctx, by, id); errors.Is(err, postgres.ErrNotFound) { // or another one by now, that waits
		<-waiting.Done() // it is another owner's
	}
	return op, err
}

// visible reads an operation, or returns postgres.ErrNotFound if it is not within reach. An operation whose message has
// not taken effect is in status Created.
func (s *Service) visible(ctx context.Context, by identity.Reach, id uuid.UUID) (*ledger.Operation, error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	return find(func() (*ledger.Operation, error) { return s.store.Operation(ctx, by, id) },
		func() (postgres.Message, error) { return s.store.Waiting(ctx, by, id) })
}

// operation is visible without a reach, for the client that has asked for the operation itself.
func (s *Service) operation(ctx context.Context, id uuid.UUID) (*ledger.Operation, error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	return find(func() (*ledger.Operation, error) {
		settled, err := s.store.Settled(ctx, []uuid.UUID{id})
		if op := settled[id]; op != nil || err != nil {
			return op, err
		}
		return nil, postgres.ErrNotFound
	}, func() (postgres.Message, error) { return s.store.Message(ctx, id) })
}

// find finds an operation, settled or waiting.
func find(settled func() (*ledger.Operation, error), waiting func() (postgres.Message, error)) (
	*ledger.Operation, error) {
	// A message can take effect between two looks, but only in this direction, so the third one finds it.
	for range 2 {
		op, err := settled()
		if !errors.Is(err, postgres.ErrNotFound) {
			return op, err
		}
		m, err := waiting()
		if errors.Is(err, postgres.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if op = Request(m).Operation(); op == nil {
			break
		}
		return op, nil
	}
	return nil, postgres.ErrNotFound
}
