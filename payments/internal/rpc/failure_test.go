package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/altyn-pay/altyn/payments/api/altyn/payments/v1/paymentsv1connect"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
)

func TestFailureSaysWhatTheProblemSays(t *testing.T) {
	recorded := httpserver.NewProblem(http.StatusUnprocessableEntity, "amount_exceeds_hold", "it is too much")
	recorded.OperationID = "the operation"
	for _, test := range []struct {
		err     error
		code    connect.Code
		message string
		details []proto.Message
	}{
		{contract.Invalid("amount", "is too large"), connect.CodeInvalidArgument,
			"the request is not valid: amount is too large", []proto.Message{
				&errdetails.ErrorInfo{Reason: "validation_failed", Domain: "altyn"},
				&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "amount",
					Description: "is too large"}}},
			}},
		{recorded, connect.CodeFailedPrecondition, "it is too much", []proto.Message{
			&errdetails.ErrorInfo{Reason: "amount_exceeds_hold", Domain: "altyn",
				Metadata: map[string]string{"operation_id": "the operation"}},
		}},
		{httpserver.NewProblem(http.StatusNotFound, "payment_not_found", "there is none"), connect.CodeNotFound,
			"there is none", []proto.Message{
				&errdetails.ErrorInfo{Reason: "payment_not_found", Domain: "altyn"},
			}},
		{httpserver.NewProblem(http.StatusConflict, "busy", "not now"), connect.CodeFailedPrecondition,
			"not now", []proto.Message{
				&errdetails.ErrorInfo{Reason: "busy", Domain: "altyn"},
			}},
		{httpserver.NewProblem(http.StatusRequestEntityTooLarge, "body_too_large", "too large"),
			connect.CodeResourceExhausted, "too large", []proto.Message{
				&errdetails.ErrorInfo{Reason: "body_too_large", Domain: "altyn"},
			}},
		{httpserver.NewProblem(http.StatusGatewayTimeout, "upstream_timeout", "too late"), connect.CodeDeadlineExceeded,
			"too late", []proto.Message{
				&errdetails.ErrorInfo{Reason: "upstream_timeout", Domain: "altyn"},
			}},
		{httpserver.Unavailable(errors.New("secret")), connect.CodeUnavailable,
			"the service cannot do this at the moment; try again shortly", []proto.Message{
				&errdetails.ErrorInfo{Reason: "unavailable", Domain: "altyn"},
				&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)},
			}},
		{httpserver.OutcomeUnknown("/there", errors.New("secret")), connect.CodeUnknown,
			"it is not known whether this was done; look at /there before you ask for it again", []proto.Message{
				&errdetails.ErrorInfo{Reason: "outcome_unknown", Domain: "altyn",
					Metadata: map[string]string{"location": "/there"}},
			}},
		{errors.New("secret"), connect.CodeInternal, "the request failed for a reason that is not its own", []proto.Message{
			&errdetails.ErrorInfo{Reason: "internal", Domain: "altyn"},
		}},
	} {
		got := failure(t.Context(), test.err)
		if got.Code() != test.code || got.Message() != test.message || len(got.Details()) != len(test.details) {
			t.Errorf("%v: %v with %d details", test.err, got, len(got.Details()))
			continue
		}
		for i, want := range test.details {
			if detail, err := got.Details()[i].Value(); err != nil || !proto.Equal(detail, want) {
				t.Errorf("%v: detail %v, %v; want %v", test.err, detail, err, want)
			}
		}
	}
}

func TestFailureOfACallWhoseClientDoesNotWait(t *testing.T) {
	gone, leave := context.WithCancel(t.Context())
	leave()
	late, end := context.WithDeadline(t.Context(), time.Time{})
	defer end()
	for _, test := range []struct {
		ctx  context.Context
		err  error
		code connect.Code
	}{
		{gone, fmt.Errorf("read: %w", context.Canceled), connect.CodeCanceled},
		{late, fmt.Errorf("read: %w", context.DeadlineExceeded), connect.CodeDeadlineExceeded},
		{late, contract.Invalid("amount", "is too large"), connect.CodeInvalidArgument},
	} {
		if got := failure(test.ctx, test.err); got.Code() != test.code {
			t.Errorf("%v: %v", test.err, got)
		}
	}
}

// A page of another site is refused in the form of the protocol that it speaks.
func TestRefusalsOfTheRouterHaveTheFormOfTheProtocol(t *testing.T) {
	router := local()
	for _, test := range []struct {
		method, path, contentType, origin, host string
		want                                    []string
	}{
		{"POST", paymentsv1connect.PaymentServiceRefundPaymentProcedure, "application/json",
			"https://evil.example", "localhost",
			[]string{"403 ", `"code":"permission_denied"`, `"cross_origin"`}},
		{"POST", paymentsv1connect.PaymentServiceRefundPaymentProcedure, "application/proto",
			"https://evil.example", "localhost",
			[]string{"403 ", `"code":"permission_denied"`, `"cross_origin"`}},
		{"POST", paymentsv1connect.PaymentServiceRefundPaymentProcedure, "application/grpc-web+proto",
			"https://evil.example", "localhost",
			[]string{"200 ", "Grpc-Status: 7 ", "ALLOWED_ORIGINS"}},
		{"POST", paymentsv1connect.PaymentServiceRefundPaymentProcedure, "application/grpc",
			"https://evil.example", "localhost",
			[]string{"200 ", "Grpc-Status: 7 ", "ALLOWED_ORIGINS"}},
		{"GET", paymentsv1connect.PaymentServiceGetBalanceProcedure, "", "https://evil.example", "localhost",
			[]string{"403 ", `"code":"permission_denied"`, `"cross_origin"`}},
		{"POST", paymentsv1connect.PaymentServiceRefundPaymentProcedure, "text/plain", "https://evil.example",
			"localhost", // of a form
			[]string{"403 ", `"code":"cross_origin"`}},
		{"POST", paymentsv1connect.PaymentServiceRefundPaymentProcedure, "application/json", "", "evil.example",
			[]string{"421 ", `"code":"permission_denied"`, `"misdirected_request"`}},
		{"POST", paymentsv1connect.PaymentServiceRefundPaymentProcedure, "application/grpc", "", "evil.example",
			[]string{"200 ", "Grpc-Status: 7 ", "ALLOWED_HOSTS"}},
		{"POST", "/api/v1/transfers", "application/json", "https://evil.example", "localhost",
			[]string{"403 ", `"code":"cross_origin"`}},
		{"POST", "/altyn.payments.v1.PaymentService/Nothing", "application/grpc", "", "localhost", []string{"404 "}},
	} {
		request := httptest.NewRequest(test.method, test.path, strings.NewReader("{}"))
		request.Host = test.host
		for name, value := range map[string]string{"Content-Type": test.contentType, "Origin": test.origin} {
			if value != "" {
				request.Header.Set(name, value)
			}
		}
		got := answer(t, router, request)
		for _, want := range test.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s %s, %s, Origin %q, Host %s: %s, lacks %s", test.method, test.path, test.contentType,
					test.origin, test.host, got, want)
			}
		}
	}
}

// A body that finds no room is answered in the form of the protocol, as by the API.
func TestABodyWithoutRoom(t *testing.T) {
	router := httpserver.NewRouter(httpserver.Options{
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Render: Render,
		Authenticate: httpserver.Everyone, Config: httpserver.Config{BodyMemory: 1},
	})
	httpserver.Mount(router, New(nil, nil).Routes()...)
	body := []byte(`{"reason":"` + strings.Repeat("x", 64<<10) + `"}`)
	for contentType, want := range map[string]string{
		"application/json": `"code":"unavailable"`, "application/grpc+json": "Grpc-Status: 14",
		"application/grpc-web+json": "Grpc-Status: 14",
	} {
		sent := body
		if strings.Contains(contentType, "grpc") {
			sent = envelope(body)
		}
		request := httptest.NewRequest("POST", "http://localhost"+paymentsv1connect.PaymentServiceRejectPaymentProcedure,
			bytes.NewReader(sent))
		request.Header.Set("Content-Type", contentType)
		got := answer(t, router, request)
		if !strings.Contains(strings.ToLower(got), strings.ToLower(want)) || !strings.Contains(got, "room") {
			t.Errorf("%s: %s", contentType, got)
		}
	}
}

// Who asks too often is told so in the form of the protocol.
func TestTooManyCalls(t *testing.T) {
	router := httpserver.NewRouter(httpserver.Options{
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Render: Render,
		Authenticate: httpserver.Everyone, Config: httpserver.Config{Limits: httpserver.Limits{TenantRate: 1}},
	})
	httpserver.Mount(router, New(nil, nil).Routes()...)
	for contentType, want := range map[string]string{
		"application/json": `429 Grpc-Status:   {"code":"resource_exhausted"`, "application/grpc+json": "Grpc-Status: 8",
		"application/grpc-web+json": "Grpc-Status: 8",
	} {
		var got string
		for range 10 { // in a second one more is served
			request := httptest.NewRequest("POST", "http://localhost"+paymentsv1connect.PaymentServiceRejectPaymentProcedure,
				strings.NewReader("{}"))
			request.Header.Set("Content-Type", contentType)
			if got = answer(t, router, request); strings.Contains(got, want) {
				break
			}
		}
		if !strings.Contains(got, want) || !strings.Contains(got, "1 requests per second") {
			t.Errorf("%s: %s", contentType, got)
		}
	}
}
