// Command bench measures how many orders and billing operations per second Altyn settles, beside what pgbench does on the same PostgreSQL in the
// same run. It starts a stack of its own with durable settings, on free ports and with temporary data.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/localkafka"
)

func main() {
	localkafka.Child()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// settings are read from flags.
type settings struct {
	duration time.Duration
	clients  int
	accounts int
	kafka    string
	workload string
	out      string
}

// Report is what latest.json says.
type Report struct {
	At       time.Time `json:"at"`
	Cores    int       `json:"cores"`
	Postgres string    `json:"postgres"`
	Kafka    string    `json:"kafka"`
	// PgbenchTPS is the yardstick: TPC-B-like transactions per second, scale 20, -c 8 -j 2 -M prepared.
	PgbenchTPS float64 `json:"pgbench_tps"`
	Orders     Orders  `json:"orders"`
	Billing    Billing `json:"billing"`
}

// Orders is the workload: orders placed through the gateway, one per request, until each is final.
type Orders struct {
	Clients       int              `json:"clients"`
	Accounts      int              `json:"accounts"`
	Count         int              `json:"count"`
	PerSecond     float64          `json:"per_second"` // from the first request to the last final status
	Ratio         float64          `json:"ratio_to_pgbench"`
	RequestP50MS  float64          `json:"request_p50_ms"`
	RequestP99MS  float64          `json:"request_p99_ms"`
	IdleMedianMS  float64          `json:"idle_accepted_to_final_median_ms"`
	RSS           map[string]int64 `json:"peak_rss_bytes"`
	BooksAreRight bool             `json:"books_are_right"`
}

func run(ctx context.Context) error {
	var s settings
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	flags.DurationVar(&s.duration, "duration", 20*time.Second, "how long each measurement takes (DURATION)")
	flags.IntVar(&s.clients, "clients", 64, "orders placed at the same time")
	flags.IntVar(&s.accounts, "accounts", 1000, "accounts the orders are spread over")
	flags.StringVar(&s.kafka, "kafka", os.Getenv("KAFKA"), "apache or embedded; default: Apache Kafka where it can run (KAFKA)")
	flags.StringVar(&s.workload, "workload", cmp.Or(os.Getenv("WORKLOAD"), "all"), "orders, billing or all (WORKLOAD)")
	flags.StringVar(&s.out, "out", "deploy/bench/latest.json", "file for the result")
	if text := os.Getenv("DURATION"); text != "" {
		if err := flags.Set("duration", text); err != nil {
			return fmt.Errorf("DURATION: %w", err)
		}
	}
	if err := flags.Parse(os.Args[1:]); err != nil {
		return err
	}
	if s.workload != "all" && s.workload != "orders" && s.workload != "billing" {
		return fmt.Errorf("there is no workload %q", s.workload)
	}
	if s.duration < time.Second || s.clients < 1 || s.accounts < 1 {
		return errors.New("a second, a client and an account are the least")
	}

	report, err := measure(ctx, s)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.out), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(s.out, append(text, '\n'), 0o644); err != nil {
		return err
	}
	print(report, s.out)
	return nil
}

func measure(ctx context.Context, s settings) (report Report, err error) {
	pgbench, err := findPgbench()
	if err != nil {
		return report, err
	}
	binaries, err := os.MkdirTemp("", "altyn-bench-")
	if err != nil {
		return report, err
	}
	defer os.RemoveAll(binaries)
	say := func(line string) { fmt.Fprintln(os.Stderr, line) }
	if err := stack.Build(ctx, stack.BuildOptions{Dir: binaries, Progress: say}); err != nil {
		return report, err
	}
	running, err := stack.Start(ctx, stack.Options{
		Binaries: binaries, Kafka: stack.Kafka{Kind: localkafka.Kind(s.kafka)}, Services: stack.Instances(1, 1, 0), Progress: say,
	})
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, running.Close()) }()

	report = Report{At: time.Now().UTC().Truncate(time.Second), Cores: runtime.NumCPU(),
		Postgres: running.Server().Version, Kafka: running.Part(stack.KafkaName).About}
	if report.PgbenchTPS, err = yardstick(ctx, pgbench, running, s.duration, say); err != nil {
		return report, err
	}
	if s.workload != "billing" {
		if report.Orders, err = orders(ctx, running, s); err != nil {
			return report, err
		}
		report.Orders.Ratio = report.Orders.PerSecond / report.PgbenchTPS
	}
	if s.workload != "orders" {
		report.Billing, err = billing(ctx, running, s, report.PgbenchTPS)
	}
	return report, err
}

func print(r Report, out string) {
	fmt.Printf("\nPostgreSQL %s, %s, %d cores, everything durable\n", r.Postgres, r.Kafka, r.Cores)
	rate := func(what string, perSecond, ratio float64) {
		fmt.Printf("  %-45s %8.0f /s   %.2f of pgbench\n", what, perSecond, ratio)
	}
	rate("pgbench TPC-B (-c 8 -j 2 -M prepared -s 20)", r.PgbenchTPS, 1)
	if o := r.Orders; o.Count > 0 {
		rate("orders settled through the gateway", o.PerSecond, o.Ratio)
		fmt.Printf("  %-45s %8.1f / %.1f ms with %d clients\n", "their requests, p50 / p99", o.RequestP50MS, o.RequestP99MS, o.Clients)
		fmt.Printf("  %-45s %8.1f ms\n", "idle, from accepted to final, median", o.IdleMedianMS)
		for _, name := range slices.Sorted(maps.Keys(o.RSS)) {
			fmt.Printf("  %-45s %8.0f MB\n", "peak RSS of "+name, float64(o.RSS[name])/1e6)
		}
		fmt.Printf("  the books are right after %d orders\n", o.Count)
	}
	if b := r.Billing; b.Single.PerSecond > 0 {
		rate("billing, one operation per request", b.Single.PerSecond, b.Single.Ratio)
		rate("billing, the same on one hot account", b.Hot.PerSecond, b.Hot.Ratio)
		rate("billing, batches of 100", b.Batch.PerSecond, b.Batch.Ratio)
		rate("billing, commands over the broker", b.Commands.PerSecond, b.Commands.Ratio)
	}
	fmt.Printf("Written to %s.\n", out)
}
