package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/altyn-pay/altyn/deploy/load"
)

// Stored has the measurements with many orders stored already, each beside the same one on an empty database.
type Stored struct {
	Orders  int      `json:"orders"`
	Bytes   int64    `json:"bytes"` // of both databases
	Results []Result `json:"workloads"`
}

// storedTimes is the least ratio to the empty database's rate that reaches the goal.
const storedTimes = 0.9

// storedAtOnce orders are placed before it waits for them to be final.
const storedAtOnce = 100_000

// stored measures the workloads with a rate once more, when many orders are stored. A second stack with an empty
// database runs beside it, and each workload is measured there right before and after, because the speed of a machine
// wanders by more than the difference sought.
func (b *bench) stored(ctx context.Context, s *site) (err error) {
	if err := s.store(ctx, b.Stored); err != nil {
		return err
	}
	stored := Stored{Orders: b.Stored}
	if err := s.admin.GetContext(ctx, &stored.Bytes,
		`SELECT pg_database_size('orders') + pg_database_size('payments')`); err != nil {
		return err
	}
	say("starting a stack with empty databases beside it")
	empty, err := b.start(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, empty.close()) }()
	rated := slices.DeleteFunc(slices.Clone(workloads), func(w workload) bool { return w.goal.times == 0 })
	stored.Results, err = b.rounds(ctx, s, rated, func(ctx context.Context, w workload, duration time.Duration) (float64,
		error) {
		m, err := empty.measure(ctx, w, duration/2)
		return m.PerSecond, err
	})
	for i := range stored.Results {
		stored.Results[i].judge(goal{times: storedTimes}, atLeast(storedTimes, "empty"))
	}
	b.report.Stored = &stored
	return err
}

// store places orders until so many are stored and final.
func (s *site) store(ctx context.Context, orders int) error {
	begin := time.Now()
	for done := 0; done < orders; {
		n := min(storedAtOnce, orders-done)
		last, err := s.lastOrder(ctx)
		if err != nil {
			return err
		}
		if err := load.Each(ctx, (n+batchOf-1)/batchOf, batchClients, func(i int) error {
			_, err := s.placeBatch(i)
			return err
		}); err != nil {
			return err
		}
		if err := s.final(ctx, last); err != nil {
			return err
		}
		if done += n; done == orders || done%(10*storedAtOnce) == 0 {
			say("%d of %d orders stored after %s", done, orders, time.Since(begin).Round(time.Second))
		}
	}
	_, err := s.admin.ExecContext(ctx, `CHECKPOINT`) // or it would be written down beside the measurements
	return err
}
