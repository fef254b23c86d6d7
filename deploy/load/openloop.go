package load

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/altyn-pay/altyn/platform/stage"
)

// OpenLoop makes requests at a fixed rate whatever becomes of earlier ones, as the many clients of a service do. In a
// closed loop, a client waits for an answer before it asks again: it asks less just when the service is slow, and so
// omits what it should measure (coordinated omission).
type OpenLoop struct {
	Rate     float64 // requests per second
	Duration time.Duration
	InFlight int // at most; when it is reached, the service does not keep up, and that is an error
}

// Timed says how long the requests of an open loop took.
type Timed struct {
	// Latencies are sorted. Each counts from the time at which its request was due, even if it was sent later.
	Latencies []time.Duration
	// Late counts the requests that were sent after the next one was due, because the sender did not keep up. Latest is
	// the longest delay.
	Late   int
	Latest time.Duration
}

// Quantile returns the least of the sorted values that a share q of them does not exceed (nearest rank); 0 of none.
func Quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(int(math.Ceil(q*float64(len(sorted)))), 1)-1]
}

// Run calls do for 0, 1, 2, …, each when it is due and in a goroutine of its own. It returns when all have returned,
// and starts no more after the first error.
func (l OpenLoop) Run(ctx context.Context, do func(i int) error) (Timed, error) {
	interval := time.Duration(float64(time.Second) / l.Rate)
	n := int(l.Duration / interval)
	timed := Timed{Latencies: make([]time.Duration, n)}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var wait sync.WaitGroup
	var inFlight atomic.Int64
	begin := time.Now()
	for i := range n {
		due := begin.Add(time.Duration(i) * interval)
		if !stage.Wait(ctx, time.Until(due)) {
			break
		}
		delay := time.Since(due)
		if timed.Latest = max(timed.Latest, delay); delay >= interval {
			timed.Late++
		}
		if inFlight.Add(1) > int64(l.InFlight) {
			fail(fmt.Errorf("more than %d requests are without an answer after %s at %.0f/s: the service does not keep up",
				l.InFlight,
				time.Since(begin).Round(time.Millisecond), l.Rate))
			break
		}
		wait.Go(func() {
			defer inFlight.Add(-1)
			if err := do(i); err != nil {
				fail(err)
			}
			timed.Latencies[i] = time.Since(due)
		})
	}
	wait.Wait()
	slices.Sort(timed.Latencies)
	return timed, context.Cause(ctx)
}
