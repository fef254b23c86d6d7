package load

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const ms = time.Millisecond

// pause waits in a bubble's time.
func pause(d time.Duration) { <-time.After(d) }

func TestOpenLoopKeepsItsSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var mu sync.Mutex
		sent := map[int]time.Duration{}
		timed, err := OpenLoop{Rate: 500, Duration: time.Second, InFlight: 100}.Run(t.Context(), func(i int) error {
			mu.Lock()
			sent[i] = time.Since(begin)
			mu.Unlock()
			pause(50 * ms) // much longer than the interval: nobody waits for it
			return nil
		})
		if err != nil || len(sent) != 500 || timed.Late != 0 || timed.Latest != 0 {
			t.Fatalf("%d sent, %d late by %s at most: %v", len(sent), timed.Late, timed.Latest, err)
		}
		for i, at := range sent {
			if at != time.Duration(i)*2*ms {
				t.Errorf("request %d went out at %s", i, at)
			}
		}
		if Quantile(timed.Latencies, 0.5) != 50*ms || Quantile(timed.Latencies, 1) != 50*ms {
			t.Errorf("p50 %s, max %s", Quantile(timed.Latencies, 0.5), Quantile(timed.Latencies, 1))
		}
	})
}

// A request that goes out late has waited since it was due, and those behind it are not moved.
func TestOpenLoopCountsFromWhenARequestWasDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := make(chan struct{}, 1) // one at a time, so that a slow answer delays all behind it
		timed, err := OpenLoop{Rate: 100, Duration: 100 * ms, InFlight: 100}.Run(t.Context(), func(i int) error {
			slow <- struct{}{}
			defer func() { <-slow }()
			if i == 0 {
				pause(55 * ms)
			}
			pause(1 * ms)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		// The first takes 56 ms; the next six, due every 10 ms, are answered 1 ms apart from then on,
		// and the last three at once.
		want := []time.Duration{1 * ms, 1 * ms, 1 * ms, 2 * ms, 11 * ms, 20 * ms, 29 * ms, 38 * ms, 47 * ms, 56 * ms}
		if !slices.Equal(timed.Latencies, want) {
			t.Errorf("got %v, want %v", timed.Latencies, want)
		}
	})
}

// The bound on requests in flight is what makes an overload an error instead of a heap of goroutines.
func TestOpenLoopFailsWhenAnswersStayAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var calls atomic.Int64
		_, err := OpenLoop{Rate: 1000, Duration: time.Minute, InFlight: 20}.Run(t.Context(), func(int) error {
			calls.Add(1)
			pause(time.Second)
			return nil
		})
		if err == nil || !strings.Contains(err.Error(), "more than 20 requests") || calls.Load() != 20 {
			t.Errorf("%d calls: %v", calls.Load(), err)
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("it ended after %s", took)
		}
	})
}

func TestOpenLoopStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wrong := errors.New("wrong")
		var calls atomic.Int64
		loop := OpenLoop{Rate: 1000, Duration: time.Minute, InFlight: 20}
		_, err := loop.Run(t.Context(), func(i int) error {
			calls.Add(1)
			if i == 3 {
				return wrong
			}
			return nil
		})
		if !errors.Is(err, wrong) || calls.Load() > 5 {
			t.Errorf("%d calls: %v", calls.Load(), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*ms)
		defer cancel()
		if _, err := loop.Run(ctx, func(int) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

func TestQuantile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i+1) * ms
	}
	for q, want := range map[float64]time.Duration{0: 1 * ms, 0.5: 50 * ms, 0.99: 99 * ms, 1: 100 * ms} {
		if got := Quantile(hundred, q); got != want {
			t.Errorf("quantile %v is %s, not %s", q, got, want)
		}
	}
	if Quantile(nil, 0.5) != 0 {
		t.Error("of nothing")
	}
}
