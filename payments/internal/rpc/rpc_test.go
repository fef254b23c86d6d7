package rpc

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/payments/api/altyn/payments/v1/paymentsv1connect"
	"github.com/altyn-pay/altyn/platform/httpserver"
)

func TestAPanicIsLoggedAndNotShown(t *testing.T) {
	var log bytes.Buffer
	router := httpserver.NewRouter(httpserver.Options{Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Registerer: prometheus.NewRegistry(), Authenticate: httpserver.Everyone})
	httpserver.Mount(router, New(nil, nil).Routes()...) // there is no API to ask
	request := httptest.NewRequest("POST", paymentsv1connect.PaymentServiceGetPaymentProcedure,
		strings.NewReader(`{"orderId":"`+uuid.NewString()+`"}`))
	request.Header.Set("Content-Type", "application/json")
	request.Host = "localhost"
	recorder := httptest.NewRecorder()
	router.ServeHTTP(recorder, request)
	var answer struct{ Code, Message string }
	if err := json.Unmarshal(recorder.Body.Bytes(), &answer); err != nil ||
		recorder.Code != http.StatusInternalServerError ||
		answer.Code != "internal" || answer.Message != "the request failed for a reason that is not its own" {
		t.Errorf("%d %s", recorder.Code, recorder.Body)
	}
	if strings.Contains(recorder.Body.String(), "panic") || !strings.Contains(log.String(), "panic: ") ||
		!strings.Contains(log.String(), "status=500") {
		t.Errorf("answered %s, logged %s", recorder.Body, log.String())
	}
}
