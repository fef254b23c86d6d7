// Command bench measures how many orders and billing operations per second Altyn settles, beside what pgbench does on the same
// PostgreSQL in the same run. It starts stacks of its own with durable settings, on free ports and with temporary data.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/telemetry"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

func main() {
	localkafka.Child()
	s, err := parse(os.Args[1:], os.Getenv, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v; see --help\n", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	telemetry.TuneGC() // as the services do: what the generator collects is taken from them
	err = run(ctx, s)
	if ctx.Err() != nil { // whatever failed then
		err = errors.New("interrupted: everything was stopped and removed")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	b := bench{settings: s, say: func(line string) { fmt.Fprintln(os.Stderr, line) }}
	report, err := b.measure(ctx)
	if err != nil {
		return err
	}
	fmt.Println()
	report.print(os.Stdout)
	if s.out == "" {
		return nil
	}
	if err := report.write(s.out, s.chartOut()); err != nil {
		return err
	}
	fmt.Printf("\nWritten to %s and %s.\n", s.out, s.chartOut())
	return nil
}

// bench is one run.
type bench struct {
	settings
	pgbench  string // the program
	binaries string // of the services
	say      func(line string)
	report   Report
}

// measure measures what is wanted: the workloads on an empty database, then on one with many orders, then the soak, each on a
// stack of its own, so that none has to do with what another has left.
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
	b.report = Report{At: time.Now().UTC().Truncate(time.Second), Cores: runtime.NumCPU(), Duration: b.duration.String(), Clients: b.clients,
		Accounts: b.accounts, Audits: map[string]string{}, PeakRSS: map[string]int64{}}
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

// on runs a part of the benchmark on a fresh stack, and audits the books at its end.
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

// start brings up a stack to be measured.
func (b *bench) start(ctx context.Context) (*site, error) {
	s, err := start(ctx, stack.Options{Binaries: b.binaries, Kafka: stack.Kafka{Kind: b.kafka}, Progress: b.say})
	if err != nil {
		return nil, err
	}
	s.clients, s.rate = b.clients, b.rate
	if err := s.age(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// empty measures the workloads on a database that begins empty.
func (b *bench) empty(ctx context.Context, s *site) error {
	if b.measured[storedName] { // better to know it now
		if err := enoughDisk(s.Server().DataDir, b.stored); err != nil {
			return err
		}
	}
	if err := s.open(ctx, b.accounts); err != nil {
		return err
	}
	rounds, err := b.rounds(ctx, s, b.chosen(false))
	b.report.add(b.chosen(false), rounds)
	return err
}
