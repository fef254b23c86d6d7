package rpc

import (
	"context"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	paymentsv1 "github.com/altyn-pay/altyn/payments/api/altyn/payments/v1"
	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/money"
)

// ConfirmPayment captures what is held.
func (s *Service) ConfirmPayment(
	ctx context.Context, r *paymentsv1.ConfirmPaymentRequest) (*paymentsv1.ConfirmPaymentResponse, error) {
	out, err := s.step(ctx, r, billing.Step{Kind: ledger.KindConfirm, Amount: money.Decimal(r.GetAmount())})
	if err != nil {
		return nil, err
	}
	return &paymentsv1.ConfirmPaymentResponse{
		Payment: message(out.Payment), OperationId: out.Operation.String(), Pending: out.Pending, Replayed: out.Replayed,
	}, nil
}

// RejectPayment releases what is held.
func (s *Service) RejectPayment(
	ctx context.Context, r *paymentsv1.RejectPaymentRequest) (*paymentsv1.RejectPaymentResponse, error) {
	out, err := s.step(ctx, r, billing.Step{Kind: ledger.KindReject, Reason: r.GetReason()})
	if err != nil {
		return nil, err
	}
	return &paymentsv1.RejectPaymentResponse{
		Payment: message(out.Payment), OperationId: out.Operation.String(), Pending: out.Pending, Replayed: out.Replayed,
	}, nil
}

// RefundPayment returns what was captured.
func (s *Service) RefundPayment(
	ctx context.Context, r *paymentsv1.RefundPaymentRequest) (*paymentsv1.RefundPaymentResponse, error) {
	step := billing.Step{Kind: ledger.KindRefund, Amount: money.Decimal(r.GetAmount()), Reason: r.GetReason()}
	out, err := s.step(ctx, r, step)
	if err != nil {
		return nil, err
	}
	return &paymentsv1.RefundPaymentResponse{
		Payment: message(out.Payment), OperationId: out.Operation.String(), Pending: out.Pending, Replayed: out.Replayed,
	}, nil
}

// stepRequest is what the requests for steps have in common.
type stepRequest interface {
	GetOrderId() string
	GetIdempotencyKey() string
	GetWait() *durationpb.Duration
}

func (s *Service) step(ctx context.Context, r stepRequest, step billing.Step) (result billing.StepResult, err error) {
	call := billing.Call{Who: identity.FromContext(ctx)}
	if step.OrderID, err = httpserver.ParseID("order_id", r.GetOrderId()); err != nil {
		return result, err
	}
	if call.Key, call.SentKey, err = key(ctx, r.GetIdempotencyKey()); err != nil {
		return result, err
	}
	call.Asked = r.GetWait() != nil
	if call.Wait, err = wait(r.GetWait()); err != nil {
		return result, err
	}
	result, err = s.billing.Step(ctx, step, call)
	if info, ok := connect.CallInfoForHandlerContext(ctx); ok && result.Replayed {
		info.ResponseHeader().Set("Idempotent-Replayed", "true")
	}
	return result, err
}

// key is the idempotency key of a call, in its message or its metadata, and there as it was sent (see
// httpserver.SentKey); "" where there is none.
func key(ctx context.Context, inMessage string) (key, sent string, err error) {
	if info, ok := connect.CallInfoForHandlerContext(ctx); ok {
		metadata := info.RequestHeader()
		if key, err = httpserver.IdempotencyKey(metadata); err != nil {
			return "", "", err
		}
		sent = httpserver.SentKey(metadata)
	}
	if inMessage == "" {
		return key, sent, nil
	}
	if key != "" && key != inMessage {
		return "", "", contract.Invalid("idempotency_key", "is another one than that in the metadata")
	}
	return inMessage, sent, httpserver.CheckKey("idempotency_key", inMessage)
}

// wait reads how long to wait; 0 where the request does not say.
func wait(asked *durationpb.Duration) (time.Duration, error) {
	if asked == nil {
		return 0, nil
	}
	wait := asked.AsDuration() // saturates where it does not fit
	if !asked.IsValid() || wait < 0 || wait > httpserver.MaxWait {
		return 0, contract.Invalid("wait", "must be a duration from 0s to 30s")
	}
	return wait, nil
}

// at reads a time, truncated to microseconds; nil where there is none.
func at(asked *timestamppb.Timestamp) (*time.Time, error) {
	if asked == nil {
		return nil, nil
	}
	if !asked.IsValid() {
		return nil, contract.Invalid("at", "must be a time of the years 1 to 9999")
	}
	at := asked.AsTime().Truncate(time.Microsecond)
	return &at, nil
}

func message(p contract.Payment) *paymentsv1.Payment {
	return &paymentsv1.Payment{
		OrderId: p.OrderID.String(), AccountId: p.AccountID.String(), Amount: p.Amount, Currency: p.Currency,
		Capture: paymentsv1.CaptureMethod(value(paymentsv1.CaptureMethod_value, "CAPTURE_METHOD_", p.Capture)),
		Status:  paymentsv1.PaymentStatus(value(paymentsv1.PaymentStatus_value, "PAYMENT_STATUS_", p.Status)),
		Reason:  p.Reason, Note: p.Note,
		CapturedAmount: p.CapturedAmount, RefundedAmount: p.RefundedAmount, Version: p.Version,
		CreatedAt: timestamppb.New(time.Time(p.CreatedAt)), UpdatedAt: timestamppb.New(time.Time(p.UpdatedAt)),
	}
}

// value is the number of a name of the contract, which an enum has in capitals behind its prefix.
func value(values map[string]int32, prefix, name string) int32 {
	return values[prefix+strings.ToUpper(name)]
}
