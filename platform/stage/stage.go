// Package stage is what the stages of a pipeline have in common: the Loop in which a stage works, batch by batch, and
// Isolate, which finds the bad item in a batch that fails.
//
// A batch is the unit of work everywhere. Each one costs the database, the broker and the system some work however few
// items it has: an item alone costs ten times what it costs among a hundred. So a stage takes whatever has arrived
// while the last batch was in flight, and rests as long as that took (Rest): the busier the machine, the larger the
// batches.
package stage

import (
	"context"
	"time"
)

const (
	longestRest = 20 * time.Millisecond
	// large is a batch in which an item costs as little as it can; whatever follows it need not gather.
	large = 500

	shortestBackoff = 50 * time.Millisecond
	longestBackoff  = 2 * time.Second
)

// Rest is how long a stage that has handled n items, in that time, lets the next ones gather: as long again. So it
// works half of the time at most, which is hardly a delay where it is fast, and where the machine is slow, or busy
// with other stages, batches become larger instead of more.
func Rest(n int, took time.Duration) time.Duration {
	if n == 0 || n >= large {
		return 0
	}
	return min(longestRest, took)
}

// Gather rests after a batch of n items that was begun at that time, or until ctx ends.
func Gather(ctx context.Context, n int, begin time.Time) { Wait(ctx, Rest(n, time.Since(begin))) }

// Wait waits for so long, or until ctx ends.
func Wait(ctx context.Context, pause time.Duration) {
	if pause <= 0 {
		return
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// Backoff is the pause after so many failures in a row: from 50 ms on, twice as long each time, up to 2 s.
func Backoff(failures int) time.Duration {
	return min(longestBackoff, shortestBackoff<<min(failures-1, 10))
}

// Signal wakes whoever receives from it, now or later. Signals that nobody has received yet are one.
type Signal chan struct{}

// NewSignal makes a signal.
func NewSignal() Signal { return make(Signal, 1) }

// Send never blocks.
func (s Signal) Send() {
	select {
	case s <- struct{}{}:
	default:
	}
}
