package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
)

func TestAnAccountAndItsMoney(t *testing.T) {
	b := setup(t, "all")
	opened := b.post("/api/v1/accounts", map[string]any{"owner": "alice", "reference": "customer-1"})
	id := opened.body["id"].(string)
	if opened.header.Get("Location") != "/api/v1/accounts/"+id || opened.body["owner"] != "alice" || opened.body["reference"] != "customer-1" ||
		len(opened.body["balances"].([]any)) != 0 {
		t.Errorf("opened %v", opened)
	}
	deposit := b.post("/api/v1/accounts/"+id+"/deposits", `{"amount": 777, "currency": "RUB", "reference": "invoice-7"}`)
	if got := deposit.body; got["status"] != "success" || got["operation"] != "deposit" || got["amount"] != "777.00" || got["account_id"] != id ||
		got["reference"] != "invoice-7" || deposit.header.Get("Location") != "/api/v1/operations/"+got["id"].(string) {
		t.Errorf("deposited %v", deposit)
	}
	b.post("/api/v1/accounts/"+id+"/deposits", `{"amount": "0.000001", "currency": "USDT"}`)
	if got := b.call("GET", "/api/v1/operations/"+deposit.body["id"].(string), nil); got.status != 200 || !maps.Equal(got.body, deposit.body) {
		t.Errorf("the operation reads %v, was %v", got, deposit.body)
	}
	if got := b.call("GET", "/api/v1/accounts/"+id+"/balance", nil).body; fmt.Sprint(got) !=
		"map[actual_balance:map[RUB:777.00 USDT:0.000001] frozen_balance:map[RUB:0.00 USDT:0.000000]]" {
		t.Errorf("balance %v", got)
	}
	if got := b.call("GET", "/api/v1/accounts/"+id, nil).body["balances"]; fmt.Sprint(got) !=
		"[map[actual:777.00 currency:RUB frozen:0.00] map[actual:0.000001 currency:USDT frozen:0.000000]]" {
		t.Errorf("balances %v", got)
	}
	for query, want := range map[string]int{"?owner=alice": 1, "?owner=bob": 0, "?reference=customer-1": 1, "?owner=alice&reference=x": 0, "": 1} {
		if got := b.call("GET", "/api/v1/accounts"+query, nil).body["items"].([]any); len(got) != want {
			t.Errorf("accounts%s: %v", query, got)
		}
	}
	if got := b.call("GET", "/api/v1/currencies", nil).body["items"].([]any); len(got) < 170 {
		t.Errorf("%d currencies", len(got))
	}
}

func TestListsComeInPages(t *testing.T) {
	b := setup(t, "all")
	id := b.account("").String()
	const n = 25
	for i := range n {
		currency := []string{"RUB", "USD"}[i%2]
		b.post("/api/v1/accounts/"+id+"/deposits", map[string]any{"amount": fmt.Sprint(i + 1), "currency": currency})
	}
	walk := func(path string) (items []map[string]any) {
		for cursor := ""; ; {
			page := b.call("GET", path+"?limit=7"+cursor, nil)
			for _, item := range page.body["items"].([]any) {
				items = append(items, item.(map[string]any))
			}
			next, more := page.body["next_cursor"]
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
		if e["amount"] != fmt.Sprintf("%d.00", i+1) || e["number"] != float64(i/2+1) || e["currency"] != []string{"RUB", "USD"}[i%2] {
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
	id := b.account("100.00").String()
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
		{"POST", deposits, `{"amount": "1.00", "currency": "RUB", "description": "` + strings.Repeat("я", 1001) + `"}`, 400, "validation_failed", "description"},
		{"POST", deposits, `{"amount": "1.00", "currency": "RUB", "reference": "` + strings.Repeat("я", 201) + `"}`, 400, "validation_failed", "reference"},
		{"POST", deposits, `{"amount": "1.00", "currency": "RUB", "reference": "\u0000"}`, 400, "invalid_json", ""},
		{"POST", deposits, `[]`, 400, "invalid_json", ""},
		{"POST", deposits, `{`, 400, "invalid_json", ""},
		{"POST", deposits + "?wait=1h", `{"amount": "1.00", "currency": "RUB"}`, 400, "validation_failed", "wait"},
		{"POST", "/api/v1/accounts/nonsense/deposits", `{"amount": "1.00", "currency": "RUB"}`, 400, "validation_failed", "id"},
		{"POST", "/api/v1/accounts/" + uuid.NewString() + "/deposits", `{"amount": "1.00", "currency": "RUB"}`, 404, "account_not_found", ""},
		{"POST", "/api/v1/accounts/00000000-0000-0000-0000-000000000001/deposits", `{"amount": "1.00", "currency": "RUB"}`, 404, "account_not_found", ""},
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
		got := b.call(test.method, test.path, body)
		if got.status != test.status || got.body["code"] != test.code || got.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s %s: %d %v, want %d %s", test.method, test.path, test.body, got.status, got.body, test.status, test.code)
			continue
		}
		if test.field != "" && !strings.Contains(fmt.Sprint(got.body["errors"]), "field:"+test.field) {
			t.Errorf("%s %s %s: %v does not name %s", test.method, test.path, test.body, got.body, test.field)
		}
	}
	if got := b.balance(uuid.MustParse(id)); got != "100.00" {
		t.Errorf("the balance is %s afterwards", got)
	}
}

func TestARequestWithAKeyTakesEffectOnce(t *testing.T) {
	b := setup(t, "all")
	id := b.account("")
	path := fmt.Sprintf("/api/v1/accounts/%s/deposits", id)
	var (
		wait     sync.WaitGroup
		mu       sync.Mutex
		ids      = map[any]int{}
		replayed atomic.Int32
	)
	for range 32 {
		wait.Go(func() {
			got := b.call("POST", path, `{"amount": "10.00", "currency": "RUB"}`, "Idempotency-Key", "once")
			if got.status != http.StatusCreated {
				t.Errorf("%d %v", got.status, got.body)
			}
			if got.header.Get("Idempotent-Replayed") == "true" {
				replayed.Add(1)
			}
			mu.Lock()
			ids[got.body["id"]]++
			mu.Unlock()
		})
	}
	wait.Wait()
	if len(ids) != 1 || replayed.Load() != 31 || b.balance(id) != "10.00" {
		t.Errorf("32 copies: IDs %v, %d replayed, balance %s", ids, replayed.Load(), b.balance(id))
	}
	if got := b.call("POST", path, `{"amount": "11.00", "currency": "RUB"}`, "Idempotency-Key", "once"); got.status != 422 || got.body["code"] != "idempotency_key_reused" {
		t.Errorf("another request with the key: %v", got)
	}
	if got := b.call("POST", path, `{"amount": 10, "currency": "RUB", "description": ""}`, "Idempotency-Key", "once"); got.status != 201 || got.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("the same request, written otherwise: %v", got)
	}
	// The key is scoped to the path and the account.
	other := b.account("")
	if got := b.call("POST", fmt.Sprintf("/api/v1/accounts/%s/deposits", other), `{"amount": "11.00", "currency": "RUB"}`, "Idempotency-Key", "once"); got.status != 201 || got.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("the key on another account: %v", got)
	}
	first := b.post("/api/v1/accounts", `{"owner": "x"}`, "Idempotency-Key", "once")
	again := b.post("/api/v1/accounts", `{"owner": "x"}`, "Idempotency-Key", "once")
	if first.body["id"] != again.body["id"] || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("opened %v, then %v", first, again)
	}
	// An error is repeated too.
	nobody := fmt.Sprintf("/api/v1/accounts/%s/deposits", uuid.New())
	one := b.call("POST", nobody, `{"amount": "1.00", "currency": "RUB"}`, "Idempotency-Key", "k")
	two := b.call("POST", nobody, `{"amount": "1.00", "currency": "RUB"}`, "Idempotency-Key", "k")
	if one.status != 404 || two.status != 404 || one.body["operation_id"] != two.body["operation_id"] || two.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("an error: %v, then %v", one, two)
	}
}

// states reads the last event of each order, and expects every repetition of an event to be the same.
func (b *bundle) states(orders int) map[uuid.UUID]contract.Payment {
	states := map[uuid.UUID]contract.Payment{}
	messages := b.consume(contract.TopicPayments, func(messages []kafka.Message) bool {
		clear(states)
		for _, m := range messages {
			var p contract.Payment
			if err := json.Unmarshal(m.Value, &p); err != nil {
				b.Fatal(err)
			}
			states[p.OrderID] = p
		}
		return len(states) == orders
	})
	ids := map[string]string{}
	for _, m := range messages {
		event := kafka.EventOf(m)
		if was, ok := ids[event.ID]; ok && was != string(m.Value) {
			b.Errorf("event %s says %s and %s", event.ID, was, m.Value)
		}
		ids[event.ID] = string(m.Value)
	}
	if len(ids) != orders {
		b.Errorf("%d events for %d orders", len(ids), orders)
	}
	return states
}

func TestOrdersArePaidOnceHoweverOftenTheyCome(t *testing.T) {
	b := setup(t, "all", "worker")
	const clients, orders = 20, 10
	accounts := make([]uuid.UUID, clients)
	for i := range accounts {
		accounts[i] = b.account("5.00") // enough for half of the orders
	}
	var records []kafka.Message
	for range orders {
		for _, account := range accounts {
			records = append(records, record(order(account, "1.00")))
		}
	}
	b.produce(append(records, records...)...)
	states := b.states(clients * orders)
	b.produce(records...) // long after they are settled
	b.until(0, `SELECT count(*) FROM inbox`)
	paid, failed := 0, 0
	for id, p := range states {
		switch {
		case p.Status == contract.PaymentSucceeded && p.CapturedAmount == "1.00" && p.Reason == "":
			paid++
		case p.Status == contract.PaymentFailed && p.CapturedAmount == "0.00" && p.Reason == "insufficient_funds":
			failed++
		default:
			t.Errorf("payment %+v", p)
		}
		got := b.call("GET", "/api/v1/payments/"+id.String(), nil)
		if got.status != 200 || got.body["status"] != p.Status || got.body["version"] != float64(1) {
			t.Errorf("payment %s reads %v", id, got)
		}
	}
	if paid != clients*orders/2 || failed != paid {
		t.Errorf("%d paid, %d failed", paid, failed)
	}
	for _, account := range accounts {
		if got := b.balance(account); got != "0.00" {
			t.Errorf("account %s has %s", account, got)
		}
	}
	b.until(0, `SELECT count(*) FROM (SELECT FROM entries GROUP BY operation_id, currency HAVING sum(amount + frozen) <> 0) x`)
}

func TestOrdersOfOneAccountAreSettledInTheirOrder(t *testing.T) {
	b := setup(t, "all")
	account := b.account("10.00")
	records := make([]kafka.Message, 0, 12)
	amounts := []string{"4.00", "7.00", "3.00", "4.00", "3.00", "0.01"}
	reasons := []string{"", "insufficient_funds", "", "insufficient_funds", "", "insufficient_funds"}
	ids := make([]uuid.UUID, len(amounts))
	for i, amount := range amounts {
		o := order(account, amount)
		ids[i] = o.OrderID
		records = append(records, record(o))
	}
	b.produce(records...)
	states := b.states(len(records))
	for i, id := range ids {
		if states[id].Reason != reasons[i] {
			t.Errorf("order %d over %s: %+v", i, amounts[i], states[id])
		}
	}
}

func TestWhatCannotBeReadIsKeptAsADeadLetter(t *testing.T) {
	b := setup(t, "all")
	account := b.account("10.00")
	good := order(account, "1.00")
	change := func(f func(*contract.Order)) kafka.Message {
		o := order(account, "1.00")
		f(&o)
		return record(o)
	}
	garbage, unknown := record(good), record(order(account, "1.00"))
	garbage.Value = []byte("\xff{")
	unknown.Headers = kafka.Event{ID: "1", Type: "order.exploded", Source: "/orders"}.Headers()
	bad := []kafka.Message{
		garbage, unknown,
		change(func(o *contract.Order) { o.Amount = "-1.00" }),
		change(func(o *contract.Order) { o.Amount = "1." + strings.Repeat("0", 19) }),
		change(func(o *contract.Order) { o.Currency = "qqq" }),
		change(func(o *contract.Order) { o.Capture = "sometimes" }),
		change(func(o *contract.Order) { o.OrderID = uuid.Nil }),
		change(func(o *contract.Order) { o.AccountID = uuid.Nil }),
		change(func(o *contract.Order) { o.Description = "a\x00b" }),
		{Topic: contract.TopicOrders},
	}
	b.produce(append(slices.Clone(bad), record(good))...)
	if states := b.states(1); states[good.OrderID].Status != contract.PaymentSucceeded {
		t.Errorf("the good one: %+v", states)
	}
	dead := b.consume(contract.DeadLetter(contract.TopicOrders), func(m []kafka.Message) bool { return len(m) >= len(bad) })
	for _, m := range dead {
		if m.Header("dlq_reason") == "" || m.Header("dlq_topic") != contract.TopicOrders {
			t.Errorf("dead letter %+v", m)
		}
	}
}

func TestAWaitingRequestIsServedByAnotherProcess(t *testing.T) {
	b := setup(t, "api")
	got := b.call("POST", "/api/v1/accounts?wait=0s", map[string]any{})
	if got.status != http.StatusAccepted || got.body["status"] != "created" || got.body["operation"] != "create_account" {
		t.Fatalf("without a worker: %v", got)
	}
	location, id := got.header.Get("Location"), got.body["account_id"].(string)
	if got := b.call("GET", location, nil); got.body["status"] != "created" {
		t.Errorf("it reads %v", got)
	}
	results := make(chan answer)
	go func() { results <- b.call("GET", location+"?wait=30s", nil) }()
	go func() {
		results <- b.call("POST", "/api/v1/accounts/"+id+"/deposits?wait=30s", `{"amount": "1.00", "currency": "RUB"}`)
	}()
	b.until(2, `SELECT count(*) FROM inbox`)
	b.start("worker")
	for range 2 {
		if got := <-results; got.body["status"] != "success" {
			t.Errorf("%v", got)
		}
	}
}

// The service's role can neither change history nor the schema.
func TestTheServiceCannotChangeHistory(t *testing.T) {
	b := setup(t, "all")
	b.account("1.00")
	for _, statement := range []string{
		`UPDATE entries SET amount = 2`, `DELETE FROM entries`, `TRUNCATE entries`, `DELETE FROM operations`, `DELETE FROM accounts`,
		`DROP TABLE entries`, `ALTER TABLE entries ADD x int`, `CREATE TABLE x ()`,
	} {
		if _, err := b.Service.ExecContext(t.Context(), statement); err == nil || !strings.Contains(err.Error(), "denied") && !strings.Contains(err.Error(), "must be owner") {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

func TestStoppingLosesNothing(t *testing.T) {
	b := setup(t)
	url, stop := b.start("all")
	b.url = url
	account := b.account("1000.00")
	var records []kafka.Message
	for range 500 {
		records = append(records, record(order(account, "1.00")))
	}
	for part := range slices.Chunk(records, 100) {
		b.produce(part...)
		stop()
		b.url, stop = b.start("all")
	}
	b.states(len(records))
	if got := b.balance(account); got != "500.00" {
		t.Errorf("the balance is %s", got)
	}
}

// A request that waits for what does not come is answered in time when the service stops.
func TestStoppingAnswersWhoWaits(t *testing.T) {
	b := setup(t)
	url, stop := b.start("api") // without a worker
	b.url = url
	got := make(chan answer, 1)
	go func() { got <- b.call("POST", "/api/v1/accounts?wait=30s", map[string]any{}) }()
	b.until(1, `SELECT count(*) FROM inbox`)
	stop()
	if a := <-got; a.status != http.StatusAccepted || a.body["status"] != "created" {
		t.Errorf("answered %v", a)
	}
}
