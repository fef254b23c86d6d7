package rpc

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	paymentsv1 "github.com/altyn-pay/altyn/payments/api/altyn/payments/v1"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
)

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
