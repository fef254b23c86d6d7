package stage

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestRest(t *testing.T) {
	const ms = time.Millisecond
	for _, test := range []struct {
		messages   int
		took, want time.Duration
	}{
		{0, 3 * ms, 0}, {1, 0, 0}, {1, 3 * ms, 3 * ms}, {499, 3 * ms, 3 * ms}, {499, 300 * ms, longestRest},
		{500, 3 * ms, 0}, {1000, 300 * ms, 0},
	} {
		if got := Rest(test.messages, test.took); got != test.want {
			t.Errorf("after %d messages in %s: %s, want %s", test.messages, test.took, got, test.want)
		}
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		begin := time.Now()
		Wait(ctx, 0)
		if took := time.Since(begin); took != 0 {
			t.Errorf("no rest took %s", took)
		}
		Wait(ctx, 2*time.Millisecond)
		if took := time.Since(begin); took != 2*time.Millisecond {
			t.Errorf("a rest of 2 ms took %s", took)
		}
		Wait(ctx, time.Hour)
		if took := time.Since(begin); took != 5*time.Millisecond {
			t.Errorf("a rest lasted %s after its context had ended", took-5*time.Millisecond)
		}
	})
}

func TestBackoff(t *testing.T) {
	const ms = time.Millisecond
	for i, want := range []time.Duration{50 * ms, 100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 2000 * ms} {
		if got := Backoff(i + 1); got != want {
			t.Errorf("after %d failures: %s, want %s", i+1, got, want)
		}
	}
	if got := Backoff(1 << 40); got != longestBackoff {
		t.Errorf("after many failures: %s", got)
	}
}

func TestSignalsThatNobodyHasReceivedAreOne(t *testing.T) {
	s := NewSignal()
	s.Send()
	s.Send()
	<-s
	select {
	case <-s:
		t.Error("two signals")
	default:
	}
}
