package httpserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/identity"
)

// TestWhoMayHaveARoute goes through every need with every answer of Authenticate.
func TestWhoMayHaveARoute(t *testing.T) {
	alice := identity.Identity{Tenant: "shop", Subject: "alice"}
	var who identity.Identity
	var refusal error
	authenticate := func(*http.Request) (identity.Identity, error) { return who, refusal }
	table := []Route{
		NewRoute("GET", "/public", identity.Public, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if got := identity.FromContext(r.Context()); got != (identity.Identity{}) {
				t.Errorf("a public route knows %+v", got)
			}
		})),
	}
	for path, scope := range map[string]identity.Scope{
		"/read": identity.OrdersRead, "/batch": identity.AnyOf(identity.OrdersWrite, identity.MoneyIn),
		"/anyone": identity.Anyone,
	} {
		table = append(table, NewRoute("GET", path, scope, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if got := identity.FromContext(r.Context()); got != who {
				t.Errorf("%s is asked by %+v, not %+v", path, got, who)
			}
			_ = json.NewEncoder(w).Encode(identity.ReachFrom(r.Context()))
		})))
	}
	const all, own = `{"tenant":"shop"}` + "\n", `{"tenant":"shop","owner":"alice"}` + "\n"
	const noToken, expired = `Bearer realm="altyn"`,
		`Bearer realm="altyn", error="invalid_token", error_description="it's 'old'"`
	for _, test := range []struct {
		path, scopes    string
		nobody          bool
		refusal         error
		status          int
		code, challenge string
		body            string
	}{
		{path: "/public", status: 200}, {path: "/public", status: 200, nobody: true},
		{path: "/public", status: 200, refusal: errors.New("not asked")},
		{path: "/read", scopes: "orders:read", status: 200, body: all},
		{path: "/read", scopes: "orders:read.own", status: 200, body: own},
		{path: "/read", scopes: "orders:write", status: 403, code: CodeInsufficientScope, challenge: noToken +
			`, error="insufficient_scope", error_description="the token lacks the scope orders:read", scope="orders:read"`},
		{path: "/read", nobody: true, status: 401, code: CodeUnauthenticated, challenge: noToken},
		{path: "/read", refusal: Unauthenticated("invalid_token", `it's "old"`), status: 401, code: CodeUnauthenticated,
			challenge: expired},
		{path: "/read", refusal: Unauthenticated("", "no token"), status: 401, code: CodeUnauthenticated, challenge: noToken},
		{path: "/read", refusal: Unavailable(errors.New("no keys")), status: 503, code: CodeUnavailable},
		{path: "/batch", scopes: "money:in", status: 200, body: own},
		{path: "/batch", scopes: "money:out", status: 403, code: CodeInsufficientScope, challenge: noToken +
			`, error="insufficient_scope", error_description="the token has none of the scopes orders:write money:in"` +
			`, scope="orders:write money:in"`},
		{path: "/anyone", status: 200, body: own},
		{path: "/anyone", nobody: true, status: 401, code: CodeUnauthenticated, challenge: noToken},
	} {
		who, refusal = alice, test.refusal
		who.Scopes = identity.ParseScopes(test.scopes)
		if test.nobody {
			who = identity.Identity{}
		}
		router := NewRouter(Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
			Authenticate: authenticate})
		Mount(router, table...)
		for _, method := range []string{"GET", "HEAD"} {
			recorder := httptest.NewRecorder()
			router.ServeHTTP(recorder, httptest.NewRequest(method, "http://localhost"+test.path, nil))
			var problem Problem
			if test.code != "" {
				_ = json.Unmarshal(recorder.Body.Bytes(), &problem)
			}
			if recorder.Code != test.status || recorder.Header().Get("WWW-Authenticate") != test.challenge ||
				problem.Code != test.code || test.body != "" && recorder.Body.String() != test.body {
				t.Errorf("%s %+v: %d %v %s", method, test, recorder.Code, recorder.Header(), recorder.Body)
			}
		}
	}
}

func TestWithoutAuthenticateOnlyPublicRoutesAreServed(t *testing.T) {
	router := NewRouter(Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	served := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	Mount(router, NewRoute("GET", "/public", identity.Public, served), NewRoute("GET", "/anyone", identity.Anyone, served))
	for path, want := range map[string]int{"/public": 200, "/anyone": 401} {
		recorder := httptest.NewRecorder()
		router.ServeHTTP(recorder, httptest.NewRequest("GET", "http://localhost"+path, nil))
		if recorder.Code != want {
			t.Errorf("%s: %d", path, recorder.Code)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a route without a handler is mounted")
		}
	}()
	Mount(router, Route{Method: "GET", Pattern: "/forgotten"})
}

func TestRefusalsInOtherForms(t *testing.T) {
	// What a handler finds out for itself is answered in the same way.
	p := AsProblem(fmt.Errorf("item 3: %w", &identity.MissingScope{Scope: identity.MoneyOut}))
	if p == nil || p.Status != 403 || p.Code != CodeInsufficientScope ||
		p.Detail != "the token lacks the scope money:out" {
		t.Errorf("%+v", p)
	}
	render := func(w http.ResponseWriter, _ *http.Request, p *Problem) bool {
		w.WriteHeader(p.Status)
		return true
	}
	router := NewRouter(Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		Render: render})
	Mount(router, NewRoute("GET", "/", identity.Anyone, http.NotFoundHandler()))
	recorder := httptest.NewRecorder()
	router.ServeHTTP(recorder, httptest.NewRequest("GET", "http://localhost/", nil))
	if recorder.Code != 401 || recorder.Header().Get("WWW-Authenticate") != `Bearer realm="altyn"` {
		t.Errorf("rendered: %d %v", recorder.Code, recorder.Header())
	}
}
