package billing_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// item is what became of the first item of a batch.
func (b *bundle) item(operations ...string) map[string]any {
	b.Helper()
	got := b.Call("POST", paymentstest.BatchPath, paymentstest.BatchOf(operations...))
	if got.Status != 200 {
		b.Fatalf("%v", got)
	}
	return got.Body["items"].([]any)[0].(map[string]any)
}

// seen are the places of replies that were looked at.
type seen map[string]bool

// next waits for a reply to a command that was not looked at yet. Replies of one command may be in different
// partitions.
func (s seen) next(b *bundle, id uuid.UUID) (reply contract.Reply) {
	b.Helper()
	fresh := func(m kafka.Message) bool {
		return strings.Contains(string(m.Value), `"command_id":"`+id.String()+`"`) &&
			!s[fmt.Sprint(m.Partition, "/", m.Offset)]
	}
	messages := b.Consume(contract.TopicReplies,
		func(messages []kafka.Message) bool { return slices.ContainsFunc(messages, fresh) })
	m := messages[slices.IndexFunc(messages, fresh)]
	s[fmt.Sprint(m.Partition, "/", m.Offset)] = true
	if err := json.Unmarshal(m.Value, &reply); err != nil {
		b.Fatal(err)
	}
	return reply
}

func toBroker(text string) kafka.Message {
	return kafka.Message{Topic: contract.TopicCommands, Value: []byte(text)}
}

// The same command_id is one command over the broker and in batches, whichever comes first.
func TestACommandIsOneWhicheverWayItComesIn(t *testing.T) {
	b := setup(t, "all")
	account, other, replies := b.Account("100.00"), b.Account(""), seen{}
	hold := func() any {
		return b.Post(fmt.Sprintf("/api/v1/accounts/%s/holds", account), `{"amount": "2.00", "currency": "RUB"}`).Body["id"]
	}
	for operation, fields := range map[string]string{
		"create_account": `"owner": "x"`,
		"deposit":        fmt.Sprintf(`"account_id": %q, "amount": 1, "currency": "RUB"`, account),
		"withdraw":       fmt.Sprintf(`"account_id": %q, "amount": 1, "currency": "RUB"`, account),
		"transfer": fmt.Sprintf(`"account_id": %q, "to_account_id": %q, "amount": 1, "currency": "RUB"`, account,
			other),
		"hold":    fmt.Sprintf(`"account_id": %q, "amount": 1, "currency": "RUB"`, account),
		"capture": fmt.Sprintf(`"hold_id": %q`, hold()),
		"release": fmt.Sprintf(`"hold_id": %q`, hold()),
	} {
		for _, brokerFirst := range []bool{true, false} {
			if operation == "capture" || operation == "release" {
				fields = fmt.Sprintf(`"hold_id": %q`, hold())
			}
			id := uuid.New()
			text := fmt.Sprintf(`{"command_id": %q, "operation": %q, %s}`, id, operation, fields)
			var item map[string]any
			var reply contract.Reply
			before := 0
			take := func(n int) {
				if brokerFirst == (n == 0) {
					b.Produce(toBroker(text))
					reply = replies.next(b, id)
				} else {
					item = b.item(text)
				}
				if n == 0 {
					before = b.entries()
				}
			}
			take(0)
			take(1)
			made, ok := item["operation"].(map[string]any)
			if !ok || reply.Code != 201 || reply.OperationID.String() != made["id"] ||
				made["command_id"] != id.String() || b.entries() != before {
				t.Errorf("%s, broker first %t: %v and %+v, %d entries more", operation, brokerFirst, item,
					reply, b.entries()-before)
			}
			// Another request with this ID is refused at both.
			changed := strings.Replace(text, `"operation": `, `"reference": "other", "operation": `, 1)
			if item := b.item(changed); !strings.Contains(fmt.Sprint(item), "idempotency_key_reused") {
				t.Errorf("%s in a batch: %v", changed, item)
			}
			b.Produce(toBroker(changed))
			if reply := replies.next(b, id); reply.Code != 422 || reply.Reason != "idempotency_key_reused" {
				t.Errorf("%s over the broker: %+v", changed, reply)
			}
		}
	}
}

// A command that waits since a batch is answered when it comes over the broker, once it is decided.
func TestACommandOfABatchThatWaitsIsAnswered(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("")
	path := fmt.Sprintf("/api/v1/accounts/%s/", account)
	id, stranger := uuid.New(), uuid.New()
	text := fmt.Sprintf(
		`{"command_id": %q, "operation": "withdraw", "account_id": %q, "amount": "5.00", "currency": "RUB",
			"on_insufficient": "wait"}`, id, account)
	got := b.Call("POST", paymentstest.BatchPath+"?wait=0s",
		paymentstest.BatchOf(text)).Body["items"].([]any)[0].(map[string]any)
	b.Until(1, `SELECT count(*) FROM waits`)
	b.Produce(toBroker(text), toBroker(text),
		toBroker(fmt.Sprintf(`{"command_id": %q, "operation": "balance", "account_id": %q}`, stranger, account)))
	replies := seen{}
	replies.next(b, stranger) // the repetitions were settled before
	if out := b.item(text); out["operation"].(map[string]any)["reason"] != "waiting_for_funds" {
		t.Errorf("in a batch again: %v", out)
	}
	b.Post(path+"deposits", `{"amount": "5.00", "currency": "RUB"}`)
	if reply := replies.next(b, id); reply.Code != 201 ||
		reply.OperationID.String() != got["operation"].(map[string]any)["id"] {
		t.Errorf("the reply %+v to %v", reply, got)
	}
	b.Until(0, `SELECT count(*) FROM waits`)
	if got := b.Balance(account); got != "0.00" {
		t.Errorf("the balance is %s", got)
	}
}

// What an earlier version accepted from a batch has an ID of its own scope, and is recognised by it.
func TestCommandsOfBatchesOfTheVersionBefore(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("10.00")
	id := uuid.New()
	text := fmt.Sprintf(
		`{"command_id": %q, "operation": "withdraw", "account_id": %q, "amount": "1.00", "currency": "RUB"}`, id, account)
	// The version before took the ID as it takes an Idempotency-Key.
	before := contract.DerivedID(paymentstest.BatchPath, account, id.String())
	first := b.item(text)
	for _, statement := range []string{
		`UPDATE operations SET id = $1, command_id = NULL, fingerprint = $3 WHERE id = $2`,
		`UPDATE entries SET operation_id = $1 WHERE operation_id = $2 AND $3::uuid IS NOT NULL`,
	} {
		fingerprint := uuid.NewSHA1(before, []byte(`{"currency":"RUB","amount":100}withdraw`))
		if _, err := b.Owner.Exec(statement, before, first["operation"].(map[string]any)["id"], fingerprint); err != nil {
			t.Fatal(err)
		}
	}
	if again := b.item(text); again["operation"] == nil ||
		again["operation"].(map[string]any)["id"] != before.String() || b.Balance(account) != "9.00" {
		t.Errorf("%s is left: %v", b.Balance(account), again)
	}
	if again := b.item(strings.Replace(text, "1.00", "2.00", 1)); !strings.Contains(fmt.Sprint(again),
		"idempotency_key_reused") || b.Balance(account) != "9.00" {
		t.Errorf("%s is left: %v", b.Balance(account), again)
	}
}

// One key opens one account, whichever ID the client chooses for it.
func TestAnAccountsKeyIsOneAccount(t *testing.T) {
	b := setup(t, "all")
	count := func() (n int) {
		if err := b.Owner.Get(&n, `SELECT count(*) FROM accounts`); err != nil {
			t.Fatal(err)
		}
		return n
	}
	ways := map[string]func(key uuid.UUID, fields string) (code int, reason, account string){
		"POST /accounts": func(key uuid.UUID, fields string) (int, string, string) {
			got := b.Call("POST", "/api/v1/accounts", `{`+fields+`}`, "Idempotency-Key", key.String())
			return got.Status, fmt.Sprint(got.Body["code"]), fmt.Sprint(got.Body["id"])
		},
		"a batch": func(key uuid.UUID, fields string) (int, string, string) {
			item := b.item(fmt.Sprintf(`{"command_id": %q, "operation": "create_account", %s}`, key, fields))
			if p, ok := item["problem"].(map[string]any); ok {
				return int(p["status"].(float64)), fmt.Sprint(p["code"]), ""
			}
			return 201, "", fmt.Sprint(item["operation"].(map[string]any)["account_id"])
		},
	}
	replies := seen{}
	ways["the broker"] = func(key uuid.UUID, fields string) (int, string, string) {
		b.Produce(toBroker(fmt.Sprintf(`{"command_id": %q, "operation": "create_account", %s}`, key, fields)))
		reply := replies.next(b, key)
		body, _ := reply.Body.(map[string]any)
		return reply.Code, reply.Reason, fmt.Sprint(body["id"])
	}
	for name, open := range ways {
		one, two := uuid.NewString(), uuid.NewString()
		choices := []string{`"owner": "x"`, `"owner": "x", "id": "` + one + `"`,
			`"owner": "x", "id": "` + two + `"`, `"owner": "y"`}
		for first, choice := range choices {
			key, before := uuid.New(), count()
			if first > 0 { // the chosen IDs are free again
				choices = strings.Split(strings.NewReplacer(one, uuid.NewString(), two,
					uuid.NewString()).Replace(strings.Join(choices, "|")), "|")
				one, two = strings.Split(choices[1], `"`)[7], strings.Split(choices[2], `"`)[7]
				choice = choices[first]
			}
			code, _, account := open(key, choice)
			if code != 201 {
				t.Fatalf("%s: %d", name, code)
			}
			for n, other := range append(slices.Clone(choices), choice) {
				code, reason, again := open(key, other)
				switch {
				case other == choice && (code != 201 || again != account):
					t.Errorf("%s: %s again: %d %s, the account %s was %s", name, choice, code, reason, again, account)
				case other != choice && (code != 422 || reason != "idempotency_key_reused"):
					t.Errorf("%s: %s, then %s: %d %s (%d)", name, choice, other, code, reason, n)
				}
			}
			if got := count() - before; got != 1 {
				t.Errorf("%s: %d accounts of one key", name, got)
			}
		}
	}
	// At once, too.
	key, before := uuid.New(), count()
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			b.Call("POST", "/api/v1/accounts", `{"id": "`+uuid.NewString()+`"}`, "Idempotency-Key", key.String())
		})
	}
	wait.Wait()
	if got := count() - before; got != 1 {
		t.Errorf("%d accounts of one key at once", got)
	}
}
