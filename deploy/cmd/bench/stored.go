package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// Stored is the measurements with many orders stored already.
type Stored struct {
	Orders      int     `json:"orders"`
	FillSeconds float64 `json:"fill_seconds"`
	Bytes       int64   `json:"bytes"` // of both databases
	// Pgbench is the yardstick on this server.
	Pgbench *Spread `json:"pgbench_tps"`
	// Results are like those of the empty database, and OfEmpty is the ratio to pgbench beside the median one there.
	Results []StoredResult `json:"workloads"`
}

// StoredResult is what became of one workload.
type StoredResult struct {
	Result
	OfEmpty Spread `json:"of_empty"`
	Reached bool   `json:"reached"`
}

// storedTimes is how much of the empty database's ratio is to be left.
const storedTimes = 0.9

var storedGoal = fmt.Sprintf("each ≥ %.1f of the empty database", storedTimes)

const (
	// diskPerOrder is what an order takes on disk while it is filled and afterwards, with room to spare; the rest is for the
	// write-ahead log, pgbench and the workloads.
	diskPerOrder = 2200
	diskBeside   = 6 << 30

	// auditedAtMost orders are audited in a minute or so; beyond, it takes many minutes, and the fill is known to be right.
	auditedAtMost = 2_000_000
)

// enoughDisk returns an error where a folder's file system has no room for so many orders.
func enoughDisk(dir string, orders int) error {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err != nil {
		return fmt.Errorf("free space of %s: %w", dir, err)
	}
	free, needed := int64(disk.Bavail)*int64(disk.Bsize), int64(orders)*diskPerOrder+diskBeside
	if free < needed {
		return fmt.Errorf("%s orders need %d GB of disk, and %s has %d GB free: set -stored (STORED) to fewer, or TMPDIR to another disk",
			grouped(int64(orders)), needed>>30, dir, free>>30)
	}
	return nil
}

// filled measures the workloads with a rate once more, on a database with many orders.
func (b *bench) filled(ctx context.Context, s *site) error {
	s.prefix = grouped(int64(b.stored)) + " stored, "
	b.say(fmt.Sprintf("filling the databases with %s orders", grouped(int64(b.stored))))
	began := time.Now()
	f := newFilling(b.stored, b.accounts, began)
	if err := f.run(ctx, s.orders, s.billing); err != nil {
		return err
	}
	s.accounts = f.last(b.accounts)
	if _, err := s.admin.ExecContext(ctx, `CHECKPOINT`); err != nil { // or it would be written down beside the measurements
		return err
	}
	stored := Stored{Orders: b.stored, FillSeconds: time.Since(began).Seconds()}
	if err := s.admin.GetContext(ctx, &stored.Bytes, `SELECT pg_database_size('orders') + pg_database_size('payments')`); err != nil {
		return err
	}
	b.say(fmt.Sprintf("filled in %s: %.1f GB", time.Since(began).Round(time.Second), float64(stored.Bytes)/1e9))

	workloads := b.chosen(true)
	rounds, err := b.rounds(ctx, s, workloads)
	if err != nil {
		return err
	}
	stored.Pgbench = pgbenchOf(rounds)
	for _, result := range results(workloads, rounds) {
		empty, ok := b.report.result(result.Name)
		if !ok {
			return errors.New("there is nothing to compare " + result.Name + " with")
		}
		of := spread(scaled(result.ratios(), 1/empty.Ratio.Median))
		stored.Results = append(stored.Results, StoredResult{Result: result, OfEmpty: of, Reached: of.Median >= storedTimes})
	}
	b.report.Stored = &stored
	if b.stored > auditedAtMost {
		b.report.Audits["the filled database"] = fmt.Sprintf("not audited: with more than %s orders that takes many minutes", grouped(auditedAtMost))
	}
	return nil
}
