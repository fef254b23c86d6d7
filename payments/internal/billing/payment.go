package billing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/platform/outbox"
)

// Step is a step of an order's payment.
type Step struct {
	Kind    ledger.Kind // ledger.KindConfirm, Reject or Refund
	OrderID uuid.UUID
	Amount  money.Decimal // of a Confirm or Refund; empty is all there is
	Reason  string        // of a Reject or Refund: the note
}

// scope is the same over HTTP and gRPC, so a client that repeats a step over the other protocol takes it once.
func (s Step) scope() string { return "/api/v1/payments/" + s.OrderID.String() + "/" + string(s.Kind) }

// StepResult is what became of a Step.
type StepResult struct {
	Payment   contract.Payment // in its present state
	Operation uuid.UUID        // by which the step moves money
	Pending   bool             // there is no result yet
	Replayed  bool             // the step was taken by an earlier request with the same key
}

// Step takes a step of an order's payment and waits for its result; the call's scope is the step's own. A step that
// ends in error is a *Refusal; the result then only tells whether it was replayed.
func (s *Service) Step(ctx context.Context, step Step, call Call) (StepResult, error) {
	request, err := s.stepRequest(ctx, step, call.Who)
	if err != nil {
		return StepResult{}, err
	}
	call.Scope = step.scope()
	if err := s.identify(ctx, &request, call); err != nil {
		return StepResult{}, err
	}
	if err := s.admit(ctx, request, call.Key); err != nil {
		return StepResult{}, err
	}
	out, err := s.do(ctx, request, call)
	if err != nil {
		return StepResult{}, err
	}
	result := StepResult{Operation: request.ID, Pending: out.operation.Status == ledger.Created, Replayed: out.replayed}
	if out.operation.Status == ledger.Error {
		return result, &Refusal{out.operation.Reason, request.ID}
	}
	if result.Payment, err = s.Payment(ctx, request.By, step.OrderID, 0); err != nil {
		return result, outcomeUnknown(ctx, request.ID, err)
	}
	return result, nil
}

// stepRequest makes the ledger's request of a step, which still lacks its ID.
func (s *Service) stepRequest(
	ctx context.Context, step Step, who identity.Identity) (request ledger.Request, err error) {
	if request.By, err = who.Reach(Scope(step.Kind)); err != nil {
		return request, err
	}
	request.Subject = who.Subject
	var code string
	if request.AccountID, code, err = s.store.PayerOf(ctx, request.By, step.OrderID); err != nil {
		return request, NotFound(err, ledger.PaymentNotFound)
	}
	if err := contract.CheckText(step.Reason, contract.MaxReason); err != nil {
		return request, contract.Invalid("reason", "%v", err)
	}
	var minor int64
	if step.Amount != "" {
		currency, err := s.present.Currency(code)
		if err != nil {
			return request, err
		}
		if minor, err = currency.Parse(string(step.Amount)); err != nil {
			return request, contract.Invalid("amount", "%v", err)
		}
	}
	switch step.Kind {
	case ledger.KindConfirm:
		request.Command = ledger.Confirm{OrderID: step.OrderID, Amount: minor}
	case ledger.KindReject:
		request.Command = ledger.Reject{OrderID: step.OrderID, Note: step.Reason}
	case ledger.KindRefund:
		request.Command = ledger.Refund{OrderID: step.OrderID, Amount: minor, Note: step.Reason}
	default:
		return request, fmt.Errorf("%q is no step of a payment", step.Kind)
	}
	return request, nil
}

// admit refuses a request whose outcome orders is told of if the outbox has no room, unless it came with a key before.
func (s *Service) admit(ctx context.Context, r ledger.Request, key string) error {
	if !s.full(r.Lane) {
		return nil
	}
	if key == "" {
		return outbox.ErrFull
	}
	_, err := s.operation(ctx, r.ID)
	if errors.Is(err, postgres.ErrNotFound) {
		return outbox.ErrFull
	}
	return err
}

// Payment reads the payment of an order, or waits at most so long for it to be decided. A payment whose message has not
// taken effect is in status created.
func (s *Service) Payment(
	ctx context.Context, by identity.Reach, order uuid.UUID, wait time.Duration) (contract.Payment, error) {
	payment, err := s.payment(ctx, by, order, wait)
	if err != nil {
		return contract.Payment{}, NotFound(err, ledger.PaymentNotFound)
	}
	return s.present.Payment(payment)
}

// payment is Payment in the ledger's form, or postgres.ErrNotFound.
func (s *Service) payment(
	ctx context.Context, by identity.Reach, order uuid.UUID, wait time.Duration) (ledger.OrderPayment, error) {
	op, err := s.await(ctx, by, order, wait) // the operation that pays an order has the order's ID
	if err != nil {
		return ledger.OrderPayment{}, err
	}
	if op.Kind != ledger.KindPayment {
		return ledger.OrderPayment{}, postgres.ErrNotFound
	}
	payment, err := s.store.Payment(ctx, by, order)
	if !errors.Is(err, postgres.ErrNotFound) {
		return payment, err
	}
	m, err := s.store.Waiting(ctx, by, order)
	if errors.Is(err, postgres.ErrNotFound) { // it has taken effect between the two looks
		return s.store.Payment(ctx, by, order)
	}
	if err != nil {
		return ledger.OrderPayment{}, err
	}
	if payment, ok := ledger.WaitingPayment(Request(m)); ok {
		return payment, nil
	}
	return ledger.OrderPayment{}, postgres.ErrNotFound
}
