package httpserver

import (
	"errors"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/altyn-pay/altyn/platform/identity"
)

// Route is a line of a service's table of routes: what is served, and what a request needs for it. The table is what
// is mounted, and what the specification and the documents are made from.
type Route struct {
	Method, Pattern string
	Scope           identity.Scope

	handler http.Handler
}

// NewRoute returns a route. scope is what it needs: a scope, identity.AnyOf several, identity.Anyone, or
// identity.Public.
func NewRoute(method, pattern string, scope identity.Scope, handler http.Handler) Route {
	return Route{method, pattern, scope, handler}
}

// Mount adds routes to a router of NewRouter. The handler of one that is not Public is reached only by a request
//
//   - of somebody whom Options.Authenticate knows, else it is answered with 401 unauthenticated;
//   - who keeps to the limits (Limits), else with 429 rate_limited;
//   - who has the route's scope, else with 403 insufficient_scope, which names it.
//
// Its context then has the identity.Identity of who asks and the identity.Reach of that scope.
func Mount(router chi.Router, routes ...Route) {
	for _, route := range routes {
		if route.handler == nil {
			panic("httpserver: " + route.Method + " " + route.Pattern + " has no handler; NewRoute gives it one")
		}
		handler := route.handler
		if route.Scope != identity.Public {
			handler = Needs(route.Scope, handler)
		}
		router.Method(route.Method, route.Pattern, handler)
	}
}

// Needs serves what next serves to those who have a scope, see Mount.
func Needs(scope identity.Scope, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := whoAsks(r)
		var reach identity.Reach
		if err == nil {
			reach, err = who.Reach(scope)
		}
		if err != nil {
			Error(w, r, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(identity.WithReach(identity.NewContext(r.Context(), who), reach)))
	})
}

// Everyone is the Authenticate of a router whose requests are all identity.Everyone's.
func Everyone(*http.Request) (identity.Identity, error) { return identity.Everyone, nil }

func whoAsks(r *http.Request) (identity.Identity, error) {
	x, _ := r.Context().Value(exchangeKey{}).(*exchange)
	if x == nil || x.observer.Authenticate == nil {
		return identity.Identity{}, identity.ErrUnauthenticated
	}
	who, err := x.observer.Authenticate(r)
	if err == nil {
		err = x.countWho(who)
	}
	return who, err
}

// Unauthenticated is the 401 for a request of which nobody knows who asks. kind is the error of RFC 6750, such as
// invalid_token; "" where no token came.
func Unauthenticated(kind, detail string) *Problem {
	p := NewProblem(http.StatusUnauthorized, CodeUnauthenticated, detail)
	p.challenge = challenge("error", kind)
	if kind != "" {
		p.challenge = challenge("error", kind, "error_description", detail)
	}
	return p
}

// notAllowed is the problem of an error of package identity, nil of any other.
func notAllowed(err error) *Problem {
	var missing *identity.MissingScope
	switch {
	case errors.As(err, &missing):
		p := NewProblem(http.StatusForbidden, CodeInsufficientScope, missing.Error())
		p.challenge = challenge("error", CodeInsufficientScope, "error_description", missing.Error(),
			"scope", string(missing.Scope))
		return p
	case errors.Is(err, identity.ErrUnauthenticated):
		return Unauthenticated("", "the request needs a token: Authorization: Bearer …")
	}
	return nil
}

// challenge is the value of WWW-Authenticate, RFC 6750, section 3: pairs of parameters and values, of which empty ones
// are left out.
func challenge(parameters ...string) string {
	var text strings.Builder
	text.WriteString(`Bearer realm="altyn"`)
	for i := 0; i < len(parameters); i += 2 {
		if value := strings.Map(quotable, parameters[i+1]); value != "" {
			text.WriteString(", " + parameters[i] + `="` + value + `"`)
		}
	}
	return text.String()
}

// quotable replaces what RFC 6750 does not allow in a value.
func quotable(c rune) rune {
	if c < ' ' || c > '~' || c == '"' || c == '\\' {
		return '\''
	}
	return c
}

// setHeaders sets the headers that an answer with the problem has in any form.
func (p *Problem) setHeaders(header http.Header) {
	if p.challenge != "" {
		header.Set("WWW-Authenticate", p.challenge)
	}
	if p.Status == http.StatusTooManyRequests {
		header.Set("Retry-After", "1")
	}
}
