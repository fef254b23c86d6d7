// Command bench measures how many orders and billing operations per second Altyn settles, beside what pgbench
// does on the same PostgreSQL in the same run. It starts stacks of its own with durable settings, on free
// ports and with temporary data.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

func main() {
	localkafka.Child()
	os.Exit(program(run).Main())
}

func run(ctx context.Context, s settings) error {
	debug.SetGCPercent(stack.GCPercent) // as in the services: what the generator collects is taken from them
	err := measure(ctx, s)
	if ctx.Err() != nil { // whatever failed then
		return errors.New("interrupted: everything was stopped and removed")
	}
	return err
}

func measure(ctx context.Context, s settings) error {
	out, err := s.file()
	if err != nil {
		return err
	}
	b := bench{settings: s, say: func(line string) { fmt.Fprintln(os.Stderr, line) }}
	if b.measured, err = choose(s.Workload); err != nil {
		return err
	}
	report, err := b.measure(ctx)
	if err != nil {
		return err
	}
	fmt.Println()
	report.print(os.Stdout)
	if out == "" {
		return nil
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
	measured map[string]bool // by name
	pgbench  string          // the program
	binaries string          // of the services
	say      func(line string)
	report   Report
}

// measure runs the chosen parts: the workloads on an empty database, then on one with many orders, then the soak.
// Each has a stack of its own, so that none suffers from what another left behind.
func (b *bench) measure(ctx context.Context) (report Report, err error) {
	rated := b.chosen(true)
	if len(rated) > 0 {
		if b.pgbench, err = findPgbench(); err != nil {
			return report, err
		}
	}
	if b.binaries, err = os.MkdirTemp("", "altyn-bench-"); err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.binaries)) }()
	if err := stack.Build(ctx, stack.BuildOptions{Dir: b.binaries, Progress: b.say}); err != nil {
		return report, err
	}
	b.report = Report{At: time.Now().UTC().Truncate(time.Second), Cores: runtime.NumCPU(), Duration: b.Duration.String(),
		Clients:  b.Clients,
		Accounts: b.Accounts, Audits: map[string]string{}, PeakRSS: map[string]int64{}}
	for _, part := range []struct {
		name   string
		wanted bool
		run    func(ctx context.Context, s *site) error
	}{
		{"the empty database", len(b.chosen(false)) > 0, b.empty},
		{"the filled database", b.measured[storedName], b.filled},
		{"the soak", b.measured[soakName], b.soaked},
	} {
		if !part.wanted {
			continue
		}
		if err := b.on(ctx, part.name, part.run); err != nil {
			return report, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return b.report, nil
}

// on runs a part of the benchmark on a fresh stack, and then audits the books.
func (b *bench) on(ctx context.Context, name string, run func(ctx context.Context, s *site) error) (err error) {
	s, err := b.start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	b.report.Postgres, b.report.Kafka = s.Server().Version, s.Part(stack.KafkaName).About
	if err := run(ctx, s); err != nil {
		return err
	}
	peaks, err := s.peakRSS()
	if err != nil {
		return err
	}
	for service, bytes := range peaks {
		b.report.PeakRSS[service] = max(b.report.PeakRSS[service], bytes)
	}
	if _, audited := b.report.Audits[name]; audited { // with a word on why not
		return nil
	}
	b.say("auditing the books of " + name)
	b.report.Audits[name], err = s.audit(ctx)
	return err
}

// start starts a stack to measure.
func (b *bench) start(ctx context.Context) (*site, error) {
	s, err := start(ctx, stack.Options{Binaries: b.binaries, Kafka: stack.Kafka{Kind: b.Kafka}, Progress: b.say})
	if err != nil {
		return nil, err
	}
	s.clients, s.rate = b.Clients, b.Rate
	if err := s.age(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// empty measures the workloads on a database that begins empty.
func (b *bench) empty(ctx context.Context, s *site) error {
	if b.measured[storedName] { // better to know it now
		if err := enoughDisk(s.Server().DataDir, b.Stored); err != nil {
			return err
		}
	}
	if err := s.open(ctx, b.Accounts); err != nil {
		return err
	}
	rounds, err := b.rounds(ctx, s, b.chosen(false))
	b.report.add(b.chosen(false), rounds)
	return err
}
