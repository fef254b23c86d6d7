package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
)

// Each filter is a list of its own, and each value that it cannot have is 400 and names it.
func TestListParameters(t *testing.T) {
	s := openShop(t)
	boss := []string{"Authorization", s.by("shop", "boss", everything)}
	s.Post("/api/v1/accounts/"+s.account+"/deposits", `{"amount": "5", "currency": "RUB", "reference": "inv-17"}`, boss...)
	names := strings.NewReplacer("ACCOUNT", s.account, "ORDER", s.order)
	list := func(path string) paymentstest.Answer { return s.Call("GET", names.Replace(path), nil, boss...) }
	for path, want := range map[string][]string{ // the operations, statuses or owners of the items
		"/api/v1/operations": {
			"deposit", "payment", "withdraw", "hold", "deposit", "create_account",
		},
		"/api/v1/operations?limit=2":                               {"deposit", "payment"},
		"/api/v1/operations?order_id=ORDER":                        {"payment"},
		"/api/v1/operations?account_id=ACCOUNT&operation=hold":     {"hold"},
		"/api/v1/operations?reference=inv-17":                      {"deposit"},
		"/api/v1/operations?reference_prefix=inv":                  {"deposit"},
		"/api/v1/operations?reference_prefix=nv":                   nil,
		"/api/v1/operations?status=created":                        {"withdraw"},
		"/api/v1/operations?reason=waiting_for_funds":              {"withdraw"},
		"/api/v1/operations?status=error":                          nil,
		"/api/v1/operations?to=2026-01-01T00:00:00Z":               nil,
		"/api/v1/operations?from=2026-01-01T00:00:00Z&limit=1":     {"deposit"},
		"/api/v1/payments":                                         {"authorized"},
		"/api/v1/payments?order_id=ORDER&status=authorized":        {"authorized"},
		"/api/v1/payments?account_id=ACCOUNT":                      {"authorized"},
		"/api/v1/payments?account_id=ORDER":                        nil,
		"/api/v1/payments?status=failed":                           nil,
		"/api/v1/payments?reason=rejected":                         nil,
		"/api/v1/payments?from=2026-01-01T00:00:00Z":               {"authorized"},
		"/api/v1/payments?to=2026-01-01T00:00:00Z":                 nil,
		"/api/v1/accounts/ACCOUNT/holds":                           {"open", "open"},
		"/api/v1/accounts/ACCOUNT/holds?status=released":           nil,
		"/api/v1/accounts/ACCOUNT/holds?status=open&limit=1":       {"open"},
		"/api/v1/accounts?owner_prefix=ali&reference_prefix=r":     {"alice"},
		"/api/v1/accounts?owner_prefix=bob":                        nil,
		"/api/v1/accounts?reference=r&owner=alice&owner_prefix=":   {"400 owner_prefix"},
		"/api/v1/operations?colour=red":                            {"400 colour"},
		"/api/v1/operations?order_id=17":                           {"400 order_id"},
		"/api/v1/operations?account_id=17":                         {"400 account_id"},
		"/api/v1/operations?operation=cancel_operation":            {"400 operation"},
		"/api/v1/operations?status=paid":                           {"400 status"},
		"/api/v1/operations?status=error&status=error":             {"400 status"},
		"/api/v1/operations?from=today":                            {"400 from"},
		"/api/v1/operations?to=today":                              {"400 to"},
		"/api/v1/operations?cursor=x":                              {"400 cursor"},
		"/api/v1/operations?limit=0":                               {"400 limit"},
		"/api/v1/payments?order_id=17":                             {"400 order_id"},
		"/api/v1/payments?account_id=17":                           {"400 account_id"},
		"/api/v1/payments?status=paid":                             {"400 status"},
		"/api/v1/payments?reference=r":                             {"400 reference"},
		"/api/v1/payments?to=today":                                {"400 to"},
		"/api/v1/accounts/ACCOUNT/holds?status=closed":             {"400 status"},
		"/api/v1/operations?reference=" + strings.Repeat("a", 201): {"400 reference"},
		"/api/v1/payments?reason=" + strings.Repeat("a", 201):      {"400 reason"},
	} {
		out := list(path)
		var got []string
		switch items, ok := out.Body["items"].([]any); {
		case ok:
			for _, item := range items {
				fields := item.(map[string]any)
				for _, name := range []string{"operation", "owner", "status"} {
					if value, ok := fields[name]; ok {
						got = append(got, fmt.Sprint(value))
						break
					}
				}
			}
		default:
			problems, _ := out.Body["errors"].([]any)
			for _, p := range problems {
				got = append(got, fmt.Sprint(out.Status, " ", p.(map[string]any)["field"]))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, not %v (%d %v)", path, got, want, out.Status, out.Body)
		}
	}
	// What is another tenant's or owner's is in no list.
	for _, token := range []string{s.by("market", "boss", everything), s.by("shop", "bob", own)} {
		for _, path := range []string{"/api/v1/operations", "/api/v1/operations?order_id=ORDER", "/api/v1/payments",
			"/api/v1/operations?account_id=ACCOUNT", "/api/v1/operations?reference=inv-17", "/api/v1/payments?order_id=ORDER",
			"/api/v1/payments?account_id=ACCOUNT", "/api/v1/accounts?owner_prefix=ali",
			"/api/v1/operations?reference_prefix=inv"} {
			out := s.Call("GET", names.Replace(path), nil, "Authorization", token)
			if items, ok := out.Body["items"].([]any); !ok || len(items) > 0 {
				t.Errorf("%s shows a stranger %d %v", path, out.Status, out.Body)
			}
		}
	}
	mine := s.Call("GET", "/api/v1/operations", nil, "Authorization", s.by("shop", "alice", own))
	if items, _ := mine.Body["items"].([]any); len(items) != 6 {
		t.Errorf("alice's own: %v", mine.Body)
	}
}
