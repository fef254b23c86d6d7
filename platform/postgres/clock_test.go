package postgres

import (
	"log/slog"
	"testing"
	"time"
)

// The clock goes by what has passed here since it was looked at, and not by what the clock here says.
func TestClockCountsOnFromTheServersTime(t *testing.T) {
	c := NewClock(nil, slog.New(slog.DiscardHandler))
	if apart := time.Since(c.Now()).Abs(); apart > time.Minute {
		t.Errorf("before the first look it is wrong by %s", apart)
	}
	server := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	const passed = time.Hour
	c.seen.Store(&sight{server: server, here: time.Now().Add(-passed)})
	if got := c.Now().Sub(server.Add(passed)); got < 0 || got > time.Minute {
		t.Errorf("after %s the clock is wrong by %s", passed, got)
	}
}

func TestSightTellsMore(t *testing.T) {
	const ms = time.Millisecond
	now := time.Now()
	seen := sight{now, now, ms}
	for _, c := range []struct {
		after, apart, doubt time.Duration
		want                bool
	}{
		{time.Second, 0, ms / 2, true},               // a quicker look
		{time.Second, 40 * ms, 50 * ms, false},       // a slow one, which says nothing else
		{time.Hour, 40 * ms, 50 * ms, true},          // by then the earlier one is worth less
		{time.Second, 52 * ms, 50 * ms, true},        // the server's clock was set
		{time.Second, -time.Hour, time.Minute, true}, // back
		{time.Second, 1900 * ms, 2 * time.Second, false},
	} {
		here := now.Add(c.after)
		if got := (sight{here.Add(c.apart), here, c.doubt}).tells(seen); got != c.want {
			t.Errorf("after %s, %s apart, ± %s: %t", c.after, c.apart, c.doubt, got)
		}
	}
}
