package watch

import (
	"context"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

const (
	// Whatever is heard, every watched row is looked at now and then: all of them at each tick while nothing can be heard,
	// and else one part after another, so that the whole costs little and never comes at once.
	sweepTick  = 500 * time.Millisecond
	sweepParts = 4
	// readPause is the time between a failed read and the next one.
	readPause = 100 * time.Millisecond
)

// Change is a version of a row.
type Change struct {
	ID      uuid.UUID
	Version int64
}

// Feed tells of the changes that any process commits, this one's too, until ctx ends; then it returns nil. heard gets what can
// be read by now; changes of unknown rows do no harm. listening(true) says that from now on everything is heard; what was
// changed before may not have been. listening(false) says that this is no longer so. Both may be called by any goroutine.
type Feed func(ctx context.Context, heard func([]Change), listening func(bool)) error

// Follow sees the changes of other processes that a feed tells of. It returns when ctx ends, or the feed fails.
func (h *Hub[T]) Follow(ctx context.Context, feed Feed) error {
	f := &follower[T]{Hub: h, due: make(map[uuid.UUID]struct{}), deaf: true, more: make(chan struct{}, 1)}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return feed(ctx, f.heard, f.listening) })
	group.Go(func() error { f.run(ctx); return nil })
	return group.Wait()
}

// follower gathers the rows to be read and reads them: what comes while one read is under way shares the next.
type follower[T any] struct {
	*Hub[T]
	more    chan struct{} // something is due
	failing bool

	mu    sync.Mutex // taken before the hub's, never after it
	due   map[uuid.UUID]struct{}
	deaf  bool        // the feed hears nothing at present
	ahead []uuid.UUID // what is left of the present sweep
	part  int         // IDs in each part of it
}

// heard makes those of the rows due of which somebody waits for this version: what this process has published is known. So
// there are never more than are watched.
func (f *follower[T]) heard(changes []Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Hub.mu.Lock()
	for _, c := range changes {
		for _, w := range f.watches[c.ID] {
			if w.seen < c.Version {
				f.due[c.ID] = struct{}{}
			}
		}
	}
	f.Hub.mu.Unlock()
	if len(f.due) > 0 {
		signal(f.more)
	}
}

func (f *follower[T]) listening(now bool) {
	f.mu.Lock()
	f.deaf = !now
	f.mu.Unlock()
	if now {
		all := f.watched()
		f.add(all)
	}
}

// add makes those of the IDs due that somebody watches.
func (f *follower[T]) add(ids []uuid.UUID) {
	changes := make([]Change, len(ids))
	for i, id := range ids {
		changes[i] = Change{id, math.MaxInt64} // whatever was seen
	}
	f.heard(changes)
}

func (f *follower[T]) take() []uuid.UUID {
	f.mu.Lock()
	defer f.mu.Unlock()
	ids := make([]uuid.UUID, 0, len(f.due))
	for id := range f.due {
		ids = append(ids, id)
	}
	clear(f.due)
	return ids
}

func (f *follower[T]) run(ctx context.Context) {
	tick := time.NewTicker(sweepTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f.sweep()
			continue
		case <-f.more:
		}
		left, err := f.read(ctx, f.take())
		if ctx.Err() != nil {
			return
		}
		if (err != nil) != f.failing {
			f.failing = err != nil
			f.log.Warn("reading what has changed", "failing", f.failing, "error", err)
		}
		if err == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(readPause):
			f.add(left)
		}
	}
}

// watched returns the IDs that somebody watches.
func (f *follower[T]) watched() []uuid.UUID {
	f.Hub.mu.Lock()
	defer f.Hub.mu.Unlock()
	return slices.Collect(maps.Keys(f.watches))
}

// sweep makes the next part of the watched rows due.
func (f *follower[T]) sweep() {
	f.mu.Lock()
	parts := sweepParts
	if f.deaf {
		parts = 1
	}
	if len(f.ahead) == 0 || f.deaf {
		f.ahead = f.watched()
		f.part = (len(f.ahead) + parts - 1) / parts
	}
	part := f.ahead[:min(f.part, len(f.ahead))]
	f.ahead = f.ahead[len(part):]
	f.mu.Unlock()
	f.add(part)
}
