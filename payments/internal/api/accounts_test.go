package api_test

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
)

func TestAnAccountAndItsMoney(t *testing.T) {
	b := setup(t, "all")
	opened := b.Post("/api/v1/accounts", map[string]any{"owner": "alice", "reference": "customer-1"})
	id := opened.Body["id"].(string)
	if opened.Header.Get("Location") != "/api/v1/accounts/"+id || opened.Body["owner"] != "alice" ||
		opened.Body["reference"] != "customer-1" ||
		len(opened.Body["balances"].([]any)) != 0 {
		t.Errorf("opened %v", opened)
	}
	deposit := b.Post("/api/v1/accounts/"+id+"/deposits", `{"amount": 777, "currency": "RUB", "reference": "invoice-7"}`)
	if got := deposit.Body; got["status"] != "success" || got["operation"] != "deposit" || got["amount"] != "777.00" ||
		got["account_id"] != id ||
		got["reference"] != "invoice-7" || deposit.Header.Get("Location") != "/api/v1/operations/"+got["id"].(string) {
		t.Errorf("deposited %v", deposit)
	}
	b.Post("/api/v1/accounts/"+id+"/deposits", `{"amount": "0.000001", "currency": "USDT"}`)
	if got := b.Call("GET", "/api/v1/operations/"+deposit.Body["id"].(string), nil); got.Status != 200 ||
		!maps.Equal(got.Body, deposit.Body) {
		t.Errorf("the operation reads %v, was %v", got, deposit.Body)
	}
	if got := b.Call("GET", "/api/v1/accounts/"+id+"/balance", nil).Body; fmt.Sprint(got) !=
		"map[actual_balance:map[RUB:777.00 USDT:0.000001] frozen_balance:map[RUB:0.00 USDT:0.000000]]" {
		t.Errorf("balance %v", got)
	}
	if got := b.Call("GET", "/api/v1/accounts/"+id, nil).Body["balances"]; fmt.Sprint(got) !=
		"[map[actual:777.00 currency:RUB frozen:0.00] map[actual:0.000001 currency:USDT frozen:0.000000]]" {
		t.Errorf("balances %v", got)
	}
	for query, want := range map[string]int{"?owner=alice": 1, "?owner=bob": 0, "?reference=customer-1": 1,
		"?owner=alice&reference=x": 0, "": 1} {
		if got := b.Call("GET", "/api/v1/accounts"+query, nil).Body["items"].([]any); len(got) != want {
			t.Errorf("accounts%s: %v", query, got)
		}
	}
	if got := b.Call("GET", "/api/v1/currencies", nil).Body["items"].([]any); len(got) < 170 {
		t.Errorf("%d currencies", len(got))
	}
}

func TestListsComeInPages(t *testing.T) {
	b := setup(t, "all")
	id := b.Account("").String()
	const n = 25
	for i := range n {
		currency := []string{"RUB", "USD"}[i%2]
		b.Post("/api/v1/accounts/"+id+"/deposits", map[string]any{"amount": fmt.Sprint(i + 1), "currency": currency})
	}
	walk := func(path string) (items []map[string]any) {
		for cursor := ""; ; {
			page := b.Call("GET", path+"?limit=7"+cursor, nil)
			for _, item := range page.Body["items"].([]any) {
				items = append(items, item.(map[string]any))
			}
			next, more := page.Body["next_cursor"]
			if !more {
				return items
			}
			cursor = "&cursor=" + next.(string)
		}
	}
	entries := walk("/api/v1/accounts/" + id + "/entries")
	if len(entries) != n {
		t.Fatalf("%d entries", len(entries))
	}
	for i, e := range entries {
		if e["amount"] != fmt.Sprintf("%d.00", i+1) || e["number"] != float64(i/2+1) ||
			e["currency"] != []string{"RUB", "USD"}[i%2] {
			t.Errorf("entry %d of the statement: %v", i, e)
		}
	}
	operations := walk("/api/v1/accounts/" + id + "/operations")
	if len(operations) != n+1 || operations[0]["amount"] != "25.00" || operations[n]["operation"] != "create_account" {
		t.Errorf("operations %v", operations)
	}
}

func TestBadInputNamesItsField(t *testing.T) {
	b := setup(t, "all")
	id := b.Account("100.00").String()
	deposits := "/api/v1/accounts/" + id + "/deposits"
	for _, test := range []struct {
		method, path, body string
		status             int
		code, field        string
	}{
		{"POST", deposits, `{"amount": "1.001", "currency": "RUB"}`, 400, "validation_failed", "amount"},
		{"POST", deposits, `{"amount": "0", "currency": "RUB"}`, 400, "validation_failed", "amount"},
		{"POST", deposits, `{"amount": -1, "currency": "RUB"}`, 400, "validation_failed", "amount"},
		{"POST", deposits, `{"amount": "1e2", "currency": "RUB"}`, 400, "validation_failed", "amount"},
		{"POST", deposits, `{"amount": "92233720368547758.08", "currency": "RUB"}`, 400, "validation_failed", "amount"},
		{"POST", deposits, `{"amount": true, "currency": "RUB"}`, 400, "validation_failed", "amount"},
		{"POST", deposits, `{"currency": "RUB"}`, 400, "validation_failed", "amount"},
		{"POST", deposits, `{"amount": "1.00", "currency": "rub"}`, 400, "validation_failed", "currency"},
		{"POST", deposits, `{"amount": "1.00"}`, 400, "validation_failed", "currency"},
		{"POST", deposits, `{"amount": "1.00", "currency": "RUB", "amuont": 1}`, 400, "unknown_field", "amuont"},
		{"POST", deposits, `{"amount": "1.00", "currency": "RUB", "description": "` + strings.Repeat("я", 1001) + `"}`,
			400, "validation_failed", "description"},
		{"POST", deposits, `{"amount": "1.00", "currency": "RUB", "reference": "` + strings.Repeat("я", 201) + `"}`, 400,
			"validation_failed", "reference"},
		{"POST", deposits, `{"amount": "1.00", "currency": "RUB", "reference": "\u0000"}`, 400, "invalid_json", ""},
		{"POST", deposits, `[]`, 400, "invalid_json", ""},
		{"POST", deposits, `{`, 400, "invalid_json", ""},
		{"POST", deposits + "?wait=1h", `{"amount": "1.00", "currency": "RUB"}`, 400, "validation_failed", "wait"},
		{"POST", "/api/v1/accounts/nonsense/deposits", `{"amount": "1.00", "currency": "RUB"}`, 400,
			"validation_failed", "id"},
		{"POST", "/api/v1/accounts/" + uuid.NewString() + "/deposits", `{"amount": "1.00", "currency": "RUB"}`, 404,
			"account_not_found", ""},
		{"POST", "/api/v1/accounts/00000000-0000-0000-0000-000000000001/deposits", `{"amount": "1.00", "currency": "RUB"}`,
			404, "account_not_found", ""},
		{"POST", "/api/v1/accounts", `{"id": "nonsense"}`, 400, "validation_failed", "id"},
		{"POST", "/api/v1/accounts", `{"id": "00000000-0000-0000-0000-000000000002"}`, 400, "validation_failed", "id"},
		{"POST", "/api/v1/accounts", `{"id": "` + id + `"}`, 422, "account_exists", ""},
		{"POST", "/api/v1/accounts", `{"owner": "` + strings.Repeat("x", 201) + `"}`, 400, "validation_failed", "owner"},
		{"GET", "/api/v1/accounts/" + uuid.NewString(), "", 404, "account_not_found", ""},
		{"GET", "/api/v1/accounts/" + uuid.NewString() + "/entries", "", 404, "account_not_found", ""},
		{"GET", "/api/v1/accounts/" + id + "/entries?cursor=nonsense", "", 400, "validation_failed", "cursor"},
		{"GET", "/api/v1/accounts/" + id + "/entries?limit=201", "", 400, "validation_failed", "limit"},
		{"GET", "/api/v1/operations/" + uuid.NewString(), "", 404, "operation_not_found", ""},
		{"GET", "/api/v1/payments/" + uuid.NewString(), "", 404, "payment_not_found", ""},
		{"GET", "/api/v1/nonsense", "", 404, "not_found", ""},
		{"DELETE", "/api/v1/accounts/" + id, "", 405, "method_not_allowed", ""},
	} {
		var body any
		if test.body != "" {
			body = test.body
		}
		got := b.Call(test.method, test.path, body)
		if got.Status != test.status || got.Body["code"] != test.code ||
			got.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s %s: %d %v, want %d %s", test.method, test.path, test.body, got.Status,
				got.Body, test.status, test.code)
			continue
		}
		if test.field != "" && !strings.Contains(fmt.Sprint(got.Body["errors"]), "field:"+test.field) {
			t.Errorf("%s %s %s: %v does not name %s", test.method, test.path, test.body, got.Body, test.field)
		}
	}
	if got := b.Balance(uuid.MustParse(id)); got != "100.00" {
		t.Errorf("the balance is %s afterwards", got)
	}
}

func TestARequestWithAKeyTakesEffectOnce(t *testing.T) {
	b := setup(t, "all")
	id := b.Account("")
	path := fmt.Sprintf("/api/v1/accounts/%s/deposits", id)
	var (
		wait     sync.WaitGroup
		mu       sync.Mutex
		ids      = map[any]int{}
		replayed atomic.Int32
	)
	for range 32 {
		wait.Go(func() {
			got := b.Call("POST", path, `{"amount": "10.00", "currency": "RUB"}`, "Idempotency-Key", "once")
			if got.Status != http.StatusCreated {
				t.Errorf("%d %v", got.Status, got.Body)
			}
			if got.Header.Get("Idempotent-Replayed") == "true" {
				replayed.Add(1)
			}
			mu.Lock()
			ids[got.Body["id"]]++
			mu.Unlock()
		})
	}
	wait.Wait()
	if len(ids) != 1 || replayed.Load() != 31 || b.Balance(id) != "10.00" {
		t.Errorf("32 copies: IDs %v, %d replayed, balance %s", ids, replayed.Load(), b.Balance(id))
	}
	if got := b.Call("POST", path, `{"amount": "11.00", "currency": "RUB"}`,
		"Idempotency-Key", "once"); got.Status != 422 || got.Body["code"] != "idempotency_key_reused" {
		t.Errorf("another request with the key: %v", got)
	}
	if got := b.Call("POST", path, `{"amount": 10, "currency": "RUB", "description": ""}`,
		"Idempotency-Key", "once"); got.Status != 201 || got.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("the same request, written otherwise: %v", got)
	}
	// The key is scoped to the path and the account.
	other := b.Account("")
	if got := b.Call("POST", fmt.Sprintf("/api/v1/accounts/%s/deposits", other),
		`{"amount": "11.00", "currency": "RUB"}`, "Idempotency-Key", "once"); got.Status != 201 ||
		got.Header.Get("Idempotent-Replayed") != "" {
		t.Errorf("the key on another account: %v", got)
	}
	first := b.Post("/api/v1/accounts", `{"owner": "x"}`, "Idempotency-Key", "once")
	again := b.Post("/api/v1/accounts", `{"owner": "x"}`, "Idempotency-Key", "once")
	if first.Body["id"] != again.Body["id"] || again.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("opened %v, then %v", first, again)
	}
	// An error is repeated too.
	nobody := fmt.Sprintf("/api/v1/accounts/%s/deposits", uuid.New())
	one := b.Call("POST", nobody, `{"amount": "1.00", "currency": "RUB"}`, "Idempotency-Key", "k")
	two := b.Call("POST", nobody, `{"amount": "1.00", "currency": "RUB"}`, "Idempotency-Key", "k")
	if one.Status != 404 || two.Status != 404 || one.Body["operation_id"] != two.Body["operation_id"] ||
		two.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("an error: %v, then %v", one, two)
	}
}
