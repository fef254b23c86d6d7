package edge

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/testkit/wait"
)

func TestHeadersOfAnAnswer(t *testing.T) {
	g := setup(t, nil, talk(t, "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: "+
		"h2c\r\n"+
		"Proxy-Authenticate: Basic\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nX-Request-Id: its-own\r\nX-Two: a\r\nX-Two: "+
		"b\r\n"+
		"Content-Length: 4\r\n\r\npaid"))
	response, body, _ := g.do(t, newRequest(t, "GET", g.url+"/api/v1/orders", nil))
	header := response.Header
	for _, name := range []string{"Connection", "X-Hop", "Keep-Alive", "Upgrade", "Proxy-Authenticate"} {
		if header[name] != nil {
			t.Errorf("%s: %q", name, header[name])
		}
	}
	if body != "paid" || header.Get("Date") != "Mon, 02 Jan 2006 15:04:05 GMT" || len(header["X-Two"]) != 2 ||
		len(header["X-Request-Id"]) != 1 ||
		header.Get("X-Request-Id") == "its-own" || response.ContentLength != 4 {
		t.Errorf("%q, %v", body, header)
	}
}

// What the client makes of its connection is not the service's affair, however large the request.
func TestClientsConnectionIsItsOwn(t *testing.T) {
	connections := make(chan string, 4)
	g := setup(t, nil, service(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		connections <- r.Header.Get("Connection")
	}))
	for _, size := range []int{0, 10, smallBody, smallBody + 1} {
		request := newRequest(t, "POST", g.url+"/api/v1/orders", strings.NewReader(strings.Repeat("x", size)))
		request.Close = true
		if response, _, _ := g.do(t, request); response.StatusCode != 200 {
			t.Error(response.Status)
		}
		if got := <-connections; got != "" {
			t.Errorf("%d bytes: Connection: %s", size, got)
		}
	}
}

func TestAnswerThatBreaksOffIsNotWhole(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npaid",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npaid\r\n",
	} {
		g := setup(t, nil, talk(t, answer))
		response, err := g.Get(g.url + "/api/v1/orders")
		if err == nil {
			_, err = io.ReadAll(response.Body)
			response.Body.Close()
		}
		if err == nil {
			t.Errorf("%q was taken for a whole answer", answer)
		}
		wait.Until(t, "the lost answer is logged", func() bool {
			log := g.log.String()
			return strings.Contains(log, `"level":"ERROR"`) && strings.Contains(log, "unexpected EOF") &&
				strings.Contains(log, "request_id")
		})
	}
}

// A service may answer before it has read a body that goes through.
func TestAnswerBeforeTheBody(t *testing.T) {
	g := setup(t, nil, service(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		httpserver.WriteProblem(w, httpserver.NewProblem(415, httpserver.CodeUnsupportedMediaType, "no such type"))
	}))
	for _, size := range []int{smallBody, smallBody + 1, 200 << 10} {
		request := newRequest(t, "POST", g.url+"/api/v1/orders", strings.NewReader(strings.Repeat("x", size)))
		if response, body, problem := g.do(t, request); response.StatusCode != 415 || problem.Detail != "no such type" {
			t.Errorf("%d bytes: %s %s", size, response.Status, body)
		}
	}
}

// A path's methods are those that its service has for it, whatever a client asks with.
func TestMethodsOfAPath(t *testing.T) {
	router := httpserver.NewRouter(httpserver.Options{Logger: slog.New(slog.DiscardHandler),
		Registerer: prometheus.NewRegistry()})
	answer := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }
	router.Get("/api/v1/orders/{id}", answer)
	router.Get("/api/v1/orders/{id}/stream", answer)
	router.Post("/api/v1/orders/{id}/cancel", answer)
	router.Get("/api/v1/accounts", answer)
	router.Post("/api/v1/accounts", answer)
	g := setup(t, nil, service(t, router.ServeHTTP))
	for path, allow := range map[string]string{
		"/api/v1/orders/1": "GET, HEAD, OPTIONS", "/api/v1/orders/1/stream": "GET, HEAD, OPTIONS",
		"/api/v1/orders/1/cancel": "POST, OPTIONS",
		"/api/v1/accounts":        "GET, HEAD, POST, OPTIONS", "/api/v1/orders/1/nothing": "", "/api/v1/nothing": "",
		"/readyz": "GET, HEAD, OPTIONS", "/docs/orders.json": "GET, HEAD, OPTIONS",
	} {
		for _, method := range []string{"OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"} {
			status := http.StatusMethodNotAllowed
			switch {
			case allow == "":
				status = http.StatusNotFound
			case method == "OPTIONS":
				status = http.StatusNoContent
			}
			response, body, problem := g.do(t, newRequest(t, method, g.url+path, nil))
			if response.StatusCode != status || response.Header.Get("Allow") != allow ||
				status >= 400 && problem.Status != status {
				t.Errorf("%s %s: %s, Allow %q, want %d, %q: %s", method, path, response.Status, response.Header.Get("Allow"),
					status, allow, body)
			}
		}
	}
}

// The gateway has checked from where a request comes. To the service it is the gateway that asks.
func TestPagesAreCheckedAtTheGateway(t *testing.T) {
	const shop = "https://shop.example"
	router := httpserver.NewRouter(httpserver.Options{Logger: slog.New(slog.DiscardHandler),
		Registerer: prometheus.NewRegistry()})
	for _, path := range []string{"/api/v1/orders/{id}", "/api/v1/orders/{id}/cancel", "/api/v1/accounts/{id}",
		"/api/v1/orders/{id}/stream"} {
		router.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Location", "/here") })
	}
	g := setup(t, func(cfg *Config) {
		cfg.HTTP.AllowedOrigins = []string{shop}
		cfg.HTTP.AllowedHosts = []string{"gateway"}
	}, service(t, router.ServeHTTP))
	for _, test := range []struct {
		method, path, host, origin, site string
		status                           int
		code                             string
	}{
		{"POST", "/api/v1/orders/1/cancel", "", "", "", 200, ""},
		{"POST", "/api/v1/orders/1/cancel", "gateway:8000", "", "", 200, ""},
		{"POST", "/api/v1/orders/1/cancel", "gateway:8000", "http://gateway:8000", "same-origin", 200, ""}, // Swagger UI
		{"POST", "/api/v1/orders/1/cancel", "gateway:8000", "http://gateway:8000", "", 200, ""},
		{"POST", "/api/v1/orders/1/cancel", "", shop, "cross-site", 200, ""},
		{"GET", "/api/v1/orders/1", "", shop, "", 200, ""},
		{"GET", "/api/v1/orders/1/stream", "", shop, "", 200, ""},
		{"OPTIONS", "/api/v1/orders/1", "", shop, "cross-site", 200, ""}, // no preflight: it goes to the service
		{"POST", "/api/v1/orders/1/cancel", "", "https://evil.example", "cross-site", 403, "cross_origin"},
		{"POST", "/api/v1/orders/1/cancel", "", "", "cross-site", 403, "cross_origin"},
		{"POST", "/api/v1/accounts/1", "", "null", "", 403, "cross_origin"},
		{"GET", "/api/v1/orders/1", "", "https://evil.example", "", 403, "cross_origin"},
		{"GET", "/api/v1/orders/1", "evil.example", "", "", 421, "misdirected_request"},
		{"GET", "/api/v1/orders/1/stream", "evil.example:8000", "", "", 421, "misdirected_request"},
		{"POST", "/api/v1/orders/1/cancel", "evil.example", "http://evil.example", "same-origin", 421, "misdirected_request"},
		{"GET", "/docs/", "evil.example", "", "", 421, "misdirected_request"},
		{"GET", "/", "evil.example", "", "", 421, "misdirected_request"},
		{"GET", "/readyz", "evil.example", "", "", 421, "misdirected_request"},
		{"GET", "/healthz", "10.1.2.3:8000", "", "", 200, ""},
	} {
		request := newRequest(t, test.method, g.url+test.path, nil)
		request.Host = test.host
		for name, value := range map[string]string{"Origin": test.origin, "Sec-Fetch-Site": test.site} {
			if value != "" {
				request.Header.Set(name, value)
			}
		}
		response, body, problem := g.do(t, request)
		if response.StatusCode != test.status || problem.Code != test.code {
			t.Errorf("%+v: %s %s", test, response.Status, body)
		}
		readable := test.origin == shop
		if got := response.Header.Get("Access-Control-Allow-Origin") == shop; got != readable {
			t.Errorf("%+v: the page can read it: %t", test, got)
		}
	}
	preflight := newRequest(t, "OPTIONS", g.url+"/api/v1/orders/1/cancel", nil)
	preflight.Header.Set("Origin", shop)
	preflight.Header.Set("Access-Control-Request-Method", "POST")
	if response, _, _ := g.do(t, preflight); response.StatusCode != 204 ||
		response.Header.Get("Access-Control-Allow-Methods") != "POST" {
		t.Errorf("preflight: %s %v", response.Status, response.Header)
	}
	for _, name := range []string{"Idempotency-Key", "content-type", "Authorization", "Traceparent"} {
		request := newRequest(t, "POST", g.url+"/api/v1/orders/1/cancel", nil)
		request.Header.Set("Connection", name)
		request.Header.Set(name, "k")
		if response, body, problem := g.do(t, request); response.StatusCode != 400 ||
			problem.Code != httpserver.CodeValidationFailed || !strings.Contains(body, name) {
			t.Errorf("Connection: %s: %s %s", name, response.Status, body)
		}
	}
}

// The client sees the gateway's limits, but those of the service where that refuses. Behind a trusted proxy the service
// learns the client's address.
func TestLimitsAndAddressesAtTheGateway(t *testing.T) {
	g := setup(t, func(cfg *Config) {
		cfg.HTTP.Limits = httpserver.Limits{TenantRate: 2, TrustedProxies: []string{"127.0.0.0/8"}}
	}, service(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Values("X-Forwarded-For"); len(got) != 1 || got[0] != "192.0.2.1" {
			t.Errorf("the service is told of %q", got)
		}
		w.Header().Set("RateLimit", `"tenant";r=0;t=9`)
		w.Header().Set("RateLimit-Policy", `"tenant";q=1;w=9`)
		if strings.HasSuffix(r.URL.Path, "/busy") {
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	for _, test := range []struct {
		path, left string
		status     int
	}{{"free", `"tenant";r=1;t=1`, 200}, {"busy", `"tenant";r=0;t=9`, 429}} {
		request, err := http.NewRequestWithContext(t.Context(), "GET", g.url+"/api/v1/orders/"+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Forwarded-For", "203.0.113.7, 192.0.2.1")
		answer, err := g.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		got := answer.Header.Values("RateLimit")
		if answer.StatusCode != test.status || len(got) != 1 || got[0] != test.left {
			t.Errorf("%s: %s %q", test.path, answer.Status, got)
		}
	}
}
