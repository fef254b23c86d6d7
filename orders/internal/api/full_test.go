package api_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/api"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
)

// Where there is no room for an account's orders they are refused, and nothing is done; what was accepted before is
// answered again, and other accounts' orders are accepted.
func TestWithoutRoomNewOrdersAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	full, other := uuid.New(), uuid.New()
	for contract.Lane(other) == contract.Lane(full) {
		other = uuid.New()
	}
	order := func(account uuid.UUID) string {
		return fmt.Sprintf(`{"account_id":%q,"amount":"5.00","currency":"RUB"}`, account)
	}
	batch := func(accounts ...uuid.UUID) string {
		list := ""
		for i, account := range accounts {
			if i > 0 {
				list += ","
			}
			list += order(account)
		}
		return `{"orders":[` + list + `]}`
	}
	before := decode[api.Order](t, b.call(t, "POST", "/api/v1/orders", order(full), "Idempotency-Key", "before"), 201)
	b.full.Store(1 << contract.Lane(full))

	refused := func(a answer) {
		t.Helper()
		if p := decode[httpserver.Problem](t, a, http.StatusServiceUnavailable); p.Code != "overloaded" ||
			a.header.Get("Retry-After") == "" {
			t.Errorf("%s, Retry-After %q", a.body, a.header.Get("Retry-After"))
		}
	}
	refused(b.call(t, "POST", "/api/v1/orders", order(full)))
	refused(b.call(t, "POST", "/api/v1/orders", order(full), "Idempotency-Key", "new"))
	refused(b.call(t, "POST", "/api/v1/orders/batch", batch(full, full)))
	refused(b.call(t, "POST", "/api/v1/orders/batch", batch(full, full), "Idempotency-Key", "batch"))
	again := b.call(t, "POST", "/api/v1/orders", order(full), "Idempotency-Key", "before")
	if o := decode[api.Order](t, again, 201); o.ID != before.ID || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("repeated: %s", again.body)
	}
	decode[api.Order](t, b.call(t, "POST", "/api/v1/orders", order(other)), 201)
	if n := b.orders(t); n != 2 {
		t.Errorf("there are %d orders", n)
	}

	// Of a batch those are accepted for which there is room; repeated when there is, it places the rest, each order once.
	for _, want := range []int{3, 3} {
		got := decode[api.Results](t, b.call(t, "POST", "/api/v1/orders/batch", batch(full, other, full),
			"Idempotency-Key", "mixed"), 200).Items
		for i, item := range got {
			if accepted := i == 1; accepted != (item.Order != nil) || !accepted && item.Problem.Code != "overloaded" {
				t.Errorf("item %d: %+v", i, item)
			}
		}
		if n := b.orders(t); n != want {
			t.Errorf("there are %d orders, want %d", n, want)
		}
	}
	b.full.Store(0)
	for _, item := range decode[api.Results](t, b.call(t, "POST", "/api/v1/orders/batch", batch(full, other, full),
		"Idempotency-Key", "mixed"), 200).Items {
		if item.Order == nil {
			t.Errorf("with room: %+v", item.Problem)
		}
	}
	b.full.Store(1 << contract.Lane(full))
	for _, item := range decode[api.Results](t, b.call(t, "POST", "/api/v1/orders/batch", batch(full, other, full),
		"Idempotency-Key", "mixed"), 200).Items {
		if item.Order == nil {
			t.Errorf("repeated without room: %+v", item.Problem)
		}
	}
	if n := b.orders(t); n != 5 {
		t.Errorf("there are %d orders in the end", n)
	}
}
