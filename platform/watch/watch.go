// Package watch lets requests wait for rows to change. The process that commits a change publishes it to its own waiters at
// once. What other processes commit is learned in one of two ways:
//
//   - Poll asks for all waiters together every few milliseconds, while there are any, and the less often the longer they wait:
//     for few waiters that wait briefly;
//   - Follow is told which rows have changed (Announce in the transaction, Listen in every process), and asks for those
//     alone: for thousands of waiters that may wait for hours.
package watch

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	loadTimeout = 5 * time.Second
	maxLoaded   = 1000 // IDs in one query
)

// Hub connects waiters with changes. T is the state of what is waited for.
type Hub[T any] struct {
	load    func(ctx context.Context, ids []uuid.UUID, seen []int64) (map[uuid.UUID]T, error)
	version func(T) int64
	log     *slog.Logger

	mu      sync.Mutex
	watches map[uuid.UUID][]*Watch[T]
	wake    chan struct{} // the first waiter has come
}

// Watch is one waiter's subscription. It must be closed.
type Watch[T any] struct {
	hub   *Hub[T]
	id    uuid.UUID
	since time.Time
	due   time.Time // when Poll is to ask for it
	seen  int64     // the highest version that was handed over
	// changes holds the latest state that the waiter has not seen.
	changes chan T
}

// New makes a hub whose waiters get every state that is published or loaded, in the order in which that happens. load reads
// the present states of these IDs; those that are not there are left out.
func New[T any](log *slog.Logger, load func(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]T, error)) *Hub[T] {
	return NewVersioned(log, nil,
		func(ctx context.Context, ids []uuid.UUID, _ []int64) (map[uuid.UUID]T, error) { return load(ctx, ids) })
}

// NewVersioned makes a hub whose waiters get only states of a higher version than they have had: the same one does not come
// twice, and one that is published late does not replace a newer one. load reads the states of those of the IDs whose version
// is above the one that was seen of each.
func NewVersioned[T any](log *slog.Logger, version func(T) int64,
	load func(ctx context.Context, ids []uuid.UUID, seen []int64) (map[uuid.UUID]T, error)) *Hub[T] {
	return &Hub[T]{load: load, version: version, log: log, watches: make(map[uuid.UUID][]*Watch[T]), wake: make(chan struct{}, 1)}
}

// Subscribe begins to watch an ID. Subscribe before the change is set off, or before the state is read that it is to change,
// so that it cannot be missed.
func (h *Hub[T]) Subscribe(id uuid.UUID) *Watch[T] {
	now := time.Now()
	w := &Watch[T]{hub: h, id: id, since: now, due: now.Add(pollAge), seen: math.MinInt64, changes: make(chan T, 1)}
	h.mu.Lock()
	first := len(h.watches) == 0
	h.watches[id] = append(h.watches[id], w)
	h.mu.Unlock()
	if first {
		signal(h.wake)
	}
	return w
}

// Close ends the subscription.
func (w *Watch[T]) Close() {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	others := h.watches[w.id]
	for i, other := range others {
		if other == w {
			last := len(others) - 1
			others[i], others[last] = others[last], nil
			others = others[:last]
			break
		}
	}
	if len(others) == 0 {
		delete(h.watches, w.id)
	} else {
		h.watches[w.id] = others
	}
}

// Seen says that the waiter has this state from elsewhere: only newer ones are delivered from now on.
func (w *Watch[T]) Seen(state T) {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if version := h.version(state); version >= w.seen {
		w.seen = version
		select {
		case <-w.changes: // it is this state, or an older one
		default:
		}
	}
}

// Changes delivers states; one that was not received is replaced by the next.
func (w *Watch[T]) Changes() <-chan T { return w.changes }

// Until receives states until one satisfies done and returns it, or false when ctx ends first.
func (w *Watch[T]) Until(ctx context.Context, done func(T) bool) (T, bool) {
	for {
		select {
		case state := <-w.changes:
			if done(state) {
				return state, true
			}
		case <-ctx.Done():
			var none T
			return none, false
		}
	}
}

// Publish hands a committed state to whoever watches the ID in this process. It never blocks.
func (h *Hub[T]) Publish(id uuid.UUID, state T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.watches[id] {
		if h.version != nil {
			version := h.version(state)
			if version <= w.seen {
				continue
			}
			w.seen = version
		}
		select {
		case <-w.changes:
		default:
		}
		w.changes <- state // has room: only this function sends, under the lock
	}
}

// read publishes the states of the IDs that have changed, and returns those that are left when it fails.
func (h *Hub[T]) read(ctx context.Context, ids []uuid.UUID) (left []uuid.UUID, err error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	for len(ids) > 0 {
		part := ids[:min(len(ids), maxLoaded)]
		states, err := h.load(ctx, part, h.seen(part))
		if err != nil {
			return ids, fmt.Errorf("watch: %w", err)
		}
		for id, state := range states {
			h.Publish(id, state)
		}
		ids = ids[len(part):]
	}
	return nil, nil
}

// seen returns the version that every waiter for the ID has had.
func (h *Hub[T]) seen(ids []uuid.UUID) []int64 {
	seen := make([]int64, len(ids))
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, id := range ids {
		seen[i] = math.MaxInt64 // nobody waits any more
		for _, w := range h.watches[id] {
			seen[i] = min(seen[i], w.seen)
		}
	}
	return seen
}

// signal wakes whoever receives from the channel, now or later.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
