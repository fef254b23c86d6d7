package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// cancelled makes the event of an order's cancellation.
func cancelled(o contract.Order, reason string) kafka.Message {
	payload, err := json.Marshal(contract.Cancellation{Order: o, Reason: reason, CancelledAt: contract.Time(time.Now())})
	if err != nil {
		panic(err)
	}
	event := kafka.Event{ID: uuid.NewString(), Type: contract.OrderCancelledType, Source: "/orders", Subject: o.OrderID.String()}
	return kafka.Message{Topic: contract.TopicOrders, Key: []byte(o.AccountID.String()), Value: payload, Headers: event.Headers()}
}

// place publishes an order, twice, and waits until its payment has the status.
func (b *bundle) place(o contract.Order, status string) {
	b.Helper()
	b.produce(record(o), record(o))
	b.until(1, `SELECT count(*) FROM payments WHERE order_id = $1 AND status = $2`, o.OrderID, status)
}

// step asks for a step of an order's payment.
func (b *bundle) step(o contract.Order, step, body string, headers ...string) answer {
	b.Helper()
	return b.call("POST", fmt.Sprintf("/api/v1/payments/%s/%s", o.OrderID, step), body, headers...)
}

// story is what the events tell of an order's payment.
func (b *bundle) story(o contract.Order, steps int) (story []string) {
	b.Helper()
	for _, m := range b.events(o, steps) {
		var p contract.Payment
		if err := json.Unmarshal(m.Value, &p); err != nil {
			b.Fatal(err)
		}
		if got := m.Header("ce_id"); got != contract.EventID(m.Header("ce_type"), p.OrderID, p.Version).String() {
			b.Errorf("event %s of version %d", got, p.Version)
		}
		story = append(story, fmt.Sprintf("%d %s %s %s-%s", p.Version, strings.TrimPrefix(m.Header("ce_type"), "payment."), p.Reason, p.CapturedAmount, p.RefundedAmount))
	}
	return story
}

func (b *bundle) events(o contract.Order, n int) (events []kafka.Message) {
	b.Helper()
	b.consume(contract.TopicPayments, func(messages []kafka.Message) bool {
		events = nil
		for _, m := range messages {
			if m.Header("ce_subject") == o.OrderID.String() {
				events = append(events, m)
			}
		}
		return len(events) >= n
	})
	return events
}

func (b *bundle) balances(account uuid.UUID) string {
	b.Helper()
	body := b.call("GET", fmt.Sprintf("/api/v1/accounts/%s/balance", account), nil).body
	return fmt.Sprint(body["actual_balance"].(map[string]any)["RUB"], " ", body["frozen_balance"].(map[string]any)["RUB"])
}

func (b *bundle) expect(got answer, status int, fields ...any) {
	b.Helper()
	for i := 0; i < len(fields); i += 2 {
		if fmt.Sprint(got.body[fields[i].(string)]) != fmt.Sprint(fields[i+1]) {
			b.Errorf("%s is %v, want %v", fields[i], got.body[fields[i].(string)], fields[i+1])
		}
	}
	if got.status != status || b.Failed() {
		b.Fatalf("%d %v, want %d", got.status, got.body, status)
	}
}

func TestAManualPaymentIsConfirmedAndRefunded(t *testing.T) {
	b := setup(t, "all")
	account := b.account("100.00")
	o := order(account, "70.00")
	o.Capture = contract.CaptureManual
	b.expect(b.step(o, "confirm", ""), 404, "code", "payment_not_found")
	b.place(o, "authorized")
	b.expect(b.call("GET", "/api/v1/payments/"+o.OrderID.String()+"?wait=5s", nil), 200, "status", "authorized", "capture", "manual", "version", 1)
	if got := b.balances(account); got != "30.00 70.00" {
		t.Errorf("held: %s", got)
	}
	hold := "/api/v1/holds/" + o.OrderID.String()
	b.expect(b.call("GET", hold, nil), 200, "status", "open", "order_id", o.OrderID, "amount", "70.00")
	b.expect(b.call("POST", hold+"/capture", nil), 422, "code", "hold_of_order")
	b.expect(b.call("POST", hold+"/release", nil), 422, "code", "hold_of_order")

	b.expect(b.step(o, "refund", ""), 422, "code", "payment_not_captured")
	b.expect(b.step(o, "confirm", `{"amount": "70.001"}`), 400, "code", "validation_failed")
	b.expect(b.step(o, "confirm", `{"amount": "70.01"}`), 422, "code", "amount_exceeds_hold")
	b.expect(b.step(o, "confirm", `{"much": 1}`), 400, "code", "unknown_field")
	confirmed := b.step(o, "confirm", `{"amount": 50}`, "Idempotency-Key", "once")
	b.expect(confirmed, 200, "status", "succeeded", "captured_amount", "50.00", "version", 2)
	if confirmed.header.Get("Idempotent-Replayed") != "" {
		t.Error("the first one is no repetition")
	}
	again := b.step(o, "confirm", `{"amount": "50.00"}`, "Idempotency-Key", "once")
	b.expect(again, 200, "status", "succeeded", "version", 2)
	if again.header.Get("Idempotent-Replayed") != "true" {
		t.Error("the second one is a repetition")
	}
	shouted := b.call("POST", "/api/v1/payments/"+strings.ToUpper(o.OrderID.String())+"/confirm", `{"amount": "50.00"}`, "Idempotency-Key", "once")
	b.expect(shouted, 200, "status", "succeeded", "version", 2)
	b.expect(b.step(o, "confirm", `{"amount": "49.00"}`, "Idempotency-Key", "once"), 422, "code", "idempotency_key_reused")
	b.expect(b.step(o, "confirm", ""), 422, "code", "payment_not_authorized")
	b.expect(b.step(o, "reject", ""), 422, "code", "payment_not_authorized")
	if got := b.balances(account); got != "50.00 0.00" {
		t.Errorf("captured: %s", got)
	}

	b.expect(b.step(o, "refund", `{"amount": "20.00", "reason": "one was broken"}`), 200, "status", "refunded", "refunded_amount", "20.00",
		"captured_amount", "50.00", "note", "one was broken")
	b.expect(b.step(o, "refund", `{"amount": "30.01"}`), 422, "code", "amount_exceeds_captured")
	b.expect(b.step(o, "refund", "", "Idempotency-Key", "rest"), 200, "status", "refunded", "refunded_amount", "50.00")
	b.expect(b.step(o, "refund", ""), 422, "code", "amount_exceeds_captured")
	failed := b.step(o, "refund", "", "Idempotency-Key", "too late")
	b.expect(failed, 422, "code", "amount_exceeds_captured")
	if failed = b.step(o, "refund", "", "Idempotency-Key", "too late"); failed.status != 422 || failed.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("a refusal repeated: %v", failed)
	}
	if got := b.balances(account); got != "100.00 0.00" {
		t.Errorf("refunded: %s", got)
	}
	want := []string{"1 authorized  0.00-0.00", "2 succeeded  50.00-0.00", "3 refunded  50.00-20.00", "4 refunded  50.00-50.00"}
	if got := b.story(o, len(want)); !slices.Equal(got, want) {
		t.Errorf("the events tell %q", got)
	}
	var kinds []string
	for _, op := range b.call("GET", fmt.Sprintf("/api/v1/accounts/%s/operations", account), nil).body["items"].([]any) {
		if op := op.(map[string]any); op["status"] == "success" {
			kinds = append(kinds, op["operation"].(string))
		}
	}
	if want := []string{"refund", "refund", "capture", "payment", "deposit", "create_account"}; !slices.Equal(kinds, want) {
		t.Errorf("operations %v", kinds)
	}
}

func TestARejectedAndAnExpiredPaymentGiveTheMoneyBack(t *testing.T) {
	b := setup(t, "all")
	account := b.account("100.00")
	rejected, expired := order(account, "70.00"), order(account, "60.00")
	rejected.Capture, expired.Capture = contract.CaptureManual, contract.CaptureManual
	b.place(rejected, "authorized")
	b.expect(b.step(rejected, "reject", `{"reason": "`+strings.Repeat("x", 201)+`"}`), 400, "code", "validation_failed")
	b.expect(b.step(rejected, "reject", `{"reason": "out of fashion"}`), 200, "status", "failed", "reason", "rejected", "version", 2)
	soon := time.Now().Add(300 * time.Millisecond).UTC()
	expired.ExpiresAt = (*contract.Time)(&soon)
	b.place(expired, "failed")
	b.expect(b.step(expired, "confirm", ""), 422, "code", "payment_not_authorized")
	if got := b.balances(account); got != "100.00 0.00" {
		t.Errorf("in the end: %s", got)
	}
	if got := b.story(expired, 2); got[1] != "2 failed expired 0.00-0.00" {
		t.Errorf("the events tell %q", got)
	}
	b.expect(b.call("GET", "/api/v1/holds/"+expired.OrderID.String(), nil), 200, "status", "expired")
	b.expect(b.call("GET", "/api/v1/payments/"+rejected.OrderID.String(), nil), 200, "reason", "rejected", "note", "out of fashion")
	var note string
	if err := b.Owner.Get(&note, `SELECT note FROM operations WHERE order_id = $1 AND operation = 'release'`, rejected.OrderID); err != nil || note != "out of fashion" {
		t.Errorf("%v: the note is %q", err, note)
	}
}

func TestCancellations(t *testing.T) {
	b := setup(t, "all")
	account := b.account("100.00")
	paid, held, overtaken, refused := order(account, "10.00"), order(account, "20.00"), order(account, "30.00"), order(account, "500.00")
	waiting := order(account, "40.00")
	held.Capture, waiting.AwaitInventory = contract.CaptureManual, true
	b.place(paid, "succeeded")
	b.place(held, "authorized")
	b.place(waiting, "created")
	b.place(refused, "failed")
	b.expect(b.step(paid, "refund", `{"amount": 4}`), 200)
	for _, o := range []contract.Order{paid, held, waiting, overtaken, refused} {
		b.produce(cancelled(o, "changed my mind"), cancelled(o, "changed my mind"))
	}
	for _, o := range []contract.Order{paid, held, waiting, overtaken} {
		b.until(1, `SELECT count(*) FROM payments WHERE order_id = $1 AND status = 'cancelled' AND reason = 'cancelled' AND note = 'changed my mind'`, o.OrderID)
	}
	b.place(overtaken, "cancelled")
	b.until(0, `SELECT count(*) FROM inbox`)
	if got := b.balances(account); got != "100.00 0.00" {
		t.Errorf("in the end: %s", got)
	}
	b.expect(b.call("GET", "/api/v1/payments/"+paid.OrderID.String(), nil), 200, "captured_amount", "10.00", "refunded_amount", "10.00", "status", "cancelled")
	b.expect(b.call("GET", "/api/v1/payments/"+refused.OrderID.String(), nil), 200, "status", "failed", "version", 1)
	b.expect(b.call("GET", "/api/v1/operations/"+overtaken.OrderID.String(), nil), 200, "status", "error", "reason", "cancelled", "operation", "payment")
	b.expect(b.call("GET", "/api/v1/operations/"+waiting.OrderID.String(), nil), 200, "status", "error", "reason", "cancelled")
	if got, want := b.story(waiting, 2), []string{"1 created waiting_for_inventory 0.00-0.00", "2 cancelled cancelled 0.00-0.00"}; !slices.Equal(got, want) {
		t.Errorf("the events tell %q", got)
	}
	b.until(0, `SELECT count(*) FROM waits`)
}

func TestWhatWaitsForMoneyIsServedInOrder(t *testing.T) {
	b := setup(t, "all")
	account, rich := b.account("10.00"), b.account("1000.00")
	path := fmt.Sprintf("/api/v1/accounts/%s/", account)
	first := order(account, "50.00")
	first.OnInsufficient = contract.OnInsufficientWait
	b.place(first, "created")
	b.expect(b.call("GET", "/api/v1/payments/"+first.OrderID.String(), nil), 200, "reason", "waiting_for_funds")

	begin := time.Now()
	behind := b.call("POST", path+"withdrawals", `{"amount": "5.00", "currency": "RUB"}`, "Idempotency-Key", "behind")
	b.expect(behind, http.StatusAccepted, "status", "created", "reason", "waiting_for_funds")
	if behind.header.Get("Location") != "/api/v1/operations/"+behind.body["id"].(string) || time.Since(begin) > 4*time.Second {
		t.Errorf("after %s: %v", time.Since(begin), behind.header)
	}
	b.expect(b.call("POST", path+"withdrawals", `{"amount": "5.00", "currency": "RUB"}`, "Idempotency-Key", "behind"), http.StatusAccepted, "id", behind.body["id"])
	b.expect(b.call("POST", path+"withdrawals", `{"amount": "6.00", "currency": "RUB"}`, "Idempotency-Key", "behind"), 422, "code", "idempotency_key_reused")
	begin = time.Now()
	b.expect(b.call("POST", path+"withdrawals?wait=10s", `{"amount": "6.00", "currency": "RUB"}`, "Idempotency-Key", "behind"), 422, "code", "idempotency_key_reused")
	if time.Since(begin) > 8*time.Second {
		t.Error("another request under the key waits for the money of the first one")
	}
	held := b.call("POST", path+"holds", `{"amount": "3.00", "currency": "RUB"}`)
	b.expect(held, http.StatusAccepted, "reason", "waiting_for_funds")
	b.expect(b.call("POST", "/api/v1/holds/"+held.body["id"].(string)+"/capture", nil), 404, "code", "hold_not_found")
	command := uuid.New()
	b.produce(kafka.Message{Topic: contract.TopicCommands, Key: []byte(account.String()), Value: []byte(fmt.Sprintf(
		`{"command_id": %q, "operation": "withdraw", "account_id": %q, "amount": "100.00", "currency": "RUB", "on_insufficient": "wait", "expires_in": "1h"}`, command, account))})
	b.until(4, `SELECT count(*) FROM waits`)
	b.until(4, `SELECT waiting FROM balances WHERE account_id = $1`, account)
	// Another currency is another queue, and what gives money passes.
	b.post(path+"deposits", `{"amount": "1.00", "currency": "USDT"}`)
	b.post(path+"withdrawals", `{"amount": "1.00", "currency": "USDT"}`)
	b.post(path+"deposits", `{"amount": "39.99", "currency": "RUB"}`)
	b.until(4, `SELECT count(*) FROM waits`)

	waited := make(chan answer, 1)
	go func() { waited <- b.call("GET", "/api/v1/operations/"+behind.body["id"].(string)+"?wait=20s", nil) }()
	b.post("/api/v1/transfers", map[string]any{"from_account_id": rich, "to_account_id": account, "amount": "20.00", "currency": "RUB"})
	b.expect(<-waited, 200, "status", "success")
	b.until(1, `SELECT count(*) FROM waits`)
	if got := b.balances(account); got != "11.99 3.00" {
		t.Errorf("%s is left", got)
	}
	b.post(path+"deposits", `{"amount": "100.00", "currency": "RUB"}`)
	b.until(0, `SELECT count(*) FROM waits`)
	var reply contract.Reply
	for _, m := range b.consume(contract.TopicReplies, func(messages []kafka.Message) bool { return len(messages) > 0 }) {
		if err := json.Unmarshal(m.Value, &reply); err != nil || reply.CommandID == nil || *reply.CommandID != command || reply.Code != 201 {
			t.Errorf("%v: reply %s", err, m.Value)
		}
	}
	if got, want := b.story(first, 2), []string{"1 created waiting_for_funds 0.00-0.00", "2 succeeded  50.00-0.00"}; !slices.Equal(got, want) {
		t.Errorf("the events tell %q", got)
	}
	if got := b.balances(account); got != "11.99 3.00" {
		t.Errorf("in the end: %s", got)
	}
}

func TestWhatWaitsForMoneyExpires(t *testing.T) {
	b := setup(t, "all")
	account := b.account("10.00")
	path := fmt.Sprintf("/api/v1/accounts/%s/", account)
	b.expect(b.call("POST", path+"withdrawals", `{"amount": "50.00", "currency": "RUB", "on_insufficient": "perhaps"}`), 400, "code", "validation_failed")
	b.expect(b.call("POST", path+"withdrawals", `{"amount": "50.00", "currency": "RUB", "on_insufficient": "wait", "expires_in": "1s"}`), http.StatusAccepted)
	behind := b.call("POST", path+"withdrawals?wait=20s", `{"amount": "4.00", "currency": "RUB"}`)
	b.expect(behind, http.StatusCreated, "status", "success")
	b.until(1, `SELECT count(*) FROM operations WHERE status = 'error' AND reason = 'expired'`)
	if got := b.balances(account); got != "6.00 0.00" {
		t.Errorf("in the end: %s", got)
	}
}

// The reply to a command that waits comes once, when it has ended, however often the command came; what is refused meanwhile is
// another message.
func TestACommandThatWaitsIsAnsweredOnceItHasEnded(t *testing.T) {
	b := setup(t, "all")
	account, id := b.account("10.00"), uuid.New()
	withdraw := func(amount string) kafka.Message {
		return command(account, fmt.Sprintf(`{"command_id": %q, "operation": "withdraw", "account_id": %q, "amount": %q, "currency": "RUB", "on_insufficient": "wait"}`,
			id, account, amount))
	}
	b.produce(withdraw("50.00"))
	b.until(1, `SELECT count(*) FROM waits`)
	b.produce(withdraw("50.00"), withdraw("50.00"), withdraw("51.00"))
	var messages []kafka.Message
	read := func(n int) (codes []int) {
		messages = b.consume(contract.TopicReplies, func(messages []kafka.Message) bool { return len(messages) >= n })
		for _, m := range messages {
			var reply contract.Reply
			if err := json.Unmarshal(m.Value, &reply); err != nil || *reply.CommandID != id {
				t.Fatalf("%v: %s", err, m.Value)
			}
			codes = append(codes, reply.Code)
		}
		return codes
	}
	if codes := read(1); !slices.Equal(codes, []int{422}) {
		t.Fatalf("before there is money: %v", codes)
	}
	b.post(fmt.Sprintf("/api/v1/accounts/%s/deposits", account), `{"amount": "40.00", "currency": "RUB"}`)
	if codes := read(2); !slices.Equal(codes, []int{422, 201}) {
		t.Errorf("to the first: %v", codes)
	}
	if messages[0].Header("ce_id") == messages[1].Header("ce_id") {
		t.Errorf("two replies are told apart by nothing: %v", messages[0].Headers)
	}
	final := messages[1].Header("ce_id")
	b.produce(withdraw("50.00"))
	if codes := read(3); !slices.Equal(codes, []int{422, 201, 201}) || messages[2].Header("ce_id") != final {
		t.Errorf("long after: %v", codes)
	}
}

// The state machine of a payment is written down in the code, in the schema and in docs/flows.md: they say the same.
func TestTheStatesOfAPayment(t *testing.T) {
	t.Parallel()
	statuses := []string{"", contract.PaymentCreated, contract.PaymentAuthorized, contract.PaymentSucceeded, contract.PaymentFailed,
		contract.PaymentCancelled, contract.PaymentRefunded}
	text, err := os.ReadFile(flowsPage)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "## The states of a payment")
	_, section, _ = strings.Cut(section, "stateDiagram-v2")
	diagram, _, _ := strings.Cut(section, "```")
	drawn := map[[2]string]bool{}
	for _, arrow := range regexp.MustCompile(`(?m)^\s*(\S+) --> (\S+?)(?: *:.*)?$`).FindAllStringSubmatch(diagram, -1) {
		if arrow[2] != "[*]" {
			drawn[[2]string{strings.Trim(arrow[1], "[*]"), arrow[2]}] = true
		}
	}
	db := postgrestest.Database(t, name, postgres.Migrations()...).Owner
	for _, from := range statuses {
		for _, to := range statuses[1:] {
			allowed := ledger.PaymentCanBecome(from, to)
			if drawn[[2]string{from, to}] != allowed {
				t.Errorf("from %q to %q: the code says %v, docs/flows.md does not", from, to, allowed)
			}
			_, err := db.Exec(`
				INSERT INTO payments (order_id, lane, account_id, currency, amount, capture, previous, status, captured, refunded, version, created_at, updated_at)
				VALUES (gen_random_uuid(), 0, gen_random_uuid(), 'RUB', 1, 'manual', $1, $2, 0, 0, 1, now(), now())`, from, to)
			if (err == nil) != allowed {
				t.Errorf("from %q to %q: the code says %v, the schema %v", from, to, allowed, err)
			}
		}
	}
}
