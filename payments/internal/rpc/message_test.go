package rpc

import (
	"strings"
	"testing"

	paymentsv1 "github.com/altyn-pay/altyn/payments/api/altyn/payments/v1"
)

// A status that is not in the table would read as unspecified.
func TestEveryNumberHasItsText(t *testing.T) {
	if want := len(paymentsv1.PaymentStatus_name) - 1; len(statuses) != want {
		t.Errorf("%d statuses, want %d", len(statuses), want)
	}
	for text, number := range statuses {
		if number.String() != "PAYMENT_STATUS_"+strings.ToUpper(text) {
			t.Errorf("%s is %s", text, number)
		}
	}
	if want := len(paymentsv1.CaptureMethod_name) - 1; len(captures) != want {
		t.Errorf("%d ways to capture, want %d", len(captures), want)
	}
	for text, number := range captures {
		if number.String() != "CAPTURE_METHOD_"+strings.ToUpper(text) {
			t.Errorf("%s is %s", text, number)
		}
	}
}
