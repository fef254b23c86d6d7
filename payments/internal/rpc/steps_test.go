package rpc_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	paymentsv1 "github.com/altyn-pay/altyn/payments/api/altyn/payments/v1"
)

// stands is where a payment stands, in short.
func stands(p *paymentsv1.Payment) string {
	return fmt.Sprintf("%s %s %s-%s", strings.ToLower(strings.TrimPrefix(p.GetStatus().String(), "PAYMENT_STATUS_")),
		p.GetReason(), p.GetCapturedAmount(), p.GetRefundedAmount())
}

func TestStepsOfAPaymentOverGRPC(t *testing.T) {
	b := setup(t, "all")
	conn := b.stock()
	account := b.Account("100.00")
	o := b.Held(account, "60.00")
	id := o.OrderID.String()

	got, err := invoke[paymentsv1.GetPaymentResponse](b, conn, "GetPayment", &paymentsv1.GetPaymentRequest{OrderId: id})
	if err != nil || stands(got.GetPayment()) != "authorized  0.00-0.00" ||
		got.GetPayment().GetCapture() != paymentsv1.CaptureMethod_CAPTURE_METHOD_MANUAL {
		t.Fatalf("held: %v, %v", got, err)
	}

	confirm := &paymentsv1.ConfirmPaymentRequest{OrderId: id, Amount: "25.00", IdempotencyKey: "once"}
	first, err := invoke[paymentsv1.ConfirmPaymentResponse](b, conn, "ConfirmPayment", confirm)
	if err != nil || stands(first.GetPayment()) != "succeeded  25.00-0.00" || first.GetPending() || first.GetReplayed() {
		t.Fatalf("confirmed: %v, %v", first, err)
	}
	if op := b.Call("GET", "/api/v1/operations/"+first.GetOperationId(), nil); op.Body["operation"] != "capture" ||
		op.Body["amount"] != "25.00" {
		t.Errorf("the operation is %v", op)
	}
	// The key makes it the same step, also over the other protocol.
	var header metadata.MD
	again, err := invoke[paymentsv1.ConfirmPaymentResponse](b, conn, "ConfirmPayment", confirm, grpc.Header(&header))
	if err != nil || !again.GetReplayed() || again.GetOperationId() != first.GetOperationId() ||
		fmt.Sprint(header.Get("idempotent-replayed")) != "[true]" {
		t.Errorf("confirmed again: %v, %v, %v", again, header, err)
	}
	if rest := b.Step(o, "confirm", `{"amount": "25.00"}`, "Idempotency-Key", "once"); rest.Status != 200 ||
		rest.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("confirmed again over HTTP: %v", rest)
	}

	// Here the key is metadata; in quotation marks it is the same.
	refund := func(amount, key string) (*paymentsv1.RefundPaymentResponse, error) {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "idempotency-key", key)
		response := new(paymentsv1.RefundPaymentResponse)
		return response, conn.Invoke(ctx, "/"+paymentService+"/RefundPayment", &paymentsv1.RefundPaymentRequest{
			OrderId: id, Amount: amount, Reason: "one was broken"}, response)
	}
	for i := range 2 {
		back, err := refund("10.00", []string{"back", `"back"`}[i])
		if err != nil || stands(back.GetPayment()) != "refunded  25.00-10.00" ||
			back.GetPayment().GetNote() != "one was broken" || back.GetReplayed() != (i > 0) {
			t.Errorf("refund %d: %v, %v", i, back, err)
		}
	}
	if _, err := refund("11.00", `"back"`); b.refusal(err).reason != "idempotency_key_reused" {
		t.Errorf("another refund with the key: %v", err)
	}
	rest, err := invoke[paymentsv1.RefundPaymentResponse](b, conn, "RefundPayment",
		&paymentsv1.RefundPaymentRequest{OrderId: id})
	if err != nil || stands(rest.GetPayment()) != "refunded  25.00-25.00" {
		t.Errorf("the rest: %v, %v", rest, err)
	}

	other := b.Held(account, "40.00")
	rejected, err := invoke[paymentsv1.RejectPaymentResponse](b, conn, "RejectPayment",
		&paymentsv1.RejectPaymentRequest{OrderId: other.OrderID.String(), Reason: "no goods"})
	if err != nil || stands(rejected.GetPayment()) != "failed rejected 0.00-0.00" || rejected.GetOperationId() == "" {
		t.Errorf("rejected: %v, %v", rejected, err)
	}
	if got := b.Balances(account); got != "100.00 0.00" {
		t.Errorf("in the end there is %s", got)
	}
}

// Connect's JSON is read as strictly as that of the API.
func TestStrictJSONOverConnect(t *testing.T) {
	b := setup(t, "all")
	o := b.Held(b.Account("100.00"), "60.00")
	for name, body := range map[string]string{
		"a name twice":          `{"order_id": "$", "amount": "1.00", "amount": "2.00"}`,
		"both spellings":        `{"order_id": "$", "orderId": "$"}`,
		"another case":          `{"order_id": "$", "Amount": "1.00"}`,
		"half a surrogate":      `{"order_id": "$", "idempotency_key": "\ud83d"}`,
		"an order in braces":    `{"order_id": "{$}"}`,
		"a misspelt amount":     `{"order_id": "$", "amont": "1.00"}`,
		"an amount of a number": `{"order_id": "$", "amount": 1.00}`,
	} {
		got := b.Call("POST", "/"+paymentService+"/ConfirmPayment", strings.ReplaceAll(body, "$", o.OrderID.String()))
		if got.Status != 400 || got.Body["code"] != "invalid_argument" {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := b.Call("GET", "/api/v1/payments/"+o.OrderID.String(), nil); got.Body["status"] != "authorized" {
		t.Errorf("the payment %v", got)
	}
}

func TestRefusedStepsOverGRPC(t *testing.T) {
	b := setup(t, "all")
	conn := b.stock()
	o := b.Held(b.Account("100.00"), "60.00")
	id := o.OrderID.String()
	confirm := func(amount, key string) proto.Message {
		return &paymentsv1.ConfirmPaymentRequest{OrderId: id, Amount: amount, IdempotencyKey: key}
	}
	invalid := func(field string) refusal {
		return refusal{code: codes.InvalidArgument, reason: "validation_failed", fields: []string{field}}
	}
	recorded := func(reason string) refusal {
		return refusal{code: codes.FailedPrecondition, reason: reason, operation: "recorded"}
	}
	for _, test := range []struct {
		name, method string
		request      proto.Message
		keys         []string // in the metadata
		want         refusal
	}{
		{"no order", "ConfirmPayment", &paymentsv1.ConfirmPaymentRequest{}, nil, invalid("order_id")},
		{"no such order", "RejectPayment", &paymentsv1.RejectPaymentRequest{OrderId: uuid.NewString()}, nil,
			refusal{code: codes.NotFound, reason: "payment_not_found"}},
		{"too many digits", "ConfirmPayment", confirm("1.001", ""), nil, invalid("amount")},
		{"a negative amount", "RefundPayment", &paymentsv1.RefundPaymentRequest{OrderId: id, Amount: "-1.00"},
			nil, invalid("amount")},
		{"a long reason", "RejectPayment", &paymentsv1.RejectPaymentRequest{OrderId: id, Reason: strings.Repeat("я", 201)},
			nil, invalid("reason")},
		{"a reason that cannot be stored", "RejectPayment", &paymentsv1.RejectPaymentRequest{OrderId: id, Reason: "\x00"},
			nil, invalid("reason")},
		{"a long key", "ConfirmPayment", confirm("", strings.Repeat("k", 256)), nil, invalid("idempotency_key")},
		{"a key of a line", "ConfirmPayment", confirm("", "a\nb"), nil, invalid("idempotency_key")},
		{"a long key in the metadata", "ConfirmPayment", confirm("", ""), []string{strings.Repeat("k", 256)},
			invalid("Idempotency-Key")},
		{"two keys in the metadata", "ConfirmPayment", confirm("", ""), []string{"a", "b"}, invalid("Idempotency-Key")},
		{"a key that is half a String", "ConfirmPayment", confirm("", ""), []string{`"a`}, invalid("Idempotency-Key")},
		{"an order in braces", "RefundPayment", &paymentsv1.RefundPaymentRequest{OrderId: "{" + id + "}"},
			nil, invalid("order_id")},
		{"an order as a URN", "RefundPayment", &paymentsv1.RefundPaymentRequest{OrderId: "urn:uuid:" + id},
			nil, invalid("order_id")},
		{"an order without dashes", "ConfirmPayment", &paymentsv1.ConfirmPaymentRequest{OrderId: strings.ReplaceAll(id, "-",
			"")}, nil, invalid("order_id")},
		{"two keys", "ConfirmPayment", confirm("", "a"), []string{"b"}, invalid("idempotency_key")},
		{"a long wait", "ConfirmPayment", &paymentsv1.ConfirmPaymentRequest{OrderId: id,
			Wait: durationpb.New(31 * time.Second)}, nil, invalid("wait")},
		{"more than is held", "ConfirmPayment", confirm("60.01", ""), nil, recorded("amount_exceeds_hold")},
		{"nothing to refund", "RefundPayment", &paymentsv1.RefundPaymentRequest{OrderId: id}, nil,
			recorded("payment_not_captured")},
		{"at last", "ConfirmPayment", confirm("", "a"), []string{"a"}, refusal{code: codes.OK}},
		{"twice", "RejectPayment", &paymentsv1.RejectPaymentRequest{OrderId: id}, nil, recorded("payment_not_authorized")},
		{"the key of another request", "ConfirmPayment", confirm("1.00", "a"), nil,
			refusal{code: codes.FailedPrecondition, reason: "idempotency_key_reused"}},
	} {
		ctx := t.Context()
		for _, key := range test.keys {
			ctx = metadata.AppendToOutgoingContext(ctx, "idempotency-key", key)
		}
		err := conn.Invoke(ctx, "/"+paymentService+"/"+test.method, test.request, new(paymentsv1.ConfirmPaymentResponse))
		got := b.refusal(err)
		if got.operation != "" {
			if op := b.Call("GET", "/api/v1/operations/"+got.operation, nil); op.Body["status"] != "error" ||
				op.Body["reason"] != got.reason {
				t.Errorf("%s: the operation is %v", test.name, op)
			}
			got.operation = "recorded"
		}
		if fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("%s: %+v, want %+v (%v)", test.name, got, test.want, err)
		}
	}
}

func TestAStepThatHasNoResultInTime(t *testing.T) {
	b := setup(t, "api")
	conn := b.stock()
	_, stop := b.Start("worker")
	o := b.Held(b.Account("100.00"), "60.00")
	stop()

	confirm := &paymentsv1.ConfirmPaymentRequest{OrderId: o.OrderID.String(), IdempotencyKey: "once",
		Wait: durationpb.New(0)}
	first, err := invoke[paymentsv1.ConfirmPaymentResponse](b, conn, "ConfirmPayment", confirm)
	if err != nil || !first.GetPending() || first.GetReplayed() || stands(first.GetPayment()) != "authorized  0.00-0.00" {
		t.Fatalf("without a worker: %v, %v", first, err)
	}
	// A client whose deadline comes first has no answer.
	late := b.Call("POST", "/"+paymentService+"/ConfirmPayment",
		map[string]any{"order_id": o.OrderID, "idempotency_key": "once", "wait": "30s"}, "Connect-Timeout-Ms", "50")
	if late.Status != http.StatusGatewayTimeout || late.Body["code"] != "deadline_exceeded" {
		t.Errorf("a deadline: %v", late)
	}
	want := `altyn_http_requests_total{code="499",method="POST",route="/` + paymentService + `/ConfirmPayment"} 1`
	if !strings.Contains(b.metrics(), want) {
		t.Errorf("the metrics lack %s", want)
	}

	b.Start("worker")
	confirm.Wait = durationpb.New(20 * time.Second)
	again, err := invoke[paymentsv1.ConfirmPaymentResponse](b, conn, "ConfirmPayment", confirm)
	if err != nil || again.GetPending() || !again.GetReplayed() || again.GetOperationId() != first.GetOperationId() ||
		stands(again.GetPayment()) != "succeeded  60.00-0.00" {
		t.Errorf("with a worker: %v, %v", again, err)
	}
}
