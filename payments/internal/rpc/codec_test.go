package rpc

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	paymentsv1 "github.com/altyn-pay/altyn/payments/api/altyn/payments/v1"
	"github.com/altyn-pay/altyn/payments/api/altyn/payments/v1/paymentsv1connect"
	"github.com/altyn-pay/altyn/platform/httpserver"
)

// local is a router with the service, asked for under a name that it serves. There is no API behind it: a request
// that is understood ends in a panic, which is the code internal.
func local() http.Handler {
	router := httpserver.NewRouter(httpserver.Options{Logger: slog.New(slog.DiscardHandler),
		Registerer: prometheus.NewRegistry(), Render: Render, Authenticate: httpserver.Everyone})
	httpserver.Mount(router, New(nil, nil).Routes()...)
	return router
}

// answer is an answer in any of the protocols as one text: its status, gRPC's status and message, and its body.
func answer(t *testing.T, handler http.Handler, request *http.Request) string {
	t.Helper()
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	result := recorder.Result()
	text, err := url.PathUnescape(result.Header.Get("Grpc-Message") + result.Trailer.Get("Grpc-Message"))
	if err != nil {
		t.Error(err)
	}
	return fmt.Sprintf("%d Grpc-Status: %s%s %s %s", result.StatusCode, result.Header.Get("Grpc-Status"),
		result.Trailer.Get("Grpc-Status"), text, recorder.Body)
}

// methods are those of the service.
func methods() (names []string, inputs []protoreflect.MessageDescriptor) {
	all := paymentsv1.File_altyn_payments_v1_payment_service_proto.Services().ByName("PaymentService").Methods()
	for i := range all.Len() {
		names, inputs = append(names, string(all.Get(i).Name())), append(inputs, all.Get(i).Input())
	}
	return names, inputs
}

// envelope is a message as gRPC sends it.
func envelope(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

// isInvalid tells whether an answer is invalid_argument and has a text.
func isInvalid(answer, text string) bool {
	code := strings.Contains(answer, `"code":"invalid_argument"`) ||
		strings.Contains(strings.ToLower(answer), "grpc-status: 3")
	return code && strings.Contains(strings.ReplaceAll(answer, `\"`, `"`), text)
}

func TestJSONWithAFieldThatIsNotKnownIsRefused(t *testing.T) {
	router := local()
	names, inputs := methods()
	for i, method := range names {
		first := inputs[i].Fields().Get(0) // order_id or account_id
		id := fmt.Sprintf(`%q:%q`, first.JSONName(), uuid.NewString())
		for _, test := range []struct{ fields, text string }{
			{`,"amonut":"1.00"`, `"amonut"`},
			{`,"Amount":"1.00"`, `"Amount"`},
			{`,"AMOUNT":null`, `"AMOUNT"`},
			{`,"idempotencykey":"k"`, `"idempotencykey"`},
			{`,"idempotency-key":"k"`, `"idempotency-key"`},
			{`,"":1`, `""`},
			{`,"a\u006donut":1`, `"amonut"`},
			{fmt.Sprintf(`,%q:%q`, first.JSONName(), uuid.NewString()), first.JSONName()},
			{fmt.Sprintf(`,%q:%q`, first.TextName(), uuid.NewString()), first.TextName()},
			{fmt.Sprintf(`,%q:null`, first.TextName()), first.TextName()},
		} {
			body := []byte("{" + id + test.fields + "}")
			for contentType, sent := range map[string][]byte{
				"application/json": body, "application/json; charset=utf-8": body, "application/json;charset=UTF-8": body,
				"application/grpc+json": envelope(body), "application/grpc-web+json": envelope(body),
			} {
				request := httptest.NewRequest("POST", "http://localhost/"+paymentsv1connect.PaymentServiceName+"/"+method,
					bytes.NewReader(sent))
				request.Header.Set("Content-Type", contentType)
				if got := answer(t, router, request); !isInvalid(got, test.text) {
					t.Errorf("%s, %s, %s: %s", method, contentType, body, got)
				}
			}
			if strings.HasPrefix(method, "Get") {
				query := url.Values{"encoding": {"json"}, "connect": {"v1"}, "base64": {"1"},
					"message": {base64.RawURLEncoding.EncodeToString(body)}}
				request := httptest.NewRequest("GET",
					"http://localhost/"+paymentsv1connect.PaymentServiceName+"/"+method+"?"+query.Encode(), nil)
				if got := answer(t, router, request); !isInvalid(got, test.text) {
					t.Errorf("GET %s, %s: %s", method, body, got)
				}
			}
		}
		// What is known is read, in both spellings.
		for _, name := range []string{first.JSONName(), first.TextName()} {
			request := httptest.NewRequest("POST", "http://localhost/"+paymentsv1connect.PaymentServiceName+"/"+method,
				strings.NewReader(fmt.Sprintf(`{%q:%q}`, name, uuid.NewString())))
			request.Header.Set("Content-Type", "application/json")
			if got := answer(t, router, request); !strings.HasPrefix(got, "500 ") {
				t.Errorf("%s with %s: %s", method, name, got)
			}
		}
	}
}

func TestJSONThatIsNoneIsRefused(t *testing.T) {
	router := local()
	for _, body := range []string{"", "[]", "null", "1", "{", `{"orderId"`, `{"orderId":"a"} {}`, `{"orderId":"\ud800"}`,
		`{"orderId":{"amonut":1}}`, "{\"orderId\":\"\xff\"}"} {
		request := httptest.NewRequest("POST", "http://localhost"+paymentsv1connect.PaymentServiceRefundPaymentProcedure,
			strings.NewReader(body))
		request.Header.Set("Content-Type", "application/json")
		if got := answer(t, router, request); !isInvalid(got, "") {
			t.Errorf("%q: %s", body, got)
		}
	}
}

func TestBinaryWithAFieldThatIsNotKnownIsRefused(t *testing.T) {
	router := local()
	names, inputs := methods()
	for i, method := range names {
		message := dynamicpb.NewMessage(inputs[i])
		first := inputs[i].Fields().Get(0)
		message.Set(first, protoreflect.ValueOfString(uuid.NewString()))
		whole, err := proto.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		later := protowire.AppendString(protowire.AppendTag(nil, 99, protowire.BytesType), "of a later version")
		inner := inputs[i].Fields().ByName("wait")
		if inner == nil {
			inner = inputs[i].Fields().ByName("at")
		}
		nested := protowire.AppendBytes(protowire.AppendTag(nil, inner.Number(), protowire.BytesType), later)
		for _, test := range []struct {
			more []byte
			ok   bool
		}{{nil, true}, {later, false}, {nested, false}} {
			body := append(bytes.Clone(whole), test.more...)
			for contentType, sent := range map[string][]byte{"application/proto": body, "application/grpc": envelope(body),
				"application/grpc-web+proto": envelope(body)} {
				request := httptest.NewRequest("POST", "http://localhost/"+paymentsv1connect.PaymentServiceName+"/"+method,
					bytes.NewReader(sent))
				request.Header.Set("Content-Type", contentType)
				if got := answer(t, router, request); isInvalid(got, "99") == test.ok {
					t.Errorf("%s, %s, %x: %s", method, contentType, test.more, got)
				}
			}
		}
	}
}
