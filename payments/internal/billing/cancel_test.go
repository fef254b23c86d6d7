package billing_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// waiting asks for a withdrawal that waits for money, and returns its path.
func (b *bundle) waiting(account uuid.UUID, amount string) string {
	b.Helper()
	got := b.Call("POST", fmt.Sprintf("/api/v1/accounts/%s/withdrawals", account), map[string]any{
		"amount": amount, "currency": "RUB", "on_insufficient": "wait", "description": "rent"})
	b.Expect(got, http.StatusAccepted, "status", "created", "reason", "waiting_for_funds")
	return "/api/v1/operations/" + got.Body["id"].(string)
}

func TestAWaitingOperationIsCancelled(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("10.00")
	head := b.waiting(account, "50.00")
	path := fmt.Sprintf("/api/v1/accounts/%s/", account)
	behind := b.Call("POST", path+"withdrawals", `{"amount": "4.00", "currency": "RUB"}`)
	b.Expect(behind, http.StatusAccepted, "status", "created", "reason", "waiting_for_funds")

	b.Expect(b.Call("POST", head+"/cancel", `{"because": "x"}`), 400, "code", "unknown_field")
	b.Expect(b.Call("POST", head+"/cancel", map[string]any{"reason": fmt.Sprintf("%0201d", 0)}), 400,
		"code", "validation_failed")
	got := b.Call("POST", head+"/cancel", `{"reason": "no longer needed"}`, "Idempotency-Key", "enough")
	b.Expect(got, 200, "operation", "withdraw", "status", "error", "reason", "cancelled", "note",
		"no longer needed", "description", "rent")
	if got.Header.Get("Location") != head || got.Header.Get("Idempotent-Replayed") != "" || got.Body["settled_at"] == nil {
		t.Errorf("cancelled: %v", got)
	}
	again := b.Call("POST", head+"/cancel", `{"reason": "no longer needed"}`, "Idempotency-Key", "enough")
	b.Expect(again, 200, "id", got.Body["id"], "reason", "cancelled")
	if again.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("repeated: %v", again.Header)
	}
	b.Expect(b.Call("POST", head+"/cancel", "", "Idempotency-Key", "enough"), 422, "code", "idempotency_key_reused")
	b.Expect(b.Call("POST", head+"/cancel", nil), 422, "code", "operation_final", "operation_id", got.Body["id"])
	b.Expect(b.Call("GET", head, nil), 200, "reason", "cancelled", "note", "no longer needed")

	// What waited behind it goes on; the cancellation itself is no operation that anybody sees.
	b.Expect(b.Call("GET", "/api/v1/operations/"+behind.Body["id"].(string)+"?wait=20s", nil), 200, "status", "success")
	if b.Balance(account) != "6.00" {
		t.Errorf("%s is left", b.Balance(account))
	}
	if list := b.Call("GET", path+"operations", nil).Body["items"].([]any); len(list) != 4 {
		t.Errorf("the account's operations: %v", list)
	}
	var record uuid.UUID
	if err := b.Owner.Get(&record, `SELECT id FROM operations WHERE operation = 'cancel_operation' LIMIT 1`); err != nil {
		t.Fatal(err)
	}
	for _, id := range []uuid.UUID{record, uuid.New()} {
		b.Expect(b.Call("GET", "/api/v1/operations/"+id.String(), nil), 404, "code", "operation_not_found")
		b.Expect(b.Call("POST", "/api/v1/operations/"+id.String()+"/cancel", nil), 404, "code", "operation_not_found")
	}
	b.Until(0, `SELECT count(*) FROM waits`)
	b.Until(0, `SELECT waiting FROM balances WHERE account_id = $1`, account)
}

func TestAnOrdersPaymentIsNotCancelledAsAnOperation(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("10.00")
	o, paid := paymentstest.Order(account, "50.00"), paymentstest.Order(account, "1.00")
	o.AwaitInventory = true
	b.Place(o, "created")
	b.Place(paid, "succeeded")
	for _, o := range []contract.Order{o, paid} {
		b.Expect(b.Call("POST", fmt.Sprintf("/api/v1/operations/%s/cancel", o.OrderID), nil), 422,
			"code", "operation_of_order",
			"operation_id", o.OrderID)
	}
	b.Until(1, `SELECT count(*) FROM payments WHERE status = 'created'`)
}

// Over the broker and in batches it is the command cancel. What is cancelled in the batch in which it arrived is
// answered too.
func TestTheCommandCancel(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("10.00")
	waits := uuid.New()
	id := contract.DerivedID(contract.TopicCommands, account, waits.String())
	withdraw := paymentstest.Command(account, fmt.Sprintf(
		`{"command_id":%q,"operation":"withdraw","account_id":%q,"amount":"50.00","currency":"RUB",
			"on_insufficient":"wait"}`, waits, account))
	cancel := func(number uuid.UUID, operation any, more string) kafka.Message {
		return paymentstest.Command(account, fmt.Sprintf(`{"command_id":%q,"operation":"cancel","operation_id":%q%s}`,
			number, operation, more))
	}
	first, second := uuid.New(), uuid.New()
	b.Produce(withdraw)
	b.Until(1, `SELECT count(*) FROM waits`)
	b.Produce(cancel(first, id, `,"reason":"no longer needed"`), cancel(first, id, `,"reason":"no longer needed"`),
		withdraw, cancel(second, id, ""),
		cancel(uuid.New(), uuid.New(), ""), paymentstest.Command(account,
			fmt.Sprintf(`{"command_id":%q,"operation":"cancel"}`, uuid.New())))
	var got []string
	for _, r := range b.Replies(7, contract.TopicReplies) {
		if r.OperationID != nil && *r.OperationID != id {
			t.Errorf("%+v is of another operation", r)
		}
		text := fmt.Sprint(r.Operation, " ", r.Code, " ", r.Reason)
		if op, ok := r.Body.(map[string]any); ok {
			text = fmt.Sprint(text, op["operation"], " ", op["reason"], " ", op["note"])
		}
		got = append(got, text)
	}
	want := []string{"cancel 200 withdraw cancelled no longer needed", "cancel 200 withdraw cancelled no longer needed",
		"cancel 400 validation_failed", "cancel 404 operation_not_found", "cancel 422 operation_final",
		"withdraw 422 cancelled", "withdraw 422 cancelled"}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("the replies are %q, want %q", got, want)
	}

	other := b.waiting(account, "50.00")[len("/api/v1/operations/"):]
	batch := b.Call("POST", "/api/v1/operations/batch", map[string]any{"operations": []map[string]any{
		{"operation": "cancel", "operation_id": other, "reason": "in a batch"},
		{"operation": "cancel", "operation_id": other},
		{"operation": "cancel", "operation_id": uuid.New()},
		{"operation": "withdraw", "account_id": account, "amount": "10", "currency": "RUB"},
	}})
	items := batch.Body["items"].([]any)
	for i, want := range []map[string]any{
		{"id": other, "operation": "withdraw", "status": "error", "reason": "cancelled", "note": "in a batch"},
		{"code": "operation_final", "operation_id": other}, {"code": "operation_not_found"}, nil,
	} {
		is, _ := items[i].(map[string]any)["operation"].(map[string]any)
		if is == nil {
			is, _ = items[i].(map[string]any)["problem"].(map[string]any)
		}
		for field, value := range want {
			if is[field] != value {
				t.Errorf("item %d: %s is %v, want %v", i, field, is[field], value)
			}
		}
	}
	b.Until(0, `SELECT count(*) FROM waits`)
}

// A credit that serves what waits, its deadline, cancellations over two ways in and redelivery race: the operation ends
// in one way, and its command gets one outcome.
func TestACancellationRaces(t *testing.T) {
	b := setup(t, "all", "worker")
	const accounts = 12
	var commands, cancels []kafka.Message
	ids, of := make([]uuid.UUID, accounts), make([]uuid.UUID, accounts)
	for i := range accounts {
		of[i] = b.Account("1.00")
		key := uuid.New()
		ids[i] = contract.DerivedID(contract.TopicCommands, of[i], key.String())
		commands = append(commands, paymentstest.Command(of[i], fmt.Sprintf(
			`{"command_id":%q,"operation":"withdraw","account_id":%q,"amount":"5.00","currency":"RUB",
				"on_insufficient":"wait","expires_in":"1s"}`, key, of[i])))
		cancels = append(cancels, paymentstest.Command(of[i],
			fmt.Sprintf(`{"command_id":%q,"operation":"cancel","operation_id":%q}`, uuid.New(), ids[i])))
	}
	b.Produce(commands...)
	b.Until(accounts, `SELECT count(*) FROM operations WHERE operation = 'withdraw'`)
	var race sync.WaitGroup
	for i := range accounts {
		race.Go(func() {
			b.Post(fmt.Sprintf("/api/v1/accounts/%s/deposits", of[i]), `{"amount": "4.00", "currency": "RUB"}`)
		})
		race.Go(func() { b.Call("POST", fmt.Sprintf("/api/v1/operations/%s/cancel", ids[i]), nil) })
	}
	b.Produce(append(cancels, commands...)...)
	race.Wait()
	b.Until(0, `SELECT count(*) FROM waits`)
	b.Until(0, `SELECT count(*) FROM operations WHERE status = 'created'`)
	outcomes := map[uuid.UUID]string{}
	for _, r := range b.Replies(3*accounts, contract.TopicReplies) {
		if r.Operation != "withdraw" {
			continue
		}
		if outcome := fmt.Sprint(r.Code, r.Reason); outcomes[*r.CommandID] == "" {
			outcomes[*r.CommandID] = outcome
		} else if outcomes[*r.CommandID] != outcome {
			t.Errorf("command %s has the outcomes %s and %s", r.CommandID, outcomes[*r.CommandID], outcome)
		}
	}
	for i := range accounts {
		op := b.Call("GET", "/api/v1/operations/"+ids[i].String(), nil).Body
		left := map[bool]string{true: "0.00", false: "5.00"}[op["status"] == "success"]
		if got := b.Balance(of[i]); got != left {
			t.Errorf("%v %v, and %s is left", op["status"], op["reason"], got)
		}
	}
}

func TestTheLongestWaitForMoney(t *testing.T) {
	b := setup(t, "all")
	path := fmt.Sprintf("/api/v1/accounts/%s/", b.Account("10.00"))
	for body, status := range map[string]int{
		`{"amount": "50", "currency": "RUB", "on_insufficient": "wait", "expires_in": "720h1s"}`: 400,
		`{"amount": "50", "currency": "RUB", "expires_in": "8760h"}`:                             400,
		`{"amount": "50", "currency": "RUB", "on_insufficient": "wait", "expires_in": "720h"}`:   202,
	} {
		if got := b.Call("POST", path+"withdrawals", body); got.Status != status {
			t.Errorf("%s: %v", body, got)
		}
	}
	// Behind it everything has a deadline; of a hold of a year, too.
	b.Expect(b.Call("POST", path+"withdrawals", `{"amount": "1", "currency": "RUB"}`), 202, "reason", "waiting_for_funds")
	b.Expect(b.Call("POST", path+"holds", `{"amount": "1", "currency": "RUB", "expires_in": "8760h"}`), 202,
		"reason", "waiting_for_funds")
	b.Until(1, `SELECT count(*) FROM waits WHERE expires_at < now() + interval '24 hours'`)
	b.Until(3, `SELECT count(*) FROM waits WHERE expires_at < now() + interval '30 days 1 second'`)
}

// What the version before has stored: the client's words as the reason of a cancelled payment and as the description
// of a release, and an event that says them as the reason.
func TestEarlierNotes(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("100.00")
	before, rejected, inFlight := paymentstest.Order(account, "1.00"), b.Held(account, "2.00"),
		paymentstest.Order(account, "3.00")
	b.Place(before, "succeeded")
	b.Produce(paymentstest.Cancelled(before, "")) // leaves no reason
	b.Until(1, `SELECT count(*) FROM payments WHERE order_id = $1 AND status = 'cancelled'`, before.OrderID)
	b.Expect(b.Step(rejected, "reject", ""), 200)
	for _, statement := range []string{
		`UPDATE payments SET reason = 'changed my mind' WHERE status = 'cancelled'`,
		`UPDATE operations SET description = 'looks like fraud' WHERE operation = 'release'`,
	} {
		if _, err := b.Owner.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	b.Produce(paymentstest.Cancelled(inFlight, "changed my mind"))
	b.Until(1, `SELECT count(*) FROM payments WHERE order_id = $1`, inFlight.OrderID)
	for _, o := range []contract.Order{before, inFlight} {
		b.Expect(b.Call("GET", "/api/v1/payments/"+o.OrderID.String(), nil), 200, "reason", "cancelled",
			"note", "changed my mind")
	}
	list := b.Call("GET", fmt.Sprintf("/api/v1/accounts/%s/operations", account), nil).Body["items"].([]any)
	found := slices.ContainsFunc(list, func(item any) bool {
		op := item.(map[string]any)
		return op["operation"] == "release" && op["note"] == "looks like fraud" && op["description"] == nil
	})
	if !found {
		t.Errorf("no note of the rejection in %v", list)
	}
}
