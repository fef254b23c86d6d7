package system

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

var writeReadme = flag.Bool("readme.write", false, "write into the README what its commands print, instead of comparing it")

// example is a block of commands in the README and the block of what they print, if one follows.
type example struct {
	line          int
	commands      string
	output        string // with what is different at each run replaced
	begin, end    int    // of the output's lines in the page
	comesToOutput bool
}

const fence = "```"

// readExamples finds the blocks marked sh. A block marked text or json right behind one is what it prints. A block behind the
// comment notRun is left alone.
func readExamples(lines []string) (examples []example) {
	const notRun = "<!-- not run: "
	skip, last := false, -1 // last is the line behind the last block of commands
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
		case (language == "text" || language == "json") && last >= 0 && strings.TrimSpace(strings.Join(lines[last:begin-1], "")) == "":
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

// The commands of the README, pasted one after another into a shell, print what the README says that they print.
func TestReadme(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("NOT RUN: the README's examples need %s: %v", tool, err)
		}
	}
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "README.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(page), "\n")
	examples := readExamples(lines)
	if len(examples) < 10 {
		t.Fatalf("the README has only %d examples", len(examples))
	}

	s := newSaga(t, localkafka.Embedded, stack.Instances(1, 1, 0))
	cfg, err := s.KafkaConfig()
	if err != nil {
		t.Fatal(err)
	}
	places := []string{"localhost:9092", cfg.Brokers[0]}
	for service, address := range map[string]string{"gateway": "localhost:8000", "orders": "localhost:8080", "payments": "localhost:8081"} {
		places = append(places, address, strings.TrimPrefix(s.URL(service), "http://"))
	}
	const separator = "\x1e"
	var script strings.Builder
	for _, e := range examples {
		fmt.Fprintf(&script, "%sprintf '%s%%d%s' $?\n", strings.NewReplacer(places...).Replace(e.commands), separator, separator)
	}
	shell := exec.CommandContext(t.Context(), "bash", "--norc")
	shell.Dir = root
	shell.Stdin = strings.NewReader(script.String())
	shell.Env = append(os.Environ(), "KAFKA_BROKERS="+cfg.Brokers[0])
	var complaints bytes.Buffer
	shell.Stderr = &complaints
	printed, err := shell.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, complaints.String())
	}
	parts := strings.Split(string(printed), separator)
	if len(parts) != 2*len(examples)+1 {
		t.Fatalf("%d of %d examples were run: %s%s", len(parts)/2, len(examples), printed, complaints.String())
	}
	for i := len(examples) - 1; i >= 0; i-- { // from the end, so that the lines before it keep their numbers
		e, output, code := examples[i], parts[2*i], parts[2*i+1]
		if output != "" && !strings.HasSuffix(output, "\n") {
			output += "\n"
		}
		switch {
		case code != "0":
			t.Errorf("README.md:%d ends with code %s: %s%s", e.line, code, output, complaints.String())
		case output != "" && !e.comesToOutput:
			t.Errorf("README.md:%d prints what the page does not show: %s", e.line, output)
		case *writeReadme && e.comesToOutput:
			written := strings.Split(strings.TrimSuffix(strings.ReplaceAll(output, ":\n\n", ""), "\n"), "\n")
			lines = append(lines[:e.begin:e.begin], append(written, lines[e.end:]...)...)
		case normal(output) != normal(e.output):
			t.Errorf("README.md:%d prints\n%s\nand not\n%s", e.line, output, e.output)
		}
	}
	if *writeReadme && !t.Failed() {
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
