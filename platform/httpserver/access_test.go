package httpserver

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/config"
)

// guarded is a router with routes of every kind. What reaches one of them has the status 299.
func guarded(cfg Config) chi.Router {
	router := NewRouter(Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Config: cfg})
	served := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(299) }
	for _, path := range []string{"/orders", "/orders/{id}/stream", "/admin/parked", "/docs/*", "/healthz", "/readyz",
		"/metrics"} {
		router.Get(path, served)
	}
	for _, path := range []string{"/orders", "/orders/{id}/cancel", "/admin/parked/{id}/redrive",
		"/altyn.payments.v1.PaymentService/RefundPayment"} {
		router.Post(path, served)
	}
	return router
}

var guardedCalls = []struct{ method, path string }{
	{"GET", "/orders"}, {"HEAD", "/orders"}, {"GET", "/orders/1/stream"}, {"GET", "/admin/parked"},
	{"GET", "/docs/"}, {"GET", "/docs/doc.json"},
	{"POST", "/orders"}, {"POST", "/orders/1/cancel"}, {"POST", "/admin/parked/1/redrive"},
	{"POST", "/altyn.payments.v1.PaymentService/RefundPayment"},
}

func ask(t *testing.T, router http.Handler, method, path, host string, headers ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	r.Host = host
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] != "" {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	recorder := httptest.NewRecorder()
	router.ServeHTTP(recorder, r)
	return recorder.Result()
}

func TestPagesOfOtherSitesAreRefused(t *testing.T) {
	router := guarded(Config{AllowedOrigins: []string{"https://shop.example", "HTTP://Localhost:3000",
		"https://port.example:443"}})
	for _, call := range guardedCalls {
		read := call.method != "POST"
		for _, test := range []struct {
			origin, site string
			refused      bool
		}{
			{"", "", false}, // no browser
			{"", "same-origin", false},
			{"", "none", false}, // typed in by a person
			{"", "cross-site", !read},
			{"", "same-site", !read},
			{"", "nonsense", !read},
			{"http://localhost:8080", "", false},
			{"http://localhost:8080", "same-origin", false},
			{"http://localhost:8000", "", true}, // another port is another site
			{"http://localhost:8000", "same-site", true},
			{"https://evil.example", "", true},
			{"https://evil.example", "cross-site", true},
			{"https://shop.example.evil.example", "cross-site", true},
			{"https://shop.example:8443", "cross-site", true},
			{"http://shop.example", "cross-site", true},
			{"null", "cross-site", true},
			{"null", "", true},
			{"https://shop.example", "cross-site", false},
			{"https://shop.example", "", false},
			{"http://localhost:3000", "same-site", false},
			{"https://port.example", "cross-site", false},
		} {
			response := ask(t, router, call.method, call.path, "localhost:8080", "Origin", test.origin, "Sec-Fetch-Site",
				test.site)
			want := 299
			if test.refused {
				want = http.StatusForbidden
			}
			if response.StatusCode != want {
				t.Errorf("%s %s, Origin %q, Sec-Fetch-Site %q: %d", call.method, call.path, test.origin, test.site,
					response.StatusCode)
			}
			if test.refused {
				body, _ := io.ReadAll(response.Body)
				if !strings.Contains(string(body), `"code":"cross_origin"`) ||
					response.Header.Get("Content-Type") != "application/problem+json" ||
					response.Header.Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("%s %s, Origin %q: %s %v", call.method, call.path, test.origin, body, response.Header)
				}
			}
		}
	}
}

// Where requests need tokens, hosts matter only to whoever names some.
func TestHostsWhereTokensAreNeeded(t *testing.T) {
	for _, test := range []struct {
		hosts  []string
		host   string
		served bool
	}{
		{nil, "pay.example", true}, {nil, "PAY.example:443", true}, {nil, "pay.example:x", false},
		{[]string{"pay.example"}, "pay.example", true}, {[]string{"pay.example"}, "evil.example", false},
	} {
		router := NewRouter(Options{
			Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Tokens: true,
			Config: Config{AllowedHosts: test.hosts},
		})
		router.Get("/orders/1", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(299) })
		if status := ask(t, router, "GET", "/orders/1", test.host).StatusCode; (status == 299) != test.served ||
			!test.served && status != http.StatusMisdirectedRequest {
			t.Errorf("hosts %q, Host %q: %d", test.hosts, test.host, status)
		}
	}
}

func TestOtherHostsAreMisdirected(t *testing.T) {
	router := guarded(Config{AllowedHosts: []string{"orders", "Altyn.Example:8443", "10.1.2.3", "[fd00::1]"}})
	for _, call := range guardedCalls {
		for host, served := range map[string]bool{
			"localhost": true, "localhost:8080": true, "LocalHost:1": true, "localhost.": true, "127.0.0.1:8080": true,
			"127.255.1.2": true,
			"[::1]:8080":  true, "[::1]": true, "[::ffff:127.0.0.1]:80": true, "": true,
			"orders": true, "ORDERS:8080": true, "orders.": true, "altyn.example:8443": true, "10.1.2.3:99": true,
			"[fd00::1]:80": true,
			"evil.example": false, "evil.example:8080": false, "localhost.evil.example": false,
			"127.0.0.1.evil.example:8080": false,
			"0.0.0.0:8080":                false, "[::]:8080": false, "10.1.2.4": false, "[fd00::2]": false,
			"altyn.example": false, "altyn.example:80": false,
			"2130706433": false, "127.1": false, "localhost:x": false, "localhost@evil.example": false, "orders:8080:1": false,
		} {
			response := ask(t, router, call.method, call.path, host)
			if status := response.StatusCode; served && status != 299 || !served && status != http.StatusMisdirectedRequest {
				t.Errorf("%s %s, Host %q: %d", call.method, call.path, host, status)
			}
			if !served {
				if body, _ := io.ReadAll(response.Body); !strings.Contains(string(body), `"code":"misdirected_request"`) {
					t.Errorf("%s %s, Host %q: %s", call.method, call.path, host, body)
				}
			}
		}
	}
	// A page of the very site that the name belongs to gets nothing by being of the same origin.
	if response := ask(t, router, "POST", "/orders/1/cancel", "evil.example", "Origin", "http://evil.example",
		"Sec-Fetch-Site", "same-origin"); response.StatusCode != 421 {
		t.Errorf("rebound: %d", response.StatusCode)
	}
	if response := ask(t, router, "GET", "/nowhere", "evil.example"); response.StatusCode != 421 {
		t.Errorf("a path that is not served: %d", response.StatusCode)
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		for host, want := range map[string]int{"10.9.8.7:8080": 299, "[fd00::2]:8080": 299, "evil.example": 421} {
			if response := ask(t, router, "GET", path, host); response.StatusCode != want {
				t.Errorf("%s, Host %s: %d", path, host, response.StatusCode)
			}
		}
	}
}

func TestPagesOfAllowedSites(t *testing.T) {
	const shop = "https://shop.example"
	router := guarded(Config{AllowedOrigins: []string{shop}})
	response := ask(t, router, "OPTIONS", "/orders/1/cancel", "localhost", "Origin", shop,
		"Access-Control-Request-Method", "POST",
		"Access-Control-Request-Headers", "content-type,idempotency-key", "Access-Control-Request-Private-Network", "true",
		"Sec-Fetch-Site", "cross-site")
	header := response.Header
	if response.StatusCode != 204 || header.Get("Access-Control-Allow-Origin") != shop ||
		header.Get("Access-Control-Allow-Methods") != "POST" ||
		header.Get("Access-Control-Allow-Headers") != "content-type,idempotency-key" ||
		header.Get("Access-Control-Max-Age") == "" ||
		header.Get("Access-Control-Allow-Private-Network") != "true" || header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("preflight: %d %v", response.StatusCode, header)
	}
	for _, path := range []string{"/orders", "/nowhere"} { // the page can read errors too
		header := ask(t, router, "POST", path, "localhost", "Origin", shop, "Sec-Fetch-Site", "cross-site").Header
		exposed := header.Get("Access-Control-Expose-Headers")
		for _, name := range []string{"Location", "Idempotent-Replayed", "Retry-After", "X-Request-Id", "Grpc-Status",
			"Grpc-Message"} {
			if !strings.Contains(exposed, name) {
				t.Errorf("%s: %s is not exposed: %s", path, name, exposed)
			}
		}
		if header.Get("Access-Control-Allow-Origin") != shop || !slices.Contains(header.Values("Vary"), "Origin") {
			t.Errorf("%s: %v", path, header)
		}
	}
	for _, origin := range []string{"https://evil.example", "null"} {
		response := ask(t, router, "OPTIONS", "/orders", "localhost", "Origin", origin, "Access-Control-Request-Method",
			"POST")
		if response.StatusCode != 403 || response.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("preflight of %s: %d %v", origin, response.StatusCode, response.Header)
		}
	}
	// Without allowed sites there is nothing of CORS in an answer.
	if header := ask(t, guarded(Config{}), "GET", "/orders", "localhost").Header; header.Get("Vary") != "" ||
		header.Get("Access-Control-Expose-Headers") != "" {
		t.Errorf("without allowed sites: %v", header)
	}
}

func TestConnectionMustNotNameWhatIsForTheService(t *testing.T) {
	router := guarded(Config{})
	for value, refused := range map[string]string{
		"": "", "close": "", "keep-alive": "", "Keep-Alive, Upgrade, HTTP2-Settings": "", "TE, Trailer": "", "X-Hop": "",
		"Proxy-Connection,": "",
		"Idempotency-Key":   "Idempotency-Key", "close, idempotency-KEY": "idempotency-KEY", "Content-Type": "Content-Type",
		"authorization": "authorization",
		"traceparent":   "traceparent", "X-Request-ID": "X-Request-ID", "Content-Length": "Content-Length", "Host": "Host",
		"Accept": "Accept", "Cookie": "Cookie",
		"Origin": "Origin", "Sec-Fetch-Site": "Sec-Fetch-Site", "keep-alive, Last-Event-ID": "Last-Event-ID",
	} {
		for _, call := range guardedCalls {
			response := ask(t, router, call.method, call.path, "localhost", "Connection", value)
			body, _ := io.ReadAll(response.Body)
			switch {
			case refused == "" && response.StatusCode != 299:
				t.Errorf("%s %s, Connection: %s: %d", call.method, call.path, value, response.StatusCode)
			case refused != "" && (response.StatusCode != 400 || !strings.Contains(string(body), `"field":"Connection"`) ||
				!strings.Contains(string(body), refused)):
				t.Errorf("%s %s, Connection: %s: %d %s", call.method, call.path, value, response.StatusCode, body)
			}
		}
	}
}

func TestAccessSettings(t *testing.T) {
	for name, values := range map[string][]string{
		"ALLOWED_ORIGINS": {"*", "null", "shop.example", "https://shop.example/", "https://*.shop.example",
			"ftp://shop.example", "https://a@shop.example", "https://"},
		"ALLOWED_HOSTS":    {"*", "http://orders", "orders/", "orders:x", "a@b", ":80"},
		"HTTP_BODY_MEMORY": {"1KiB"},
	} {
		for _, value := range values {
			if _, err := config.LoadFrom[Config](map[string]string{name: value}); err == nil ||
				!strings.Contains(err.Error(), name) {
				t.Errorf("%s=%s: %v", name, value, err)
			}
		}
	}
	cfg, err := config.LoadFrom[Config](map[string]string{
		"ALLOWED_ORIGINS": "https://shop.example, http://localhost:3000,", "ALLOWED_HOSTS": "orders,[::2]:1,",
	})
	if err != nil || len(cfg.AllowedOrigins) != 2 || len(cfg.AllowedHosts) != 2 || cfg.BodyMemory != 32<<20 {
		t.Errorf("%+v, %v", cfg, err)
	}
}
