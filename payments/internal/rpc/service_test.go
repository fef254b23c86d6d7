package rpc_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	paymentsv1 "github.com/altyn-pay/altyn/payments/api/altyn/payments/v1"
	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/testkit/wait"
)

const paymentService = "altyn.payments.v1.PaymentService"

// stock is a connection of grpc-go, which knows nothing of Connect.
func (b *bundle) stock() *grpc.ClientConn { return b.connect(b.URL) }

func (b *bundle) connect(address string) *grpc.ClientConn {
	b.Helper()
	conn, err := grpc.NewClient("passthrough:///"+strings.TrimPrefix(address, "http://"),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return conn
}

// invoke calls a method of the service over gRPC.
func invoke[Response any, P interface {
	*Response
	proto.Message
}](b *bundle, conn *grpc.ClientConn, method string, request proto.Message, options ...grpc.CallOption) (P, error) {
	ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
	defer cancel()
	response := P(new(Response))
	return response, conn.Invoke(ctx, "/"+paymentService+"/"+method, request, response, options...)
}

// refusal is what an error of gRPC says in its details.
type refusal struct {
	code      codes.Code
	reason    string
	operation string
	fields    []string
	retry     bool
}

func (b *bundle) refusal(err error) refusal {
	b.Helper()
	s := status.Convert(err)
	out := refusal{code: s.Code()}
	for _, detail := range s.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			out.reason, out.operation = detail.Reason, detail.Metadata["operation_id"]
			if detail.Domain != "altyn" {
				b.Errorf("%v: the domain is %q", err, detail.Domain)
			}
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				out.fields = append(out.fields, violation.Field)
			}
		case *errdetails.RetryInfo:
			out.retry = true
		default:
			b.Errorf("%v: detail %v", err, detail)
		}
	}
	return out
}

// metrics are those of the first instance.
func (b *bundle) metrics() string {
	b.Helper()
	response, err := http.Get(b.Base("/metrics") + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.Fatal(err)
	}
	return string(text)
}

func TestAStockClientSeesPaymentsAndBalances(t *testing.T) {
	b := setup(t, "all")
	conn := b.stock()
	account := b.Account("10.00")
	paid, failed := paymentstest.Order(account, "7.00"), paymentstest.Order(account, "7.00")
	before := time.Now().Add(-time.Hour)
	b.Produce(paymentstest.Placed(paid), paymentstest.Placed(failed))

	patience := durationpb.New(20 * time.Second)
	got, err := invoke[paymentsv1.GetPaymentResponse](b, conn, "GetPayment",
		&paymentsv1.GetPaymentRequest{OrderId: failed.OrderID.String(), Wait: patience})
	if p := got.GetPayment(); err != nil || p.GetStatus() != paymentsv1.PaymentStatus_PAYMENT_STATUS_FAILED ||
		p.GetReason() != "insufficient_funds" {
		t.Errorf("the second payment is %v, %v", got, err)
	}
	var header metadata.MD
	got, err = invoke[paymentsv1.GetPaymentResponse](b, conn, "GetPayment",
		&paymentsv1.GetPaymentRequest{OrderId: paid.OrderID.String(), Wait: patience}, grpc.Header(&header))
	if err != nil {
		t.Fatal(err)
	}
	if len(header.Get("x-request-id")) != 1 {
		t.Errorf("metadata %v", header)
	}
	// It is what the HTTP API says.
	p, rest := got.GetPayment(), b.Call("GET", "/api/v1/payments/"+paid.OrderID.String(), nil).Body
	for field, value := range map[string]any{
		"order_id": p.GetOrderId(), "account_id": p.GetAccountId(), "amount": p.GetAmount(), "currency": p.GetCurrency(),
		"capture":         strings.ToLower(strings.TrimPrefix(p.GetCapture().String(), "CAPTURE_METHOD_")),
		"status":          strings.ToLower(strings.TrimPrefix(p.GetStatus().String(), "PAYMENT_STATUS_")),
		"captured_amount": p.GetCapturedAmount(),
		"refunded_amount": p.GetRefundedAmount(), "version": float64(p.GetVersion()),
		"created_at": contract.Time(p.GetCreatedAt().AsTime()).String(),
		"updated_at": contract.Time(p.GetUpdatedAt().AsTime()).String(),
	} {
		if rest[field] != value {
			t.Errorf("%s is %v over HTTP, %v over gRPC", field, rest[field], value)
		}
	}
	if p.GetStatus() != paymentsv1.PaymentStatus_PAYMENT_STATUS_SUCCEEDED ||
		p.GetCapturedAmount() != "7.00" || p.GetReason() != "" {
		t.Errorf("the first payment is %v", p)
	}

	balance, err := invoke[paymentsv1.GetBalanceResponse](b, conn, "GetBalance",
		&paymentsv1.GetBalanceRequest{AccountId: account.String()})
	if err != nil || !maps.Equal(balance.GetActualBalance(), map[string]string{"RUB": "3.00"}) ||
		!maps.Equal(balance.GetFrozenBalance(), map[string]string{"RUB": "0.00"}) {
		t.Errorf("balance %v, %v", balance, err)
	}
	balance, err = invoke[paymentsv1.GetBalanceResponse](b, conn, "GetBalance",
		&paymentsv1.GetBalanceRequest{AccountId: account.String(), At: timestamppb.New(before)})
	if err != nil || len(balance.GetActualBalance()) != 0 {
		t.Errorf("balance of an hour ago %v, %v", balance, err)
	}
}

func TestErrorsOfGRPCHaveDetails(t *testing.T) {
	b := setup(t, "api")
	conn := b.stock()
	account := uuid.NewString()
	b.Owner.MustExecContext(t.Context(), `
		WITH a AS (INSERT INTO accounts (id, lane, owner, created_at) VALUES ($1, $2, '', now()) RETURNING id, lane)
		INSERT INTO balances (account_id, lane, currency, actual, frozen, entries) SELECT id, lane, 'QQQ', 1, 0, 1 FROM a`,
		account, contract.Lane(uuid.MustParse(account)))
	payment := func(id string, patience time.Duration) proto.Message {
		return &paymentsv1.GetPaymentRequest{OrderId: id, Wait: durationpb.New(patience)}
	}
	balance := func(id string) proto.Message { return &paymentsv1.GetBalanceRequest{AccountId: id} }
	for _, test := range []struct {
		name, method string
		request      proto.Message
		want         refusal
	}{
		{"no such payment", "GetPayment", payment(uuid.NewString(), 0),
			refusal{code: codes.NotFound, reason: "payment_not_found"}},
		{"no such account", "GetBalance", balance(uuid.NewString()),
			refusal{code: codes.NotFound, reason: "account_not_found"}},
		{"no order", "GetPayment", payment("", 0), refusal{code: codes.InvalidArgument, reason: "validation_failed",
			fields: []string{"order_id"}}},
		{"another form of a UUID", "GetPayment", payment("{"+uuid.NewString()+"}", 0),
			refusal{code: codes.InvalidArgument, reason: "validation_failed", fields: []string{"order_id"}}},
		{"a long wait", "GetPayment", payment(uuid.NewString(), 31*time.Second),
			refusal{code: codes.InvalidArgument, reason: "validation_failed", fields: []string{"wait"}}},
		{"a negative wait", "GetPayment", payment(uuid.NewString(), -1),
			refusal{code: codes.InvalidArgument, reason: "validation_failed", fields: []string{"wait"}}},
		{"no UUID of an account", "GetBalance", balance("x"),
			refusal{code: codes.InvalidArgument, reason: "validation_failed", fields: []string{"account_id"}}},
		{"no time", "GetBalance", &paymentsv1.GetBalanceRequest{AccountId: account, At: &timestamppb.Timestamp{Nanos: -1}},
			refusal{code: codes.InvalidArgument, reason: "validation_failed", fields: []string{"at"}}},
		{"a fault of Altyn", "GetBalance", balance(account), refusal{code: codes.Internal, reason: "internal"}},
		{"more than 1 MiB", "GetBalance", balance(strings.Repeat("x", 1<<20)), refusal{code: codes.ResourceExhausted}},
		{"no such method", "GetNothing", balance(account), refusal{code: codes.Unimplemented}},
	} {
		_, err := invoke[paymentsv1.GetBalanceResponse](b, conn, test.method, test.request)
		if got := b.refusal(err); fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("%s: %+v, want %+v (%v)", test.name, got, test.want, err)
		}
		if strings.Contains(fmt.Sprint(err), "QQQ") {
			t.Errorf("%s: the error tells internals: %v", test.name, err)
		}
	}

	// What went wrong counts as it would over HTTP, each procedure by itself and what is not served as one.
	metrics := b.metrics()
	for _, line := range []string{
		`{code="404",method="POST",route="/` + paymentService + `/GetPayment"} 1`,
		`{code="404",method="POST",route="/` + paymentService + `/GetBalance"} 1`,
		`{code="500",method="POST",route="/` + paymentService + `/GetBalance"} 1`,
		`{code="404",method="POST",route="unmatched"} 1`,
	} {
		if !strings.Contains(metrics, "altyn_http_requests_total"+line) {
			t.Errorf("the metrics lack %s", line)
		}
	}
	if strings.Contains(metrics, "GetNothing") {
		t.Error("a method that is not served has metrics of its own")
	}
}

func TestReflectionTellsOfTheService(t *testing.T) {
	b := setup(t, "api")
	conn := b.connect(b.Base("/grpc.reflection."))
	type request = grpc_reflection_v1.ServerReflectionRequest
	symbol := func(name string) *request {
		return &request{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_FileContainingSymbol{
			FileContainingSymbol: name,
		}}
	}
	for _, version := range []string{"v1", "v1alpha"} { // whose messages are the same
		stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
			"/grpc.reflection."+version+".ServerReflection/ServerReflectionInfo")
		if err != nil {
			t.Fatal(err)
		}
		ask := func(r *request) *grpc_reflection_v1.ServerReflectionResponse {
			t.Helper()
			var answer grpc_reflection_v1.ServerReflectionResponse
			if err := stream.SendMsg(r); err != nil {
				t.Fatalf("%s: %v", version, err)
			}
			if err := stream.RecvMsg(&answer); err != nil {
				t.Fatalf("%s: %v", version, err)
			}
			return &answer
		}
		var names []string
		all := ask(&request{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}})
		for _, service := range all.GetListServicesResponse().GetService() {
			names = append(names, service.GetName())
		}
		if !slices.Equal(names, []string{paymentService, "grpc.health.v1.Health"}) {
			t.Errorf("%s: the services are %v", version, names)
		}
		for _, name := range []string{paymentService, "grpc.health.v1.Health"} {
			if answer := ask(symbol(name)); len(answer.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
				t.Errorf("%s: the files of %s are %v", version, name, answer)
			}
		}
		if answer := ask(symbol(
			"altyn.payments.v1.Nothing")); answer.GetErrorResponse().GetErrorCode() != int32(codes.NotFound) {
			t.Errorf("%s: what is not there is %v", version, answer)
		}
		if err := stream.CloseSend(); err != nil {
			t.Error(err)
		}
		if err := stream.RecvMsg(new(grpc_reflection_v1.ServerReflectionResponse)); !errors.Is(err, io.EOF) {
			t.Errorf("%s: the stream ended with %v", version, err)
		}
	}
}

func TestGRPCHealthIsReadiness(t *testing.T) {
	b := setup(t, "api")
	health := grpc_health_v1.NewHealthClient(b.stock())
	becomes := func(service string, want grpc_health_v1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		wait.NoError(t, func() error {
			got, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: service})
			if err != nil {
				t.Fatal(err)
			}
			if got.GetStatus() != want {
				return fmt.Errorf("%q is %s, want %s", service, got.GetStatus(), want)
			}
			return nil
		})
	}
	becomes("", grpc_health_v1.HealthCheckResponse_SERVING)
	becomes(paymentService, grpc_health_v1.HealthCheckResponse_SERVING)
	if _, err := health.Check(t.Context(),
		&grpc_health_v1.HealthCheckRequest{Service: "altyn.payments.v1.Nothing"}); status.Code(err) != codes.NotFound {
		t.Errorf("an unknown service: %v", err)
	}
	// As long as the database does not answer in time, the service is not ready.
	tx, err := b.Owner.BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	tx.MustExecContext(t.Context(), `LOCK TABLE inbox_migrations`)
	becomes(paymentService, grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	becomes("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	if got := b.Call("GET", "/readyz", nil); got.Status != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %v", got)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	becomes(paymentService, grpc_health_v1.HealthCheckResponse_SERVING)
}

func TestConnectIsPlainHTTP(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("10.00")
	balance := "/" + paymentService + "/GetBalance"
	const want = "map[actualBalance:map[RUB:10.00] frozenBalance:map[RUB:0.00]]"
	if got := b.Call("POST", balance, map[string]any{"account_id": account}); got.Status != 200 ||
		fmt.Sprint(got.Body) != want {
		t.Errorf("POST: %v", got)
	}
	encoded, err := proto.Marshal(&paymentsv1.GetBalanceRequest{AccountId: account.String()})
	if err != nil {
		t.Fatal(err)
	}
	for name, query := range map[string]url.Values{
		"JSON": {"connect": {"v1"}, "encoding": {"json"}, "message": {`{"accountId":"` + account.String() + `"}`}},
		"protobuf": {"connect": {"v1"}, "encoding": {"proto"}, "base64": {"1"},
			"message": {base64.RawURLEncoding.EncodeToString(encoded)}},
	} {
		response, err := http.Get(b.URL + balance + "?" + query.Encode())
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		var got paymentsv1.GetBalanceResponse
		if err == nil && name == "JSON" {
			err = protojson.Unmarshal(body, &got)
		} else if err == nil {
			err = proto.Unmarshal(body, &got)
		}
		if err != nil || response.StatusCode != 200 || got.ActualBalance["RUB"] != "10.00" {
			t.Errorf("GET in %s: %s %q %v", name, response.Status, body, err)
		}
	}
	if got := b.Call("GET", "/"+paymentService+"/ConfirmPayment?connect=v1&encoding=json&message=%7B%7D",
		nil); got.Status != http.StatusMethodNotAllowed || got.Header.Get("Allow") != "POST, OPTIONS" {
		t.Errorf("GET of what has an effect: %v", got)
	}
	missing := b.Call("POST", balance, map[string]any{"account_id": uuid.New()})
	if missing.Status != http.StatusNotFound || missing.Body["code"] != "not_found" ||
		!strings.Contains(fmt.Sprint(missing.Body["details"]), "reason:account_not_found") {
		t.Errorf("no such account: %v", missing)
	}
}

func TestGRPCWeb(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("10.00")
	message, err := proto.Marshal(&paymentsv1.GetBalanceRequest{AccountId: account.String()})
	if err != nil {
		t.Fatal(err)
	}
	frame := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	response, err := http.Post(b.URL+"/"+paymentService+"/GetBalance",
		"application/grpc-web+proto", bytes.NewReader(frame))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != 200 || response.Header.Get("Content-Type") != "application/grpc-web+proto" {
		t.Fatalf("%s %v %v", response.Status, response.Header, err)
	}
	frames := map[byte][]byte{} // by flag: 0 for the message, 0x80 for the trailers
	for len(body) >= 5 {
		size := binary.BigEndian.Uint32(body[1:5])
		frames[body[0]], body = body[5:5+size], body[5+size:]
	}
	var got paymentsv1.GetBalanceResponse
	if err := proto.Unmarshal(frames[0], &got); err != nil || got.ActualBalance["RUB"] != "10.00" {
		t.Errorf("message %v, %v", &got, err)
	}
	if !strings.Contains(strings.ToLower(string(frames[0x80])), "grpc-status: 0\r\n") {
		t.Errorf("trailers %q", frames[0x80])
	}
}

func TestAnOpenGRPCConnectionDoesNotDelayTheEnd(t *testing.T) {
	b := setup(t)
	var stop func()
	b.URL, stop = b.Start("api")
	conn := b.stock()
	if _, err := invoke[paymentsv1.GetBalanceResponse](b, conn, "GetBalance",
		&paymentsv1.GetBalanceRequest{AccountId: uuid.NewString()}); status.Code(err) != codes.NotFound {
		t.Error(err)
	}
	stop() // reports what was cut off
}
