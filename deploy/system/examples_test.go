package system

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

var writeExamples = flag.Bool("examples.write", false,
	"write into the documents what their commands print, instead of comparing it")

// example is a block of commands in a document and the block of what they print, if one follows.
type example struct {
	line          int
	commands      string
	output        string // with what is different at each run replaced
	begin, end    int    // of the output's lines in the page
	comesToOutput bool
}

const fence = "```"

// readExamples finds the blocks marked sh. A block marked text or json right after one is what it prints. A block after
// the comment notRun is left alone.
func readExamples(lines []string) (examples []example) {
	const notRun = "<!-- not run: "
	skip, last := false, -1 // last is the line after the last block of commands
	for i := 0; i < len(lines); i++ {
		language, ok := strings.CutPrefix(lines[i], fence)
		if !ok {
			if strings.HasPrefix(lines[i], notRun) {
				skip = true
			}
			continue
		}
		begin := i + 1
		for i++; i < len(lines) && lines[i] != fence; i++ {
		}
		text := strings.Join(lines[begin:i], "\n") + "\n"
		switch {
		case language == "sh" && !skip:
			examples = append(examples, example{line: begin + 1, commands: text, begin: i + 1, end: i + 1})
			last = i + 1
		case (language == "text" || language == "json") && last >= 0 &&
			strings.TrimSpace(strings.Join(lines[last:begin-1], "")) == "":
			e := &examples[len(examples)-1]
			e.output, e.begin, e.end, e.comesToOutput, last = text, begin, i, true, -1
		default:
			last = -1
		}
		skip = false
	}
	return examples
}

var (
	uuids = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	times = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)
)

// normal replaces what is different at each run, and leaves out the comments that keep a stream of events alive.
func normal(text string) string {
	text = strings.ReplaceAll(text, ":\n\n", "")
	return times.ReplaceAllString(uuids.ReplaceAllString(text, "<id>"), "<time>")
}

// result is what an example printed, and its exit code.
type result struct{ output, code string }

// runExamples pastes the commands of a document into a shell, one after another, with the stack's own addresses.
func runExamples(t *testing.T, s *saga, root string, examples []example) (results []result, complaints string) {
	t.Helper()
	cfg, err := s.KafkaConfig()
	if err != nil {
		t.Fatal(err)
	}
	places := []string{"localhost:9092", cfg.Brokers[0]}
	for service, address := range map[string]string{
		"gateway": "localhost:8000", "orders": "localhost:8080", "payments": "localhost:8081",
	} {
		places = append(places, address, strings.TrimPrefix(s.URL(service), "http://"))
	}
	local := strings.NewReplacer(places...)
	const separator = "\x1e"
	var script strings.Builder
	for _, e := range examples {
		fmt.Fprintf(&script, "%sprintf '%s%%d%s' $?\n", local.Replace(e.commands), separator, separator)
	}
	shell := exec.CommandContext(t.Context(), "bash", "--norc")
	shell.Dir = root
	shell.Stdin = strings.NewReader(script.String())
	shell.Env = append(os.Environ(), "KAFKA_BROKERS="+cfg.Brokers[0])
	var stderr bytes.Buffer
	shell.Stderr = &stderr
	printed, err := shell.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	parts := strings.Split(string(printed), separator)
	if len(parts) != 2*len(examples)+1 {
		t.Fatalf("%d of %d examples were run: %s%s", len(parts)/2, len(examples), printed, stderr.String())
	}
	for i := range examples {
		output := parts[2*i]
		if output != "" && !strings.HasSuffix(output, "\n") {
			output += "\n"
		}
		results = append(results, result{output: output, code: parts[2*i+1]})
	}
	return results, stderr.String()
}

// The commands of a document, pasted one after another into a shell, print what the document says that they print.
func TestExamples(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("NOT RUN: the documents' examples need %s: %v", tool, err)
		}
	}
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	documents, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	s := newSaga(t, localkafka.Embedded, stack.Instances(1, 1, 0))
	run := 0
	for _, path := range append(documents, filepath.Join(root, "README.md")) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(text), "\n")
		examples := readExamples(lines)
		if len(examples) == 0 {
			continue
		}
		run += len(examples)
		document := filepath.Base(path)
		t.Run(document, func(t *testing.T) {
			results, complaints := runExamples(t, s, root, examples)
			for i, e := range slices.Backward(examples) { // from the end, so that the lines before it keep their numbers
				r := results[i]
				switch {
				case r.code != "0":
					t.Errorf("%s:%d ends with code %s: %s%s", document, e.line, r.code, r.output, complaints)
				case r.output != "" && !e.comesToOutput:
					t.Errorf("%s:%d prints what the page does not show: %s", document, e.line, r.output)
				case *writeExamples && e.comesToOutput:
					written := strings.Split(strings.TrimSuffix(strings.ReplaceAll(r.output, ":\n\n", ""), "\n"), "\n")
					lines = append(lines[:e.begin:e.begin], append(written, lines[e.end:]...)...)
				case normal(r.output) != normal(e.output):
					t.Errorf("%s:%d prints\n%s\nand not\n%s", document, e.line, r.output, e.output)
				}
			}
			if *writeExamples && !t.Failed() {
				if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	if run < 12 {
		t.Errorf("only %d examples were found", run)
	}
}
