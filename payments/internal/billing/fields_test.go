package billing_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// A field of another operation is refused by its name, whichever way it comes in, whatever its value: nothing happens
// then.
func TestFieldsOfOtherOperations(t *testing.T) {
	b := setup(t, "all")
	account, other := b.Account("100.00"), b.Account("")
	hold := b.Post(fmt.Sprintf("/api/v1/accounts/%s/holds", account), `{"amount": "10.00", "currency": "RUB"}`).Body["id"]
	waits := b.Call("POST", fmt.Sprintf("/api/v1/accounts/%s/withdrawals", account),
		`{"amount": "1000", "currency": "RUB", "on_insufficient": "wait"}`).Body["id"]
	valid := map[string]map[string]any{
		"create_account": {"id": uuid.New()}, "deposit": {"account_id": account, "amount": "1", "currency": "RUB"},
		"invoice":  {"account_id": account, "amount": "1", "currency": "RUB"},
		"withdraw": {"account_id": account, "amount": "1", "currency": "RUB"},
		"transfer": {"from_account_id": account, "to_account_id": other, "amount": "1", "currency": "RUB"},
		"hold":     {"account_id": account, "amount": "1", "currency": "RUB"}, "capture": {"hold_id": hold},
		"release": {"hold_id": hold},
		"cancel":  {"operation_id": waits}, "balance": {"account_id": account},
	}
	values := map[string]any{
		"id": account, "owner": "x", "account_id": account, "from_account_id": account,
		"to_account_id": other, "hold_id": hold,
		"operation_id": waits, "reason": "x", "amount": "1.00", "currency": "RUB", "expires_in": "15m",
		"reference": "x", "description": "x",
		"on_insufficient": "wait", "wallet_id": account, "ticker": "RUB", "orderID": "x",
	}
	before := b.entries()
	var commands []kafka.Message
	want := map[uuid.UUID]string{}
	for _, operation := range contract.Operations() {
		for _, field := range reflect.VisibleFields(reflect.TypeFor[contract.Command]()) {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name == "operation" || name == "command_id" || slices.Contains(contract.Fields(operation), name) {
				continue
			}
			item := map[string]any{"operation": operation}
			maps.Copy(item, valid[operation])
			of := []any{values[name]}
			if field.Type.Kind().String() == "string" {
				of = append(of, "")
			}
			for _, value := range of {
				item[name] = value
				got := b.Call("POST", paymentstest.BatchPath,
					map[string]any{"operations": []any{map[string]any{"operation": "dance"}, item}})
				if path := "operations[1]." + name; got.Status != 400 || got.Body["code"] != "unknown_field" ||
					!strings.Contains(fmt.Sprint(got.Body["errors"]), "field:"+path) {
					t.Errorf("%s with %s %q in a batch: %v", operation, name, value, got)
				}
				id := uuid.New()
				item["command_id"] = id
				text, err := json.Marshal(item)
				if err != nil {
					t.Fatal(err)
				}
				delete(item, "command_id")
				commands, want[id] = append(commands, paymentstest.Command(account, string(text))), fmt.Sprintf("%q", name)
			}
		}
	}
	if len(commands) < 100 {
		t.Fatalf("only %d combinations", len(commands))
	}
	b.Produce(commands...)
	for _, reply := range b.Replies(len(commands), contract.TopicReplies) {
		if reply.Code != 400 || reply.Reason != "unknown_field" || !strings.Contains(reply.Detail, want[*reply.CommandID]) {
			t.Errorf("the reply to one with %s: %+v", want[*reply.CommandID], reply)
		}
	}
	if after := b.entries(); after != before {
		t.Errorf("%d entries, %d before", after, before)
	}
	if got := b.Call("GET", fmt.Sprintf("/api/v1/holds/%s", hold), nil); got.Body["status"] != "open" {
		t.Errorf("the hold %v", got)
	}

	// What is null is not there.
	items := []any{}
	for _, operation := range contract.Operations() {
		if operation == "balance" || operation == "cancel" || operation == "release" {
			continue
		}
		item := map[string]any{"operation": operation}
		for name := range values {
			if !slices.Contains(contract.Fields(operation), name) {
				item[name] = nil
			}
		}
		maps.Copy(item, valid[operation])
		items = append(items, item)
	}
	b.Call("POST", fmt.Sprintf("/api/v1/operations/%s/cancel", waits), nil)
	got := b.Call("POST", paymentstest.BatchPath, map[string]any{"operations": items})
	if got.Status != 200 || strings.Contains(fmt.Sprint(got.Body), "problem") {
		t.Errorf("%v", got)
	}
}

// An empty text is no amount, also where one may be left out: it would be all there is.
func TestAnEmptyAmountIsNotAll(t *testing.T) {
	b := setup(t, "all")
	account := b.Account("100.00")
	hold := b.Post(fmt.Sprintf("/api/v1/accounts/%s/holds", account),
		`{"amount": "10.00", "currency": "RUB"}`).Body["id"].(string)
	held, paid := b.Held(account, "20.00"), b.Held(account, "30.00")
	b.Step(paid, "confirm", "")
	before := b.entries()
	capture := `{"operation": "capture", "hold_id": "` + hold + `", "amount": ""`
	for path, body := range map[string]string{
		"/api/v1/holds/" + hold + "/capture":                     `{"amount": ""}`,
		"/api/v1/payments/" + held.OrderID.String() + "/confirm": `{"amount": ""}`,
		"/api/v1/payments/" + paid.OrderID.String() + "/refund":  `{"amount": ""}`,
		"/api/v1/accounts/" + account.String() + "/deposits":     `{"amount": "", "currency": "RUB"}`,
		paymentstest.BatchPath:                                   paymentstest.BatchOf(capture + `}`),
	} {
		if got := b.Call("POST", path, body); got.Status != 400 ||
			!strings.Contains(fmt.Sprint(got.Body["errors"]), "amount") {
			t.Errorf("%s: %v", path, got)
		}
	}
	id := uuid.New()
	b.Produce(toBroker(capture + `, "command_id": "` + id.String() + `"}`))
	if reply := (seen{}).next(b, id); reply.Code != 400 || !strings.Contains(reply.Detail, "amount") {
		t.Errorf("the reply %+v", reply)
	}
	if after := b.entries(); after != before {
		t.Errorf("%d entries, %d before", after, before)
	}
}

// entries counts what has moved money.
func (b *bundle) entries() (n int) {
	b.Helper()
	if err := b.Owner.Get(&n, `SELECT count(*) FROM entries`); err != nil {
		b.Fatal(err)
	}
	return n
}

// An account has other names. Two of them must not contradict each other.
func TestOtherNamesOfAnAccount(t *testing.T) {
	b := setup(t, "all")
	account, other := b.Account("100.00"), b.Account("")
	transfer := func(names string) string {
		return fmt.Sprintf(`{"operation": "transfer", "to_account_id": %q, "amount": "1", "currency": "RUB", %s}`, other,
			names)
	}
	for _, test := range []struct {
		item  string
		field string // of the complaint; "" where it goes through
	}{
		{`{"operation": "create_account", "account_id": "$1"}`, ""},
		{`{"operation": "create_account", "wallet_id": "$1"}`, ""},
		{`{"operation": "create_account", "id": "$1", "account_id": "$1"}`, ""},
		{`{"operation": "create_account", "id": "$1", "account_id": "$2"}`, "account_id"},
		{`{"operation": "create_account", "id": "$1", "wallet_id": "$2"}`, "wallet_id"},
		{`{"operation": "create_account", "account_id": "$1", "wallet_id": "$2"}`, "wallet_id"},
		{`{"operation": "create_account", "account_id": "00000000-0000-0000-0000-000000000001"}`, "id"},
		{`{"operation": "create_account", "account_id": "00000000-0000-0000-0000-000000000000"}`, "id"},
		{transfer(`"from_account_id": "` + account.String() + `"`), ""},
		{transfer(`"account_id": "` + account.String() + `"`), ""},
		{transfer(`"wallet_id": "` + account.String() + `"`), ""},
		{transfer(`"from_account_id": "` + account.String() + `", "account_id": "` + account.String() + `"`), ""},
		{transfer(`"from_account_id": "` + account.String() + `", "account_id": "$1"`), "account_id"},
		{transfer(`"from_account_id": "` + account.String() + `", "wallet_id": "$1"`), "wallet_id"},
		{transfer(`"account_id": "` + account.String() + `", "wallet_id": "$1"`), "wallet_id"},
		{fmt.Sprintf(`{"operation": "deposit", "account_id": %q, "amount": 1, "currency": "RUB", "ticker": "USD"}`,
			account), "ticker"},
		{fmt.Sprintf(`{"operation": "deposit", "account_id": %q, "amount": 1, "currency": "RUB", "reference": "a",
			"orderID": "b"}`, account), "orderID"},
	} {
		first, second := uuid.NewString(), uuid.NewString()
		item := strings.NewReplacer("$1", first, "$2", second).Replace(test.item)
		got := b.Call("POST", paymentstest.BatchPath, paymentstest.BatchOf(item)).Body["items"].([]any)[0].(map[string]any)
		command := uuid.New()
		b.Produce(kafka.Message{Topic: contract.TopicCommands,
			Value: []byte(`{"command_id": "` + command.String() + `", ` + strings.NewReplacer("$1", second, "$2",
				first).Replace(test.item)[1:])})
		all := b.Consume(contract.TopicReplies, func(messages []kafka.Message) bool {
			return slices.ContainsFunc(messages, func(m kafka.Message) bool {
				return strings.Contains(string(m.Value),
					command.String())
			})
		})
		reply := string(all[slices.IndexFunc(all, func(m kafka.Message) bool {
			return strings.Contains(string(m.Value),
				command.String())
		})].Value)
		if test.field == "" {
			if got["operation"] == nil || !strings.Contains(reply, `"code":201`) {
				t.Errorf("%s: %v and %s", item, got, reply)
			} else if account := got["operation"].(map[string]any)["account_id"]; strings.Contains(test.item,
				"\"$1\"") && account != first {
				t.Errorf("%s: the account %v", item, account)
			}
			continue
		}
		if !strings.Contains(fmt.Sprint(got["problem"]), "operations[0]."+test.field+" ") ||
			!strings.Contains(reply, test.field+" ") {
			t.Errorf("%s: %v and %s", item, got, reply)
		}
	}
}
