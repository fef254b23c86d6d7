package main

import (
	"bytes"
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/altyn-pay/altyn/testkit/localkafka"
)

// parsed runs the program with arguments and variables, and returns the settings of the run, or what it says.
func parsed(t *testing.T, env map[string]string, args ...string) (given settings, said string) {
	t.Helper()
	var out bytes.Buffer
	p := program(func(_ context.Context, s settings) error { given = s; return nil })
	p.Env, p.Stdout, p.Stderr = env, &out, &out
	if p.Env == nil {
		p.Env = map[string]string{}
	}
	if code := p.Run(t.Context(), args); code != 0 && out.Len() == 0 {
		t.Errorf("%v: code %d without a word", args, code)
	}
	return given, out.String()
}

func TestDefaults(t *testing.T) {
	s, said := parsed(t, nil)
	want := settings{
		Workload: "all", Duration: 10 * time.Second, Repeats: 3, Rate: openRate, Auth: "none",
		Stored: 2_000_000, Soak: 1_000_000, Space: 100_000,
	}
	if s != want || said != "" {
		t.Errorf("%+v %s", s, said)
	}
	if names := s.names(); len(names) != len(workloads)+4 {
		t.Error(names)
	}
	if file, err := s.file(); err != nil || !filepath.IsAbs(file) ||
		!strings.HasSuffix(file, "/deploy/bench/latest.json") {
		t.Errorf("%s: %v", file, err)
	}
}

func TestVariablesAndFlags(t *testing.T) {
	env := map[string]string{
		"WORKLOAD": "orders, soak", "DURATION": "2s", "REPEATS": "5", "KAFKA": "embedded",
		"STORED": "1000", "SOAK": "2000", "SPACE": "10", "RATE": "100", "AUTH": "jwt",
	}
	s, said := parsed(t, env, "-repeats", "1") // a flag counts more
	want := settings{
		Workload: "orders, soak", Duration: 2 * time.Second, Repeats: 1, Kafka: localkafka.Embedded, Rate: 100, Auth: "jwt",
		Stored: 1000, Soak: 2000, Space: 10,
	}
	if s != want {
		t.Errorf("%+v %s", s, said)
	}
	if names := s.names(); !slices.Equal(names, []string{"orders", "soak"}) {
		t.Error(names)
	}
	if file, err := s.file(); file != "" || err != nil {
		t.Errorf("a part of the workloads would replace the whole result: %s %v", file, err)
	}
	s, _ = parsed(t, env, "-out", "part.json")
	if file, err := s.file(); file != "part.json" || err != nil {
		t.Errorf("%s: %v", file, err)
	}
}

func TestBadSettings(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		args []string
		want string
	}{
		{args: []string{"-workload", "order"}, want: `--workload: "order" must be`},
		{args: []string{"-kafka", "redpanda"}, want: `--kafka: "redpanda" must be`},
		{args: []string{"-auth", "dev"}, want: `--auth: "dev" must be`},
		{args: []string{"-duration", "10ms"}, want: "--duration"},
		{args: []string{"-repeats", "0"}, want: "--repeats"},
		{args: []string{"-soak", "10"}, want: "--soak"},
		{args: []string{"-stored", "0"}, want: "--stored"},
		{args: []string{"-rate", "NaN"}, want: "--rate"},
		{args: []string{"orders"}, want: `no argument "orders"`},
		{env: map[string]string{"DURATION": "ten"}, want: "DURATION"},
	} {
		if _, said := parsed(t, c.env, c.args...); !strings.Contains(said, c.want) {
			t.Errorf("%v %v: %s", c.env, c.args, said)
		}
	}
}

func TestHelp(t *testing.T) {
	_, help := parsed(t, nil, "--help")
	for _, w := range workloads {
		if !strings.Contains(help, "  "+w.name+" ") || !strings.Contains(help, w.goal.String()) {
			t.Errorf("there is nothing about %s", w.name)
		}
	}
}
