package contract_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/altyn-pay/altyn/platform/contract"
)

var update = flag.Bool("update", false, "write the golden files, and the examples of asyncapi.yaml from them")

func TestMain(m *testing.M) {
	if flag.Parse(); *update {
		if err := errors.Join(updateGolden(), updateExamples()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func golden(name string) string { return filepath.Join("golden", name+".json") }

func (e example) text() ([]byte, error) {
	text, err := json.MarshalIndent(e, "", "  ")
	return append(text, '\n'), err
}

// The golden files are what the types looked like when they were published: a type that no longer writes and reads them
// has broken its readers.
func TestGolden(t *testing.T) {
	known := map[string]bool{}
	for name, e := range examples() {
		known[golden(name)] = true
		got, err := e.text()
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(golden(name))
		if err != nil {
			t.Error(err)
			continue
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is no longer what is published (-update when it only gained something):\n%s", name, got)
		}
		if again, err := e.reread(want); err != nil || !bytes.Equal(again, want) {
			t.Errorf("%s, read and written again (%v):\n%s", name, err, again)
		}
	}
	files, err := filepath.Glob("golden/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !known[file] {
			t.Errorf("no message is like %s", file)
		}
	}
}

// reread reads a golden file into the types of e and writes it again.
func (e example) reread(text []byte) ([]byte, error) {
	payload := reflect.New(reflect.TypeOf(e.Payload))
	if reply, ok := e.Payload.(contract.Reply); ok && reply.Body != nil {
		payload.Elem().Set(reflect.ValueOf(contract.Reply{Body: reflect.New(reflect.TypeOf(reply.Body)).Interface()}))
	}
	again := example{Payload: payload.Interface()}
	if err := json.Unmarshal(text, &again); err != nil {
		return nil, err
	}
	return again.text()
}

func updateGolden() error {
	for name, e := range examples() {
		text, err := e.text()
		if err != nil {
			return err
		}
		if err := os.WriteFile(golden(name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// updateExamples writes the golden files into the document, each behind the name of its example.
func updateExamples() error {
	var tree yaml.Node
	if err := yaml.Unmarshal([]byte(contract.AsyncAPI), &tree); err != nil {
		return err
	}
	type place struct {
		first, last, indent int // lines that an example takes behind its name and summary, counted from 1
		name                string
	}
	var places []place
	for _, message := range values(child(child(tree.Content[0], "components"), "messages")) {
		for _, item := range child(message, "examples").Content {
			p := place{name: child(item, "name").Value, last: lastLine(item), indent: item.Column - 1}
			p.first = child(item, "name").Line + 1
			if summary := child(item, "summary"); summary != nil {
				p.first = summary.Line + 1
			}
			places = append(places, p)
		}
	}
	// from the end, so that lines keep their numbers
	slices.SortFunc(places, func(a, b place) int { return b.first - a.first })
	lines := strings.Split(contract.AsyncAPI, "\n")
	for _, p := range places {
		text, err := os.ReadFile(golden(p.name))
		if err != nil {
			return err
		}
		example, err := block(text, p.indent)
		if err != nil {
			return err
		}
		lines = slices.Replace(lines, p.first-1, p.last, example...)
	}
	contract.AsyncAPI = strings.Join(lines, "\n")
	return os.WriteFile("asyncapi.yaml", []byte(contract.AsyncAPI), 0o644)
}

// block writes JSON as lines of YAML.
func block(text []byte, indent int) ([]string, error) {
	var tree yaml.Node
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return nil, err
	}
	plain(tree.Content[0])
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(tree.Content[0]); err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	for i := range lines {
		lines[i] = strings.Repeat(" ", indent) + lines[i]
	}
	return lines, nil
}

// plain leaves the form of all but texts to the encoder, and the empty ones in one line.
func plain(node *yaml.Node) {
	if len(node.Content) > 0 {
		node.Style = 0
	}
	for i, content := range node.Content {
		if plain(content); node.Kind == yaml.MappingNode && i%2 == 0 {
			content.Style = 0
		}
	}
}

func child(node *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return node.Content[i+1]
		}
	}
	return nil
}

func values(node *yaml.Node) (list []*yaml.Node) {
	for i := 1; i < len(node.Content); i += 2 {
		list = append(list, node.Content[i])
	}
	return list
}

func lastLine(node *yaml.Node) int {
	last := node.Line
	for _, content := range node.Content {
		last = max(last, lastLine(content))
	}
	return last
}
