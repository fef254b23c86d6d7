package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/platform/stage"
)

// workload is measured in every round. The table of workloads drives measuring and printing.
type workload struct {
	name  string
	title string
	goal  goal
	run   runner
}

// runner works for a while and returns when all that it began has a result.
type runner func(ctx context.Context, s *site, duration time.Duration) (outcome, error)

var workloads = []workload{
	{"orders", "orders through the gateway, one per request", goal{times: 1},
		placeOrders(clients, (*site).place)},
	{"orders-batch", "orders through the gateway, 100 per request", goal{times: 2},
		placeOrders(batchClients, (*site).placeBatch)},
	{"billing", "billing operations, one per request", goal{times: 1.5}, deposit(accounts)},
	{"hot", "the same on one hot account", goal{times: 1.4}, deposit(1)},
	{"billing-batch", "billing operations, 100 per request", goal{times: 5}, runOperationBatches},
	{"commands", "commands over the broker with replies", goal{times: 5}, runCommands},
	{"latency", "orders in an open loop, accepted → final, p50 / p99",
		goal{p50: 10 * time.Millisecond, p99: 50 * time.Millisecond}, runLatency},
}

// goal is what a workload should reach: a rate of so many times that of pgbench, or latencies.
type goal struct {
	times    float64
	p50, p99 time.Duration
}

func (g goal) String() string {
	if g.times == 0 {
		return fmt.Sprintf("≤ %.0f / %.0f ms at %d/s", ms(g.p50), ms(g.p99), openRate)
	}
	return atLeast(g.times, pgbenchName)
}

func atLeast(times float64, yardstick string) string {
	return fmt.Sprintf("≥ %.1f × %s", times, yardstick)
}

// outcome is that of one run of a workload.
type outcome struct {
	operations int // with a result
	took       time.Duration
	latency    *Latency
}

// yardstick measures, for half of a duration, the rate that a workload is compared with.
type yardstick func(ctx context.Context, w workload, duration time.Duration) (rate float64, err error)

// empty measures workloads on a database that begins empty, beside pgbench.
func (b *bench) empty(ctx context.Context, s *site, workloads []workload) ([]Result, error) {
	pgbench, err := newPgbench(ctx, s)
	if err != nil {
		return nil, err
	}
	results, err := b.rounds(ctx, s, workloads, pgbench)
	for i, w := range workloads {
		results[i].judge(w.goal, w.goal.String())
	}
	return results, err
}

// rounds measures workloads in rounds, those with a rate between two measurements of the yardstick.
func (b *bench) rounds(ctx context.Context, s *site, workloads []workload, beside yardstick) ([]Result, error) {
	results := make([]Result, len(workloads))
	for n := range b.Repeats {
		for i, w := range workloads {
			m, err := s.compare(ctx, w, b.Duration, beside)
			if err != nil {
				return results, fmt.Errorf("%s: %w", w.name, err)
			}
			say("round %d/%d, %s: %.0f/s, %.2f times the yardstick's", n+1, b.Repeats, w.name, m.PerSecond, m.Ratio)
			results[i].Name, results[i].Title = w.name, w.title
			results[i].Rounds = append(results[i].Rounds, m)
		}
	}
	return results, nil
}

func (s *site) compare(ctx context.Context, w workload, duration time.Duration,
	beside yardstick) (m Measurement, err error) {
	if w.goal.times == 0 {
		return s.measure(ctx, w, duration)
	}
	before, err := beside(ctx, w, duration)
	if err != nil {
		return m, err
	}
	if m, err = s.measure(ctx, w, duration); err != nil {
		return m, err
	}
	after, err := beside(ctx, w, duration)
	m.Yardstick = (before + after) / 2
	m.Ratio = m.PerSecond / m.Yardstick
	return m, err
}

// measure runs a workload once to warm up, for a quarter of the duration, and once to measure.
func (s *site) measure(ctx context.Context, w workload, duration time.Duration) (m Measurement, err error) {
	if err := s.quiet(ctx); err != nil {
		return m, err
	}
	if _, err := w.run(ctx, s, duration/4); err != nil {
		return m, err
	}
	before, err := s.usage(ctx)
	if err != nil {
		return m, err
	}
	found, err := w.run(ctx, s, duration)
	if err != nil {
		return m, err
	}
	after, err := s.usage(ctx)
	if err != nil {
		return m, err
	}
	if found.operations == 0 {
		return m, errors.New("nothing was done in this time")
	}
	n := float64(found.operations)
	m = Measurement{Operations: found.operations, PerSecond: n / found.took.Seconds(), Latency: found.latency,
		CPU: after.cpu.since(before.cpu), WAL: float64(after.wal-before.wal) / n}
	for name := range m.CPU {
		m.CPU[name] *= 1e6 / n
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
		if !stage.Wait(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// closedLoop calls do from so many clients for a while. Each calls again when its last call has returned. It returns
// the sum of the operations that do counted.
func closedLoop(ctx context.Context, clients int, duration time.Duration, do func(i int) (int, error)) (int, error) {
	begin := time.Now()
	var total atomic.Int64
	err := load.Each(ctx, clients, clients, func(client int) error {
		for i := client; time.Since(begin) < duration && ctx.Err() == nil; i += clients {
			n, err := do(i)
			if err != nil {
				return err
			}
			total.Add(int64(n))
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
