package httpserver

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// Health and readiness need nothing; everything else of the operators' plane needs the scope operator.
func TestPlane(t *testing.T) {
	log, registry := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	options := Options{Logger: log, Registerer: registry, Authenticate: func(r *http.Request) (identity.Identity, error) {
		if scope, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
			return identity.Identity{Tenant: "shop", Subject: "alice", Scopes: identity.ParseScopes(scope)}, nil
		}
		return identity.Identity{}, identity.ErrUnauthenticated
	}}
	NewRouter(options) // of the same process, with the same metrics
	health := telemetry.NewHealth(log)
	health.Add("broken", func(context.Context) error { return errors.New("it is") })
	server := httptest.NewUnstartedServer(NewPlane(options, registry, health))
	server.Config.WriteTimeout = time.Second // profiles may take longer
	server.Start()
	t.Cleanup(server.Close)
	for _, test := range []struct {
		method, path string
		status       int // of an operator
		contains     string
		open         bool
	}{
		{"GET", "/healthz", 200, "ok", true}, {"GET", "/readyz", 503, "broken", true},
		{"GET", "/version", 200, `"go"`, false}, {"GET", "/metrics", 200, "altyn_http_requests_total", false},
		{"GET", "/debug/pprof/", 200, "goroutine", false}, {"GET", "/debug/pprof/heap", 200, "", false},
		{"GET", "/debug/pprof/cmdline", 404, "", false}, {"GET", "/debug/pprof/profile?seconds=1", 200, "", false},
		{"POST", "/debug/pprof/symbol", 200, "num_symbols", false},
		{"GET", "/debug/pprof/trace?seconds=0.01", 200, "", false},
	} {
		for scope, status := range map[string]int{"operator": test.status, "orders:read": 403, "": 401} {
			if test.open {
				status = test.status
			}
			request, err := http.NewRequestWithContext(t.Context(), test.method, server.URL+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if scope != "" {
				request.Header.Set("Authorization", "Bearer "+scope)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil || response.StatusCode != status ||
				status == test.status && !strings.Contains(string(body), test.contains) {
				t.Errorf("%s with %q: %s %.200s, %v", test.path, scope, response.Status, body, err)
			}
			if challenge := response.Header.Get("WWW-Authenticate"); (challenge != "") != (status == 401 || status == 403) {
				t.Errorf("%s with %q: WWW-Authenticate is %q", test.path, scope, challenge)
			}
		}
	}
}

// A site whose pages may call the API has nothing to do with the operators' plane.
func TestNoOtherSiteCallsThePlane(t *testing.T) {
	registry := prometheus.NewRegistry()
	options := Options{Logger: slog.New(slog.DiscardHandler), Registerer: registry, Authenticate: Everyone,
		Config: Config{AllowedOrigins: []string{"https://shop.example"}}}
	request := httptest.NewRequest("GET", "http://localhost/metrics", nil)
	request.Header.Set("Origin", "https://shop.example")
	answer := httptest.NewRecorder()
	NewPlane(options, registry, telemetry.NewHealth(options.Logger)).ServeHTTP(answer, request)
	if answer.Code != 403 || answer.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%d %v %s", answer.Code, answer.Header(), answer.Body)
	}
}
