package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/inbox"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// quick parks a message within a second.
var quick = newProgram(Config{HealAfter: time.Minute},
	inbox.Retry{Attempts: 3, First: 10 * time.Millisecond, Longest: 10 * time.Millisecond})

// poison makes the database refuse that an operation succeeds, until the function it returns is called.
func (b *bundle) poison(operation uuid.UUID) (mend func()) {
	b.Helper()
	name := "poison_" + strings.ReplaceAll(operation.String(), "-", "")
	exec := func(statement string) {
		b.Helper()
		if _, err := b.Owner.Exec(statement); err != nil {
			b.Fatal(err)
		}
	}
	exec(fmt.Sprintf(`
		CREATE FUNCTION %[1]s() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'this is poison'; END $$;
		CREATE TRIGGER %[1]s BEFORE INSERT OR UPDATE ON operations FOR EACH ROW
		WHEN (new.id = '%[2]s' AND new.Status = 'success') EXECUTE FUNCTION %[1]s()`, name, operation))
	return func() { exec(`DROP TRIGGER ` + name + ` ON operations`) }
}

// parked waits until n messages are parked and returns them.
func (b *bundle) parked(n int) (list []map[string]any) {
	b.Helper()
	var items []any
	wait.NoError(b, func() error {
		got := b.Call("GET", "/admin/parked", nil)
		if items = got.Body["items"].([]any); len(items) != n {
			return fmt.Errorf("parked are %v, want %d", got.Body, n)
		}
		return nil
	})
	for _, item := range items {
		list = append(list, item.(map[string]any))
	}
	return list
}

// clients are accounts with money and the orders that they place. Each order has an amount of its own.
type clients struct {
	*bundle
	accounts []uuid.UUID
	orders   [][]contract.Order // by account
}

func (b *bundle) clients(n int) *clients {
	b.Helper()
	c := &clients{bundle: b, accounts: make([]uuid.UUID, n), orders: make([][]contract.Order, n)}
	for i := range c.accounts {
		c.accounts[i] = b.Account("1000.00")
	}
	return c
}

// place publishes n orders of each client, one after another.
func (c *clients) place(n int, first func(client, number int, o contract.Order)) {
	c.Helper()
	var records []kafka.Message
	for range n {
		for i, account := range c.accounts {
			number := len(c.orders[i])
			o := paymentstest.Order(account, fmt.Sprintf("1.%02d", number))
			first(i, number, o)
			c.orders[i] = append(c.orders[i], o)
			records = append(records, paymentstest.Placed(o))
		}
	}
	for part := range slices.Chunk(records, 50) {
		c.Produce(part...)
	}
}

// paid expects the orders of a client with these numbers, and no others, to have been paid in this order.
func (c *clients) paid(client int, numbers ...int) {
	c.Helper()
	var want, got []string
	for _, n := range numbers {
		want = append(want, c.orders[client][n].OrderID.String())
	}
	if err := c.Owner.Select(&got,
		`SELECT operation_id FROM entries WHERE account_id = $1 AND operation = 'payment' ORDER BY number`,
		c.accounts[client]); err != nil {
		c.Fatal(err)
	}
	if !slices.Equal(got, want) {
		c.Errorf("client %d: paid %v, want %v", client, got, want)
	}
}

func numbers(from, to int) (list []int) {
	for n := from; n < to; n++ {
		list = append(list, n)
	}
	return list
}

// Of a hundred clients under load one has a message that cannot be processed: it is parked, that client waits, and
// the others notice nothing. Redriven once the cause is mended, it takes its place, and what was behind it follows in
// order.
func TestOneClientsPoisonIsNobodyElses(t *testing.T) {
	b := setupProgram(t, quick, "all", "worker")
	const n, each, victim, bad = 100, 10, 42, 3
	c := b.clients(n)
	mend := func() {}
	c.place(each, func(client, number int, o contract.Order) {
		if client == victim && number == bad {
			mend = b.poison(o.OrderID)
		}
	})
	b.Until((n-1)*each+bad, `SELECT count(*) FROM payments`)
	items := b.parked(1)
	stuck := c.orders[victim][bad]
	if item := items[0]; item["id"] != stuck.OrderID.String() || item["source"] != "inbox" || item["kind"] != "payment" ||
		item["account_id"] != stuck.AccountID.String() || item["attempts"] != 3.0 ||
		!strings.Contains(item["reason"].(string), "this is poison") {
		t.Errorf("parked %v", item)
	}
	// While it is parked, the load goes on; what comes for its client waits behind it, whichever way it comes.
	c.place(each, func(int, int, contract.Order) {})
	deposit := b.Call("POST", fmt.Sprintf("/api/v1/accounts/%s/deposits?wait=0s", stuck.AccountID),
		`{"amount": "5.00", "currency": "RUB"}`)
	if deposit.Status != 202 {
		t.Errorf("a deposit of that client: %v", deposit)
	}
	b.Until((n-1)*2*each+bad, `SELECT count(*) FROM payments`)
	for client := range c.accounts {
		if client != victim {
			c.paid(client, numbers(0, 2*each)...)
		}
	}
	b.Until(2*each-bad+1, `SELECT count(*) FROM inbox`)
	if got := b.Balance(stuck.AccountID); got != "996.97" {
		t.Errorf("that client has %s", got)
	}

	// Redriven too early it is parked again.
	path := "/admin/parked/" + stuck.OrderID.String()
	if got := b.Call("POST", path+"/redrive", nil); got.Status != 202 || got.Body["id"] != stuck.OrderID.String() {
		t.Errorf("redrive: %v", got)
	}
	b.Until(1, `SELECT count(*) FROM inbox_stops WHERE message_id = $1 AND retry_at IS NULL AND NOT probing
		AND stopped_at > $2::timestamptz`,
		stuck.OrderID, items[0]["parked_at"])
	mend()
	if got := b.Call("POST", path+"/redrive", nil); got.Status != 202 {
		t.Errorf("redrive: %v", got)
	}
	b.Until(0, `SELECT (SELECT count(*) FROM inbox) + (SELECT count(*) FROM inbox_stops)`)
	c.paid(victim, numbers(0, 2*each)...)
	if got := b.Call("GET", deposit.Header.Get("Location")+"?wait=30s", nil); got.Body["status"] != "success" {
		t.Errorf("the deposit %v", got)
	}
	b.parked(0)
	if got := b.Call("POST", path+"/redrive", nil); got.Status != 404 || got.Body["code"] != "parked_not_found" {
		t.Errorf("once more: %v", got)
	}
	b.Until(0, `SELECT count(*) FROM (
		SELECT FROM entries GROUP BY operation_id, currency HAVING sum(amount + frozen) <> 0) x`)
}

// What will never succeed is discarded: it ends with an error and its event, and its client's queue goes on.
func TestWhatIsDiscardedEndsWithItsEvent(t *testing.T) {
	b := setupProgram(t, quick, "api", "worker")
	const each, bad = 5, 2
	c := b.clients(3)
	c.place(each, func(client, number int, o contract.Order) {
		if client == 1 && number == bad {
			b.poison(o.OrderID)
		}
	})
	// A client's withdrawal over HTTP and a deposit over the broker are poisonous too.
	path := fmt.Sprintf("/api/v1/accounts/%s/withdrawals", c.accounts[2])
	const key = "my-withdrawal"
	withdrawal := contract.DerivedID(path, c.accounts[2], key)
	b.poison(withdrawal)
	body := `{"amount": "5.00", "currency": "RUB"}`
	if got := b.Call("POST", path+"?wait=0s", body, "Idempotency-Key", key); got.Status != 202 ||
		got.Body["id"] != withdrawal.String() {
		t.Fatalf("withdrawal %v", got)
	}
	command := uuid.New()
	deposit := contract.DerivedID(contract.TopicCommands, c.accounts[0], command.String())
	b.poison(deposit)
	b.Produce(kafka.Message{Topic: contract.TopicCommands, Key: []byte(c.accounts[0].String()), Value: fmt.Appendf(nil,
		`{"command_id": "%s", "operation": "deposit", "account_id": "%s", "amount": "1.00", "currency": "RUB"}`,
		command, c.accounts[0])})

	stuck := c.orders[1][bad]
	kinds := map[string]string{}
	for _, item := range b.parked(3) {
		kinds[item["id"].(string)] = item["kind"].(string)
		discard := "/admin/parked/" + item["id"].(string) + "/discard"
		if got := b.Call("POST", discard, `{}`); got.Status != 400 ||
			!strings.Contains(fmt.Sprint(got.Body["errors"]), "reason") {
			t.Errorf("without a reason: %v", got)
		}
		if got := b.Call("POST", discard, `{"reason": "agreed with the client"}`); got.Status != 202 ||
			got.Body["id"] != item["id"] {
			t.Errorf("discard: %v", got)
		}
	}
	if want := map[string]string{stuck.OrderID.String(): "payment", withdrawal.String(): "withdraw",
		deposit.String(): "deposit"}; fmt.Sprint(kinds) != fmt.Sprint(want) {
		t.Errorf("parked %v, want %v", kinds, want)
	}
	b.Until(0, `SELECT (SELECT count(*) FROM inbox) + (SELECT count(*) FROM inbox_stops)`)
	c.paid(0, numbers(0, each)...)
	c.paid(1, 0, 1, 3, 4)
	c.paid(2, numbers(0, each)...)
	if state := b.states(3 * each)[stuck.OrderID]; state.Status != contract.PaymentFailed ||
		state.Reason != "discarded" || state.CapturedAmount != "0.00" || state.Version != 1 {
		t.Errorf("its payment %+v", state)
	}
	for id, operation := range map[uuid.UUID]string{stuck.OrderID: "payment", withdrawal: "withdraw", deposit: "deposit"} {
		if got := b.Call("GET", "/api/v1/operations/"+id.String(), nil); got.Status != 200 || got.Body["status"] != "error" ||
			got.Body["reason"] != "discarded" || got.Body["operation"] != operation {
			t.Errorf("the %s %v", operation, got)
		}
	}
	if got := b.Call("POST", path, body, "Idempotency-Key", key); got.Status != 422 || got.Body["code"] != "discarded" ||
		got.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("the withdrawal repeated: %v", got)
	}
	if reply := b.Replies(1, contract.TopicReplies)[0]; reply.Reason != "discarded" || reply.Code != 422 ||
		*reply.CommandID != command {
		t.Errorf("the deposit's reply %+v", reply)
	}
	b.Until(0, `SELECT count(*) FROM (
		SELECT FROM entries GROUP BY operation_id, currency HAVING sum(amount + frozen) <> 0) x`)
}

// What no client has asked for must take effect: here the cancellation of an order.
func TestACancellationIsNotDiscarded(t *testing.T) {
	b := setupProgram(t, quick, "all")
	o := paymentstest.Order(b.Account("10.00"), "4.00")
	b.Place(o, contract.PaymentSucceeded)
	if _, err := b.Owner.Exec(`
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'this is poison'; END $$;
		CREATE TRIGGER refuse BEFORE UPDATE ON payments FOR EACH ROW EXECUTE FUNCTION refuse()`); err != nil {
		t.Fatal(err)
	}
	b.Produce(paymentstest.Cancelled(o, "changed my mind"))
	item := b.parked(1)[0]
	path := fmt.Sprint("/admin/parked/", item["id"])
	if got := b.Call("POST", path+"/discard", `{"reason": "why not"}`); got.Status != 422 ||
		got.Body["code"] != "not_discardable" || item["kind"] != "cancel" {
		t.Errorf("%v: %v", item, got)
	}
	if _, err := b.Owner.Exec(`DROP TRIGGER refuse ON payments`); err != nil {
		t.Fatal(err)
	}
	if got := b.Call("POST", path+"/redrive", nil); got.Status != 202 {
		t.Errorf("redrive: %v", got)
	}
	b.Until(1, `SELECT count(*) FROM payments WHERE order_id = $1 AND status = 'cancelled'`, o.OrderID)
	if got := b.Balance(o.AccountID); got != "10.00" {
		t.Errorf("the balance is %s", got)
	}
}

// An order that an earlier version could not read is paid once its dead letter is put back.
func TestDeadLettersArePutBack(t *testing.T) {
	b := setup(t)
	b.URL, _ = b.Start("all")
	account := b.Account("10.00")
	early, good := paymentstest.Order(account, "2.00"), paymentstest.Order(account, "1.00")
	if err := b.producer.DeadLetters(t.Context(), []kafka.Message{paymentstest.Placed(early)},
		[]error{errors.New("cannot be read yet")}, nil); err != nil {
		t.Fatal(err)
	}
	b.Produce(paymentstest.Placed(good))
	b.Until(1, `SELECT count(*) FROM payments WHERE order_id = $1`, good.OrderID)
	line := service.New(name, about, program)
	line.Env = b.environment()
	for _, command := range []string{"put-back", "dead-letters", "put-back"} {
		if code := line.Run(t.Context(), []string{command}); code != 0 {
			t.Fatalf("%s: exit code %d", command, code)
		}
	}
	if state := b.states(2)[early.OrderID]; state.Status != contract.PaymentSucceeded || state.CapturedAmount != "2.00" {
		t.Errorf("the early order's payment %+v", state)
	}
	if got := b.Consume(contract.TopicOrders, func(m []kafka.Message) bool { return len(m) >= 2 }); len(got) != 2 {
		t.Errorf("%d messages on the topic, want the good one and the one put back", len(got))
	}
}

// What stands still behind something that is parked is created, and so is its cancellation, which has its place
// behind it: it finds what has become of the operation by then.
func TestACancellationBehindWhatIsParked(t *testing.T) {
	b := setupProgram(t, quick, "all")
	account := b.Account("10.00")
	path := fmt.Sprintf("/api/v1/accounts/%s/withdrawals", account)
	key := uuid.NewString()
	mend := b.poison(contract.DerivedID(path, account, key))
	b.Call("POST", path+"?wait=0s", `{"amount": "4.00", "currency": "RUB"}`, "Idempotency-Key", key)
	head := b.parked(1)[0]
	behind := b.Call("POST", path+"?wait=0s", `{"amount": "50.00", "currency": "RUB", "on_insufficient": "wait"}`)
	b.Expect(behind, 202, "status", "created")
	target := "/api/v1/operations/" + behind.Body["id"].(string)
	pending := b.Call("POST", target+"/cancel?wait=0s", nil, "Idempotency-Key", "enough")
	b.Expect(pending, 202, "id", behind.Body["id"], "status", "created")
	if pending.Header.Get("Location") != target {
		t.Errorf("the cancellation is looked for at %v", pending.Header)
	}
	headless := b.Call("POST", fmt.Sprintf("/api/v1/operations/%s/cancel?wait=0s", head["id"]), nil)
	b.Expect(headless, 202, "id", head["id"], "status", "created")
	mend()
	b.Expect(b.Call("POST", fmt.Sprintf("/admin/parked/%s/redrive", head["id"]), nil), 202)
	b.Expect(b.Call("GET", target+"?wait=20s", nil), 200, "status", "error", "reason", "cancelled")
	b.Expect(b.Call("POST", target+"/cancel", nil, "Idempotency-Key", "enough"), 200, "reason", "cancelled")
	b.Expect(b.Call("GET", fmt.Sprintf("/api/v1/operations/%s", head["id"]), nil), 200, "status", "success")
	if got := b.Balance(account); got != "6.00" {
		t.Errorf("%s is left", got)
	}
}
