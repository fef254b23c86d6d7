package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
)

func TestTheFourCommands(t *testing.T) {
	b := setup(t, "all")
	alice, bob := b.Account(""), b.Account("")
	b.Post(fmt.Sprintf("/api/v1/accounts/%s/deposits", alice), `{"amount": "777", "currency": "RUB"}`)
	got := b.Post("/api/v1/transfers", map[string]any{"from_account_id": alice, "to_account_id": bob,
		"amount": "111.00", "currency": "RUB"})
	if got.Body["operation"] != "transfer" || got.Body["account_id"] != alice.String() ||
		got.Body["to_account_id"] != bob.String() {
		t.Errorf("transfer %v", got)
	}
	if b.Balance(alice) != "666.00" || b.Balance(bob) != "111.00" {
		t.Errorf("balances %s and %s", b.Balance(alice), b.Balance(bob))
	}
	if list := b.Call("GET", fmt.Sprintf("/api/v1/accounts/%s/operations", bob),
		nil).Body["items"].([]any); len(list) != 2 {
		t.Errorf("the payee's operations %v", list)
	}
}

func TestHolds(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("100.00")
	path := fmt.Sprintf("/api/v1/accounts/%s/", account)
	balances := func() string {
		return fmt.Sprint(b.Call("GET", path+"balance", nil).Body)
	}
	hold := func(amount, more string) string {
		return b.Post(path+"holds", `{"amount": "`+amount+`", "currency": "RUB"`+more+`}`).Body["id"].(string)
	}
	first := hold("60.00", "")
	if got := balances(); got != "map[actual_balance:map[RUB:40.00] frozen_balance:map[RUB:60.00]]" {
		t.Errorf("held: %s", got)
	}
	got := b.Call("GET", "/api/v1/holds/"+first, nil)
	if got.Status != 200 || got.Body["status"] != "open" || got.Body["amount"] != "60.00" ||
		got.Body["captured_amount"] != "0.00" || got.Body["account_id"] != account.String() {
		t.Errorf("hold %v", got)
	}
	expires, err := time.Parse(time.RFC3339, got.Body["expires_at"].(string))
	if err != nil || time.Until(expires) < 167*time.Hour || time.Until(expires) > 168*time.Hour {
		t.Errorf("expires at %v, %v", expires, err)
	}
	for name, refused := range map[string]paymentstest.Answer{
		"a withdrawal of what is held": b.Call("POST", path+"withdrawals", `{"amount": "40.01", "currency": "RUB"}`),
		"a hold of what is held":       b.Call("POST", path+"holds", `{"amount": "40.01", "currency": "RUB"}`),
	} {
		if refused.Status != 422 || refused.Body["code"] != "insufficient_funds" || refused.Body["operation_id"] == nil {
			t.Errorf("%s: %v", name, refused)
		}
	}
	captured := b.Post("/api/v1/holds/"+first+"/capture", `{"amount": "25.00"}`)
	if captured.Body["amount"] != "25.00" || captured.Body["hold_id"] != first || captured.Body["currency"] != "RUB" {
		t.Errorf("captured %v", captured)
	}
	if got := balances(); got != "map[actual_balance:map[RUB:75.00] frozen_balance:map[RUB:0.00]]" {
		t.Errorf("captured: %s", got)
	}
	second := hold("75.00", "")
	b.Post("/api/v1/holds/"+second+"/release", nil)
	third := hold("75.00", "")
	b.Post("/api/v1/holds/"+third+"/capture", nil)
	if got := balances(); got != "map[actual_balance:map[RUB:0.00] frozen_balance:map[RUB:0.00]]" {
		t.Errorf("in the end: %s", got)
	}
	for path, want := range map[string]struct {
		status int
		code   string
	}{
		first + "/capture":                {422, "hold_not_open"},
		second + "/release":               {422, "hold_not_open"},
		uuid.NewString() + "/capture":     {404, "hold_not_found"},
		"nonsense/release":                {400, "validation_failed"},
		uuid.NewString() + "/capture?x=1": {400, "unknown_parameter"},
	} {
		if got := b.Call("POST", "/api/v1/holds/"+path, nil); got.Status != want.status || got.Body["code"] != want.code {
			t.Errorf("%s: %v", path, got)
		}
	}
	for body, field := range map[string]string{
		`{"amount": "1", "currency": "RUB", "expires_in": "soon"}`:  "expires_in",
		`{"amount": "1", "currency": "RUB", "expires_in": "0s"}`:    "expires_in",
		`{"amount": "1", "currency": "RUB", "expires_in": "9000h"}`: "expires_in",
	} {
		if got := b.Call("POST", path+"holds", body); got.Status != 400 || !strings.Contains(fmt.Sprint(got.Body), field) {
			t.Errorf("%s: %v", body, got)
		}
	}
}

func TestAHoldExpires(t *testing.T) {
	b := setup(t, "all", "worker")
	account := b.Account("100.00")
	id := b.Post(fmt.Sprintf("/api/v1/accounts/%s/holds", account),
		`{"amount": "60.00", "currency": "RUB", "expires_in": "1s"}`).Body["id"].(string)
	b.Until(1, `SELECT count(*) FROM holds WHERE status = 'expired'`)
	if got := b.Call("POST", "/api/v1/holds/"+id+"/capture", nil); got.Body["code"] != "hold_not_open" {
		t.Errorf("a capture afterwards: %v", got)
	}
	if got := b.Balance(account); got != "100.00" {
		t.Errorf("balance %s", got)
	}
	b.Until(1, `SELECT count(*) FROM operations WHERE operation = 'release' AND status = 'success'`)
}
