package rpc

import (
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	paymentsv1 "github.com/altyn-pay/altyn/payments/api/altyn/payments/v1"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
)

func id(field, text string) (uuid.UUID, error) { return httpserver.ParseID(field, text) }

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

var (
	statuses = map[string]paymentsv1.PaymentStatus{
		contract.PaymentCreated:    paymentsv1.PaymentStatus_PAYMENT_STATUS_CREATED,
		contract.PaymentAuthorized: paymentsv1.PaymentStatus_PAYMENT_STATUS_AUTHORIZED,
		contract.PaymentSucceeded:  paymentsv1.PaymentStatus_PAYMENT_STATUS_SUCCEEDED,
		contract.PaymentFailed:     paymentsv1.PaymentStatus_PAYMENT_STATUS_FAILED,
		contract.PaymentCancelled:  paymentsv1.PaymentStatus_PAYMENT_STATUS_CANCELLED,
		contract.PaymentRefunded:   paymentsv1.PaymentStatus_PAYMENT_STATUS_REFUNDED,
	}
	captures = map[string]paymentsv1.CaptureMethod{
		contract.CaptureAutomatic: paymentsv1.CaptureMethod_CAPTURE_METHOD_AUTOMATIC,
		contract.CaptureManual:    paymentsv1.CaptureMethod_CAPTURE_METHOD_MANUAL,
	}
)

func message(p contract.Payment) *paymentsv1.Payment {
	return &paymentsv1.Payment{
		OrderId: p.OrderID.String(), AccountId: p.AccountID.String(), Amount: p.Amount, Currency: p.Currency,
		Capture: captures[p.Capture], Status: statuses[p.Status], Reason: p.Reason, Note: p.Note,
		CapturedAmount: p.CapturedAmount, RefundedAmount: p.RefundedAmount, Version: p.Version,
		CreatedAt: timestamppb.New(time.Time(p.CreatedAt)), UpdatedAt: timestamppb.New(time.Time(p.UpdatedAt)),
	}
}
