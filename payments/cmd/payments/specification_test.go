package main

import (
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/testkit/swaggertest"
)

// No parameter of any call can be forged into a fault, and there are none but the documented ones.
func TestParameters(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("100.00").String()
	t.Run("walk", func(t *testing.T) {
		swaggertest.CheckParameters(t, paymentstest.Specification(), b.BaseOf,
			func(*swaggertest.Operation, string) string { return account })
	})
}

// The examples of the specification work when they are sent as they stand, in the order in which they are listed.
func TestExamples(t *testing.T) {
	b := setup(t, "all")
	payer := b.Account("100000.00")
	authorized := func() string {
		o := paymentstest.Order(payer, "2500.00")
		o.Capture = contract.CaptureManual
		b.Produce(paymentstest.Placed(o))
		b.Until(1, `SELECT count(*) FROM payments WHERE order_id = $1 AND status = 'authorized'`, o.OrderID)
		return o.OrderID.String()
	}
	swaggertest.CheckExamples(t, paymentstest.Specification(), b.BaseOf,
		func(o *swaggertest.Operation, parameter string) string {
			switch {
			case o.Tags[0] == "operators":
				return "" // nothing is parked
			case o.Tags[0] == "holds":
				return b.Post("/api/v1/accounts/"+payer.String()+"/holds",
					`{"amount": "100.00", "currency": "RUB"}`).Body["id"].(string)
			case o.ID == "refundPayment":
				id := authorized()
				b.Call("POST", "/api/v1/payments/"+id+"/confirm", nil)
				return id
			case parameter == "order_id":
				return authorized()
			case o.ID == "cancelOperation":
				return b.Call("POST", "/api/v1/accounts/"+payer.String()+"/withdrawals",
					`{"amount": "1000000.00", "currency": "RUB", "on_insufficient": "wait"}`).Body["id"].(string)
			case o.ID == "getOperation", o.ID == "explainOperation":
				return b.Post("/api/v1/accounts/"+payer.String()+"/deposits",
					`{"amount": "1.00", "currency": "RUB"}`).Body["id"].(string)
			}
			t.Fatalf("there is no %s for %s", parameter, o.ID)
			return uuid.Nil.String()
		})
}
