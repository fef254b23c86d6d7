package main

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// states reads the last event of each order, and expects every repetition of an event to be the same.
func (b *bundle) states(orders int) map[uuid.UUID]contract.Payment {
	states := map[uuid.UUID]contract.Payment{}
	messages := b.Consume(contract.TopicPayments, func(messages []kafka.Message) bool {
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
		accounts[i] = b.Account("5.00") // enough for half of the orders
	}
	var records []kafka.Message
	for range orders {
		for _, account := range accounts {
			records = append(records, paymentstest.Placed(paymentstest.Order(account, "1.00")))
		}
	}
	b.Produce(append(records, records...)...)
	states := b.states(clients * orders)
	b.Produce(records...) // long after they are settled
	b.Until(0, `SELECT count(*) FROM inbox`)
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
		got := b.Call("GET", "/api/v1/payments/"+id.String(), nil)
		if got.Status != 200 || got.Body["status"] != p.Status || got.Body["version"] != float64(1) {
			t.Errorf("payment %s reads %v", id, got)
		}
	}
	if paid != clients*orders/2 || failed != paid {
		t.Errorf("%d paid, %d failed", paid, failed)
	}
	for _, account := range accounts {
		if got := b.Balance(account); got != "0.00" {
			t.Errorf("account %s has %s", account, got)
		}
	}
	b.Until(0, `SELECT count(*) FROM (
		SELECT FROM entries GROUP BY operation_id, currency HAVING sum(amount + frozen) <> 0) x`)
}

func TestOrdersOfOneAccountAreSettledInTheirOrder(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("10.00")
	records := make([]kafka.Message, 0, 12)
	amounts := []string{"4.00", "7.00", "3.00", "4.00", "3.00", "0.01"}
	reasons := []string{"", "insufficient_funds", "", "insufficient_funds", "", "insufficient_funds"}
	ids := make([]uuid.UUID, len(amounts))
	for i, amount := range amounts {
		o := paymentstest.Order(account, amount)
		ids[i] = o.OrderID
		records = append(records, paymentstest.Placed(o))
	}
	b.Produce(records...)
	states := b.states(len(records))
	for i, id := range ids {
		if states[id].Reason != reasons[i] {
			t.Errorf("order %d over %s: %+v", i, amounts[i], states[id])
		}
	}
}

func TestWhatCannotBeReadIsKeptAsADeadLetter(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("10.00")
	good := paymentstest.Order(account, "1.00")
	change := func(f func(*contract.Order)) kafka.Message {
		o := paymentstest.Order(account, "1.00")
		f(&o)
		return paymentstest.Placed(o)
	}
	garbage, unknown := paymentstest.Placed(good), paymentstest.Placed(paymentstest.Order(account, "1.00"))
	garbage.Value = []byte("\xff{")
	unknown.Headers = kafka.Event{ID: "1", Type: "exploded", Source: "/orders"}.Headers()
	bad := []kafka.Message{
		garbage, unknown,
		change(func(o *contract.Order) { o.Amount = "-1.00" }),
		change(func(o *contract.Order) { o.Amount = "1." + strings.Repeat("0", 19) }),
		change(func(o *contract.Order) { o.Currency = "qqq" }),
		change(func(o *contract.Order) { o.Capture = "" }),
		change(func(o *contract.Order) { o.OrderID = uuid.Nil }),
		change(func(o *contract.Order) { o.AccountID = uuid.Nil }),
		change(func(o *contract.Order) { o.Description = "a\x00b" }),
		{Topic: contract.TopicOrders},
	}
	b.Produce(append(slices.Clone(bad), paymentstest.Placed(good))...)
	if states := b.states(1); states[good.OrderID].Status != contract.PaymentSucceeded {
		t.Errorf("the good one: %+v", states)
	}
	dead := b.Consume(contract.DeadLetter(contract.TopicOrders),
		func(m []kafka.Message) bool { return len(m) >= len(bad) })
	for _, m := range dead {
		if m.Header("dlq_reason") == "" || m.Header("dlq_topic") != contract.TopicOrders {
			t.Errorf("dead letter %+v", m)
		}
	}
}

func TestAWaitingRequestIsServedByAnotherProcess(t *testing.T) {
	b := setup(t, "api")
	got := b.Call("POST", "/api/v1/accounts?wait=0s", map[string]any{})
	if got.Status != http.StatusAccepted || got.Body["status"] != "created" || got.Body["operation"] != "create_account" {
		t.Fatalf("without a worker: %v", got)
	}
	location, id := got.Header.Get("Location"), got.Body["account_id"].(string)
	if got := b.Call("GET", location, nil); got.Body["status"] != "created" {
		t.Errorf("it reads %v", got)
	}
	results := make(chan paymentstest.Answer)
	go func() { results <- b.Call("GET", location+"?wait=30s", nil) }()
	go func() {
		results <- b.Call("POST", "/api/v1/accounts/"+id+"/deposits?wait=30s", `{"amount": "1.00", "currency": "RUB"}`)
	}()
	b.Until(2, `SELECT count(*) FROM inbox`)
	b.Start("worker")
	for range 2 {
		if got := <-results; got.Body["status"] != "success" {
			t.Errorf("%v", got)
		}
	}
}

// The service's role can neither change history nor the schema.
func TestTheServiceCannotChangeHistory(t *testing.T) {
	b := setup(t, "all")
	b.Account("1.00")
	for _, statement := range []string{
		`UPDATE entries SET amount = 2`, `DELETE FROM entries`, `TRUNCATE entries`,
		`DELETE FROM operations`, `DELETE FROM accounts`,
		`DROP TABLE entries`, `ALTER TABLE entries ADD x int`, `CREATE TABLE x ()`,
	} {
		if _, err := b.Service.ExecContext(t.Context(), statement); err == nil ||
			!strings.Contains(err.Error(), "denied") && !strings.Contains(err.Error(), "must be owner") {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

func TestStoppingLosesNothing(t *testing.T) {
	b := setup(t)
	url, stop := b.Start("all")
	b.URL = url
	account := b.Account("1000.00")
	var records []kafka.Message
	for range 500 {
		records = append(records, paymentstest.Placed(paymentstest.Order(account, "1.00")))
	}
	for part := range slices.Chunk(records, 100) {
		b.Produce(part...)
		stop()
		b.URL, stop = b.Start("all")
	}
	b.states(len(records))
	if got := b.Balance(account); got != "500.00" {
		t.Errorf("the balance is %s", got)
	}
}

// A request that waits for what does not come is answered in time when the service stops.
func TestStoppingAnswersWhoWaits(t *testing.T) {
	b := setup(t)
	url, stop := b.Start("api") // without a worker
	b.URL = url
	got := make(chan paymentstest.Answer, 1)
	go func() { got <- b.Call("POST", "/api/v1/accounts?wait=30s", map[string]any{}) }()
	b.Until(1, `SELECT count(*) FROM inbox`)
	stop()
	if a := <-got; a.Status != http.StatusAccepted || a.Body["status"] != "created" {
		t.Errorf("answered %v", a)
	}
}
