// Package contracts holds what the repository promises to its clients against what the last release has promised, which
// is kept in deploy/contracts: contracts only gain. make lint runs it, beside buf breaking for the gRPC service. The
// gateway has no contract of its own: a test of gateway/internal/edge makes its document of those of the services.
package contracts

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/oasdiff/oasdiff/checker"
	"github.com/oasdiff/oasdiff/diff"
	"go.yaml.in/yaml/v3"
)

const (
	released = "../../contracts/"
	root     = "../../../"
)

// document is a specification as encoding/json decodes it.
type document = map[string]any

// openAPI reads a Swagger document.
func openAPI(d document) (*openapi3.T, error) {
	var old openapi2.T
	if err := convert(d, &old); err != nil {
		return nil, err
	}
	return openapi2conv.ToV3(&old)
}

// asyncAPI reads an AsyncAPI document as if a topic were a path: what is published is an answer to its reader, what is
// read is a request of its sender. So the same rules hold for both.
func asyncAPI(d document) (*openapi3.T, error) {
	paths := document{}
	channel := func(action, name string) {
		channel := object(d, "channels", name)
		for key := range object(channel, "messages") {
			message := object(d, "components", "messages", key)
			content := document{"application/json": document{"schema": message["payload"]}}
			operation := document{"responses": document{"204": document{"description": "read"}}}
			if action == "receive" {
				operation["requestBody"] = document{"required": true, "content": content}
			} else {
				operation["responses"] = document{"200": document{"description": "told", "content": content}}
			}
			if headers, ok := message["headers"]; ok {
				content["application/x-headers"] = document{"schema": headers}
			}
			paths[fmt.Sprintf("/%s/%s", channel["address"], key)] = document{"post": operation}
		}
	}
	for _, operation := range object(d, "operations") {
		operation := operation.(document)
		channel(operation["action"].(string), target(operation))
		if reply := object(operation, "reply"); reply != nil {
			channel("send", target(reply))
		}
	}
	text, err := json.Marshal(document{
		"openapi": "3.1.0", "info": document{"title": "Altyn over Kafka", "version": "1"}, "paths": paths,
		"components": document{"schemas": object(d, "components", "schemas")},
	})
	if err != nil {
		return nil, err
	}
	return openapi3.NewLoader().LoadFromData(text)
}

// target is the channel that an operation, or its reply, refers to.
func target(of document) string {
	return strings.TrimPrefix(object(of, "channel")["$ref"].(string), "#/channels/")
}

func object(d document, keys ...string) document {
	for _, key := range keys {
		d, _ = d[key].(document)
	}
	return d
}

func convert(from, to any) error {
	text, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, to)
}

// levels are where the rules of Altyn's contracts differ from oasdiff's: a field that was always optional may not go
// either, nor may a value, and readers expect codes that they do not know.
var levels = map[string]checker.Level{
	checker.OptionalResponseHeaderRemovedId:     checker.ERR,
	checker.ResponseOptionalPropertyRemovedId:   checker.ERR,
	checker.ResponseMediaTypeEnumValueRemovedId: checker.ERR,
	checker.ResponsePropertyEnumValueRemovedId:  checker.ERR,
	checker.ResponseMediaTypeEnumValueAddedId:   checker.INFO,
	checker.ResponsePropertyEnumValueAddedId:    checker.INFO,
}

// losses are what a document has lost.
func losses(old, revised *openapi3.T) (list []string, err error) {
	differences, err := diff.Get(diff.NewConfig(), old, revised)
	if err != nil {
		return nil, err
	}
	config := checker.NewConfig(checker.GetAllChecks(), checker.WithSeverityLevels(levels))
	changes := checker.CheckBackwardCompatibilityUntilLevel(config, differences, diff.OperationsSourcesMap{}, checker.WARN)
	for _, change := range changes {
		list = append(list, fmt.Sprintf("%s %s: %s", change.GetOperation(), change.GetPath(),
			change.GetUncolorizedText(checker.NewDefaultLocalizer())))
	}
	return list, nil
}

// A contract is a file of the repository, and below released as it was at the last release.
type contract struct {
	file string
	read func(document) (*openapi3.T, error)
}

var contracts = map[string]contract{
	"orders":   {"orders/docs/swagger.json", openAPI},
	"payments": {"payments/docs/swagger.json", openAPI},
	"asyncapi": {"platform/contract/asyncapi.yaml", asyncAPI},
}

// load reads JSON or YAML.
func load(t *testing.T, file string) (d document) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &d); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return d
}

func (c contract) losses(t *testing.T, old, revised document) []string {
	t.Helper()
	var read [2]*openapi3.T
	for i, d := range []document{old, revised} {
		var err error
		if read[i], err = c.read(d); err != nil {
			t.Fatalf("%s: %v", c.file, err)
		}
	}
	list, err := losses(read[0], read[1])
	if err != nil {
		t.Fatalf("%s: %v", c.file, err)
	}
	return list
}

func TestDocumentsOnlyGain(t *testing.T) {
	for name, c := range contracts {
		for _, loss := range c.losses(t, load(t, released+c.file), load(t, root+c.file)) {
			t.Errorf("%s: %s", name, loss)
		}
	}
}

// Whatever was in a message of the release is in it still, with its type.
func TestGoldenMessagesOnlyGain(t *testing.T) {
	files, err := filepath.Glob(released + "platform/contract/golden/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v %v", files, err)
	}
	for _, file := range files {
		now := filepath.Join(root, strings.TrimPrefix(file, released))
		for _, field := range missing(load(t, file), load(t, now)) {
			t.Errorf("%s: %s", now, field)
		}
	}
}

// missing lists the fields of old that now does not have, or has with another type, a list's items being all like its
// first.
func missing(old, now any) (fields []string) {
	if reflect.TypeOf(old) != reflect.TypeOf(now) {
		return []string{fmt.Sprintf(" was %T and is %T", old, now)}
	}
	switch old := old.(type) {
	case document:
		for name, value := range old {
			for _, field := range missing(value, now.(document)[name]) {
				fields = append(fields, "."+name+field)
			}
		}
	case []any:
		if len(old) > 0 && len(now.([]any)) > 0 {
			return missing(old[0], now.([]any)[0])
		}
	}
	return fields
}

func TestLossesAreSeen(t *testing.T) {
	without := func(keys ...string) func(document) {
		return func(d document) { delete(object(d, keys[:len(keys)-1]...), keys[len(keys)-1]) }
	}
	with := func(value any, keys ...string) func(document) {
		return func(d document) { object(d, keys[:len(keys)-1]...)[keys[len(keys)-1]] = value }
	}
	list := func(change func([]any) []any, keys ...string) func(document) {
		return func(d document) {
			of, last := object(d, keys[:len(keys)-1]...), keys[len(keys)-1]
			old, _ := of[last].([]any)
			of[last] = change(slices.Clone(old))
		}
	}
	shorter := func(list []any) []any { return list[1:] }
	longer := func(value string) func([]any) []any {
		return func(list []any) []any { return append(list, value) }
	}
	optional := document{"type": "string"}
	for _, c := range []struct {
		contract string
		change   func(document)
		lost     string // part of what is said; empty where nothing is lost
	}{
		{"orders", without("definitions", "Order", "properties", "note"), "`note`"},
		{"orders", without("definitions", "Order", "properties", "amount"), "`amount`"},
		{"orders", without("definitions", "PlaceOrder", "properties", "reference"), "`reference`"},
		{"orders", with("string", "definitions", "Order", "properties", "await_inventory", "type"), "`await_inventory`"},
		{"orders", list(shorter, "definitions", "Order", "properties", "status", "enum"), "`status`"},
		{"orders", list(shorter, "definitions", "PlaceOrder", "properties", "capture", "enum"), "`capture`"},
		{"payments", without("paths", "/api/v1/transfers"), "/api/v1/transfers"},
		{"payments", list(longer("reference"), "definitions", "NewTransfer", "required"), "`reference`"},
		{"orders", with(optional, "definitions", "PlaceOrder", "properties", "new"), ""},
		{"orders", with(optional, "definitions", "Order", "properties", "new"), ""},
		{"orders", list(longer("new"), "definitions", "Order", "properties", "status", "enum"), ""},

		{"asyncapi", without("components", "schemas", "payment", "properties", "note"), "`note`"},
		{"asyncapi", without("components", "schemas", "payment", "properties", "version"), "`version`"},
		{"asyncapi", with("integer", "components", "schemas", "amount", "type"), "amount"},
		{"asyncapi", with("string", "components", "schemas", "positiveAmount", "type"), "`amount`"},
		{"asyncapi", list(shorter, "components", "schemas", "payment", "properties", "status", "enum"), "`status`"},
		{"asyncapi", list(longer("reference"), "components", "schemas", "deposit", "required"), "`reference`"},
		{"asyncapi", without("channels", "payments", "messages", "paymentRefunded"), "paymentRefunded"},
		{"asyncapi", with("elsewhere", "channels", "payments", "address"), "/payments/"},
		{"asyncapi", with(optional, "components", "schemas", "payment", "properties", "new"), ""},
		{"asyncapi", list(longer("new"), "components", "schemas", "payment", "properties", "status", "enum"), ""},
	} {
		of := contracts[c.contract]
		old, now := load(t, root+of.file), load(t, root+of.file)
		c.change(now)
		if reflect.DeepEqual(old, now) {
			t.Fatalf("%s has changed so that nothing is tried here (%q)", of.file, c.lost)
		}
		losses := strings.Join(of.losses(t, old, now), "\n")
		if (c.lost == "") != (losses == "") || !strings.Contains(losses, c.lost) {
			t.Errorf("%s: want a loss with %q, got %q", c.contract, c.lost, losses)
		}
	}

	old := document{"payload": document{"amount": "1.00", "items": []any{document{"id": "a"}}}}
	for _, now := range []string{
		`{"payload": {"items": [{"id": "a"}]}}`,
		`{"payload": {"amount": 1, "items": [{"id": "a"}]}}`,
		`{"payload": {"amount": "1.00", "items": [{}]}}`,
	} {
		var changed document
		if err := json.Unmarshal([]byte(now), &changed); err != nil || len(missing(old, changed)) != 1 {
			t.Errorf("%s: %v %v", now, err, missing(old, changed))
		}
	}
}
