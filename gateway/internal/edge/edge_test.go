package edge

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/telemetry"
	"github.com/altyn-pay/altyn/testkit/wait"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gateway is a gateway on a port of its own before services that a test plays.
type gateway struct {
	*http.Client
	*Gateway
	url  string
	log  *logBuffer
	stop func() error // begins to drain and waits for the end
}

type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// setup starts a gateway; change adapts its configuration, whose services are both at the given addresses.
func setup(t testing.TB, change func(*Config), addresses ...string) *gateway {
	t.Helper()
	cfg, err := config.LoadFrom[Config](map[string]string{
		"ORDERS_URL": strings.Join(addresses, ","), "PAYMENTS_URL": strings.Join(addresses, ","),
	})
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&cfg)
	}
	log := new(logBuffer)
	logger := slog.New(slog.NewJSONHandler(log, nil))
	tracer, err := telemetry.NewTracer(cfg.Traces, "gateway", logger, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	handler, err := New(cfg, logger, prometheus.NewRegistry(), tracer)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(context.Background())
	listening, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- httpserver.Run(ctx, httpserver.Server{
			Name: "api", Addr: "127.0.0.1:0", Handler: handler, Logger: logger,
			Listening: func(addr net.Addr) { listening <- addr.String() },
		})
	}()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	g := &gateway{
		Gateway: handler,
		url:     "http://" + <-listening,
		log:     log,
		Client: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
	}
	g.stop = sync.OnceValue(func() error { end(); defer tracer.Close(); return <-done })
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := g.stop(); err != nil {
			t.Error(err)
		}
		handler.Close()
	})
	return g
}

// service plays a service that answers with serve.
func service(t testing.TB, serve http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(serve)
	t.Cleanup(server.Close)
	return server.URL
}

// closedAddress returns a URL at which nothing listens.
func closedAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	return "http://" + listener.Addr().String()
}

func newRequest(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return request
}

// do returns the answer, its body and, where it is one, its problem.
func (g *gateway) do(t testing.TB, request *http.Request) (*http.Response, string, httpserver.Problem) {
	t.Helper()
	response, err := g.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var problem httpserver.Problem
	if response.Header.Get("Content-Type") == "application/problem+json" {
		if err := json.Unmarshal(body, &problem); err != nil {
			t.Errorf("%v: %s", err, body)
		}
	}
	return response, string(body), problem
}

func TestRoutes(t *testing.T) {
	echo := func(name string) string {
		return service(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Service", name)
			_, _ = io.WriteString(w, r.Method+" "+r.RequestURI)
		})
	}
	orders, payments := echo("orders"), echo("payments")
	g := setup(t, func(cfg *Config) { cfg.Payments = []string{payments} }, orders)

	for _, test := range []struct {
		method, path string
		status       int
		service      string
	}{
		{"GET", "/api/v1/orders", 200, "orders"},
		{"POST", "/api/v1/orders/batch?wait=5s", 200, "orders"},
		{"GET", "/api/v1/orders/1/stream", 200, "orders"},
		{"OPTIONS", "/api/v1/orders", 200, "orders"},
		{"HEAD", "/api/v1/orders/1", 200, "orders"},
		{"GET", "/api/v1/orders/a%2Fb?c=%20d", 200, "orders"},
		{"GET", "/api/v1/accounts/1/balance", 200, "payments"},
		{"POST", "/api/v1/holds/1/capture", 200, "payments"},
		{"POST", "/api/v1/transfers", 200, "payments"},
		{"POST", "/api/v1/operations/batch", 200, "payments"},
		{"GET", "/api/v1/currencies", 200, "payments"},
		{"POST", "/api/v1/payments/1/confirm", 200, "payments"},

		{"GET", "/api/v1/ordersx", 404, ""},
		{"GET", "/api/v1/unknown", 404, ""},
		{"GET", "/api/v1", 404, ""},
		{"GET", "/admin/parked", 404, ""},
		{"POST", "/admin/parked/1/redrive", 404, ""},
		{"GET", "/metrics", 404, ""},
		{"POST", "/altyn.payments.v1.PaymentService/Confirm", 404, ""},
		{"GET", "/api/v1/orders/../../../admin/parked", 404, ""},
		{"GET", "/api/v1/orders/%2e%2e/%2e%2e/admin/parked", 404, ""},
		{"GET", "/api/v1/orders//1", 404, ""},
		{"GET", "//api/v1/orders", 404, ""},
		{"GET", "/api/v1/orders/%00", 400, ""},
		{"PUT", "/api/v1/orders/1", 200, "orders"}, // the service knows its methods
		{"DELETE", "/api/v1/accounts/1", 200, "payments"},
		{"BREW", "/api/v1/orders/1", 200, "orders"},
		{"BREW", "/api/v1/currencies", 200, "payments"},
		{"BREW", "/api/v1/ordersx", 404, ""},
		{"OPTIONS", "/api/v1/ordersx", 404, ""},
		{"POST", "/healthz", 405, ""},
	} {
		t.Run(test.method+test.path, func(t *testing.T) {
			// The path is sent as it is, which http.NewRequest would not do.
			request := newRequest(t, test.method, g.url, nil)
			request.URL.Opaque = strings.TrimPrefix(g.url, "http:") + test.path
			response, body, problem := g.do(t, request)
			if response.StatusCode != test.status || response.Header.Get("X-Service") != test.service {
				t.Fatalf("%s from %q: %s", response.Status, response.Header.Get("X-Service"), body)
			}
			if test.status == 200 && test.method != "HEAD" && body != test.method+" "+test.path {
				t.Errorf("the service saw %s", body)
			}
			if test.status >= 400 && problem.Status != test.status {
				t.Errorf("no problem+json: %s", body)
			}
			if response.Header.Get("X-Request-Id") == "" {
				t.Error("no request ID")
			}
		})
	}
}

func TestServiceAnswersPassThrough(t *testing.T) {
	g := setup(t, nil, service(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", "GET, HEAD")
		w.Header().Set("Location", "/api/v1/orders/1")
		w.Header().Set("Idempotent-Replayed", "true")
		w.Header().Set("X-Request-Id", "of the service")
		httpserver.WriteProblem(w, httpserver.NewProblem(405, "method_not_allowed", "the service's own"))
	}))
	request := newRequest(t, "POST", g.url+"/api/v1/currencies", nil)
	request.Header.Set("X-Request-Id", "mine")
	response, _, problem := g.do(t, request)
	if response.StatusCode != 405 || problem.Detail != "the service's own" ||
		response.Header.Get("Allow") != "GET, HEAD" ||
		response.Header.Get("Location") != "/api/v1/orders/1" || response.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%s %v %v", response.Status, response.Header, problem)
	}
	if ids := response.Header.Values("X-Request-Id"); !slices.Equal(ids, []string{"mine"}) {
		t.Errorf("request IDs %q", ids)
	}
}

func TestHeadersToTheService(t *testing.T) {
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	var seen http.Header
	var host string
	address := service(t, func(_ http.ResponseWriter, r *http.Request) { seen, host = r.Header, r.Host })
	g := setup(t, nil, address)
	gatewayHost := strings.TrimPrefix(g.url, "http://")

	request := newRequest(t, "POST", g.url+"/api/v1/orders", strings.NewReader("{}"))
	for name, value := range map[string]string{
		"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https",
		"X-Forwarded-Port": "1", "X-Forwarded-Prefix": "/x", "Forwarded": "for=6.6.6.6", "X-Real-Ip": "6.6.6.6",
		"X-Original-Url": "/admin", "X-Rewrite-Url": "/admin",
		"Expect":     "100-continue", // which the gateway itself has answered
		"Connection": "X-Hop, Upgrade", "X-Hop": "1", "Upgrade": "h2c", "Proxy-Authorization": "x", "Keep-Alive": "x",
		"Idempotency-Key": "k", "Content-Type": "application/json", "X-Request-Id": "id-1", "Traceparent": trace,
		"Tracestate": "a=b",
	} {
		request.Header.Set(name, value)
	}
	if response, body, _ := g.do(t, request); response.StatusCode != 200 {
		t.Fatal(response.Status, body)
	}
	for name, want := range map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": gatewayHost, "X-Forwarded-Proto": "http",
		"X-Forwarded-Port": "", "X-Forwarded-Prefix": "", "Forwarded": "", "X-Real-Ip": "", "X-Original-Url": "",
		"X-Rewrite-Url": "",
		"Expect":        "", "Connection": "", "X-Hop": "", "Upgrade": "", "Proxy-Authorization": "", "Keep-Alive": "",
		"Idempotency-Key": "k", "Content-Type": "application/json", "X-Request-Id": "id-1", "Traceparent": trace,
		"Tracestate": "a=b",
	} {
		if got := strings.Join(seen.Values(name), ","); got != want {
			t.Errorf("%s: %q reached the service; want %q", name, got, want)
		}
	}
	if "http://"+host != address {
		t.Errorf("the service saw the host %s", host)
	}

	request = newRequest(t, "GET", g.url+"/api/v1/orders", nil)
	request.Header.Set("Traceparent", "nonsense")
	request.Header.Set("Tracestate", "a=b")
	response, _, _ := g.do(t, request)
	if _, valid := telemetry.ParseTraceparent(seen.Get("Traceparent")); !valid || seen.Get("Tracestate") != "" {
		t.Errorf("the trace %q, %q", seen.Get("Traceparent"), seen.Get("Tracestate"))
	}
	if id := response.Header.Get("X-Request-Id"); id == "" || id != seen.Get("X-Request-Id") {
		t.Errorf("request ID %q became %q", id, seen.Get("X-Request-Id"))
	}
}

// A body that is announced as too large is refused before any of it is sent, and the service is not asked.
func TestABodyAnnouncedAsTooLargeIsNotAwaited(t *testing.T) {
	g := setup(t, nil, service(t, func(http.ResponseWriter, *http.Request) { t.Error("the service was asked") }))
	conn, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /api/v1/orders HTTP/1.1\r\nHost: localhost\r\n"+
		"Content-Type: application/json\r\nContent-Length: 1048577\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusRequestEntityTooLarge {
		t.Error(response.Status)
	}
}

func TestFailuresBecomeProblems(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // Only then a server notices that its client leaves.
		<-r.Context().Done()
	}
	breakOff := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	readAll := func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }
	large := strings.Repeat("x", 1<<20+1)
	for _, test := range []struct {
		name    string
		address string
		body    io.Reader
		status  int
		code    string
	}{
		{"nothing listens", closedAddress(t), nil, 502, httpserver.CodeUpstreamUnavailable},
		{"the service breaks off", service(t, breakOff), nil, 502, httpserver.CodeUpstreamUnavailable},
		{"the answer is no HTTP", talk(t, "SSH-2.0-OpenSSH_9.7\r\n"), nil, 502, httpserver.CodeUpstreamUnavailable},
		{"it switches protocols", talk(t, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"),
			nil, 502, httpserver.CodeUpstreamUnavailable},
		{"it switches protocols though the body goes through",
			talk(t, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"),
			struct{ io.Reader }{strings.NewReader("{}")}, 502, httpserver.CodeUpstreamUnavailable},
		{"the service hangs", service(t, hang), nil, 504, httpserver.CodeUpstreamTimeout},
		{"the service hangs with a body", service(t, hang), strings.NewReader("{}"), 504, httpserver.CodeUpstreamTimeout},
		{"too large", service(t, readAll), strings.NewReader(large), 413, httpserver.CodeBodyTooLarge},
		{"too large in chunks", service(t, readAll), struct{ io.Reader }{strings.NewReader(large)}, 413,
			httpserver.CodeBodyTooLarge},
		{"just not too large", service(t, readAll), strings.NewReader(large[1:]), 200, ""},
		{"just not too large in chunks", service(t, readAll), struct{ io.Reader }{strings.NewReader(large[1:])}, 200, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := setup(t, func(cfg *Config) {
				if test.status == 504 {
					cfg.UpstreamTimeout = 50 * time.Millisecond
				}
			}, test.address)
			response, body, problem := g.do(t, newRequest(t, "POST", g.url+"/api/v1/orders", test.body))
			if response.StatusCode != test.status || problem.Code != test.code {
				t.Errorf("%s: %s", response.Status, body)
			}
			if strings.Contains(body, "127.0.0.1") {
				t.Errorf("the service's address leaks: %s", body)
			}
			wait.Until(t, "what the service's fault is, and only that, is logged as an error",
				func() bool { return strings.Contains(g.log.String(), `"level":"ERROR"`) == (test.status >= 500) })
		})
	}
}

// talk plays a service that answers every connection with the same bytes.
func talk(t *testing.T, answer string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = bufio.NewReader(connection).ReadString('\n')
			_, _ = io.WriteString(connection, answer)
			connection.Close()
		}
	}()
	return "http://" + listener.Addr().String()
}

func TestAllAddressesOut(t *testing.T) {
	g := setup(t, nil, closedAddress(t), closedAddress(t))
	var codes []string
	for range 2 {
		_, _, problem := g.do(t, newRequest(t, "GET", g.url+"/api/v1/orders", nil))
		codes = append(codes, fmt.Sprint(problem.Status, problem.Code))
	}
	if want := []string{"502upstream_unavailable", "503unavailable"}; !slices.Equal(codes, want) {
		t.Errorf("got %v; want %v", codes, want)
	}
}

func TestSeveralAddresses(t *testing.T) {
	var served [2]atomic.Int32
	count := func(i int) string {
		return service(t, func(w http.ResponseWriter, r *http.Request) {
			served[i].Add(1)
			body, _ := io.ReadAll(r.Body) // whole, before the answer begins
			_, _ = w.Write(body)
		})
	}
	g := setup(t, nil, count(0), closedAddress(t), count(1))
	const requests = 60
	for i := range requests {
		text := fmt.Sprint("order ", i, strings.Repeat(" ", i%2*2*smallBody)) // in memory, or going through
		response, body, _ := g.do(t, newRequest(t, "POST", g.url+"/api/v1/orders", strings.NewReader(text)))
		if response.StatusCode != 200 || body != text {
			t.Fatalf("%s: %.20q came back for %.20q", response.Status, body, text)
		}
	}
	a, b := served[0].Load(), served[1].Load()
	if a+b != requests || a < requests/4 || b < requests/4 {
		t.Errorf("the services got %d and %d of %d requests", a, b, requests)
	}
	if n := strings.Count(g.log.String(), "address put aside"); n == 0 || n > 3 {
		t.Errorf("the dead address was logged %d times", n)
	}
}

// What a service breaks off without an answer is repeated at most once, at the other one, and not without a key.
func TestARequestThatBreaksOff(t *testing.T) {
	var served atomic.Int32
	breakOff := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		served.Add(1)
		panic(http.ErrAbortHandler)
	}
	g := setup(t, nil, service(t, breakOff), service(t, breakOff))
	for key, times := range map[string]int32{"": 1, "k": 2} {
		served.Store(0)
		request := newRequest(t, "POST", g.url+"/api/v1/transfers", strings.NewReader("{}"))
		if key != "" {
			request.Header.Set("Idempotency-Key", key)
		}
		response, _, _ := g.do(t, request)
		if response.StatusCode != 502 || served.Load() != times {
			t.Errorf("with the key %q: %s, sent %d times", key, response.Status, served.Load())
		}
	}
}

func TestReadiness(t *testing.T) {
	answer := func(code int) string {
		return service(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/readyz" {
				w.WriteHeader(code)
			}
		})
	}
	ready, unready, dead := answer(200), answer(503), closedAddress(t)
	for _, test := range []struct {
		name             string
		orders, payments []string
		status           int
		body             string
	}{
		{"both", []string{ready}, []string{ready}, 200, `{"status":"ok","checks":{"orders":"ok","payments":"ok"}}`},
		{"one of several", []string{dead, unready, ready}, []string{ready, dead}, 200,
			`{"status":"ok","checks":{"orders":"ok","payments":"ok"}}`},
		{"one unready", []string{unready, dead}, []string{ready}, 503,
			`{"status":"unavailable","checks":{"orders":"failing","payments":"ok"}}`},
		{"one dead", []string{ready}, []string{dead}, 503,
			`{"status":"unavailable","checks":{"orders":"ok","payments":"failing"}}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := setup(t, func(cfg *Config) { cfg.Orders, cfg.Payments = test.orders, test.payments }, ready)
			response, body, _ := g.do(t, newRequest(t, "GET", g.url+"/readyz", nil))
			if response.StatusCode != test.status || strings.TrimSpace(body) != test.body {
				t.Errorf("%s: %s", response.Status, body)
			}
			if response, _, _ := g.do(t, newRequest(t, "GET", g.url+"/healthz", nil)); response.StatusCode != 200 {
				t.Errorf("healthz: %s", response.Status)
			}
			metrics, request := httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil)
			request.Host = "localhost"
			g.Admin.ServeHTTP(metrics, request)
			for _, check := range []string{"orders", "payments"} {
				value := "0"
				if strings.Contains(test.body, `"`+check+`":"ok"`) {
					value = "1"
				}
				if line := `altyn_check_ok{check="` + check + `"} ` + value + "\n"; !strings.Contains(metrics.Body.String(), line) {
					t.Errorf("/metrics lacks %s", line)
				}
			}
		})
	}
}

func TestDocumentation(t *testing.T) {
	spec := service(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/docs/doc.json" {
			w.WriteHeader(404)
			return
		}
		_, _ = io.WriteString(w, `{"swagger":"2.0","host":"127.0.0.1:8080","schemes":["http"],"paths":{}}`)
	})
	g := setup(t, func(cfg *Config) { cfg.Payments = []string{service(t, http.NotFound)} }, spec)
	for _, test := range []struct {
		path             string
		status           int
		location, answer string
	}{
		{"/", 302, "/docs/", ""},
		{"/docs", 301, "/docs/", ""},
		{"/docs/", 200, "", `urls: [{"name":"orders","url":"orders.json"},{"name":"payments","url":"payments.json"}]`},
		{"/docs/swagger-ui-bundle.js", 200, "", "swagger"},
		{"/docs/orders.json", 200, "", `"swagger":"2.0"`},
		{"/docs/payments.json", 503, "",
			`"detail":"the specification of payments cannot be read at the moment; try again shortly","code":"unavailable"`},
		{"/docs/other.json", 404, "", "not_found"},
	} {
		response, body, problem := g.do(t, newRequest(t, "GET", g.url+test.path, nil))
		if test.status >= 400 && (problem.Status != test.status || response.Header.Get("Cache-Control") != "no-store") {
			t.Errorf("%s: %s, %v", test.path, body, response.Header)
		}
		if response.StatusCode != test.status || response.Header.Get("Location") != test.location ||
			!strings.Contains(body, test.answer) {
			t.Errorf("%s: %s, Location %q", test.path, response.Status, response.Header.Get("Location"))
		}
	}
}

func TestValidate(t *testing.T) {
	for _, test := range []struct{ name, value string }{
		{"ORDERS_URL", ","}, {"ORDERS_URL", "127.0.0.1:8080"}, {"ORDERS_URL", "ftp://a"}, {"PAYMENTS_URL", "http://a/api"},
		{"PAYMENTS_URL", "http://user:secret@a"}, {"GATEWAY_UPSTREAM_TIMEOUT", "-1s"}, {"GATEWAY_MAX_BODY", "0"},
	} {
		_, err := config.LoadFrom[Config](map[string]string{test.name: test.value})
		if err == nil || !strings.Contains(err.Error(), test.name) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s=%s: %v", test.name, test.value, err)
		}
	}
}
