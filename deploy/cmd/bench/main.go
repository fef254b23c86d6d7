// Command bench measures how many orders and billing operations per second Altyn settles, beside what pgbench
// does on the same PostgreSQL in the same run. It starts stacks of its own with durable settings, on free
// ports and with temporary data.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

func main() {
	localkafka.Child()
	os.Exit(program(run).Main())
}

// settings of a run.
type settings struct {
	Workload string          `flag:"workload" env:"WORKLOAD" value:"NAMES" default:"all" help:"workloads, with commas between, or all"`
	Duration time.Duration   `flag:"duration" env:"DURATION" default:"10s" help:"how long each measurement takes"`
	Repeats  int             `flag:"repeats" env:"REPEATS" default:"3" help:"rounds of measurements"`
	Kafka    localkafka.Kind `flag:"kafka" env:"KAFKA" value:"KIND" help:"apache or embedded; default: Apache Kafka where it can run"`
	Rate     float64         `flag:"rate" env:"RATE" default:"500" help:"orders per second of the workload latency; its goal is for the default"`
	Stored   int             `flag:"stored" env:"STORED" default:"2000000" help:"orders that are stored already when the workload stored begins"`
	Soak     int             `flag:"soak" env:"SOAK" default:"1000000" help:"orders of the workload soak"`
	Space    int             `flag:"space" env:"SPACE" default:"100000" help:"orders of the workload space"`
	Auth     string          `flag:"auth" env:"AUTH" value:"KIND" default:"none" help:"none, or jwt: every request and command shows a token"`
	Out      string          `flag:"out" value:"FILE" help:"where the result is written as JSON; default: deploy/bench/latest.json when all is measured"`
}

// These parts are no workloads. Each has a stack of its own.
const (
	storedName = "stored"
	soakName   = "soak"
	spaceName  = "space"
)

const about = `bench measures how many orders and billing operations Altyn settles per second, beside what pgbench
(TPC-B, scale 20, -c 8 -j 2 -M prepared) does on the same PostgreSQL in the same run. It starts stacks of its own,
durable, on free ports and with temporary data, and removes them at the end.

The speed of a machine wanders, so it measures in rounds: each runs every workload, after a quarter of the time to warm
up, and pgbench for half of the time before and after each; a workload's ratio is to the mean of the two. Printed are
the median of the rounds and the spread. The books are audited after the measurements of each stack.

Workloads:
`

func program(run func(context.Context, settings) error) config.Program {
	var text strings.Builder
	text.WriteString(about)
	for _, w := range workloads {
		fmt.Fprintf(&text, "  %-15s%s: %s\n", w.name, w.title, w.goal)
	}
	fmt.Fprintf(&text, "  %-15severy workload with a rate, with --stored orders stored: each ≥ %.1f of an empty stack\n",
		storedName, storedTimes)
	fmt.Fprintf(&text, "  %-15sorders of %d tenants that keep to their share, beside one that sends %d × its own: %s\n",
		fairnessName, quietTenants, loudTimes, fairnessGoal)
	fmt.Fprintf(&text, "  %-15s--soak orders in one go: %s\n", soakName, soakGoal)
	fmt.Fprintf(&text, "  %-15swhat --space orders take in the databases: ≤ %d bytes each\n", spaceName, spaceGoal)
	return config.Program{Name: "bench", About: text.String(), Commands: []config.Command{config.NewCommand("", "", run)}}
}

// Validate checks the names and numbers.
func (s settings) Validate() error {
	var errs []error
	for _, name := range s.names() {
		if !slices.Contains(known(), name) {
			errs = append(errs, config.Invalid("--workload", "must be all, or some of %s", strings.Join(known(), ", ")))
		}
	}
	if !slices.Contains([]localkafka.Kind{"", localkafka.Apache, localkafka.Embedded}, s.Kafka) {
		errs = append(errs, config.Invalid("--kafka", "must be apache or embedded"))
	}
	if s.Auth != "none" && s.Auth != "jwt" {
		errs = append(errs, config.Invalid("--auth", "must be none or jwt"))
	}
	if s.Duration < time.Second {
		errs = append(errs, config.Invalid("--duration", "must be at least 1s"))
	}
	if s.Repeats < 1 {
		errs = append(errs, config.Invalid("--repeats", "must be at least 1"))
	}
	if s.Stored < batchOf {
		errs = append(errs, config.Invalid("--stored", "must be at least %d", batchOf))
	}
	if s.Soak < soakSamples {
		errs = append(errs, config.Invalid("--soak", "must be at least %d", soakSamples))
	}
	if s.Space < 1 {
		errs = append(errs, config.Invalid("--space", "must be at least 1"))
	}
	if !(s.Rate >= 1) { // nor NaN
		errs = append(errs, config.Invalid("--rate", "must be at least 1"))
	}
	return errors.Join(errs...)
}

// known are the names of all that can be measured.
func known() []string {
	var names []string
	for _, w := range workloads {
		names = append(names, w.name)
	}
	return append(names, storedName, fairnessName, soakName, spaceName)
}

// names returns what to measure.
func (s settings) names() []string {
	if s.Workload == "all" {
		return known()
	}
	names := strings.Split(s.Workload, ",")
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
	}
	return names
}

// file returns where to write the result; "" for nowhere. Only a whole run replaces the last result.
func (s settings) file() (string, error) {
	if s.Out != "" || s.Workload != "all" {
		return s.Out, nil
	}
	root, err := stack.Root()
	return filepath.Join(root, "deploy", "bench", "latest.json"), err
}

func run(ctx context.Context, s settings) error {
	debug.SetGCPercent(stack.GCPercent) // as in the services: what the generator collects is taken from them
	out, err := s.file()
	if err != nil {
		return err
	}
	report, err := measure(ctx, s)
	if ctx.Err() != nil { // whatever failed then
		err = errors.New("interrupted: everything was stopped and removed")
	}
	if err == nil || len(report.Results) > 0 { // half an hour may have been spent on what comes before a failure
		fmt.Println()
		report.print(os.Stdout)
	}
	if err != nil || out == "" {
		return err
	}
	if err := report.write(out); err != nil {
		return err
	}
	fmt.Printf("\nWritten to %s.\n", out)
	return nil
}

// bench is one run.
type bench struct {
	settings
	binaries string // of the services
	report   Report
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// measure runs the chosen parts: the workloads on an empty database, then on one with many orders, then the soak.
// Each has a stack of its own, so that none suffers from what another left behind.
func measure(ctx context.Context, s settings) (_ Report, err error) {
	b := bench{settings: s, report: Report{
		At: time.Now().UTC().Truncate(time.Second), Cores: runtime.NumCPU(), Duration: s.Duration.String(),
		Clients: clients, Accounts: accounts, Audits: map[string]string{}, PeakRSS: map[string]float64{},
	}}
	if b.binaries, err = os.MkdirTemp("", "altyn-bench-"); err != nil {
		return b.report, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.binaries)) }()
	if err := stack.Build(ctx, b.binaries); err != nil {
		return b.report, err
	}
	names := s.names()
	chosen := slices.DeleteFunc(slices.Clone(workloads), func(w workload) bool { return !slices.Contains(names, w.name) })
	if len(chosen) > 0 {
		if err := b.on(ctx, "the empty database", func(ctx context.Context, s *site) (err error) {
			b.report.Results, err = b.empty(ctx, s, chosen)
			return err
		}); err != nil {
			return b.report, err
		}
	}
	if slices.Contains(names, storedName) {
		if err := b.on(ctx, "the filled database", b.stored); err != nil {
			return b.report, err
		}
	}
	if slices.Contains(names, fairnessName) {
		if err := b.on(ctx, "the fair share", b.fairness, fairLimits...); err != nil {
			return b.report, err
		}
	}
	if slices.Contains(names, soakName) {
		if err := b.on(ctx, "the soak", b.soak); err != nil {
			return b.report, err
		}
	}
	if slices.Contains(names, spaceName) {
		if err := b.on(ctx, "the space", b.space); err != nil {
			return b.report, err
		}
	}
	return b.report, nil
}

// on runs a part of the benchmark on a fresh stack, and then audits the books. limits are settings of its gateway.
func (b *bench) on(ctx context.Context, name string, run func(ctx context.Context, s *site) error,
	limits ...string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
	}()
	s, err := b.start(ctx, limits)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	b.report.Postgres, b.report.Kafka = s.Server().Version, s.Part(stack.KafkaName).About
	if err := run(ctx, s); err != nil {
		return err
	}
	for _, service := range services {
		b.report.PeakRSS[service] = max(b.report.PeakRSS[service], memory(s.Part(service).PID).peak)
	}
	say("auditing the books of %s", name)
	b.report.Audits[name], err = s.audit(ctx)
	return err
}

// start starts a stack to measure, with accounts for the load. Where there are limits, it has tenants instead, which
// open their own.
func (b *bench) start(ctx context.Context, limits []string) (*site, error) {
	s, err := start(ctx, b.Auth == "jwt" || len(limits) > 0, limits, stack.Options{
		Binaries: b.binaries, Kafka: stack.Kafka{Kind: b.Kafka},
		Progress: func(line string) { say("%s", line) },
	})
	if err != nil {
		return nil, err
	}
	s.rate = b.Rate
	opened := accounts
	if len(limits) > 0 {
		opened = 0
	}
	if err := errors.Join(s.age(ctx), s.open(ctx, opened)); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}
