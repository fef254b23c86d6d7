// Package routetest asks every route that a process serves for what it needs.
package routetest

import (
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/testkit/issuer"
)

// open are the routes that anybody may call: the probes, and the documents with their pages.
var open = regexp.MustCompile(`^(GET|HEAD) /(healthz|readyz|docs/?.*)$|^POST /grpc\.health\.v1\.Health/(Check|Watch)$`)

var parameter = regexp.MustCompile(`\{[^}]*\}`)

// Check asks each route of a router that is served at base: without a token, with a bad one, with every scope but its
// own, and with its own. The scope is that of the route in table, which must have all routes but the open ones; without
// a table it is that of operators.
func Check(t *testing.T, base string, routes chi.Routes, tokens *issuer.Issuer, table []httpserver.Route) {
	t.Helper()
	ask := func(method, path, token string) int {
		request, err := http.NewRequestWithContext(t.Context(), method, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body) // its status counts
		response.Body.Close()
		return response.StatusCode
	}
	shut := 0
	if err := chi.Walk(routes, func(method, pattern string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		path := strings.TrimSuffix(parameter.ReplaceAllString(pattern, uuid.NewString()), "*")
		if open.MatchString(method + " " + pattern) {
			if status := ask(method, path, ""); status == 401 || status == 403 {
				t.Errorf("%s %s, which is open, without a token: %d", method, pattern, status)
			}
			return nil
		}
		scope := identity.Operator
		if table != nil {
			i := slices.IndexFunc(table, func(r httpserver.Route) bool { return r.Method == method && r.Pattern == pattern })
			if i < 0 {
				t.Errorf("%s %s is served, and is in no table", method, pattern)
				return nil
			}
			scope = table[i].Scope
		}
		shut++
		own, others := scope.List(), []string(nil)
		for _, s := range identity.All() {
			if !slices.Contains(own, s) {
				others = append(others, string(s), string(s)+".own")
			}
		}
		refused := map[string]int{"": 401, "x.y.z": 401}
		if scope == identity.Public {
			t.Errorf("%s %s is open to anybody", method, pattern)
			return nil
		} else if scope != identity.Anyone {
			refused[tokens.Token("shop", "alice", strings.Join(others, " "))] = 403
		}
		for token, want := range refused {
			if status := ask(method, path, token); status != want {
				t.Errorf("%s %s with the token %q: %d, want %d", method, pattern, token, status, want)
			}
		}
		for _, s := range append(own, "openid")[:max(1, len(own))] {
			if status := ask(method, path, tokens.Token("shop", "alice", string(s))); status == 401 || status == 403 ||
				status >= 500 && status != http.StatusHTTPVersionNotSupported { // as gRPC's streams answer to HTTP/1.1
				t.Errorf("%s %s with %s: %d", method, pattern, s, status)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if shut < 4 {
		t.Errorf("only %d routes need a scope", shut)
	}
}
