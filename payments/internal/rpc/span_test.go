package rpc_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/api/altyn/payments/v1/paymentsv1connect"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/platform/telemetry"
	"github.com/altyn-pay/altyn/testkit/otlptest"
)

// The span of a request says which procedure it calls.
func TestACallIsASpan(t *testing.T) {
	b := setup(t)
	collector := otlptest.New(t)
	b.Settings.Traces = telemetry.Traces{Endpoint: collector.URL, Sampler: "always_on", Queue: 100}
	url, stop := b.Start(service.API)
	response, err := http.Post(url+paymentsv1connect.PaymentServiceGetPaymentProcedure, "application/json",
		strings.NewReader(`{"order_id": "`+uuid.NewString()+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	stop()
	spans := collector.Spans()
	if len(spans) != 1 || response.StatusCode != http.StatusNotFound ||
		spans[0].Name != "POST "+paymentsv1connect.PaymentServiceGetPaymentProcedure ||
		spans[0].Attribute("rpc.system.name") != "connectrpc" ||
		spans[0].Attribute("rpc.method") != "altyn.payments.v1.PaymentService/GetPayment" {
		t.Errorf("%s, %v", response.Status, spans)
	}
}
