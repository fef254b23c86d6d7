package rpc

import (
	"testing"

	paymentsv1 "github.com/altyn-pay/altyn/payments/api/altyn/payments/v1"
	"github.com/altyn-pay/altyn/platform/contract"
)

// A status that the enum lacks would read as unspecified.
func TestEveryTextHasItsNumber(t *testing.T) {
	statuses, captures := map[paymentsv1.PaymentStatus]bool{}, map[paymentsv1.CaptureMethod]bool{}
	for _, status := range []string{
		contract.PaymentCreated, contract.PaymentAuthorized, contract.PaymentSucceeded, contract.PaymentFailed,
		contract.PaymentCancelled, contract.PaymentRefunded,
	} {
		statuses[message(contract.Payment{Status: status}).GetStatus()] = true
	}
	for _, capture := range []string{contract.CaptureAutomatic, contract.CaptureManual} {
		captures[message(contract.Payment{Capture: capture}).GetCapture()] = true
	}
	if statuses[0] || len(statuses) != len(paymentsv1.PaymentStatus_name)-1 {
		t.Errorf("statuses: %v", statuses)
	}
	if captures[0] || len(captures) != len(paymentsv1.CaptureMethod_name)-1 {
		t.Errorf("ways to capture: %v", captures)
	}
}
