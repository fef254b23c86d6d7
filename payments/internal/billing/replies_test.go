package billing_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
)

func TestCommandsAreAnsweredInOrder(t *testing.T) {
	b := setup(t, "all")
	a, other := uuid.New(), b.Account("")
	ids := make([]uuid.UUID, 0, 20)
	var commands []kafka.Message
	send := func(format string, args ...any) {
		id := uuid.New()
		ids = append(ids, id)
		text := fmt.Sprintf(format, args...)
		commands = append(commands, paymentstest.Command(a, `{"command_id":"`+id.String()+`",`+text+`}`))
	}
	send(`"operation":"deposit","account_id":"%s","amount":"1.00","currency":"RUB"`, a)
	send(`"operation":"create_account","id":"%s","owner":"alice","reference":"r"`, a)
	send(`"operation":"invoice","wallet_id":"%s","amount":777,"ticker":"RUB","orderID":"7"`, a)
	send(`"operation":"balance","account_id":"%s"`, a)
	send(`"operation":"transfer","from_account_id":"%s","to_account_id":"%s","amount":"111.00","currency":"RUB"`, a, other)
	send(`"operation":"withdraw","account_id":"%s","amount":"666.01","currency":"RUB"`, a)
	send(`"operation":"hold","account_id":"%s","amount":"66.00","currency":"RUB","expires_in":"1h"`, a)
	send(`"operation":"balance","account_id":"%s"`, a)
	send(`"operation":"withdraw","account_id":"%s","amount":"-1","currency":"RUB"`, a)
	send(`"operation":"release","hold_id":"%s"`, uuid.New())
	send(`"operation":"balance","account_id":"%s"`, uuid.New())
	b.Produce(commands...)
	want := []string{
		`deposit 404 error account_not_found`, `create_account 201 success `, `invoice 201 success `, `balance 200 success `,
		`transfer 201 success `, `withdraw 422 error insufficient_funds`, `hold 201 success `, `balance 200 success `,
		`withdraw 400 error validation_failed`, `release 404 error hold_not_found`, `balance 404 error account_not_found`,
	}
	byID := map[uuid.UUID]contract.Reply{}
	for _, reply := range b.Replies(len(want), contract.TopicReplies) {
		byID[*reply.CommandID] = reply
	}
	for i, id := range ids {
		r := byID[id]
		if got := fmt.Sprintf("%s %d %s %s", r.Operation, r.Code, r.Status, r.Reason); got != want[i] {
			t.Errorf("command %d: %s, want %s (%+v)", i, got, want[i], r)
		}
	}
	if body := fmt.Sprint(byID[ids[3]].Body); body != "map[actual_balance:map[RUB:777.00] frozen_balance:map[RUB:0.00]]" {
		t.Errorf("the first question: %s", body)
	}
	if body := fmt.Sprint(byID[ids[7]].Body); body != "map[actual_balance:map[RUB:600.00] frozen_balance:map[RUB:66.00]]" {
		t.Errorf("the second question: %s", body)
	}
	if body := byID[ids[1]].Body.(map[string]any); body["id"] != a.String() || body["owner"] != "alice" {
		t.Errorf("the account: %v", body)
	}
	if body := byID[ids[2]].Body.(map[string]any); body["operation"] != "deposit" ||
		body["command_id"] != ids[2].String() || body["reference"] != "7" {
		t.Errorf("the invoice: %v", body)
	}

	// Repeated, long after they are settled: the same replies; with another request: refused.
	b.Produce(commands[2], commands[4], commands[5])
	changed := commands[2] // in its amount, and not in an ID that happens to have the same digits
	changed.Value = []byte(strings.Replace(string(changed.Value), `"amount":777`, `"amount":778`, 1))
	b.Produce(changed)
	times, reused := map[uuid.UUID]int{}, 0
	for _, reply := range b.Replies(len(want)+4, contract.TopicReplies) {
		first := byID[*reply.CommandID]
		switch {
		case reply.Reason == "idempotency_key_reused" && reply.Code == 422 && *reply.CommandID == ids[2]:
			reused++
		case fmt.Sprint(reply.Body) != fmt.Sprint(first.Body) || reply.Code != first.Code || reply.Reason != first.Reason:
			t.Errorf("repeated: %+v, was %+v", reply, first)
		default:
			times[*reply.CommandID]++
		}
	}
	if times[ids[2]] != 2 || times[ids[4]] != 2 || times[ids[5]] != 2 {
		t.Errorf("answered so many times: %v", times)
	}
	if reused != 1 || b.Balance(other) != "111.00" {
		t.Errorf("%d refused; the payee has %s", reused, b.Balance(other))
	}
}

// A command that comes again while it waits is answered each time.
func TestARepeatedCommandIsAnsweredAgain(t *testing.T) {
	b := setup(t)
	a := uuid.New()
	id := uuid.New()
	one := paymentstest.Command(a, fmt.Sprintf(`{"command_id":"%s","operation":"create_account","id":"%s","owner":"x"}`,
		id, a))
	other := paymentstest.Command(a,
		fmt.Sprintf(`{"command_id":"%s","operation":"create_account","id":"%s","owner":"y"}`, id, a))
	b.Produce(one, one, other, one)
	b.URL, _ = b.Start("all")
	codes := map[int]int{}
	for _, reply := range b.Replies(4, contract.TopicReplies) {
		codes[reply.Code]++
	}
	if codes[201] != 3 || codes[422] != 1 {
		t.Errorf("codes %v", codes)
	}
}

// A command as large as a message can be is refused in a reply that fits into one, and the account's queue goes on.
func TestAHugeCommandIsAnswered(t *testing.T) {
	b := setup(t, "all")
	a := b.Account("")
	huge := strings.Repeat("<", 900_000) // written as \u003c in a reply: six times as long
	b.Produce(
		paymentstest.Command(a, fmt.Sprintf(`{"command_id":"%s","operation":"deposit","account_id":"%s","%s":1}`,
			uuid.New(), a, huge)),
		paymentstest.Command(a, fmt.Sprintf(`{"command_id":"%s","operation":"%s","account_id":"%s"}`, uuid.New(), huge, a)),
		paymentstest.Command(a,
			fmt.Sprintf(`{"command_id":"%s","operation":"deposit","account_id":"%s","amount":"1","currency":"RUB",
				"reference":"%s"}`, uuid.New(), a, huge)),
		paymentstest.Command(a,
			fmt.Sprintf(`{"command_id":"%s","operation":"deposit","account_id":"%s","amount":"1","currency":"RUB"}`,
				uuid.New(), a)),
	)
	codes := map[int]int{}
	for _, reply := range b.Replies(4, contract.TopicReplies) {
		codes[reply.Code]++
	}
	if codes[400] != 3 || codes[201] != 1 {
		t.Errorf("codes %v", codes)
	}
	b.Until(0, `SELECT count(*) FROM outbox_parked`)
}

func TestTheLastUnitGoesToOne(t *testing.T) {
	b := setup(t, "all", "worker")
	account := b.Account("1.00")
	var wait sync.WaitGroup
	var won atomic.Int32
	for range 32 {
		wait.Go(func() {
			if b.Call("POST", fmt.Sprintf("/api/v1/accounts/%s/withdrawals", account),
				`{"amount": "1.00", "currency": "RUB"}`).Status == 201 {
				won.Add(1)
			}
		})
	}
	var commands []kafka.Message
	for range 32 {
		commands = append(commands, paymentstest.Command(account,
			fmt.Sprintf(`{"command_id":"%s","operation":"withdraw","account_id":"%s","amount":"1.00","currency":"RUB"}`,
				uuid.New(), account)))
	}
	b.Produce(commands...)
	wait.Wait()
	for _, reply := range b.Replies(32, contract.TopicReplies) {
		if reply.Code == 201 {
			won.Add(1)
		}
	}
	if won.Load() != 1 || b.Balance(account) != "0.00" {
		t.Errorf("%d got the last unit, %s is left", won.Load(), b.Balance(account))
	}
}

// The reply to a command that waits comes once, when it has ended, however often the command came; what is refused
// meanwhile is another message.
func TestACommandThatWaitsIsAnsweredOnceItHasEnded(t *testing.T) {
	b := setup(t, "all")
	account, id := b.Account("10.00"), uuid.New()
	withdraw := func(amount string) kafka.Message {
		return paymentstest.Command(account, fmt.Sprintf(
			`{"command_id": %q, "operation": "withdraw", "account_id": %q, "amount": %q, "currency": "RUB",
				"on_insufficient": "wait"}`,
			id, account, amount))
	}
	b.Produce(withdraw("50.00"))
	b.Until(1, `SELECT count(*) FROM waits`)
	b.Produce(withdraw("50.00"), withdraw("50.00"), withdraw("51.00"))
	var messages []kafka.Message
	read := func(n int) (codes []int) {
		messages = b.Consume(contract.TopicReplies, func(messages []kafka.Message) bool { return len(messages) >= n })
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
	b.Post(fmt.Sprintf("/api/v1/accounts/%s/deposits", account), `{"amount": "40.00", "currency": "RUB"}`)
	if codes := read(2); !slices.Equal(codes, []int{422, 201}) {
		t.Errorf("to the first: %v", codes)
	}
	if messages[0].Header("ce_id") == messages[1].Header("ce_id") {
		t.Errorf("two replies are told apart by nothing: %v", messages[0].Headers)
	}
	final := messages[1].Header("ce_id")
	b.Produce(withdraw("50.00"))
	if codes := read(3); !slices.Equal(codes, []int{422, 201, 201}) || messages[2].Header("ce_id") != final {
		t.Errorf("long after: %v", codes)
	}
}
