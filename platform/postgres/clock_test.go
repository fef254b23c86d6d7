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
	c.seen.Store(&sight{server, time.Now().Add(-passed)})
	if got := c.Now().Sub(server.Add(passed)); got < 0 || got > time.Minute {
		t.Errorf("after %s the clock is wrong by %s", passed, got)
	}
}
