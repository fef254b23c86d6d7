// Package watch lets a request wait for a row to reach a state. The process that commits a change publishes it to its
// own waiters at once; a short poll, one query for all waiters together, sees what other processes have committed.
package watch

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	pollInterval = 20 * time.Millisecond
	// pollAge is how long a waiter waits before it is polled for: most changes are this process's own, and come sooner.
	pollAge     = 2 * pollInterval
	pollTimeout = 5 * time.Second
	maxPolled   = 1000 // IDs in one query
)

// Hub connects waiters with changes. T is the state of what is waited for.
type Hub[T any] struct {
	load func(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]T, error)
	log  *slog.Logger

	mu      sync.Mutex
	waiters map[uuid.UUID][]*Watch[T]
	wake    chan struct{} // the first waiter has come
}

// Watch is one waiter's subscription. It must be closed.
type Watch[T any] struct {
	hub   *Hub[T]
	id    uuid.UUID
	since time.Time
	// changes holds the latest state that the waiter has not seen.
	changes chan T
}

// New makes a hub. load reads the present states of these IDs; those that are not there are left out.
func New[T any](log *slog.Logger, load func(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]T, error)) *Hub[T] {
	return &Hub[T]{load: load, log: log, waiters: make(map[uuid.UUID][]*Watch[T]), wake: make(chan struct{}, 1)}
}

// Subscribe begins to watch an ID. Subscribe before the change is set off, so that it cannot be missed.
func (h *Hub[T]) Subscribe(id uuid.UUID) *Watch[T] {
	w := &Watch[T]{hub: h, id: id, since: time.Now(), changes: make(chan T, 1)}
	h.mu.Lock()
	first := len(h.waiters) == 0
	h.waiters[id] = append(h.waiters[id], w)
	h.mu.Unlock()
	if first {
		select {
		case h.wake <- struct{}{}:
		default:
		}
	}
	return w
}

// Close ends the subscription.
func (w *Watch[T]) Close() {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	others := h.waiters[w.id]
	for i, other := range others {
		if other == w {
			others[i] = others[len(others)-1]
			others = others[:len(others)-1]
			break
		}
	}
	if len(others) == 0 {
		delete(h.waiters, w.id)
	} else {
		h.waiters[w.id] = others
	}
}

// Changes delivers states; one that was not received is replaced by the next. The same state may come several times.
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
	for _, w := range h.waiters[id] {
		select {
		case <-w.changes:
		default:
		}
		w.changes <- state // has room: only this function sends, under the lock
	}
}

// Run polls for changes of other processes while somebody waits. It returns nil when ctx ends.
func (h *Hub[T]) Run(ctx context.Context) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var failing bool
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		ids, waiting := h.watched()
		if !waiting {
			ticker.Stop()
			select {
			case <-ctx.Done():
				return nil
			case <-h.wake:
				ticker.Reset(pollInterval)
			}
			continue
		}
		err := h.poll(ctx, ids)
		if ctx.Err() == nil && (err != nil) != failing {
			failing = err != nil
			h.log.Warn("polling for changes", "failing", failing, "error", err)
		}
	}
}

// watched returns the IDs to poll for, and whether anybody waits at all.
func (h *Hub[T]) watched() (ids []uuid.UUID, waiting bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	old := time.Now().Add(-pollAge)
	for id, watches := range h.waiters {
		if watches[0].since.Before(old) {
			ids = append(ids, id)
		}
	}
	return ids, len(h.waiters) > 0
}

func (h *Hub[T]) poll(ctx context.Context, ids []uuid.UUID) error {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	for len(ids) > 0 {
		part := ids[:min(len(ids), maxPolled)]
		ids = ids[len(part):]
		states, err := h.load(ctx, part)
		if err != nil {
			return fmt.Errorf("watch: %w", err)
		}
		for id, state := range states {
			h.Publish(id, state)
		}
	}
	return nil
}
