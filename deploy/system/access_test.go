package system

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

const (
	shop = "https://shop.example"
	// attackers each announce 1 MiB and send three bytes. maxAttacked is what a process may then have in memory.
	attackers   = 1000
	maxAttacked = 100 << 20
)

// ask sends a request with headers, of which Host is one, and returns the answer with its body.
func (b *bundle) ask(method, to, body string, headers ...string) (*http.Response, string) {
	b.Helper()
	request, err := http.NewRequestWithContext(b.Context(), method, to, strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			request.Host = headers[i+1]
		} else {
			request.Header.Set(headers[i], headers[i+1])
		}
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.Fatal(err)
	}
	return response, string(text)
}

// Whatever a page of another site tries, at whichever address, moves no money and reads nothing. Then a thousand
// clients announce bodies that never come.
func TestPagesOfOtherSitesReachNothing(t *testing.T) {
	needFiles(t, 3*attackers)
	services := stack.Instances(1, 1, 0)
	for i := range services {
		services[i].Env = append(services[i].Env, "ALLOWED_ORIGINS="+shop)
	}
	b := setup(t, localkafka.Embedded, services)
	account := b.accounts(1, "100.00")[0]
	order := b.place(account, "40.00", "?wait=20s")
	if order.Status != "paid" {
		t.Fatalf("the order is %+v", order)
	}
	gateway, orders, payments := b.URL("gateway"), b.URL("orders"), b.URL("payments")

	path, transfer := "/api/v1/orders/"+order.ID.String(),
		fmt.Sprintf(`{"from_account_id":%q,"to_account_id":%q,"amount":"1.00","currency":"RUB"}`, account, uuid.New())
	refund := "/api/v1/payments/" + order.ID.String() + "/refund"
	rpc := "/altyn.payments.v1.PaymentService/RefundPayment"
	for _, way := range []struct{ method, to, body, contentType string }{
		{"POST", gateway + path + "/cancel", "", ""},
		{"POST", orders + path + "/cancel", "", ""},
		{"POST", gateway + refund, "", "application/x-www-form-urlencoded"},
		{"POST", payments + refund, "", ""},
		{"POST", gateway + "/api/v1/transfers", transfer, "application/json"},
		{"POST", payments + rpc, `{"orderId":"` + order.ID.String() + `"}`, "application/json"},
		{"GET", gateway + path, "", ""},
		{"GET", gateway + path + "/stream", "", ""},
		{"GET", payments + "/api/v1/accounts/" + account.String() + "/balance", "", ""},
		{"GET", b.AdminURL("orders") + "/admin/parked", "", ""},
		{"GET", gateway + "/docs/orders.json", "", ""},
	} {
		page, err := url.Parse(way.to)
		if err != nil {
			t.Fatal(err)
		}
		for _, from := range []struct {
			status int
			code   string
			header []string
		}{
			{403, "cross_origin", []string{"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}},
			{403, "cross_origin", []string{"Origin", "http://localhost:1"}},
			{421, "misdirected_request", []string{"Host", "evil.example:" + page.Port(), "Origin",
				"http://evil.example:" + page.Port(), "Sec-Fetch-Site", "same-origin"}},
			{421, "misdirected_request", []string{"Host", "evil.example"}},
		} {
			response, text := b.ask(way.method, way.to, way.body,
				append(slices.Clone(from.header), "Content-Type", way.contentType)...)
			if response.StatusCode != from.status || !strings.Contains(text, from.code) {
				t.Errorf("%s %s from %q: %s %s", way.method, way.to, from.header, response.Status, text)
			}
		}
	}
	for _, name := range []string{"Idempotency-Key", "Content-Type", "Authorization", "traceparent"} {
		if response, text := b.ask("POST", gateway+refund, "", "Connection", name, "Idempotency-Key",
			"k"); response.StatusCode != 400 || !strings.Contains(text, name) {
			t.Errorf("Connection: %s: %s %s", name, response.Status, text)
		}
	}
	for _, field := range []string{"amonut", "Amount", "idempotencykey"} {
		body := fmt.Sprintf(`{"orderId":%q,%q:"1.00"}`, order.ID, field)
		if response, text := b.ask("POST", payments+rpc, body, "Content-Type",
			"application/json"); response.StatusCode != 400 || !strings.Contains(text, field) {
			t.Errorf("%s: %s %s", body, response.Status, text)
		}
	}
	if got := b.order(order.ID); got.Status != "paid" || got.RefundedAmount != "0.00" {
		t.Errorf("the order has become %+v", got)
	}

	// The shop's own page may, and so may Swagger UI and every client that is no browser.
	response, _ := b.ask("OPTIONS", gateway+refund, "", "Origin", shop, "Access-Control-Request-Method", "POST",
		"Access-Control-Request-Headers", "content-type")
	if response.StatusCode != 204 || response.Header.Get("Access-Control-Allow-Origin") != shop ||
		response.Header.Get("Access-Control-Allow-Headers") != "content-type" {
		t.Errorf("preflight: %s %v", response.Status, response.Header)
	}
	for i, headers := range [][]string{{"Origin", shop, "Sec-Fetch-Site", "cross-site"},
		{"Origin", gateway, "Sec-Fetch-Site", "same-origin"}, {"Origin", gateway}, nil} {
		key := fmt.Sprint("refund ", i)
		if response, text := b.ask("POST", gateway+refund, `{"amount":"1.00"}`,
			append(headers, "Content-Type", "application/json", "Idempotency-Key", key)...); response.StatusCode >= 300 {
			t.Errorf("%q: %s %s", headers, response.Status, text)
		}
	}
	for to, allow := range map[string]string{path: "GET, HEAD, OPTIONS", path + "/cancel": "POST, OPTIONS",
		"/api/v1/accounts": "GET, HEAD, POST, OPTIONS"} {
		for method, status := range map[string]int{"OPTIONS": 204, "DELETE": 405, "BREW": 405} {
			if response, text := b.ask(method, gateway+to, ""); response.StatusCode != status ||
				response.Header.Get("Allow") != allow {
				t.Errorf("%s %s: %s, Allow %q: %s", method, to, response.Status, response.Header.Get("Allow"), text)
			}
		}
	}

	for _, name := range []string{"orders", "payments", "gateway"} {
		b.attack(name)
	}
	if _, err := b.books(); err != nil {
		t.Error(err)
	}
	if err := b.Stop("payments"); err != nil {
		t.Fatal(err)
	}
	if response, text := b.ask("GET", gateway+"/docs/payments.json", ""); response.StatusCode != 503 ||
		response.Header.Get("Content-Type") != "application/problem+json" ||
		response.Header.Get("Cache-Control") != "no-store" || !strings.Contains(text, "payments") {
		t.Errorf("without payments: %s %v %s", response.Status, response.Header, text)
	}
}

// order is an order as it is now.
func (b *bundle) order(id uuid.UUID) (order load.Order) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	if err := b.client.Get(ctx, "/api/v1/orders/"+id.String(), &order); err != nil {
		b.Fatal(err)
	}
	return order
}

// attack announces bodies that never come to a process, which must answer others meanwhile and stay small.
func (b *bundle) attack(name string) {
	b.Helper()
	base := b.URL(name)
	path := "/api/v1/orders"
	if name == "payments" {
		path = "/altyn.payments.v1.PaymentService/RefundPayment"
	}
	for range attackers {
		connection, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			b.Fatal(err)
		}
		defer connection.Close()
		fmt.Fprintf(connection, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "+
			"1048576\r\nExpect: 100-continue\r\n\r\n", path)
		if _, err := io.ReadFull(connection, make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))); err != nil {
			b.Fatal(err)
		}
		if _, err := io.WriteString(connection, `{"a`); err != nil {
			b.Fatal(err)
		}
	}
	if response, text := b.ask("GET", base+"/readyz", ""); response.StatusCode != 200 {
		b.Errorf("%s under attack: %s %s", name, response.Status, text)
	}
	b.checkMemory(maxAttacked, name)
}
