package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
)

func TestTheFourCommands(t *testing.T) {
	b := setup(t, "all")
	alice, bob := b.account(""), b.account("")
	b.post(fmt.Sprintf("/api/v1/accounts/%s/deposits", alice), `{"amount": "777", "currency": "RUB"}`)
	got := b.post("/api/v1/transfers", map[string]any{"from_account_id": alice, "to_account_id": bob, "amount": "111.00", "currency": "RUB"})
	if got.body["operation"] != "transfer" || got.body["account_id"] != alice.String() || got.body["to_account_id"] != bob.String() {
		t.Errorf("transfer %v", got)
	}
	if b.balance(alice) != "666.00" || b.balance(bob) != "111.00" {
		t.Errorf("balances %s and %s", b.balance(alice), b.balance(bob))
	}
	if list := b.call("GET", fmt.Sprintf("/api/v1/accounts/%s/operations", bob), nil).body["items"].([]any); len(list) != 2 {
		t.Errorf("the payee's operations %v", list)
	}
}

func TestHolds(t *testing.T) {
	b := setup(t, "all")
	account := b.account("100.00")
	path := fmt.Sprintf("/api/v1/accounts/%s/", account)
	balances := func() string {
		return fmt.Sprint(b.call("GET", path+"balance", nil).body)
	}
	hold := func(amount, more string) string {
		return b.post(path+"holds", `{"amount": "`+amount+`", "currency": "RUB"`+more+`}`).body["id"].(string)
	}
	first := hold("60.00", "")
	if got := balances(); got != "map[actual_balance:map[RUB:40.00] frozen_balance:map[RUB:60.00]]" {
		t.Errorf("held: %s", got)
	}
	got := b.call("GET", "/api/v1/holds/"+first, nil)
	if got.status != 200 || got.body["status"] != "open" || got.body["amount"] != "60.00" || got.body["captured_amount"] != "0.00" || got.body["account_id"] != account.String() {
		t.Errorf("hold %v", got)
	}
	expires, err := time.Parse(time.RFC3339, got.body["expires_at"].(string))
	if err != nil || time.Until(expires) < 167*time.Hour || time.Until(expires) > 168*time.Hour {
		t.Errorf("expires at %v, %v", expires, err)
	}
	for name, refused := range map[string]answer{
		"a withdrawal of what is held": b.call("POST", path+"withdrawals", `{"amount": "40.01", "currency": "RUB"}`),
		"a hold of what is held":       b.call("POST", path+"holds", `{"amount": "40.01", "currency": "RUB"}`),
	} {
		if refused.status != 422 || refused.body["code"] != "insufficient_funds" || refused.body["operation_id"] == nil {
			t.Errorf("%s: %v", name, refused)
		}
	}
	captured := b.post("/api/v1/holds/"+first+"/capture", `{"amount": "25.00"}`)
	if captured.body["amount"] != "25.00" || captured.body["hold_id"] != first || captured.body["currency"] != "RUB" {
		t.Errorf("captured %v", captured)
	}
	if got := balances(); got != "map[actual_balance:map[RUB:75.00] frozen_balance:map[RUB:0.00]]" {
		t.Errorf("captured: %s", got)
	}
	second := hold("75.00", "")
	b.post("/api/v1/holds/"+second+"/release", nil)
	third := hold("75.00", "")
	b.post("/api/v1/holds/"+third+"/capture", nil)
	if got := balances(); got != "map[actual_balance:map[RUB:0.00] frozen_balance:map[RUB:0.00]]" {
		t.Errorf("in the end: %s", got)
	}
	for path, want := range map[string]struct {
		status int
		code   string
	}{
		first + "/capture":                {422, "hold_not_open"},
		second + "/release":               {422, "hold_not_open"},
		uuid.NewString() + "/capture":     {404, "hold_not_found"},
		"nonsense/release":                {400, "validation_failed"},
		uuid.NewString() + "/capture?x=1": {400, "unknown_parameter"},
	} {
		if got := b.call("POST", "/api/v1/holds/"+path, nil); got.status != want.status || got.body["code"] != want.code {
			t.Errorf("%s: %v", path, got)
		}
	}
	for body, field := range map[string]string{
		`{"amount": "1", "currency": "RUB", "expires_in": "soon"}`: "expires_in", `{"amount": "1", "currency": "RUB", "expires_in": "0s"}`: "expires_in",
		`{"amount": "1", "currency": "RUB", "expires_in": "9000h"}`: "expires_in",
	} {
		if got := b.call("POST", path+"holds", body); got.status != 400 || !strings.Contains(fmt.Sprint(got.body), field) {
			t.Errorf("%s: %v", body, got)
		}
	}
}

func TestAHoldExpires(t *testing.T) {
	b := setup(t, "all", "worker")
	account := b.account("100.00")
	id := b.post(fmt.Sprintf("/api/v1/accounts/%s/holds", account), `{"amount": "60.00", "currency": "RUB", "expires_in": "1s"}`).body["id"].(string)
	b.until(1, `SELECT count(*) FROM holds WHERE status = 'expired'`)
	if got := b.call("POST", "/api/v1/holds/"+id+"/capture", nil); got.body["code"] != "hold_not_open" {
		t.Errorf("a capture afterwards: %v", got)
	}
	if got := b.balance(account); got != "100.00" {
		t.Errorf("balance %s", got)
	}
	b.until(1, `SELECT count(*) FROM operations WHERE operation = 'release' AND status = 'success'`)
}

func TestABatchHasAResultForEachItem(t *testing.T) {
	b := setup(t, "all")
	a, other := b.account("100.00"), b.account("")
	hold := b.post(fmt.Sprintf("/api/v1/accounts/%s/holds", a), `{"amount": "10.00", "currency": "RUB"}`).body["id"]
	items := []map[string]any{
		{"operation": "withdraw", "account_id": a, "amount": "30.00", "currency": "RUB"},
		{"operation": "transfer", "from_account_id": a, "to_account_id": other, "amount": "50.00", "currency": "RUB"},
		{"operation": "withdraw", "account_id": a, "amount": "11.00", "currency": "RUB"},
		{"operation": "invoice", "wallet_id": a, "amount": 1, "ticker": "RUB", "orderID": "7"},
		{"operation": "capture", "hold_id": hold},
		{"operation": "deposit", "account_id": a, "amount": "1.001", "currency": "RUB"},
		{"operation": "dance"},
		{"operation": "create_account", "owner": "batch"},
		{"operation": "capture", "hold_id": uuid.New()},
		{"operation": "balance", "account_id": a},
	}
	want := []string{"success", "success", "insufficient_funds", "success", "success", "amount", "operation", "success", "hold_not_found", "operation"}
	for round := range 2 {
		got := b.call("POST", "/api/v1/operations/batch", map[string]any{"operations": items}, "Idempotency-Key", "b")
		if got.status != 200 {
			t.Fatalf("%v", got)
		}
		for i, item := range got.body["items"].([]any) {
			if text := fmt.Sprint(item); !strings.Contains(text, want[i]) || item.(map[string]any)["index"] != float64(i) {
				t.Errorf("round %d, item %d: %v, want %s", round, i, item, want[i])
			}
		}
		if b.balance(a) != "11.00" || b.balance(other) != "50.00" {
			t.Errorf("round %d: balances %s and %s", round, b.balance(a), b.balance(other))
		}
	}
	for _, n := range []int{0, 1001} {
		many := make([]map[string]any, n)
		for i := range many {
			many[i] = items[0]
		}
		if got := b.call("POST", "/api/v1/operations/batch", map[string]any{"operations": many}); got.status != 400 {
			t.Errorf("%d items: %d", n, got.status)
		}
	}
}

func TestTheLastUnitGoesToOne(t *testing.T) {
	b := setup(t, "all", "worker")
	account := b.account("1.00")
	var wait sync.WaitGroup
	var won atomic.Int32
	for range 32 {
		wait.Go(func() {
			if b.call("POST", fmt.Sprintf("/api/v1/accounts/%s/withdrawals", account), `{"amount": "1.00", "currency": "RUB"}`).status == 201 {
				won.Add(1)
			}
		})
	}
	var commands []kafka.Message
	for range 32 {
		commands = append(commands, command(account, fmt.Sprintf(`{"command_id":"%s","operation":"withdraw","account_id":"%s","amount":"1.00","currency":"RUB"}`, uuid.New(), account)))
	}
	b.produce(commands...)
	wait.Wait()
	for _, reply := range b.replies(32, contract.TopicReplies) {
		if reply.Code == 201 {
			won.Add(1)
		}
	}
	if won.Load() != 1 || b.balance(account) != "0.00" {
		t.Errorf("%d got the last unit, %s is left", won.Load(), b.balance(account))
	}
}

func command(account uuid.UUID, text string, headers ...kafka.Header) kafka.Message {
	return kafka.Message{Topic: contract.TopicCommands, Key: []byte(account.String()), Value: []byte(text), Headers: headers}
}

// replies reads a topic's replies.
func (b *bundle) replies(n int, topic string) []contract.Reply {
	b.Helper()
	var replies []contract.Reply
	for _, m := range b.consume(topic, func(messages []kafka.Message) bool { return len(messages) >= n }) {
		var reply contract.Reply
		if err := json.Unmarshal(m.Value, &reply); err != nil {
			b.Fatal(err)
		}
		replies = append(replies, reply)
	}
	return replies
}

func TestCommandsAreAnsweredInOrder(t *testing.T) {
	b := setup(t, "all")
	a, other := uuid.New(), b.account("")
	ids := make([]uuid.UUID, 0, 20)
	var commands []kafka.Message
	send := func(format string, args ...any) {
		id := uuid.New()
		ids = append(ids, id)
		text := fmt.Sprintf(format, args...)
		commands = append(commands, command(a, `{"command_id":"`+id.String()+`",`+text+`}`))
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
	b.produce(commands...)
	want := []string{
		`deposit 404 error account_not_found`, `create_account 201 success `, `invoice 201 success `, `balance 200 success `,
		`transfer 201 success `, `withdraw 422 error insufficient_funds`, `hold 201 success `, `balance 200 success `,
		`withdraw 400 error validation_failed`, `release 404 error hold_not_found`, `balance 404 error account_not_found`,
	}
	byID := map[uuid.UUID]contract.Reply{}
	for _, reply := range b.replies(len(want), contract.TopicReplies) {
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
	if body := byID[ids[2]].Body.(map[string]any); body["operation"] != "deposit" || body["command_id"] != ids[2].String() || body["reference"] != "7" {
		t.Errorf("the invoice: %v", body)
	}

	// Repeated, long after they are settled: the same replies; with another request: refused.
	b.produce(commands[2], commands[4], commands[5])
	changed := commands[2] // in its amount, and not in an ID that happens to have the same digits
	changed.Value = []byte(strings.Replace(string(changed.Value), `"amount":777`, `"amount":778`, 1))
	b.produce(changed)
	times, reused := map[uuid.UUID]int{}, 0
	for _, reply := range b.replies(len(want)+4, contract.TopicReplies) {
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
	if reused != 1 || b.balance(other) != "111.00" {
		t.Errorf("%d refused; the payee has %s", reused, b.balance(other))
	}
}

// A command that comes again while it waits is answered each time.
func TestARepeatedCommandIsAnsweredAgain(t *testing.T) {
	b := setup(t)
	a := uuid.New()
	id := uuid.New()
	one := command(a, fmt.Sprintf(`{"command_id":"%s","operation":"create_account","id":"%s","owner":"x"}`, id, a))
	other := command(a, fmt.Sprintf(`{"command_id":"%s","operation":"create_account","id":"%s","owner":"y"}`, id, a))
	b.produce(one, one, other, one)
	b.url, _ = b.start("all")
	codes := map[int]int{}
	for _, reply := range b.replies(4, contract.TopicReplies) {
		codes[reply.Code]++
	}
	if codes[201] != 3 || codes[422] != 1 {
		t.Errorf("codes %v", codes)
	}
}

func TestMalformedCommands(t *testing.T) {
	b := setup(t, "all")
	if err := kafka.EnsureTopics(t.Context(), b.broker, "billing.replies.mine", "elsewhere"); err != nil {
		t.Fatal(err)
	}
	a, id := b.account("1.00"), uuid.New()
	replyTo := func(topic string) kafka.Header { return kafka.Header{Key: "reply_to", Value: []byte(topic)} }
	deposit := func(amount string, headers ...kafka.Header) kafka.Message {
		return command(a, fmt.Sprintf(`{"command_id":"%s","operation":"deposit","account_id":"%s","amount":"%s","currency":"RUB"}`, uuid.New(), a, amount), headers...)
	}
	b.produce(
		command(a, `not json`), command(a, `[]`), command(a, `null`),
		command(a, `{"operation":"deposit"}`),
		command(a, `{"command_id":"nonsense","operation":"deposit"}`),
		command(a, fmt.Sprintf(`{"command_id":"%s","operation":"deposit","account_id":"%s","amount":{},"currency":"RUB"}`, id, a)),
		command(a, fmt.Sprintf(`{"command_id":"%s","operation":"deposit","account_id":"%s","amount":"1","currency":"RUB","colour":"red"}`, id, a)),
		command(a, fmt.Sprintf(`{"operation":"deposit","account_id":"%s","amount":"1","currency":"RUB"}`, a), kafka.Header{Key: "ce_id", Value: []byte(id.String())}),
		deposit("2", replyTo("billing.replies.mine")), deposit("3", replyTo("elsewhere")), deposit("4", replyTo("billing.replies.missing")),
	)
	if dead := b.consume(contract.DeadLetter(contract.TopicCommands), func(m []kafka.Message) bool { return len(m) >= 3 }); len(dead) != 3 {
		t.Errorf("%d dead letters", len(dead))
	}
	counts := map[string]int{}
	for _, r := range b.replies(7, contract.TopicReplies) {
		counts[fmt.Sprintf("%v %d %s %s", r.CommandID != nil, r.Code, r.Reason, r.Detail)]++
	}
	for want, n := range map[string]int{
		"false 400 validation_failed command_id must be a UUID": 2,
		"true 400 validation_failed the request is not valid: amount must be a decimal number such as \"2500.00\": digits, with at most one point between them": 1,
		"true 400 unknown_field unknown field \"colour\"": 1,
		"true 201  ": 3,
	} {
		if counts[want] != n {
			t.Errorf("%d times %q: %v", counts[want], want, counts)
		}
	}
	if mine := b.replies(1, "billing.replies.mine"); mine[0].Code != http.StatusCreated {
		t.Errorf("the reply elsewhere: %+v", mine)
	}
}

// The statement and the balance can be asked for as of a time.
func TestPointsInTime(t *testing.T) {
	b := setup(t, "all")
	account := b.account("")
	path := fmt.Sprintf("/api/v1/accounts/%s/", account)
	for i := range 9 {
		b.post(path+"deposits", map[string]any{"amount": "1", "currency": []string{"RUB", "USD"}[i%2]})
	}
	var entries []time.Time
	if err := b.Owner.Select(&entries, `SELECT created_at FROM entries WHERE account_id = $1 ORDER BY created_at`, account); err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		at := entries[i].UTC().Format(time.RFC3339Nano)
		rub, usd := i/2+1, (i+1)/2
		want := fmt.Sprintf("map[RUB:%d.00 USD:%d.00]", rub, usd)
		if usd == 0 {
			want = "map[RUB:1.00]"
		}
		if got := fmt.Sprint(b.call("GET", path+"balance?at="+at, nil).body["actual_balance"]); got != want {
			t.Errorf("after entry %d: %s, want %s", i, got, want)
		}
		from := b.call("GET", path+"entries?from="+at, nil).body["items"].([]any)
		to := b.call("GET", path+"entries?to="+at, nil).body["items"].([]any)
		if len(from) != 9-i || len(to) != i {
			t.Errorf("from entry %d: %d, to it: %d", i, len(from), len(to))
		}
	}
	if got := fmt.Sprint(b.call("GET", path+"balance?at=2000-01-01T00:00:00Z", nil).body["actual_balance"]); got != "map[]" {
		t.Errorf("long ago: %s", got)
	}
	// A nanosecond before an entry it is not there yet, whatever the offset, and the first year is as good as another.
	before := entries[0].Add(-time.Nanosecond)
	for _, at := range []string{before.UTC().Format(time.RFC3339Nano), url.QueryEscape(before.In(time.FixedZone("", -86340)).Format(time.RFC3339Nano)),
		"0001-01-01T00:00:00Z"} {
		if got := fmt.Sprint(b.call("GET", path+"balance?at="+at, nil).body["actual_balance"]); got != "map[]" {
			t.Errorf("at %s: %s", at, got)
		}
		if got := b.call("GET", path+"entries?to="+at, nil).body["items"].([]any); len(got) != 0 {
			t.Errorf("to %s: %v", at, got)
		}
		if got := b.call("GET", path+"entries?from="+at, nil).body["items"].([]any); len(got) != 9 {
			t.Errorf("from %s: %v", at, got)
		}
	}
	for _, at := range []string{"9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59%2B23:59"} {
		if got := fmt.Sprint(b.call("GET", path+"balance?at="+at, nil).body["actual_balance"]); got != "map[RUB:5.00 USD:4.00]" {
			t.Errorf("at %s: %s", at, got)
		}
	}
}

// A cursor of a statement in very many currencies is still one that is taken.
func TestAStatementInManyCurrenciesComesInPages(t *testing.T) {
	b := setup(t, "all")
	account := b.account("")
	var operations []any
	var currencies []string
	for _, c := range b.call("GET", "/api/v1/currencies", nil).body["items"].([]any) {
		currency := c.(map[string]any)["code"].(string)
		currencies = append(currencies, currency)
		operations = append(operations, map[string]any{"operation": "deposit", "account_id": account, "amount": "1", "currency": currency})
	}
	b.call("POST", "/api/v1/operations/batch", map[string]any{"operations": operations})
	path, seen, cursor := fmt.Sprintf("/api/v1/accounts/%s/entries?limit=50", account), 0, ""
	for {
		page := b.call("GET", path+cursor, nil)
		if page.status != 200 {
			t.Fatalf("after %d entries: %v", seen, page.body)
		}
		seen += len(page.body["items"].([]any))
		next, more := page.body["next_cursor"].(string)
		if !more {
			break
		}
		cursor = "&cursor=" + next
	}
	if seen != len(currencies) || seen < 100 {
		t.Errorf("%d entries in %d currencies", seen, len(currencies))
	}
}

// A command as large as a message can be is refused in a reply that fits into one, and the account's queue goes on.
func TestAHugeCommandIsAnswered(t *testing.T) {
	b := setup(t, "all")
	a := b.account("")
	huge := strings.Repeat("<", 900_000) // written as \u003c in a reply: six times as long
	b.produce(
		command(a, fmt.Sprintf(`{"command_id":"%s","operation":"deposit","account_id":"%s","%s":1}`, uuid.New(), a, huge)),
		command(a, fmt.Sprintf(`{"command_id":"%s","operation":"%s","account_id":"%s"}`, uuid.New(), huge, a)),
		command(a, fmt.Sprintf(`{"command_id":"%s","operation":"deposit","account_id":"%s","amount":"1","currency":"RUB","reference":"%s"}`, uuid.New(), a, huge)),
		command(a, fmt.Sprintf(`{"command_id":"%s","operation":"deposit","account_id":"%s","amount":"1","currency":"RUB"}`, uuid.New(), a)),
	)
	codes := map[int]int{}
	for _, reply := range b.replies(4, contract.TopicReplies) {
		codes[reply.Code]++
	}
	if codes[400] != 3 || codes[201] != 1 {
		t.Errorf("codes %v", codes)
	}
	b.until(0, `SELECT count(*) FROM outbox_parked`)
}
