package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/altyn-pay/altyn/deploy/load"
)

// workload is measured in every round. The table of workloads drives measuring and printing.
type workload struct {
	name  string
	title string
	goal  goal
	// run works for a while and returns when all that it began has a result. The progress line shows what.
	run func(ctx context.Context, s *site, what string, duration time.Duration) (outcome, error)
}

var workloads = []workload{
	{"orders", "orders through the gateway, one per request", goal{times: 1, of: pgbenchName}, runOrders},
	{"orders-batch", "orders through the gateway, 100 per request", goal{times: 2, of: pgbenchName}, runOrderBatches},
	{"billing", "billing operations, one per request", goal{times: 1.5, of: pgbenchName}, runOperations},
	{"hot", "the same on one hot account", goal{times: 0.9, of: "billing"}, runHotOperations},
	{"billing-batch", "billing operations, 100 per request", goal{times: 5, of: pgbenchName}, runOperationBatches},
	{"commands", "commands over the broker with replies", goal{times: 5, of: pgbenchName}, runCommands},
	{"latency", "orders in an open loop, accepted → final, p50 / p99",
		goal{p50: 10 * time.Millisecond, p99: 50 * time.Millisecond}, runLatency},
}

// goal is what a workload should reach.
type goal struct {
	times    float64 // at least so many times the rate
	of       string  // of pgbench or another workload, in the same round; empty for a latency
	p50, p99 time.Duration
}

func (g goal) String() string {
	if g.of == "" {
		return fmt.Sprintf("≤ %.0f / %.0f ms at %d/s", ms(g.p50), ms(g.p99), openRate)
	}
	return fmt.Sprintf("≥ %.1f × %s", g.times, g.of)
}

// outcome is that of one run of a workload.
type outcome struct {
	operations int // with a result
	took       time.Duration
	latency    *Latency
}

// Measurement is one run of a workload in one round.
type Measurement struct {
	Operations int     `json:"operations"`
	PerSecond  float64 `json:"per_second"`
	// PgbenchTPS is the mean of pgbench's rates right before and after, and Ratio the ratio to it. Both are 0 if pgbench
	// was not measured.
	PgbenchTPS float64  `json:"pgbench_tps,omitempty"`
	Ratio      float64  `json:"ratio_to_pgbench,omitempty"`
	Latency    *Latency `json:"latency,omitempty"`
	// CPU is the processor time of each process and WAL the bytes that PostgreSQL logged, both per operation. CPU is
	// empty where there is no /proc.
	CPU map[string]float64 `json:"cpu_us_per_operation,omitempty"`
	WAL float64            `json:"wal_bytes_per_operation"`
}

// Round has every workload once, with pgbench in between.
type Round struct {
	PgbenchTPS   float64                `json:"pgbench_tps,omitempty"` // the median of those beside the workloads
	Measurements map[string]Measurement `json:"workloads"`
}

// warmUp is how long a measurement runs before it counts.
func warmUp(duration time.Duration) time.Duration { return duration / 4 }

// rounds measures workloads in rounds, beside pgbench if one of their goals refers to it.
func (b *bench) rounds(ctx context.Context, s *site, workloads []workload) (rounds []Round, err error) {
	var y *yardstick
	for _, w := range workloads {
		if w.goal.of != "" && y == nil {
			if y, err = b.yardstick(ctx, s); err != nil {
				return nil, err
			}
			defer func() { err = errors.Join(err, y.drop(ctx)) }()
		}
	}
	for n := range b.Repeats {
		round := Round{Measurements: map[string]Measurement{}}
		what := func(name string) string { return fmt.Sprintf("%sround %d/%d, %s", s.prefix, n+1, b.Repeats, name) }
		var (
			before  float64 // pgbench's rate before a workload
			pgbench []float64
		)
		for _, w := range workloads {
			beside := y != nil && w.goal.of != ""
			if beside && before == 0 {
				b.say(what(pgbenchName))
				if before, err = y.measure(ctx, s, b.Duration); err != nil {
					return nil, err
				}
			}
			m, err := s.measure(ctx, w, what(w.name), b.Duration)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", w.name, err)
			}
			if beside {
				b.say(what(pgbenchName))
				after, err := y.measure(ctx, s, b.Duration)
				if err != nil {
					return nil, err
				}
				m.PgbenchTPS = (before + after) / 2
				m.Ratio, before = m.PerSecond/m.PgbenchTPS, after
				pgbench = append(pgbench, m.PgbenchTPS)
			}
			round.Measurements[w.name] = m
		}
		if len(pgbench) > 0 {
			round.PgbenchTPS = median(pgbench)
		}
		rounds = append(rounds, round)
	}
	return rounds, nil
}

// measure runs a workload once to warm up and once to measure.
func (s *site) measure(ctx context.Context, w workload, what string,
	duration time.Duration) (m Measurement, err error) {
	if err := s.quiet(ctx); err != nil {
		return m, err
	}
	if _, err := w.run(ctx, s, what+", warming up", warmUp(duration)); err != nil {
		return m, err
	}
	before, err := s.usage(ctx)
	if err != nil {
		return m, err
	}
	found, err := w.run(ctx, s, what, duration)
	if err != nil {
		return m, err
	}
	after, err := s.usage(ctx)
	if err != nil {
		return m, err
	}
	if found.operations == 0 {
		return m, errors.New("nothing was done in time")
	}
	n := float64(found.operations)
	m = Measurement{Operations: found.operations, PerSecond: n / found.took.Seconds(), Latency: found.latency,
		WAL: float64(after.wal-before.wal) / n}
	if used := after.cpu.since(before.cpu); len(used) > 0 {
		m.CPU = map[string]float64{}
		for name, took := range used {
			m.CPU[name] = float64(took.Microseconds()) / n
		}
	}
	return m, nil
}

// quietTime bounds the wait for quiet.
const quietTime = 30 * time.Second

// quiet waits until PostgreSQL vacuums nothing any more, so that what one measurement leaves behind does not slow the
// next.
func (s *site) quiet(ctx context.Context) error {
	deadline := time.Now().Add(quietTime)
	for {
		var vacuums int
		if err := s.admin.GetContext(ctx, &vacuums,
			`SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'`); err != nil {
			return err
		}
		if vacuums == 0 || time.Now().After(deadline) {
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// closedLoop calls do from all clients for a while. Each calls again when its last call has returned. It returns the
// sum of the operations that do counted.
func closedLoop(ctx context.Context, what string, clients int, duration time.Duration,
	do func(i int) (operations int, err error)) (int, error) {
	progress := load.NewProgress(os.Stderr, what, 0)
	defer progress.Close()
	begin := time.Now()
	var total atomic.Int64
	err := load.Each(ctx, clients, clients, func(client int) error {
		for i := client; time.Since(begin) < duration && ctx.Err() == nil; i += clients {
			n, err := do(i)
			if err != nil {
				return err
			}
			total.Add(int64(n))
			progress.Add(n)
		}
		return ctx.Err()
	})
	return int(total.Load()), err
}

// batch returns a JSON object with n items under a name.
func batch(name string, n int, item func(n int) string) []byte {
	items := make([]string, n)
	for i := range items {
		items[i] = item(i)
	}
	return []byte(`{"` + name + `":[` + strings.Join(items, ",") + `]}`)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
