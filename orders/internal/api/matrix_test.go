package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/api"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// Each route, whichever there will be, is shut to those without a token or with a bad one, and to every scope but its
// own; who has that one comes in. Whose an order is TestWhatIsAnothersIsNotThere asks at each route.
func TestEveryRouteWithEveryScope(t *testing.T) {
	t.Parallel()
	db := postgrestest.Database(t, "orders", postgres.Migrations()...)
	b := overFor(t, db.Service, func(r *http.Request) (identity.Identity, error) {
		scopes, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			return identity.Identity{}, httpserver.Unauthenticated("invalid_token", "the token is bad")
		}
		return identity.Identity{Tenant: "shop", Subject: "alice",
			Scopes: identity.ParseScopes(strings.Fields(scopes)...)}, nil
	})
	for _, route := range (*api.API)(nil).Routes() {
		path := strings.ReplaceAll(route.Pattern, "{id}", uuid.NewString())
		for _, token := range []string{"", "bad"} {
			if a := b.call(t, route.Method, path, "", "Authorization", token); a.status != 401 {
				t.Errorf("%s %s with the token %q: %d %s", route.Method, route.Pattern, token, a.status, a.body)
			}
		}
		tried := 0
		for _, scope := range identity.All() {
			needed := slices.Contains(route.Scope.List(), scope)
			for _, text := range []string{string(scope), string(scope) + ".own"} {
				a := b.call(t, route.Method, path, "", "Authorization", "Bearer "+text)
				if needed {
					tried++
				}
				if refused := a.status == 403; refused == needed || a.status == 401 || a.status >= 500 {
					t.Errorf("%s %s with %s: %d %s", route.Method, route.Pattern, text, a.status, a.body)
				}
			}
		}
		if tried == 0 {
			t.Errorf("%s %s needs no scope", route.Method, route.Pattern)
		}
	}
}
