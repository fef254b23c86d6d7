package observability

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

const (
	runbooks    = "../../docs/runbooks"
	runbookSite = "https://github.com/altyn-pay/altyn/blob/main/docs/runbooks/"
)

// rule is one of alerts.yml.
type rule struct {
	Alert, Record, Expr string
	Labels, Annotations map[string]string
}

func readRules(t *testing.T) (rules []rule) {
	t.Helper()
	text, err := os.ReadFile("alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for _, group := range file.Groups {
		rules = append(rules, group.Rules...)
	}
	if len(rules) == 0 {
		t.Fatal("there are no rules")
	}
	return rules
}

// alerts are the names of all alerts, sorted, each once.
func alerts(t *testing.T) (names []string) {
	for _, r := range readRules(t) {
		if r.Alert != "" {
			names = append(names, r.Alert)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func TestEveryAlertHasItsRunbook(t *testing.T) {
	pages, err := filepath.Glob(runbooks + "/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, page := range pages {
		pages[i] = strings.TrimSuffix(filepath.Base(page), ".md")
	}
	pages = slices.DeleteFunc(pages, func(page string) bool { return page == "README" })
	if names := alerts(t); !slices.Equal(pages, names) {
		t.Errorf("there are the pages %v and the alerts %v", pages, names)
	}
	index, err := os.ReadFile(runbooks + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range readRules(t) {
		if r.Alert == "" {
			continue
		}
		if url := r.Annotations["runbook_url"]; url != runbookSite+r.Alert+".md" {
			t.Errorf("%s leads to %q", r.Alert, url)
		}
		if r.Annotations["summary"] == "" || !slices.Contains([]string{"page", "ticket"}, r.Labels["severity"]) {
			t.Errorf("%s has %v and %v", r.Alert, r.Annotations, r.Labels)
		}
		if !strings.Contains(string(index), "| ["+r.Alert+"]("+r.Alert+".md) |") {
			t.Errorf("the index of the runbooks lacks %s", r.Alert)
		}
		page, err := os.ReadFile(filepath.Join(runbooks, r.Alert+".md"))
		if err != nil {
			t.Fatal(err)
		}
		for _, section := range []string{"What it means", "What to look at", "What to do", "How to test it"} {
			if !strings.Contains(string(page), "\n## "+section+"\n") {
				t.Errorf("the runbook of %s lacks %q", r.Alert, section)
			}
		}
	}
}

// promtool sees each alert fire: make lint.
func TestEveryAlertIsTested(t *testing.T) {
	var tested []string
	for _, file := range []string{"alerts_test.yml", "days_test.yml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`alertname="(\w+)"`).FindAllSubmatch(text, -1) {
			tested = append(tested, string(name[1]))
		}
	}
	slices.Sort(tested)
	if tested, names := slices.Compact(tested), alerts(t); !slices.Equal(tested, names) {
		t.Errorf("tested are %v of the alerts %v", tested, names)
	}
}
