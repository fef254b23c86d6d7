package contract_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"

	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/testkit/contracttest"
)

func load(t *testing.T) *contracttest.Document {
	t.Helper()
	d, err := contracttest.Load()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The document is valid by the schema that the AsyncAPI Initiative publishes.
func TestAsyncAPIIsValid(t *testing.T) {
	file, err := os.Open("testdata/asyncapi-3.1.0.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	standard, err := jsonschema.UnmarshalJSON(file)
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("mem:///standard.json", standard); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("mem:///standard.json")
	if err != nil {
		t.Fatal(err)
	}
	document := load(t).Root
	if err := schema.Validate(document); err != nil {
		t.Error(err)
	}
	document["operations"].(map[string]any)["publishOrders"].(map[string]any)["action"] = "shout"
	if schema.Validate(document) == nil {
		t.Error("the schema allows anything")
	}
}

// follow finds what a reference within the document leads to.
func follow(document any, ref string) any {
	for key := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		object, _ := document.(map[string]any)
		document = object[key]
	}
	return document
}

// references lists all references within a part of the document.
func references(part any) (refs []string) {
	switch part := part.(type) {
	case map[string]any:
		if ref, ok := part["$ref"].(string); ok {
			refs = append(refs, ref)
		}
		for _, value := range part {
			refs = append(refs, references(value)...)
		}
	case []any:
		for _, value := range part {
			refs = append(refs, references(value)...)
		}
	}
	return refs
}

func TestAsyncAPIHasNoLooseEnds(t *testing.T) {
	document := load(t).Root
	used := references(document)
	for _, ref := range used {
		if follow(document, ref) == nil {
			t.Errorf("%s leads nowhere", ref)
		}
	}
	for _, kind := range []string{"schemas", "messages"} {
		for name := range follow(document, "#/components/"+kind).(map[string]any) {
			if ref := "#/components/" + kind + "/" + name; !slices.Contains(used, ref) {
				t.Errorf("%s is not used", ref)
			}
		}
	}
}

func TestAsyncAPIExamples(t *testing.T) {
	d := load(t)
	want := examples()
	for name, message := range follow(d.Root, "#/components/messages").(map[string]any) {
		list, _ := message.(map[string]any)["examples"].([]any)
		if len(list) == 0 {
			t.Errorf("the message %s has no example", name)
		}
		for _, item := range list {
			item := item.(map[string]any)
			title := item["name"].(string)
			if _, ok := want[title]; !ok {
				t.Errorf("there is no golden file for the example %s, or it is there twice", title)
			}
			delete(want, title)
			text, err := os.ReadFile(golden(title))
			if err != nil {
				t.Error(err)
				continue
			}
			golden, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			delete(item, "name")
			delete(item, "summary")
			if !reflect.DeepEqual(any(item), golden) {
				t.Errorf("the example %s is not its golden file (-update)", title)
			}
			payload, err := json.Marshal(item["payload"])
			if err != nil {
				t.Fatal(err)
			}
			headers, _ := item["headers"].(map[string]any)
			if headers == nil {
				headers = map[string]any{}
			}
			if err := d.Messages[name].Check(headers, payload); err != nil {
				t.Errorf("example %s: %v", title, err)
			}
		}
	}
	for name := range want {
		t.Errorf("the golden file %s is no example", name)
	}
}

// Every field of the types is described, none else, and those that are always there are required.
func TestAsyncAPIDescribesTheTypes(t *testing.T) {
	schemas := follow(load(t).Root, "#/components/schemas").(map[string]any)
	for _, test := range []struct {
		value   any
		schemas []string // that describe it together
	}{
		{contract.Order{}, []string{"order"}},
		{contract.Cancellation{}, []string{"cancellation"}},
		{contract.Payment{}, []string{"payment"}},
		{contract.Inventory{}, []string{"inventory"}},
		{contract.LedgerHead{}, []string{"ledgerHead"}},
		{contract.Command{}, []string{"createAccount", "deposit", "withdraw", "transfer", "hold", "capture", "release",
			"cancel", "balanceQuestion"}},
		{contract.Reply{}, []string{"success", "refusal"}},
		{contract.Operation{}, []string{"operation"}},
		{contract.Account{}, []string{"account"}},
		{contract.Balance{}, []string{"accountBalance"}},
		{contract.Balances{}, []string{"balances"}},
	} {
		described, required := map[string]bool{}, map[string]int{}
		for _, name := range test.schemas {
			schema := schemas[name].(map[string]any)
			for field := range schema["properties"].(map[string]any) {
				described[field] = true
			}
			for _, field := range schema["required"].([]any) {
				required[field.(string)]++
			}
		}
		fields := map[string]bool{}
		for _, field := range reflect.VisibleFields(reflect.TypeOf(test.value)) {
			name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
			if field.Anonymous {
				continue
			}
			fields[name] = true
			if always, want := required[name] == len(test.schemas), options == ""; always != want {
				t.Errorf("%T: %s is required by the document: %t, always written: %t", test.value, name, always, want)
			}
		}
		if !maps.Equal(described, fields) {
			t.Errorf("%T has the fields %v, described are %v", test.value, slices.Sorted(maps.Keys(fields)),
				slices.Sorted(maps.Keys(described)))
		}
	}
}

// A command of an operation is described with the fields that it has by the table of all commands, and with no others.
func TestAsyncAPIDescribesTheFieldsOfEachOperation(t *testing.T) {
	schemas := follow(load(t).Root, "#/components/schemas").(map[string]any)
	names := map[string]string{"create_account": "createAccount", "invoice": "deposit", "balance": "balanceQuestion"}
	for _, operation := range contract.Operations() {
		name := operation
		if names[operation] != "" {
			name = names[operation]
		}
		want := slices.Sorted(slices.Values(append([]string{"operation", "command_id"}, contract.Fields(operation)...)))
		properties := schemas[name].(map[string]any)["properties"].(map[string]any)
		if got := slices.Sorted(maps.Keys(properties)); !slices.Equal(got, want) {
			t.Errorf("%s is described with %v, and has %v", operation, got, want)
		}
	}
	// Each field of a command is one of some operation.
	for _, field := range reflect.VisibleFields(reflect.TypeFor[contract.Command]()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if !slices.ContainsFunc(contract.Operations(), func(operation string) bool {
			return contract.Command{}.Has(operation, name)
		}) {
			t.Errorf("no operation has %s", name)
		}
	}
}

// Every topic is described, with the events that come on it.
func TestAsyncAPIDescribesTheTopics(t *testing.T) {
	d := load(t)
	for topic, names := range map[string][]string{
		contract.TopicOrders: {"order.placed", "order.cancelled"},
		contract.TopicPayments: {"payment.created", "payment.authorized", "payment.succeeded", "payment.failed",
			"payment.cancelled", "payment.refunded"},
		contract.TopicInventory: {"inventory.completed"},
		contract.TopicCommands:  {"command.create_account", "command.invoice", "command.release"},
		contract.TopicReplies:   {"reply.transfer", "reply.without_id"},
		contract.TopicHeads:     {"ledger.head"},

		contract.ReplyToPrefix + "my-shop_2":                 {"reply.transfer", "reply.without_id"},
		contract.DeadLetter(contract.TopicOrders):            {"dead_letter"},
		contract.DeadLetter(contract.TopicPayments):          {"dead_letter"},
		contract.DeadLetter(contract.TopicInventory):         {"dead_letter"},
		contract.DeadLetter(contract.TopicCommands):          {"dead_letter"},
		contract.TopicReplies + "elsewhere":                  nil,
		strings.Replace(contract.TopicCommands, ".", "x", 1): nil,
	} {
		for name, e := range examples() {
			payload, err := json.Marshal(e.Payload)
			if err != nil {
				t.Fatal(err)
			}
			headers := map[string]any{}
			for key, value := range e.Headers {
				headers[key] = value
			}
			err = d.Check(topic, headers, payload)
			if slices.Contains(names, name) && err != nil {
				t.Error(err)
			}
			if kind, _, _ := strings.Cut(name, "."); err == nil && (names == nil || kind != strings.Split(names[0], ".")[0]) {
				t.Errorf("%s is allowed on %s", name, topic)
			}
		}
	}
}

func TestAsyncAPIRefuses(t *testing.T) {
	d := load(t)
	all := examples()
	for _, test := range []struct {
		topic, name string
		change      func(payload map[string]any)
		want        string // in the error
	}{
		{contract.TopicPayments, "payment.failed", func(p map[string]any) { p["colour"] = "red" }, "colour"},
		{contract.TopicPayments, "payment.failed", func(p map[string]any) { delete(p, "version") }, "version"},
		{contract.TopicPayments, "payment.failed", func(p map[string]any) { p["amount"] = 2500 }, "amount"},
		{contract.TopicPayments, "payment.failed", func(p map[string]any) {
			p["created_at"] = "2026-01-15T09:30:00+03:00"
		}, "created_at"},
		{contract.TopicOrders, "order.placed", func(p map[string]any) { p["order_id"] = "1042" }, "order_id"},
		{contract.TopicReplies, "reply.deposit", func(p map[string]any) {
			p["body"].(map[string]any)["colour"] = "red"
		}, "colour"},
		{contract.TopicReplies, "reply.balance", func(p map[string]any) {
			p["body"].(map[string]any)["actual_balance"].(map[string]any)["RUB"] = "-1"
		}, "RUB"},
		{contract.TopicReplies, "reply.without_id", func(p map[string]any) { delete(p, "command_id") }, "command_id"},
		{contract.TopicCommands, "command.deposit", func(p map[string]any) { p["amount"] = "1e3" }, "amount"},
		{contract.TopicCommands, "command.deposit", func(p map[string]any) { p["amount"] = 0 }, "amount"},
		{contract.TopicCommands, "command.transfer", func(p map[string]any) { delete(p, "to_account_id") }, "to_account_id"},
		{contract.TopicCommands, "command.transfer", func(p map[string]any) { p["operation"] = "dance" }, "operation"},
	} {
		text, err := json.Marshal(all[test.name].Payload)
		if err != nil {
			t.Fatal(err)
		}
		var payload map[string]any
		if err := json.Unmarshal(text, &payload); err != nil {
			t.Fatal(err)
		}
		test.change(payload)
		if text, err = json.Marshal(payload); err != nil {
			t.Fatal(err)
		}
		if err := d.Check(test.topic, nil, text); err == nil || !strings.Contains(fmt.Sprint(err), test.want) {
			t.Errorf("%s: %v, want something about %s", test.name, err, test.want)
		}
	}
	if err := d.Check(contract.TopicOrders, nil, []byte("not json")); err == nil {
		t.Error("what is not JSON is allowed")
	}
}
