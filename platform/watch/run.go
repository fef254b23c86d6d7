package watch

import (
	"context"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/platform/stage"
)

const (
	// Without a feed, or while it is down, the pause between two looks at a row is a sixteenth of the time that somebody
	// has waited for it: who has waited for seconds can wait a moment more. Most changes are this process's own and come
	// before the first look.
	pollTick  = 20 * time.Millisecond
	firstLook = 2 * pollTick
	pollShare = 16
	pollPause = 250 * time.Millisecond

	// With a feed, each row is still looked at now and then, in case the feed misses a change.
	sweepPause = 2 * time.Second
)

// Change is a version of a row.
type Change struct {
	ID      uuid.UUID
	Version int64
}

// Feed reports the changes that any process commits, this one included, until ctx ends; then it returns nil. It calls
// heard with changes that are committed; rows that nobody watches do no harm. It calls listening(true) when it hears of
// every change from now on, though it may have missed earlier ones, and listening(false) when it no longer does. It may
// call both from any goroutine.
type Feed func(ctx context.Context, heard func([]Change), listening func(bool)) error

// Run sees the changes of other processes until ctx ends, then returns nil; feed may be nil. It survives the loss of
// the database, and ends with the feed's error.
func (h *Hub[T]) Run(ctx context.Context, feed Feed) error {
	loop := stage.Loop{Name: "reading of what has changed", Log: h.log, Once: h.look, Wake: h.wake, Every: pollTick}
	if feed == nil {
		return loop.Run(ctx)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return feed(ctx, h.heard, h.listening) })
	group.Go(func() error { return loop.Run(ctx) })
	return group.Wait()
}

// heard marks the watched rows that are older than the announced versions as changed.
func (h *Hub[T]) heard(changes []Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range changes {
		if r := h.rows[c.ID]; r != nil && r.seen() < c.Version {
			h.changed[c.ID] = struct{}{}
		}
	}
	if len(h.changed) > 0 {
		h.wake.Send()
	}
}

func (h *Hub[T]) listening(now bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hears = now; !now {
		return
	}
	for id := range h.rows {
		h.changed[id] = struct{}{}
	}
	h.wake.Send()
}

// look reads the rows that are due, and returns how many. Those that it cannot read stay due.
func (h *Hub[T]) look(ctx context.Context) (n int, err error) {
	ids := h.due(time.Now())
	left, err := h.read(ctx, ids)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range left {
		h.changed[id] = struct{}{}
	}
	return len(ids) - len(left), err
}

// due returns the watched rows that have changed, and once per tick those whose pause is over.
func (h *Hub[T]) due(now time.Time) (ids []uuid.UUID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.swept) >= pollTick {
		h.swept = now
		for id, r := range h.rows {
			if now.Sub(r.looked) >= h.pause(now.Sub(r.since)) {
				r.looked = now
				h.changed[id] = struct{}{}
			}
		}
	}
	for id := range h.changed {
		if h.rows[id] != nil {
			ids = append(ids, id)
		}
	}
	clear(h.changed)
	return ids
}

// pause is the time between two looks at a row for which somebody has waited so long.
func (h *Hub[T]) pause(waited time.Duration) time.Duration {
	if h.hears {
		return sweepPause
	}
	return min(max(waited/pollShare, pollTick), pollPause)
}
