package api_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/payments/internal/api"
	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/payments/internal/rpc"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/testkit/issuer"
)

type call struct{ method, path, body string }

const procedures = "/altyn.payments.v1.PaymentService/"

// further are calls of the routes that calls lacks, and of the procedures.
var further = []call{
	{"GET", procedures + `GetPayment?encoding=json&message={"orderId":"ORDER"}`, ""},
	{"GET", procedures + `GetBalance?encoding=json&message={"accountId":"ACCOUNT"}`, ""},
	{"POST", procedures + "GetPayment", `{"orderId": "ORDER"}`},
	{"POST", procedures + "GetBalance", `{"accountId": "ACCOUNT"}`},
	{"POST", procedures + "ConfirmPayment", `{"orderId": "ORDER"}`},
	{"POST", procedures + "RejectPayment", `{"orderId": "ORDER"}`},
	{"POST", procedures + "RefundPayment", `{"orderId": "ORDER"}`},
	{"GET", "/api/v1/accounts/ACCOUNT/holds?status=open", ""}, {"GET", "/api/v1/operations", ""},
	{"GET", "/api/v1/payments", ""},
	{"GET", "/api/v1/accounts", ""}, {"POST", "/api/v1/accounts", "{}"}, {"GET", "/api/v1/currencies", ""},
	{"POST", "/api/v1/operations/batch", `{"operations": []}`},
}

// named reports whether a call names something that a tenant has.
func (c call) named() bool {
	return regexp.MustCompile("ACCOUNT|HOLD|OPERATION|ORDER").MatchString(c.path + c.body)
}

// callsOf returns the calls of a route, at least one.
func callsOf(t *testing.T, route httpserver.Route) (of []call) {
	pattern := regexp.MustCompile(`\\\{[a-z_]+\\\}`).ReplaceAllString(regexp.QuoteMeta(route.Pattern), "[A-Z]+")
	pattern = "^" + strings.ReplaceAll(pattern, `\*`, ".+") + "$"
	all := slices.Clone(further)
	for _, c := range calls {
		all = append(all, call(c))
	}
	for _, c := range all {
		path, _, _ := strings.Cut(c.path, "?")
		if c.method == route.Method && regexp.MustCompile(pattern).MatchString(path) {
			of = append(of, c)
		}
	}
	if len(of) == 0 {
		t.Errorf("no test calls %s %s: add it to further", route.Method, route.Pattern)
	}
	return of
}

// TestEveryRouteWithEveryToken calls each route of the API and each procedure: without a token, with bad ones, without
// the scope, as a stranger and as those who may. A route that is new fails until it has a call.
func TestEveryRouteWithEveryToken(t *testing.T) {
	s := openShop(t)
	routes := slices.Concat((*api.API)(nil).Routes(), rpc.New(nil, nil).Routes())
	there := strings.NewReplacer("ACCOUNT", s.account, "HOLD", s.hold, "OPERATION", s.waiting, "ORDER", s.order,
		`"`, "%22", " ", "")
	ask := func(c call, headers ...string) paymentstest.Answer {
		var body any
		if c.method == "POST" {
			body = strings.ReplaceAll(there.Replace(c.body), "%22", `"`)
		}
		return s.Call(c.method, there.Replace(c.path), body, headers...)
	}
	expired := s.tokens.Mint(issuer.Claims{"exp": 1, "nbf": 0, "iat": 0, "scope": issuer.Scopes}, nil, s.tokens.Key())
	forged := s.tokens.Mint(issuer.Claims{"tenant": "shop", "scope": issuer.Scopes}, nil, issuer.NewKey(t, "ES256"))
	var last []func()
	for _, route := range routes {
		if route.Scope == identity.Public {
			continue
		}
		var without []string // every scope but those that the route needs
		for _, scope := range identity.All() {
			if !slices.Contains(route.Scope.List(), scope) {
				without = append(without, string(scope), string(scope)+".own")
			}
		}
		for _, c := range callsOf(t, route) {
			check := func(who string, a paymentstest.Answer, want func(status int) bool) {
				t.Helper()
				if !want(a.Status) {
					t.Errorf("%s %s with %s: %d %v", c.method, c.path, who, a.Status, a.Body)
				}
			}
			is := func(want int) func(int) bool { return func(got int) bool { return got == want } }
			check("no token", ask(c), is(401))
			for _, bad := range []string{"Bearer x", "Bearer " + expired, "Bearer " + forged, "Basic " + forged} {
				check(bad, ask(c, "Authorization", bad), is(401))
			}
			if route.Scope != identity.Anyone {
				check("other scopes", ask(c, "Authorization", s.by("shop", "alice", strings.Join(without, " "))), is(403))
			}
			scopes := []string{"openid"}
			if route.Scope != identity.Anyone {
				scopes = nil
			}
			for _, scope := range route.Scope.List() {
				scopes = append(scopes, string(scope), string(scope)+".own")
				if c.named() {
					check("another tenant's", ask(c, "Authorization", s.by("market", "alice", string(scope))), is(404))
					check("another's .own", ask(c, "Authorization", s.by("shop", "bob", string(scope)+".own")), is(404))
				}
			}
			last = append(last, func() { // those change something
				for _, scope := range scopes {
					check(scope, ask(c, "Authorization", s.by("shop", "alice", scope)), func(status int) bool {
						return status != 401 && status != 403 && status != 404 && status < 500
					})
				}
			})
		}
	}
	for _, right := range last {
		right()
	}
}
