package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/kafkatest"
)

// deposit is a command.
func deposit(account uuid.UUID, amount string) kafka.Message {
	payload, err := json.Marshal(map[string]any{"command_id": uuid.New(), "operation": "deposit", "account_id": account,
		"amount": amount, "currency": "RUB"})
	if err != nil {
		panic(err)
	}
	return kafka.Message{Topic: contract.TopicCommands, Key: []byte(account.String()), Value: payload}
}

// What the broker never takes as a dead letter is parked, and stops nobody: it is listed with its reason, whatever
// else it is, stays so when it is redriven, and goes when it is discarded.
func TestDeadLettersThatAreRefusedAreParked(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("")
	for _, topic := range reads {
		b.controls.Refuse(contract.DeadLetter(topic), kafkatest.InvalidRecord, -1)
		b.Produce(kafka.Message{Topic: topic, Key: []byte("key"), Value: []byte("\x00\xff"),
			Headers: []kafka.Header{{Key: "a", Value: []byte("\x00\xff")}}})
	}
	b.Produce(deposit(account, "1.00"))
	b.Until(1, `SELECT count(*) FROM operations WHERE account_id = $1 AND operation = 'deposit'`, account)
	b.Until(3, `SELECT count(*) FROM inbox_stops WHERE retry_at IS NULL AND NOT probing`)
	seen := map[string]bool{}
	for _, item := range b.Call("GET", "/admin/parked", nil).Body["items"].([]any) {
		item := item.(map[string]any)
		payload := item["payload"].(map[string]any)
		seen[payload["topic"].(string)] = true
		if item["kind"] != "unreadable" || !strings.Contains(item["reason"].(string), "no dead letter") ||
			payload["value"] != "AP8=" || payload["key"] != "a2V5" {
			t.Errorf("parked is %v", item)
		}
		path := fmt.Sprint("/admin/parked/", item["id"])
		if got := b.Call("POST", path+"/discard", `{"reason": "nonsense"}`); got.Status != 202 {
			t.Errorf("discard: %v", got)
		}
	}
	for _, topic := range reads {
		if !seen[topic] {
			t.Errorf("nothing of %s is parked", topic)
		}
	}
	b.Until(0, `SELECT count(*) FROM inbox_stops`)
	b.Until(0, `SELECT count(*) FROM inbox`)
}

// A dead letter that cannot be kept for now is tried again alone: nothing else of its batch is done twice, be it a
// command that waits, another dead letter or an inventory message.
func TestADeadLetterThatIsTriedAgainGrowsNothing(t *testing.T) {
	b := setup(t)
	url, stop := b.Start("all")
	b.URL = url
	account := b.Account("")
	stop()
	// The account's queue stands still, so that its command waits.
	if _, err := b.Owner.ExecContext(t.Context(), `
		INSERT INTO inbox (id, lane, account_id, kind, payload, stopped) VALUES ($1, $2, $1, 'deposit', '{}', true)`,
		account, contract.Lane(account)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Owner.ExecContext(t.Context(), `
		INSERT INTO inbox_stops (account_id, lane, message_id, attempts, reason) VALUES ($1, $2, $1, 8, 'test')`,
		account, contract.Lane(account)); err != nil {
		t.Fatal(err)
	}
	refused := b.controls.Refuse(contract.DeadLetter(contract.TopicInventory), kafkatest.NotEnoughReplicas, 8)
	// While the first command waits for the table, the others arrive, and are then handled in one batch.
	lock, err := b.Owner.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Rollback() }()
	if _, err := lock.ExecContext(t.Context(), `LOCK TABLE inbox`); err != nil {
		t.Fatal(err)
	}
	b.Start("all")
	b.Produce(deposit(uuid.New(), "1.00"))
	for _, topic := range reads {
		b.Produce(kafka.Message{Topic: topic, Value: []byte("nonsense")})
	}
	b.Produce(deposit(account, "1.00"), deposit(account, "2.00"))
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	refused()
	for _, topic := range reads {
		b.Consume(contract.DeadLetter(topic), func(m []kafka.Message) bool { return len(m) >= 1 })
	}
	b.Produce(deposit(account, "4.00")) // which is handled once the batch is done with
	b.Until(4, `SELECT count(*) FROM inbox`)
	for _, topic := range reads {
		if got := b.Consume(contract.DeadLetter(topic), func(m []kafka.Message) bool { return len(m) >= 1 }); len(got) != 1 {
			t.Errorf("%d dead letters of %s", len(got), topic)
		}
	}
}
