package main

import (
	"bytes"
	"errors"
	"flag"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/altyn-pay/altyn/testkit/localkafka"
)

func parsed(t *testing.T, env map[string]string, args ...string) (settings, error) {
	t.Helper()
	var help bytes.Buffer
	return parse(args, func(name string) string { return env[name] }, &help)
}

func TestDefaults(t *testing.T) {
	s, err := parsed(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.duration != 10*time.Second || s.repeats != 3 || s.clients != 64 || s.accounts != 1000 || s.stored != 10_000_000 || s.soak != 1_000_000 || s.rate != 500 || s.kafka != "" {
		t.Errorf("%+v", s)
	}
	if len(s.measured) != len(workloads)+2 || len(s.chosen(false)) != len(workloads) || len(s.chosen(true)) != len(workloads)-1 {
		t.Errorf("%v", s.measured)
	}
	if !filepath.IsAbs(s.out) || !strings.HasSuffix(s.out, "/deploy/bench/latest.json") || !strings.HasSuffix(s.chartOut(), "/deploy/bench/latest.svg") {
		t.Errorf("%s, %s", s.out, s.chartOut())
	}
}

func TestVariablesAndFlags(t *testing.T) {
	env := map[string]string{"WORKLOAD": "orders, soak", "DURATION": "2s", "REPEATS": "5", "KAFKA": "embedded", "STORED": "1000", "SOAK": "2000", "RATE": "100"}
	s, err := parsed(t, env, "-repeats", "1") // a flag counts more
	if err != nil {
		t.Fatal(err)
	}
	if s.duration != 2*time.Second || s.repeats != 1 || s.kafka != localkafka.Embedded || s.stored != 1000 || s.soak != 2000 || s.rate != 100 {
		t.Errorf("%+v", s)
	}
	if s.out != "" {
		t.Errorf("a part of the workloads would replace the whole result: %s", s.out)
	}
	if s, err = parsed(t, env, "-out", "part.json"); err != nil || s.out != "part.json" || s.chartOut() != "part.svg" {
		t.Errorf("%s, %s: %v", s.out, s.chartOut(), err)
	}
}

func TestChoice(t *testing.T) {
	rated := []string{"billing", "billing-batch", "commands", "hot", "orders", "orders-batch"}
	for names, want := range map[string][]string{
		"orders":         {"orders"},
		"orders,latency": {"latency", "orders"},
		"hot":            {"billing", "hot"}, // which it is compared with
		"soak":           {"soak"},
		"stored":         append(slices.Clone(rated), "stored"),
		"stored,latency": append(slices.Clone(rated), "latency", "stored"),
		"stored,orders":  {"orders", "stored"},
		"all":            append(slices.Clone(rated), "latency", "soak", "stored"),
	} {
		slices.Sort(want)
		chosen, err := choose(names)
		if got := slices.Sorted(maps.Keys(chosen)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, not %v: %v", names, got, want, err)
		}
	}
}

func TestBadSettings(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		args []string
		want string
	}{
		{args: []string{"-workload", "order"}, want: `no workload "order"`},
		{args: []string{"-workload", ""}, want: `no workload ""`},
		{args: []string{"-kafka", "redpanda"}, want: `"redpanda"`},
		{args: []string{"-duration", "10ms"}, want: "a second"},
		{args: []string{"-repeats", "0"}, want: "a round"},
		{args: []string{"-soak", "10"}, want: "of a soak"},
		{args: []string{"-stored", "0"}, want: "to be stored"},
		{args: []string{"orders"}, want: `no argument "orders"`},
		{env: map[string]string{"DURATION": "ten"}, want: "DURATION"},
	} {
		if _, err := parsed(t, c.env, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v %v: %v", c.env, c.args, err)
		}
	}
}

func TestHelp(t *testing.T) {
	var help bytes.Buffer
	if _, err := parse([]string{"--help"}, func(string) string { return "" }, &help); !errors.Is(err, flag.ErrHelp) {
		t.Fatal(err)
	}
	for _, w := range workloads {
		if !strings.Contains(help.String(), "  "+w.name+" ") || !strings.Contains(help.String(), w.goal.String()) {
			t.Errorf("there is nothing about %s", w.name)
		}
	}
	for _, name := range variables {
		if !strings.Contains(help.String(), "("+strings.ToUpper(name)+")") {
			t.Errorf("there is nothing about %s", name)
		}
	}
}
