package edge

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/altyn-pay/altyn/platform/explain"
	"github.com/altyn-pay/altyn/platform/httpserver"
)

const (
	explained  = "0198c5a8-0d3c-7b0f-8a52-5c1d2e3f4a5b"
	ordersPart = `{"timeline": [{"at": "2026-01-02T15:04:05.000001Z", "what": "placed"}], "trace_id": "abc",
		"order": {"status": "paid", "amount": "1.00", "captured_amount": "1.00", "currency": "RUB", "payment_version": 1}}`
	paymentsPart = `{"timeline": [{"at": "2026-01-02T15:04:05.000002Z", "what": "settled"}],
		"payment": {"status": "succeeded", "version": 1}}`
)

// says plays a service that says one thing of the order, and expects the client's token and path.
func says(t *testing.T, path string, status int, body string) string {
	return service(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path+explained+"/explain" || r.Header.Get("Authorization") != "Bearer x" ||
			r.Header.Get("Cookie") != "" || r.Header.Get("X-Request-Id") == "" {
			t.Errorf("the service is asked %s with %v", r.URL.Path, r.Header)
		}
		w.Header().Set("WWW-Authenticate", "Bearer of "+path)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

func problem(status int, code string) string {
	return fmt.Sprintf(`{"title": "t", "status": %d, "code": %q, "detail": "about %s"}`, status, code, code)
}

// An explanation is made of what both services say; what one of them does not say is named.
func TestExplain(t *testing.T) {
	const ordersPath, paymentsPath = "/api/v1/orders/", "/api/v1/payments/"
	forbidden, noOrder := problem(403, "insufficient_scope"), problem(404, "order_not_found")
	noPayment := problem(404, "payment_not_found")
	closed := closedAddress(t)
	silent := service(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	orders := func(status int, body string) string { return says(t, ordersPath, status, body) }
	payments := func(status int, body string) string { return says(t, paymentsPath, status, body) }
	for name, test := range map[string]struct {
		orders, payments string
		status           int
		code             string // of the problem
		gap              string
		steps            int
	}{
		"both":              {orders(200, ordersPart), payments(200, paymentsPart), 200, "", "", 2},
		"payments has none": {orders(200, ordersPart), payments(404, noPayment), 200, "", "", 1},
		"payments is away":  {orders(200, ordersPart), closed, 200, "", "payments: it cannot be reached, true", 1},
		"payments is slow": {orders(200, ordersPart), silent, 200, "",
			"payments: it did not answer within 100ms, true", 1},
		"payments says nonsense": {orders(200, ordersPart), payments(200, "["), 200, "",
			"payments: it cannot be reached, true", 1},
		"payments is forbidden": {orders(200, ordersPart), payments(403, forbidden), 200, "",
			"payments: about insufficient_scope, false", 1},
		"payments has no room": {orders(200, ordersPart), payments(503, problem(503, "overloaded")), 200, "",
			"payments: about overloaded, true", 1},
		"orders is away": {closed, payments(200, paymentsPart), 200, "", "orders: it cannot be reached, true", 1},
		"orders is forbidden": {orders(403, forbidden), payments(200, paymentsPart), 200, "",
			"orders: about insufficient_scope, false", 1},
		"a stranger": {orders(404, noOrder), payments(404, noPayment), 404,
			"order_not_found", "", 0},
		"not there, and payments is away": {orders(404, noOrder), closed, 404, "order_not_found", "", 0},
		"both are forbidden": {orders(403, forbidden), payments(403, forbidden),
			403, "insufficient_scope", "", 0},
		"both are away": {closed, closed, 502, httpserver.CodeUpstreamUnavailable, "", 0},
		"both are slow": {silent, silent, 504, httpserver.CodeUpstreamTimeout, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			g := setup(t, func(cfg *Config) {
				cfg.Payments = []string{test.payments}
				if strings.Contains(name, "slow") {
					cfg.UpstreamTimeout = 100 * time.Millisecond
				}
			}, test.orders)
			request := newRequest(t, "GET", g.url+ordersPath+strings.ToUpper(explained)+"/explain", nil)
			request.Header.Set("Authorization", "Bearer x")
			request.Header.Set("Cookie", "a=b")
			response, body, problem := g.do(t, request)
			if response.StatusCode != test.status || problem.Code != test.code {
				t.Fatalf("%s: %s", response.Status, body)
			}
			if test.status == 403 && response.Header.Get("WWW-Authenticate") != "Bearer of "+ordersPath {
				t.Errorf("headers %v", response.Header)
			}
			if test.status != 200 {
				return
			}
			var e explain.Explanation
			if err := json.Unmarshal([]byte(body), &e); err != nil {
				t.Fatal(err)
			}
			gap := ""
			if len(e.Missing) > 0 {
				gap = fmt.Sprintf("%s: %s, %v", e.Missing[0].What, e.Missing[0].Why, e.Missing[0].Away)
			}
			if gap != test.gap || len(e.Timeline) != test.steps || e.Summary == "" || len(e.Next) == 0 {
				t.Errorf("missing %q, want %q; %s", gap, test.gap, body)
			}
		})
	}
}
