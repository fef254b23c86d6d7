package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"
)

// Stored has the measurements with many orders stored already, each beside the same one on an empty database.
type Stored struct {
	Orders      int            `json:"orders"`
	FillSeconds float64        `json:"fill_seconds"`
	Bytes       int64          `json:"bytes"` // of both databases
	Results     []StoredResult `json:"workloads"`
}

// StoredResult is that of one workload.
type StoredResult struct {
	Name string `json:"name"`
	// OfEmpty is the ratio to the empty database's rate right before or after.
	OfEmpty Spread        `json:"of_empty"`
	Reached bool          `json:"reached"`
	Rounds  []Measurement `json:"rounds"`
	Empty   []Measurement `json:"rounds_on_the_empty_database"`
}

// storedTimes is the least OfEmpty that reaches the goal.
const storedTimes = 0.9

var storedGoal = fmt.Sprintf("each ≥ %.1f of the empty database", storedTimes)

const (
	// diskPerOrder is what an order takes on disk, with room to spare. diskBeside is for the write-ahead log, pgbench
	// and the workloads.
	diskPerOrder = 2200
	diskBeside   = 6 << 30

	// auditedAtMost orders take about a minute to audit. More take many minutes, and a test shows that filling is right.
	auditedAtMost = 2_000_000
)

// enoughDisk returns an error if a folder's file system has no room for so many orders.
func enoughDisk(dir string, orders int) error {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err != nil {
		return fmt.Errorf("free space of %s: %w", dir, err)
	}
	free := int64(disk.Bavail) * int64(disk.Bsize) //nolint:unconvert // its type depends on the system
	needed := int64(orders)*diskPerOrder + diskBeside
	if free < needed {
		return fmt.Errorf("%s orders need %d GB of disk, and %s has %d GB free: set -stored (STORED) to fewer, or TMPDIR "+
			"to another disk",
			grouped(int64(orders)), needed>>30, dir, free>>30)
	}
	return nil
}

// filled measures the workloads with a rate once more, on a database with many orders. A second stack with an empty
// database runs beside it, and each workload is measured there right before or after, because the speed of a machine
// wanders by more than the difference sought.
func (b *bench) filled(ctx context.Context, s *site) (err error) {
	s.prefix = grouped(int64(b.Stored)) + " stored, "
	b.say(fmt.Sprintf("filling the databases with %s orders", grouped(int64(b.Stored))))
	began := time.Now()
	f := newFilling(b.Stored, b.Accounts, began)
	if err := f.run(ctx, s.orders, s.billing); err != nil {
		return err
	}
	s.accounts = f.last(b.Accounts)
	if _, err := s.admin.ExecContext(ctx, `CHECKPOINT`); err != nil {
		// or it would be written down beside the measurements
		return err
	}
	stored := Stored{Orders: b.Stored, FillSeconds: time.Since(began).Seconds()}
	if err := s.admin.GetContext(ctx, &stored.Bytes,
		`SELECT pg_database_size('orders') + pg_database_size('payments')`); err != nil {
		return err
	}
	b.say(fmt.Sprintf("filled in %s: %.1f GB; starting a stack with empty databases beside it",
		time.Since(began).Round(time.Second), float64(stored.Bytes)/1e9))
	empty, err := b.start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, empty.close()) }()
	empty.prefix = "empty beside it, "
	if err := empty.open(ctx, b.Accounts); err != nil {
		return err
	}
	if stored.Results, err = b.sideBySide(ctx, s, empty, b.chosen(true)); err != nil {
		return err
	}
	b.report.Stored = &stored
	if b.Stored > auditedAtMost {
		b.report.Audits["the filled database"] = fmt.Sprintf("not audited: with more than %s orders that takes many minutes",
			grouped(auditedAtMost))
	}
	return nil
}

// sideBySide measures workloads on two stacks in turn, and alternates which comes first.
func (b *bench) sideBySide(ctx context.Context, filled, empty *site, workloads []workload) ([]StoredResult, error) {
	results := make([]StoredResult, len(workloads))
	for n := range b.Repeats {
		for i, w := range workloads {
			r := &results[i]
			r.Name = w.name
			pair := []struct {
				*site
				rounds *[]Measurement
			}{{filled, &r.Rounds}, {empty, &r.Empty}}
			if (n+i)%2 == 1 {
				slices.Reverse(pair)
			}
			for _, on := range pair {
				m, err := on.measure(ctx, w, fmt.Sprintf("%sround %d/%d, %s", on.prefix, n+1, b.Repeats, w.name), b.Duration)
				if err != nil {
					return nil, fmt.Errorf("%s%s: %w", on.prefix, w.name, err)
				}
				*on.rounds = append(*on.rounds, m)
			}
		}
	}
	for i := range results {
		r := &results[i]
		ratios := make([]float64, len(r.Rounds))
		for n := range ratios {
			ratios[n] = r.Rounds[n].PerSecond / r.Empty[n].PerSecond
		}
		r.OfEmpty = spread(ratios)
		r.Reached = r.OfEmpty.Median >= storedTimes
	}
	return results, nil
}
