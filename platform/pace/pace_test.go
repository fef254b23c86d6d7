package pace

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestRest(t *testing.T) {
	for _, test := range []struct {
		messages int
		want     time.Duration
	}{
		{0, 0}, {1, 200 * time.Microsecond}, {50, 10 * time.Millisecond}, {100, longest}, {499, longest}, {500, 0}, {1000, 0},
	} {
		if got := Rest(test.messages); got != test.want {
			t.Errorf("after %d messages: %s, want %s", test.messages, got, test.want)
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
