package system

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// elsewhere are the metrics that the rules and dashboards ask for and that a healthy stack may lack.
var elsewhere = []string{
	"altyn_certificate_expiry_timestamp_seconds", // of TLS: TestOrderByTLS
	"altyn_commands_total",                       // with the first command from the broker
	"altyn_orders_announced_again_total",         // with the first order that takes too long
	"altyn_reconcile_timestamp_seconds",          // in the file of altyn reconcile --metrics
	"altyn_reconcile_wrong_orders",
	"altyn_traces_dropped_spans_total", // where traces are exported
}

// watched expects each metric that the rules and dashboards ask for on the operators' plane of one of the instances.
func (b *bundle) watched(t *testing.T, instances ...string) {
	t.Helper()
	boards, err := filepath.Glob("../observability/dashboards/*.json")
	if err != nil || len(boards) == 0 {
		t.Fatalf("%v: dashboards %v", err, boards)
	}
	var asked []string
	for _, file := range append(boards, "../observability/alerts.yml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		asked = append(asked, regexp.MustCompile(`\b(altyn|go|process)_[a-z_]+`).FindAllString(string(text), -1)...)
	}
	var there []byte
	for _, instance := range instances {
		response, err := http.Get(b.AdminURL(instance) + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		if response.Body.Close(); err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", instance, response.Status, err)
		}
		there = append(there, text...)
	}
	slices.Sort(asked)
	asked = slices.Compact(asked)
	for _, name := range asked {
		if !slices.Contains(elsewhere, name) && !regexp.MustCompile(`(?m)^`+name+`[{ ]`).Match(there) {
			t.Errorf("%s is asked for, and a running stack has none", name)
		}
	}
	for _, name := range elsewhere {
		if !slices.Contains(asked, name) {
			t.Errorf("nothing asks for %s", name)
		}
	}
}
