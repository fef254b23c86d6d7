package observability

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// registered returns the metrics in the code of the services and of altyn, with the labels of each.
func registered(t *testing.T) map[string][]string {
	t.Helper()
	found := make(map[string][]string)
	names := regexp.MustCompile(`"(altyn_[a-z_]+)"`)
	labels := regexp.MustCompile(`\[\]string\{("[^}]+)\}|Labels\{([^}]+)\}`)
	for _, folder := range []string{"gateway", "orders", "payments", "platform", "deploy/cmd/altyn"} {
		if err := filepath.WalkDir("../../"+folder, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			places := names.FindAllSubmatchIndex(text, -1)
			for i, place := range places {
				end := min(place[1]+400, len(text)) // its help and buckets come in between
				if i+1 < len(places) {
					end = min(end, places[i+1][0])
				}
				name := string(text[place[2]:place[3]])
				found[name] = append(found[name], []string{}...)
				for _, list := range labels.FindAllString(string(text[place[1]:end]), -1) {
					for _, label := range regexp.MustCompile(`"([a-z_]+)"`).FindAllStringSubmatch(list, -1) {
						found[name] = append(found[name], label[1])
					}
				}
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if len(found) < 30 {
		t.Fatalf("found only %v", found)
	}
	return found
}

// others are the metrics that are not Altyn's: of client_golang, Prometheus and node exporter.
var others = regexp.MustCompile(`^(up|ALERTS|go_goroutines|go_sql_\w+|process_\w+|node_filesystem_\w+)$`)

// expressions are all of the rules and dashboards, by where they are.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for _, r := range readRules(t) {
		found["alerts.yml "+r.Alert+r.Record] += r.Expr + "\n"
	}
	files, err := filepath.Glob("dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v: dashboards %v", err, files)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var board struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(text, &board); err != nil || len(board.Panels) == 0 {
			t.Fatalf("%s: %v", file, err)
		}
		for _, panel := range board.Panels {
			if len(panel.Targets) == 0 {
				t.Errorf("%s: %s asks nothing", file, panel.Title)
			}
			for _, target := range panel.Targets {
				found[file+" "+panel.Title] += target.Expr + "\n"
			}
		}
	}
	return found
}

var (
	quoted   = regexp.MustCompile(`"[^"]*"`)
	metric   = regexp.MustCompile(`\b(altyn:[\w:]+|altyn_\w+|go_\w+|process_\w+|node_\w+|up|ALERTS)\b(\{[^}]*\})?`)
	label    = regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)`)
	grouping = regexp.MustCompile(`\b(?:by|without|on)\s*\(([^)]*)\)`)
)

// What a rule or a panel asks for is registered by a service, with these labels.
func TestWhatIsAskedForIsThere(t *testing.T) {
	known := registered(t)
	var recorded []string
	for _, r := range readRules(t) {
		recorded = append(recorded, r.Record)
	}
	common := []string{"job", "instance", "le", "alertname", "alertstate", "severity", "fstype", "mountpoint"}
	asked := 0
	for place, text := range expressions(t) {
		var labels []string
		for _, match := range metric.FindAllStringSubmatch(quoted.ReplaceAllString(text, `""`), -1) {
			name, selector := match[1], match[2]
			if strings.HasPrefix(name, "altyn:") {
				if !slices.Contains(recorded, name) {
					t.Errorf("%s: nothing records %s", place, name)
				}
				continue
			}
			asked++
			of, ok := known[name]
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if base, cut := strings.CutSuffix(name, suffix); cut && !ok {
					of, ok = known[base]
				}
			}
			if !ok && !others.MatchString(name) {
				t.Errorf("%s asks for %s, which no service has", place, name)
				continue
			}
			labels = append(labels, of...)
			for _, asked := range label.FindAllStringSubmatch(selector, -1) {
				if !slices.Contains(of, asked[1]) && !slices.Contains(common, asked[1]) {
					t.Errorf("%s: %s has no label %s, only %v", place, name, asked[1], of)
				}
			}
		}
		for _, group := range grouping.FindAllStringSubmatch(text, -1) {
			for name := range strings.SplitSeq(group[1], ",") {
				if name = strings.TrimSpace(name); !slices.Contains(labels, name) && !slices.Contains(common, name) {
					t.Errorf("%s groups by %s, which nothing there has, only %v", place, name, labels)
				}
			}
		}
	}
	if asked < 50 {
		t.Errorf("only %d metrics are asked for", asked)
	}
}
