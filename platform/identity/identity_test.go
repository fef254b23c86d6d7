package identity_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/altyn-pay/altyn/platform/identity"
)

// TestReach is the whole matrix of scopes held and needed.
func TestReach(t *testing.T) {
	for _, need := range identity.All() {
		for _, held := range identity.All() {
			for _, ending := range []string{"", ".own"} {
				who := identity.Identity{Tenant: "shop", Subject: "alice",
					Scopes: identity.ParseScopes("openid", string(held)+ending)}
				got, err := who.Reach(need)
				var missing *identity.MissingScope
				switch {
				case held == need && ending == "":
					if err != nil || got != (identity.Reach{Tenant: "shop"}) {
						t.Errorf("%s for %s: %+v, %v", who.Scopes, need, got, err)
					}
				case held == need && need.HasOwn():
					if err != nil || got != (identity.Reach{Tenant: "shop", Owner: "alice"}) {
						t.Errorf("%s for %s: %+v, %v", who.Scopes, need, got, err)
					}
				case !errors.As(err, &missing) || missing.Scope != need || !strings.Contains(err.Error(), string(need)) ||
					got != (identity.Reach{}):
					t.Errorf("%q for %s: %+v, %v", who.Scopes, need, got, err)
				}
			}
		}
		if got, err := identity.Everyone.Reach(need); err != nil || got != identity.Default {
			t.Errorf("everyone for %s: %+v, %v", need, got, err)
		}
		if _, err := (identity.Identity{}).Reach(need); !errors.Is(err, identity.ErrUnauthenticated) {
			t.Errorf("nobody for %s: %v", need, err)
		}
		nameless := identity.Identity{Tenant: "shop", Scopes: identity.ParseScopes(string(need) + ".own")}
		if got, err := nameless.Reach(need); err == nil {
			t.Errorf("without a subject %s.own reaches %+v", need, got)
		}
	}
}

func TestReachByMoreThanOneScope(t *testing.T) {
	who := identity.Identity{Tenant: "shop", Subject: "alice", Scopes: identity.ParseScopes("money:in.own", "money:in")}
	batch := identity.AnyOf(identity.AccountsWrite, identity.MoneyIn)
	own := identity.Reach{Tenant: "shop", Owner: "alice"}
	if got, err := who.Reach(identity.MoneyIn); err != nil || got != (identity.Reach{Tenant: "shop"}) {
		t.Errorf("the whole scope does not win: %+v, %v", got, err)
	}
	for _, need := range []identity.Scope{batch, identity.Anyone} {
		if got, err := who.Reach(need); err != nil || got != own {
			t.Errorf("%s: %+v, %v", need, got, err)
		}
		if _, err := (identity.Identity{}).Reach(need); !errors.Is(err, identity.ErrUnauthenticated) {
			t.Errorf("nobody for %s: %v", need, err)
		}
	}
	who.Scopes = identity.ParseScopes("operator")
	var missing *identity.MissingScope
	if _, err := who.Reach(batch); !errors.As(err, &missing) ||
		err.Error() != "the token has none of the scopes accounts:write money:in" {
		t.Errorf("none of them: %v", err)
	}
	for _, need := range []identity.Scope{identity.Public, "orders", "orders:read.own"} {
		if got, err := identity.Everyone.Reach(need); err == nil {
			t.Errorf("%q reaches %+v", need, got)
		}
	}
	if got := fmt.Sprint(batch.List(), identity.Public.List(), identity.Anyone.List(), identity.Operator.List()); got !=
		"[accounts:write money:in] [] [] [operator]" {
		t.Errorf("lists %s", got)
	}
}

func TestScopesAsTexts(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "openid profile": "", "orders": "", "ORDERS:READ": "", "orders:read.own.own": "", "operator.own": "",
		"inventory:write.own": "", "money:out orders:read.own x": "orders:read.own money:out",
		"any valid token": "", ".own": "",
	} {
		if got := identity.ParseScopes(strings.Fields(text)...).String(); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestReachAsItIsStored(t *testing.T) {
	type row struct {
		By identity.Reach `json:"by,omitzero"`
	}
	for _, test := range []struct {
		reach identity.Reach
		text  string
	}{
		{identity.Reach{}, `{}`}, {identity.Default, `{}`},
		{identity.Reach{Owner: "alice"}, `{"by":{"owner":"alice"}}`},
		{identity.Reach{Tenant: "shop"}, `{"by":{"tenant":"shop"}}`},
		{identity.Reach{Tenant: "shop", Owner: "al\"ice"}, `{"by":{"tenant":"shop","owner":"al\"ice"}}`},
	} {
		text, err := json.Marshal(row{test.reach})
		if err != nil || string(text) != test.text {
			t.Errorf("%+v: %s, %v", test.reach, text, err)
		}
		var back row
		if err := json.Unmarshal(text, &back); err != nil || back.By.Normal() != test.reach.Normal() {
			t.Errorf("%s: %+v, %v", text, back, err)
		}
	}
	for _, text := range []string{`{"owner":1}`, `{"tenant":"shop.kiosk"}`, `{"tenant":"sh\u0000p"}`} {
		var r identity.Reach
		if err := json.Unmarshal([]byte(text), &r); err == nil {
			t.Errorf("%s is read as %+v", text, r)
		}
	}
}

func TestWhatAReachCovers(t *testing.T) {
	for _, test := range []struct {
		reach         identity.Reach
		tenant, owner string
		want          bool
	}{
		{identity.Reach{}, "default", "", true}, {identity.Reach{}, "", "bob", true}, {identity.Default, "shop", "", false},
		{identity.Reach{Tenant: "shop"}, "shop", "bob", true}, {identity.Reach{Tenant: "shop"}, "default", "", false},
		{identity.Reach{Tenant: "shop"}, "", "", false},
		{identity.Reach{Tenant: "shop", Owner: "bob"}, "shop", "bob", true},
		{identity.Reach{Tenant: "shop", Owner: "bob"}, "shop", "", false},
		{identity.Reach{Tenant: "shop", Owner: "bob"}, "shop", "Bob", false},
		{identity.Reach{Tenant: "shop", Owner: "bob"}, "Shop", "bob", false},
	} {
		if got := test.reach.Covers(test.tenant, test.owner); got != test.want {
			t.Errorf("%+v covers %q, %q: %t", test.reach, test.tenant, test.owner, got)
		}
	}
}

// TestNamespaces: two reaches have the same namespace only where they are the same, and no namespace begins another.
func TestNamespaces(t *testing.T) {
	reach := rapid.Custom(func(t *rapid.T) identity.Reach {
		return identity.Reach{Tenant: rapid.StringMatching(`(default|[ab]{0,2})`).Draw(t, "tenant"),
			Owner: rapid.StringMatching(`[ab]{0,2}`).Draw(t, "owner")}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := reach.Draw(t, "a"), reach.Draw(t, "b")
		same := a.Normal() == b.Normal()
		if (a.Namespace() == b.Namespace()) != same {
			t.Fatalf("%+v and %+v have %q and %q", a, b, a.Namespace(), b.Namespace())
		}
		if !same && !a.IsZero() && strings.HasPrefix(b.Namespace(), a.Namespace()) {
			t.Fatalf("%q begins %q", a.Namespace(), b.Namespace())
		}
	})
	if got := (identity.Reach{}).Namespace(); got != "" {
		t.Errorf("of the default: %q", got)
	}
}

func TestContext(t *testing.T) {
	ctx := t.Context()
	if got := identity.FromContext(ctx); got != (identity.Identity{}) {
		t.Errorf("without any: %+v", got)
	}
	ctx = identity.WithReach(identity.NewContext(ctx, identity.Everyone), identity.Reach{Tenant: "shop"})
	if identity.FromContext(ctx) != identity.Everyone || identity.ReachFrom(ctx) != (identity.Reach{Tenant: "shop"}) {
		t.Errorf("%+v, %+v", identity.FromContext(ctx), identity.ReachFrom(ctx))
	}
	defer func() {
		if recover() == nil {
			t.Error("a request that nobody has judged has a reach")
		}
	}()
	identity.ReachFrom(t.Context())
}

func TestUntilExpired(t *testing.T) {
	for _, test := range []struct {
		expires time.Time
		want    error
	}{{time.Time{}, nil}, {time.Now().Add(time.Hour), nil}, {time.Now(), context.DeadlineExceeded}} {
		ctx, cancel := identity.UntilExpired(identity.NewContext(t.Context(), identity.Identity{Expires: test.expires}))
		if err := ctx.Err(); !errors.Is(err, test.want) {
			t.Errorf("%v: %v", test.expires, err)
		}
		if cancel(); ctx.Err() == nil {
			t.Errorf("%v: it does not end", test.expires)
		}
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"default": true, "A_b-9": true, "a.b": false,
		strings.Repeat("x", 64): true, "": false, strings.Repeat("x", 65): false,
		"a b": false, "a\n": false, "ж": false, "a/b": false, "a\x00": false,
	} {
		if err := identity.CheckTenant(name); (err == nil) != ok {
			t.Errorf("tenant %q: %v", name, err)
		}
	}
	for name, ok := range map[string]bool{
		"alice": true, "auth0|1 2": true, strings.Repeat("ж", 200): true, "": false, strings.Repeat("x", 201): false,
		"a\x00": false, "\xff": false,
	} {
		if err := identity.CheckSubject(name); (err == nil) != ok {
			t.Errorf("subject %q: %v", name, err)
		}
	}
}
