package edge

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/testkit/issuer"
	"github.com/altyn-pay/altyn/testkit/routetest"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// fetchKeys does what Watch does for tokens, until the test ends.
func (g *gateway) fetchKeys(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- g.tokens.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// With AUTH=jwt nothing of the API is passed on without a valid token; the service gets the token and looks at its
// scopes. Pages and probes are everybody's.
func TestTokens(t *testing.T) {
	tokens := issuer.New(t)
	var asked atomic.Int64
	orders := service(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/") {
			asked.Add(1)
		}
		w.Header().Set("X-Got", r.Header.Get("Authorization"))
		_, _ = w.Write([]byte(`{"swagger":"2.0"}`))
	})
	g := setup(t, func(cfg *Config) { cfg.Auth = tokens.Config() }, orders)
	g.fetchKeys(t)
	good := "Bearer " + tokens.Token("shop", "alice", "orders:read")
	send := func(method, path, token string) *http.Response {
		t.Helper()
		request := newRequest(t, method, g.url+path, nil)
		if token != "" {
			request.Header.Set("Authorization", token)
		}
		response, _, _ := g.do(t, request)
		return response
	}
	wait.Until(t, "the keys are there", func() bool { return send("GET", "/readyz", "").StatusCode == 200 })
	for _, path := range []string{"/healthz", "/docs/", "/docs/orders.json"} {
		if r := send("GET", path, ""); r.StatusCode != 200 {
			t.Errorf("%s: %s", path, r.Status)
		}
	}
	paths := []string{"/api/v1/orders", "/api/v1/orders/1", "/api/v1/orders/1/stream", "/api/v1/accounts",
		"/api/v1/currencies", "/api/v1/operations/batch", "/api/v1/holds/1/capture"}
	for _, path := range paths {
		for _, method := range []string{"GET", "POST", "DELETE", "PROPFIND"} {
			for _, token := range []string{"", "Basic YTpi", "Bearer x.y.z", good + "x"} {
				if r := send(method, path, token); r.StatusCode != 401 ||
					!strings.HasPrefix(r.Header.Get("WWW-Authenticate"), `Bearer realm="altyn"`) {
					t.Errorf("%s %s with %q: %s %v", method, path, token, r.Status, r.Header)
				}
			}
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("%d requests without a valid token came to a service", n)
	}
	for _, path := range paths {
		if r := send("GET", path, good); r.StatusCode != 200 || r.Header.Get("X-Got") != good {
			t.Errorf("GET %s: %s, the service got %q", path, r.Status, r.Header.Get("X-Got"))
		}
	}
}

// A gateway whose issuer is away says that it is not ready, and that it cannot judge.
func TestWithoutKeys(t *testing.T) {
	tokens := issuer.New(t)
	tokens.Away(true)
	g := setup(t, func(cfg *Config) { cfg.Auth = tokens.Config() },
		service(t, func(http.ResponseWriter, *http.Request) { t.Error("a request was passed on") }))
	g.fetchKeys(t)
	request := newRequest(t, "GET", g.url+"/api/v1/orders", nil)
	request.Header.Set("Authorization", "Bearer "+tokens.Token("shop", "alice", ""))
	if r, _, problem := g.do(t, request); r.StatusCode != 503 || problem.Code != "unavailable" {
		t.Errorf("%s %+v", r.Status, problem)
	}
}

// Every route of the operators' plane but the probes needs the scope of operators.
func TestThePlaneIsForOperators(t *testing.T) {
	tokens := issuer.New(t)
	g := setup(t, func(cfg *Config) { cfg.Auth = tokens.Config() },
		service(t, func(http.ResponseWriter, *http.Request) {}))
	g.fetchKeys(t)
	wait.NoError(t, func() error { return g.tokens.Ready(t.Context()) })
	server := httptest.NewServer(g.Admin)
	t.Cleanup(server.Close)
	routetest.Check(t, server.URL, g.Admin.(chi.Routes), tokens, nil)
}

// Watch ends with its context, although it fetches keys.
func TestWatchEnds(t *testing.T) {
	away := []string{"http://127.0.0.1:1"}
	cfg := Config{Orders: away, Payments: away, Auth: issuer.New(t).Config()}
	g, err := New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g.Watch(ctx)
}
