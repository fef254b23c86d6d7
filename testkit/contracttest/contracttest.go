// Package contracttest checks messages against the AsyncAPI document of package contract. It is stricter than a
// reader may be: a field that the document does not describe is an error, so that nothing undocumented is published.
package contracttest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// Validate fails the test if the document does not allow the payload on the topic.
func Validate(t testing.TB, topic string, payload []byte) {
	t.Helper()
	validate(t, topic, nil, payload)
}

// ValidateMessage is Validate for a message that was read from a broker. It checks the headers too.
func ValidateMessage(t testing.TB, m kafka.Message) {
	t.Helper()
	headers := make(map[string]any, len(m.Headers))
	for _, h := range m.Headers {
		headers[h.Key] = string(h.Value)
	}
	validate(t, m.Topic, headers, m.Value)
}

var document = sync.OnceValues(Load)

func validate(t testing.TB, topic string, headers map[string]any, payload []byte) {
	t.Helper()
	d, err := document()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Check(topic, headers, payload); err != nil {
		t.Errorf("%v\n%s", err, payload)
	}
}

// Document is the AsyncAPI document, ready to check messages against it.
type Document struct {
	// Root is the whole document as encoding/json would decode it, with numbers as json.Number.
	Root map[string]any
	// Messages are components/messages by their keys.
	Messages map[string]*Message
	channels []channel
}

type channel struct {
	topics   *regexp.Regexp
	messages []*Message
}

// Message is a kind of message.
type Message struct {
	Name    string // its key in the document
	headers *jsonschema.Schema
	payload *jsonschema.Schema // nil where the payload is not JSON
}

// address names the document. Nothing is fetched from there.
const address = "mem:///asyncapi.yaml"

// Load reads the document. An invalid schema in it is an error.
func Load() (*Document, error) {
	var tree any
	if err := yaml.Unmarshal([]byte(contract.AsyncAPI), &tree); err != nil {
		return nil, fmt.Errorf("asyncapi.yaml: %w", err)
	}
	text, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("asyncapi.yaml: %w", err)
	}
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("asyncapi.yaml: %w", err)
	}
	strict, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("asyncapi.yaml: %w", err)
	}
	d := &Document{Root: root.(map[string]any), Messages: map[string]*Message{}}
	if err := d.compile(strict); err != nil {
		return nil, fmt.Errorf("asyncapi.yaml: %w", err)
	}
	for _, c := range object(d.Root, "channels") {
		d.channels = append(d.channels, d.channel(c))
	}
	return d, nil
}

// compile prepares the schemas of all messages. Those of payloads forbid undescribed fields.
func (d *Document) compile(tree any) error {
	components := object(tree, "components")
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft7) // which AsyncAPI's own schemas extend
	compiler.AssertFormat()
	closed := closing{schemas: object(components, "schemas"), seen: map[string]bool{}}
	for _, m := range object(components, "messages") {
		closed.schema(object(m)["payload"])
	}
	if err := compiler.AddResource(address, tree); err != nil {
		return err
	}
	for name, m := range object(components, "messages") {
		at := address + "#/components/messages/" + name
		message := &Message{Name: name}
		var err error
		if object(m)["headers"] != nil {
			if message.headers, err = compiler.Compile(at + "/headers"); err != nil {
				return err
			}
		}
		if content := object(m)["contentType"]; content == nil || content == "application/json" {
			if message.payload, err = compiler.Compile(at + "/payload"); err != nil {
				return err
			}
		}
		d.Messages[name] = message
	}
	return nil
}

// closing makes a schema forbid fields that it does not describe.
type closing struct {
	schemas map[string]any
	seen    map[string]bool
}

func (c closing) schema(s any) {
	schema := object(s)
	if ref, ok := schema["$ref"].(string); ok {
		if name := path.Base(ref); !c.seen[name] {
			c.seen[name] = true
			c.schema(c.schemas[name])
		}
		return
	}
	if properties := object(schema, "properties"); properties != nil {
		if schema["additionalProperties"] == nil {
			schema["additionalProperties"] = false
		}
		for _, property := range properties {
			c.schema(property)
		}
	}
	if items, ok := schema["items"]; ok {
		c.schema(items)
	}
	for _, keyword := range []string{"anyOf", "oneOf"} {
		list, _ := schema[keyword].([]any)
		for _, alternative := range list {
			c.schema(alternative)
		}
	}
}

var parameter = regexp.MustCompile(`\\{(\w+)\\}`)

// channel reads which messages a topic carries.
func (d *Document) channel(c any) channel {
	address, _ := object(c)["address"].(string)
	topics := parameter.ReplaceAllStringFunc(regexp.QuoteMeta(address), func(quoted string) string {
		name := parameter.FindStringSubmatch(quoted)[1]
		values, ok := object(c, "parameters", name)["enum"].([]any)
		if !ok {
			return `[a-zA-Z0-9._-]+`
		}
		names := make([]string, len(values))
		for i, value := range values {
			names[i] = regexp.QuoteMeta(value.(string))
		}
		return "(" + strings.Join(names, "|") + ")"
	})
	out := channel{topics: regexp.MustCompile("^" + topics + "$")}
	for _, m := range object(c, "messages") {
		ref, _ := object(m)["$ref"].(string)
		out.messages = append(out.messages, d.Messages[path.Base(ref)])
	}
	return out
}

// Check returns nil if the message is one that the document describes for the topic, else why it is none of them. nil
// headers are not checked.
func (d *Document) Check(topic string, headers map[string]any, payload []byte) error {
	var errs []error
	for _, c := range d.channels {
		if !c.topics.MatchString(topic) {
			continue
		}
		for _, m := range c.messages {
			err := m.Check(headers, payload)
			if err == nil {
				return nil
			}
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		return fmt.Errorf("topic %s is not described", topic)
	}
	return fmt.Errorf("topic %s: %w", topic, errors.Join(errs...))
}

// Check returns why a message is not of this kind, or nil. nil headers are not checked.
func (m *Message) Check(headers map[string]any, payload []byte) error {
	var errs []error
	if headers != nil && m.headers != nil {
		errs = append(errs, m.headers.Validate(headers))
	}
	if m.payload != nil {
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(payload))
		if err == nil {
			err = m.payload.Validate(value)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("not a message %s: %w", m.Name, err)
	}
	return nil
}

// object returns the object at a path of keys, or nil.
func object(tree any, keys ...string) map[string]any {
	at, _ := tree.(map[string]any)
	for _, key := range keys {
		at, _ = at[key].(map[string]any)
	}
	return at
}
