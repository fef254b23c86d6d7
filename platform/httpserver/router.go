package httpserver

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// Options are what a router needs to know.
type Options struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Classify is the service's one table from its errors to problems. It returns nil for an error that it does not
	// know, which then becomes a 500. Optional.
	Classify func(error) *Problem
	// Render answers with a problem in another form than problem+json when the request's protocol has one of its own,
	// and reports whether it did. Optional.
	Render func(w http.ResponseWriter, r *http.Request, p *Problem) bool
	// Authenticate tells who asks; its errors are answered as by Error. Without it nobody is known, and Mount's routes are
	// closed but for public ones.
	Authenticate func(r *http.Request) (identity.Identity, error)
	// Tokens says that Authenticate demands a token, so that no page can act by its visitor's network alone.
	Tokens bool
	// Tracer, if not nil, makes spans. Those of strangers do not decide whether they are recorded, see
	// telemetry.FromStranger.
	Tracer    *telemetry.Tracer
	Strangers bool
	// Config says which pages and hosts are served, and how much memory bodies may take.
	Config Config
}

// NewRouter returns a router on which every request
//
//   - has an ID: X-Request-Id as it came, if that is 1–128 printable characters of ASCII, else a new one; see
//     RequestID;
//   - has a trace: that of its traceparent, if valid, else a new one; with a Tracer it has a span; see
//     telemetry.Traceparent;
//   - is logged and measured by its route pattern: altyn_http_requests_total, altyn_http_request_duration_seconds;
//   - survives a panic of its handler with a 500;
//   - has 15 s to send its body;
//   - shares Config.BodyMemory with the others: the body of one that finds no room there is 503 overloaded;
//   - is refused with 429 when its client's address takes more than Config.Limits allow;
//   - is refused when a page of another site sends it, see Config.Guard;
//   - is refused with 400 when its path or query is not UTF-8, contains U+0000, which PostgreSQL cannot store, or
//     when the query is not made of parameters;
//   - gets 404 or 405 (with Allow) as problem+json where no route serves it. GET routes serve HEAD too, and OPTIONS
//     answers 204 with Allow at every path that has a route.
func NewRouter(options Options) chi.Router {
	limits := options.Config.Limits
	s := &observer{Options: options, metrics: newMetrics(options.Registerer),
		strangers: rate.NewLimiter(strangersLines, strangersBurst),
		tenants:   newCounters("tenant", limits.TenantRate, limits.TenantStreams, limits.TenantBodies),
		subjects:  newCounters("subject", limits.SubjectRate, limits.SubjectStreams, limits.SubjectBodies),
		addresses: newCounters("address", limits.AddressRate, limits.AddressStreams, limits.AddressBodies),
	}
	s.bodies.limit = int64(cmp.Or(options.Config.BodyMemory, defaultBodyMemory))
	s.bodies.full = Overloaded("the bodies of other requests take all the room there is for them; try again shortly")
	router := chi.NewRouter()
	guard := func(next http.Handler) http.Handler { return options.Config.guard(options.Tokens, next) }
	router.Use(limits.believe(), s.observe, s.countAddress, guard, checkedURL, middleware.GetHead)
	router.NotFound(NotFound)
	router.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		methods := allowed(router, r)
		if len(methods) == 0 { // chi does not look for a path whose method it does not know
			NotFound(w, r)
			return
		}
		w.Header().Set("Allow", strings.Join(append(methods, http.MethodOptions), ", "))
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		Error(w, r, NewProblem(http.StatusMethodNotAllowed, CodeMethodNotAllowed, "this path does not serve "+r.Method))
	})
	return router
}

// NotFound answers with 404 not_found.
func NotFound(w http.ResponseWriter, r *http.Request) {
	Error(w, r, NewProblem(http.StatusNotFound, CodeNotFound, "nothing is served at this path"))
}

// Handle turns a function that may fail into a handler; Error answers its error. parameters are the query parameters
// that it reads: a query with another one, or with one that is empty or comes twice, is refused with 400.
func Handle(serve func(w http.ResponseWriter, r *http.Request) error, parameters ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := checkParameters(r.URL.RawQuery, parameters)
		if err == nil {
			err = serve(w, r)
		}
		if err != nil {
			Error(w, r, err)
		}
	}
}

// Error answers with err: a *Problem as it is, contract.FieldErrors as 400 validation_failed, another error as the
// problem that Options.Classify makes of it, or as 500 internal. The cause of a 5xx is logged with the request. A
// client that has left gets nothing. Once the answer has begun, Error logs and panics with http.ErrAbortHandler: only
// a broken connection tells the client that the answer is not whole.
func Error(w http.ResponseWriter, r *http.Request, err error) {
	x, _ := r.Context().Value(exchangeKey{}).(*exchange)
	p := x.problem(r.Context(), err)
	switch {
	case p == nil:
		if x != nil && x.Status() == 0 {
			x.outcome = StatusClientClosedRequest
		}
	case x == nil:
		WriteProblem(w, p)
	case x.Status() != 0:
		panic(http.ErrAbortHandler)
	default:
		p.setHeaders(w.Header())
		if x.observer.Render == nil || !x.observer.Render(w, r, p) {
			WriteProblem(w, p)
		}
	}
}

// Outcome returns the problem with which Error would answer err, for answers in another form than problem+json. It is
// nil when ctx has ended and nobody waits for an answer. The request that ctx belongs to is logged and counted under
// the problem's status, because the answer's own may say nothing: that of gRPC is always 200.
func Outcome(ctx context.Context, err error) *Problem {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	p := x.problem(ctx, err)
	if x == nil {
		return p
	}
	x.outcome = StatusClientClosedRequest
	if p != nil {
		x.outcome = p.Status
	}
	return p
}

// RequestID returns the ID of the request that ctx belongs to, or "".
func RequestID(ctx context.Context) string {
	if x, ok := ctx.Value(exchangeKey{}).(*exchange); ok {
		return x.id
	}
	return ""
}

// checkedURL is a middleware that refuses what checkURL refuses.
func checkedURL(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := checkURL(r.URL); err != nil {
			Error(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// checkURL refuses a path or query with text that cannot be stored.
func checkURL(u *url.URL) error {
	if !storable(u.Path) {
		return contract.Invalid("path", "must be UTF-8 without the character U+0000")
	}
	return checkQuery(u.RawQuery)
}

func storable(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// allowed lists the methods for which the router has a route at the request's path.
func allowed(router chi.Router, r *http.Request) []string {
	path := r.URL.RawPath
	if path == "" {
		path = r.URL.Path
	}
	var methods []string
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		served := router.Match(chi.NewRouteContext(), method, path)
		if method == http.MethodHead {
			served = served || slices.Contains(methods, http.MethodGet)
		}
		if served {
			methods = append(methods, method)
		}
	}
	return methods
}

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
		x.known = true
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
