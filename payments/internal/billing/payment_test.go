package billing_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
)

func TestAManualPaymentIsConfirmedAndRefunded(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("100.00")
	o := paymentstest.Order(account, "70.00")
	o.Capture = contract.CaptureManual
	b.Expect(b.Step(o, "confirm", ""), 404, "code", "payment_not_found")
	b.Place(o, "authorized")
	b.Expect(b.Call("GET", "/api/v1/payments/"+o.OrderID.String()+"?wait=5s", nil), 200, "status", "authorized",
		"capture", "manual", "version", 1)
	if got := b.Balances(account); got != "30.00 70.00" {
		t.Errorf("held: %s", got)
	}
	hold := "/api/v1/holds/" + o.OrderID.String()
	b.Expect(b.Call("GET", hold, nil), 200, "status", "open", "order_id", o.OrderID, "amount", "70.00")
	b.Expect(b.Call("POST", hold+"/capture", nil), 422, "code", "hold_of_order")
	b.Expect(b.Call("POST", hold+"/release", nil), 422, "code", "hold_of_order")

	b.Expect(b.Step(o, "refund", ""), 422, "code", "payment_not_captured")
	b.Expect(b.Step(o, "confirm", `{"amount": "70.001"}`), 400, "code", "validation_failed")
	b.Expect(b.Step(o, "confirm", `{"amount": "70.01"}`), 422, "code", "amount_exceeds_hold")
	b.Expect(b.Step(o, "confirm", `{"much": 1}`), 400, "code", "unknown_field")
	confirmed := b.Step(o, "confirm", `{"amount": 50}`, "Idempotency-Key", "once")
	b.Expect(confirmed, 200, "status", "succeeded", "captured_amount", "50.00", "version", 2)
	if confirmed.Header.Get("Idempotent-Replayed") != "" {
		t.Error("the first one is no repetition")
	}
	again := b.Step(o, "confirm", `{"amount": "50.00"}`, "Idempotency-Key", "once")
	b.Expect(again, 200, "status", "succeeded", "version", 2)
	if again.Header.Get("Idempotent-Replayed") != "true" {
		t.Error("the second one is a repetition")
	}
	shouted := b.Call("POST", "/api/v1/payments/"+strings.ToUpper(o.OrderID.String())+"/confirm", `{"amount": "50.00"}`,
		"Idempotency-Key", "once")
	b.Expect(shouted, 200, "status", "succeeded", "version", 2)
	b.Expect(b.Step(o, "confirm", `{"amount": "49.00"}`, "Idempotency-Key", "once"), 422, "code", "idempotency_key_reused")
	b.Expect(b.Step(o, "confirm", ""), 422, "code", "payment_not_authorized")
	b.Expect(b.Step(o, "reject", ""), 422, "code", "payment_not_authorized")
	if got := b.Balances(account); got != "50.00 0.00" {
		t.Errorf("captured: %s", got)
	}

	b.Expect(b.Step(o, "refund", `{"amount": "20.00", "reason": "one was broken"}`), 200, "status", "refunded",
		"refunded_amount", "20.00",
		"captured_amount", "50.00", "note", "one was broken")
	b.Expect(b.Step(o, "refund", `{"amount": "30.01"}`), 422, "code", "amount_exceeds_captured")
	b.Expect(b.Step(o, "refund", "", "Idempotency-Key", "rest"), 200, "status", "refunded", "refunded_amount", "50.00")
	b.Expect(b.Step(o, "refund", ""), 422, "code", "amount_exceeds_captured")
	failed := b.Step(o, "refund", "", "Idempotency-Key", "too late")
	b.Expect(failed, 422, "code", "amount_exceeds_captured")
	if failed = b.Step(o, "refund", "", "Idempotency-Key", "too late"); failed.Status != 422 ||
		failed.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("a refusal repeated: %v", failed)
	}
	if got := b.Balances(account); got != "100.00 0.00" {
		t.Errorf("refunded: %s", got)
	}
	want := []string{"1 authorized  0.00-0.00", "2 succeeded  50.00-0.00", "3 refunded  50.00-20.00",
		"4 refunded  50.00-50.00"}
	if got := b.Story(o, len(want)); !slices.Equal(got, want) {
		t.Errorf("the events tell %q", got)
	}
	var kinds []string
	for _, op := range b.Call("GET", fmt.Sprintf("/api/v1/accounts/%s/operations", account), nil).Body["items"].([]any) {
		if op := op.(map[string]any); op["status"] == "success" {
			kinds = append(kinds, op["operation"].(string))
		}
	}
	if want := []string{"refund", "refund", "capture", "payment", "deposit",
		"create_account"}; !slices.Equal(kinds, want) {
		t.Errorf("operations %v", kinds)
	}
}

func TestARejectedAndAnExpiredPaymentGiveTheMoneyBack(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("100.00")
	rejected, expired := paymentstest.Order(account, "70.00"), paymentstest.Order(account, "60.00")
	rejected.Capture, expired.Capture = contract.CaptureManual, contract.CaptureManual
	b.Place(rejected, "authorized")
	b.Expect(b.Step(rejected, "reject", `{"reason": "`+strings.Repeat("x", 201)+`"}`), 400, "code", "validation_failed")
	b.Expect(b.Step(rejected, "reject", `{"reason": "out of fashion"}`), 200, "status", "failed", "reason",
		"rejected", "version", 2)
	soon := time.Now().Add(300 * time.Millisecond).UTC()
	expired.ExpiresAt = (*contract.Time)(&soon)
	b.Place(expired, "failed")
	b.Expect(b.Step(expired, "confirm", ""), 422, "code", "payment_not_authorized")
	if got := b.Balances(account); got != "100.00 0.00" {
		t.Errorf("in the end: %s", got)
	}
	if got := b.Story(expired, 2); got[1] != "2 failed expired 0.00-0.00" {
		t.Errorf("the events tell %q", got)
	}
	b.Expect(b.Call("GET", "/api/v1/holds/"+expired.OrderID.String(), nil), 200, "status", "expired")
	b.Expect(b.Call("GET", "/api/v1/payments/"+rejected.OrderID.String(), nil), 200, "reason", "rejected",
		"note", "out of fashion")
	var note string
	if err := b.Owner.Get(&note, `SELECT note FROM operations WHERE order_id = $1 AND operation = 'release'`,
		rejected.OrderID); err != nil || note != "out of fashion" {
		t.Errorf("%v: the note is %q", err, note)
	}
}

func TestCancellations(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("100.00")
	paid, held, overtaken, refused := paymentstest.Order(account, "10.00"), paymentstest.Order(account, "20.00"),
		paymentstest.Order(account, "30.00"), paymentstest.Order(account, "500.00")
	waiting := paymentstest.Order(account, "40.00")
	held.Capture, waiting.AwaitInventory = contract.CaptureManual, true
	b.Place(paid, "succeeded")
	b.Place(held, "authorized")
	b.Place(waiting, "created")
	b.Place(refused, "failed")
	b.Expect(b.Step(paid, "refund", `{"amount": 4}`), 200)
	for _, o := range []contract.Order{paid, held, waiting, overtaken, refused} {
		b.Produce(paymentstest.Cancelled(o, "changed my mind"), paymentstest.Cancelled(o, "changed my mind"))
	}
	for _, o := range []contract.Order{paid, held, waiting, overtaken} {
		b.Until(1, `SELECT count(*) FROM payments WHERE order_id = $1 AND status = 'cancelled'
			AND reason = 'cancelled' AND note = 'changed my mind'`, o.OrderID)
	}
	b.Place(overtaken, "cancelled")
	b.Until(0, `SELECT count(*) FROM inbox`)
	if got := b.Balances(account); got != "100.00 0.00" {
		t.Errorf("in the end: %s", got)
	}
	b.Expect(b.Call("GET", "/api/v1/payments/"+paid.OrderID.String(), nil), 200, "captured_amount", "10.00",
		"refunded_amount", "10.00", "status", "cancelled")
	b.Expect(b.Call("GET", "/api/v1/payments/"+refused.OrderID.String(), nil), 200, "status", "failed", "version", 1)
	b.Expect(b.Call("GET", "/api/v1/operations/"+overtaken.OrderID.String(), nil), 200, "status", "error", "reason",
		"cancelled", "operation", "payment")
	b.Expect(b.Call("GET", "/api/v1/operations/"+waiting.OrderID.String(), nil), 200, "status",
		"error", "reason", "cancelled")
	if got, want := b.Story(waiting, 2), []string{"1 created waiting_for_inventory 0.00-0.00",
		"2 cancelled cancelled 0.00-0.00"}; !slices.Equal(got, want) {
		t.Errorf("the events tell %q", got)
	}
	b.Until(0, `SELECT count(*) FROM waits`)
}

func TestWhatWaitsForMoneyIsServedInOrder(t *testing.T) {
	b := setup(t, "all")
	account, rich := b.Account("10.00"), b.Account("1000.00")
	path := fmt.Sprintf("/api/v1/accounts/%s/", account)
	first := paymentstest.Order(account, "50.00")
	first.OnInsufficient = contract.OnInsufficientWait
	b.Place(first, "created")
	b.Expect(b.Call("GET", "/api/v1/payments/"+first.OrderID.String(), nil), 200, "reason", "waiting_for_funds")

	begin := time.Now()
	behind := b.Call("POST", path+"withdrawals", `{"amount": "5.00", "currency": "RUB"}`, "Idempotency-Key", "behind")
	b.Expect(behind, http.StatusAccepted, "status", "created", "reason", "waiting_for_funds")
	if behind.Header.Get("Location") != "/api/v1/operations/"+behind.Body["id"].(string) ||
		time.Since(begin) > 4*time.Second {
		t.Errorf("after %s: %v", time.Since(begin), behind.Header)
	}
	b.Expect(b.Call("POST", path+"withdrawals", `{"amount": "5.00", "currency": "RUB"}`, "Idempotency-Key", "behind"),
		http.StatusAccepted, "id", behind.Body["id"])
	b.Expect(b.Call("POST", path+"withdrawals", `{"amount": "6.00", "currency": "RUB"}`, "Idempotency-Key", "behind"),
		422, "code", "idempotency_key_reused")
	begin = time.Now()
	b.Expect(b.Call("POST", path+"withdrawals?wait=10s", `{"amount": "6.00", "currency": "RUB"}`,
		"Idempotency-Key", "behind"), 422, "code", "idempotency_key_reused")
	if time.Since(begin) > 8*time.Second {
		t.Error("another request under the key waits for the money of the first one")
	}
	held := b.Call("POST", path+"holds", `{"amount": "3.00", "currency": "RUB"}`)
	b.Expect(held, http.StatusAccepted, "reason", "waiting_for_funds")
	b.Expect(b.Call("POST", "/api/v1/holds/"+held.Body["id"].(string)+"/capture", nil), 404, "code", "hold_not_found")
	command := uuid.New()
	b.Produce(kafka.Message{Topic: contract.TopicCommands, Key: []byte(account.String()), Value: []byte(fmt.Sprintf(
		`{"command_id": %q, "operation": "withdraw", "account_id": %q, "amount": "100.00", "currency": "RUB",
			"on_insufficient": "wait", "expires_in": "1h"}`, command, account))})
	b.Until(4, `SELECT count(*) FROM waits`)
	b.Until(4, `SELECT waiting FROM balances WHERE account_id = $1`, account)
	// Another currency is another queue, and what gives money passes.
	b.Post(path+"deposits", `{"amount": "1.00", "currency": "USDT"}`)
	b.Post(path+"withdrawals", `{"amount": "1.00", "currency": "USDT"}`)
	b.Post(path+"deposits", `{"amount": "39.99", "currency": "RUB"}`)
	b.Until(4, `SELECT count(*) FROM waits`)

	waited := make(chan paymentstest.Answer, 1)
	go func() { waited <- b.Call("GET", "/api/v1/operations/"+behind.Body["id"].(string)+"?wait=20s", nil) }()
	b.Post("/api/v1/transfers", map[string]any{"from_account_id": rich, "to_account_id": account,
		"amount": "20.00", "currency": "RUB"})
	b.Expect(<-waited, 200, "status", "success")
	b.Until(1, `SELECT count(*) FROM waits`)
	if got := b.Balances(account); got != "11.99 3.00" {
		t.Errorf("%s is left", got)
	}
	b.Post(path+"deposits", `{"amount": "100.00", "currency": "RUB"}`)
	b.Until(0, `SELECT count(*) FROM waits`)
	var reply contract.Reply
	for _, m := range b.Consume(contract.TopicReplies, func(messages []kafka.Message) bool { return len(messages) > 0 }) {
		if err := json.Unmarshal(m.Value, &reply); err != nil || reply.CommandID == nil ||
			*reply.CommandID != command || reply.Code != 201 {
			t.Errorf("%v: reply %s", err, m.Value)
		}
	}
	if got, want := b.Story(first, 2), []string{"1 created waiting_for_funds 0.00-0.00",
		"2 succeeded  50.00-0.00"}; !slices.Equal(got, want) {
		t.Errorf("the events tell %q", got)
	}
	if got := b.Balances(account); got != "11.99 3.00" {
		t.Errorf("in the end: %s", got)
	}
}

func TestWhatWaitsForMoneyExpires(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("10.00")
	path := fmt.Sprintf("/api/v1/accounts/%s/", account)
	b.Expect(b.Call("POST", path+"withdrawals", `{"amount": "50.00", "currency": "RUB", "on_insufficient": "perhaps"}`),
		400, "code", "validation_failed")
	b.Expect(b.Call("POST", path+"withdrawals",
		`{"amount": "50.00", "currency": "RUB", "on_insufficient": "wait", "expires_in": "1s"}`), http.StatusAccepted)
	behind := b.Call("POST", path+"withdrawals?wait=20s", `{"amount": "4.00", "currency": "RUB"}`)
	b.Expect(behind, http.StatusCreated, "status", "success")
	b.Until(1, `SELECT count(*) FROM operations WHERE status = 'error' AND reason = 'expired'`)
	if got := b.Balances(account); got != "6.00 0.00" {
		t.Errorf("in the end: %s", got)
	}
}
