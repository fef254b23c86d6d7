// Package billing has the use cases of payments: commands on accounts and their money, the steps of an order's payment,
// and reading what became of them. HTTP, gRPC and the broker adapt it to their forms. It moves no money: a request
// becomes a message in the inbox, the settlement gives it its effect, and billing waits for the result.
package billing

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/idempotency"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/inbox"
	"github.com/altyn-pay/altyn/platform/money"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/watch"
)

// Service does what clients ask of the billing core, and answers in the forms of the contract. Problem says what its
// errors mean to them.
type Service struct {
	store      *postgres.Store
	currencies *money.Currencies
	present    Presenter
	results    *Results
	intake     *inbox.Intake[*ledger.Request]
	full       func(lane int16) bool
}

// New makes a service. full tells for which lanes the outbox has no room for further events.
func New(store *postgres.Store, currencies *money.Currencies, results *Results, intake *inbox.Intake[*ledger.Request],
	full func(lane int16) bool) *Service {
	return &Service{store, currencies, NewPresenter(currencies), results, intake, full}
}

// Results is where requests wait for their results: the settlement of this process publishes its own.
type Results = watch.Hub[*ledger.Operation]

// NewResults returns a hub whose Run, without a feed, looks for the results of other processes.
func NewResults(store *postgres.Store, log *slog.Logger) *Results {
	return watch.New(log, nil, func(ctx context.Context, ids []uuid.UUID,
		_ []int64) (map[uuid.UUID]*ledger.Operation, error) {
		return store.Settled(ctx, ids)
	})
}

// resultWait is how long a request waits for its result where its client does not say.
const resultWait = 5 * time.Second

// Call is what comes with a request, whatever it asks for.
type Call struct {
	Who     identity.Identity
	Scope   string        // where it came in, a path or a topic: keys of different scopes never collide
	Key     string        // the client's, which makes a repeated request the same one; "" for none
	SentKey string        // the key as earlier versions read it, where that is another one; see httpserver.SentKey
	Wait    time.Duration // how long to wait for the result, where Asked
	Asked   bool          // the client has said how long
}

// wait is how long the call's client waits for a result.
func (c Call) wait() time.Duration {
	if c.Asked {
		return c.Wait
	}
	return resultWait
}

// own is what the answer to a call may show of those who have asked for operations: a right to write is none to learn
// of others.
func (c Call) own() identity.Reach { return identity.Reach{Tenant: c.Who.Tenant, Owner: c.Who.Subject} }

// enough reports whether the client need not wait for the operation any longer. A client that does not say how long it
// waits is told at once when its request waits for money.
func (c Call) enough(op *ledger.Operation) bool {
	return final(op) || !c.Asked && op.Reason == ledger.WaitingForFunds
}

func final(op *ledger.Operation) bool { return op.Status != ledger.Created }

// Result is what became of a command.
type Result struct {
	Operation contract.Operation // that clients see: of a cancellation the one that it ends
	Account   *contract.Account  // that was opened; nil otherwise
	Code      int                // as HTTP's status: 201, 200 where nothing is new, 202 where there is no result yet
	Replayed  bool               // the operation is that of an earlier request with the same key
	Err       error              // why there is none; of SubmitAll only
}

// Submit accepts a command and waits for its result. If the command ends in error, Submit returns a *Refusal, and the
// result only says whether it was replayed.
func (s *Service) Submit(ctx context.Context, c contract.Command, call Call) (Result, error) {
	request, err := s.request(ctx, c, call)
	if err != nil {
		return Result{}, err
	}
	out, err := s.do(ctx, request, call)
	if err != nil {
		return Result{}, err
	}
	result := Result{Replayed: out.replayed, Code: Code(out.operation)}
	if out.operation.Status == ledger.Error {
		return result, &Refusal{out.operation.Reason, shown(request)}
	}
	if result.Code == http.StatusCreated && request.Kind() == ledger.KindCreateAccount {
		account, err := s.store.Account(ctx, request.By, request.AccountID)
		if err != nil {
			return result, outcomeUnknown(ctx, out.operation.ID, err)
		}
		opened, err := s.present.Account(account)
		if err != nil {
			return result, outcomeUnknown(ctx, out.operation.ID, err)
		}
		result.Account = &opened
	}
	outcomes := []outcome{out}
	s.show(ctx, []ledger.Request{request}, outcomes)
	if err := outcomes[0].err; err != nil {
		return result, err
	}
	result.Operation, err = s.present.Operation(outcomes[0].operation, call.own())
	return result, err
}

// request reads a command and gives it its ID.
func (s *Service) request(ctx context.Context, c contract.Command, call Call) (ledger.Request, error) {
	named, err := s.store.Named(ctx, c)
	if err != nil {
		return ledger.Request{}, err
	}
	request, err := Read(c, call.Who, named, s.currencies)
	if err != nil {
		return request, err
	}
	if err := s.identify(ctx, &request, call); err != nil || call.Key == "" || request.Kind() != ledger.KindCreateAccount {
		return request, err
	}
	outcomes, err := s.claim(ctx, Claim(request, call.Scope, call.Key))
	if err != nil {
		return request, err
	}
	return request, outcomes[0].Err
}

// identify gives a request its key and its ID. A request keeps the ID under which an earlier version has accepted it,
// derived from the key as it was sent.
func (s *Service) identify(ctx context.Context, r *ledger.Request, call Call) error {
	r.Key = call.Key
	if call.SentKey != "" {
		before := *r
		if err := Identify(&before, call.Scope, call.SentKey); err != nil {
			return err
		}
		accepted, err := s.store.Accepted(ctx, []uuid.UUID{before.ID})
		if err != nil {
			return err
		}
		if len(accepted) > 0 {
			*r = before
			return nil
		}
	}
	return Identify(r, call.Scope, call.Key)
}

// claim binds each key to its request for good.
func (s *Service) claim(ctx context.Context, claims ...idempotency.Claim) ([]idempotency.Outcome, error) {
	outcomes, err := s.store.Claim(ctx, claims...)
	if pg.IsOutcomeUnknown(err) {
		return nil, fmt.Errorf("%w: %w", errNothingDone, err) // a key alone does nothing
	}
	return outcomes, err
}

// Account reads an account with its balances.
func (s *Service) Account(ctx context.Context, by identity.Reach, id uuid.UUID) (contract.Account, error) {
	account, err := s.store.Account(ctx, by, id)
	if err != nil {
		return contract.Account{}, NotFound(err, ledger.AccountNotFound)
	}
	return s.present.Account(account)
}

// Balances reads an account's balances as they were at a time, in microseconds, or as they are where that is nil.
func (s *Service) Balances(
	ctx context.Context, by identity.Reach, id uuid.UUID, at *time.Time) (contract.Balances, error) {
	account, err := s.store.Account(ctx, by, id)
	if err != nil {
		return contract.Balances{}, NotFound(err, ledger.AccountNotFound)
	}
	if at != nil {
		if account.Balances, err = s.store.BalancesAt(ctx, account, *at); err != nil {
			return contract.Balances{}, err
		}
	}
	return s.present.Balances(account.Balances)
}

// Operation reads an operation, or waits at most so long for it to be final. A cancellation is seen in what it ends.
func (s *Service) Operation(
	ctx context.Context, by identity.Reach, id uuid.UUID, wait time.Duration) (contract.Operation, error) {
	op, err := s.await(ctx, by, id, wait)
	if err == nil && op.Kind == ledger.KindCancelOperation {
		err = postgres.ErrNotFound
	}
	if err != nil {
		return contract.Operation{}, NotFound(err, ledger.OperationNotFound)
	}
	return s.present.Operation(op, by)
}
