package watch

import (
	"context"
	"time"

	"github.com/google/uuid"
)

const (
	pollInterval = 20 * time.Millisecond
	// pollAge is how long a waiter waits before it is polled for: most changes are this process's own, and come sooner.
	pollAge = 2 * pollInterval
)

// Poll sees the changes of other processes, while somebody waits. It returns nil when ctx ends.
func (h *Hub[T]) Poll(ctx context.Context) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var failing bool
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		ids, waiting := h.waiting(pollAge)
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
		_, err := h.read(ctx, ids)
		if ctx.Err() == nil && (err != nil) != failing {
			failing = err != nil
			h.log.Warn("polling for changes", "failing", failing, "error", err)
		}
	}
}

// waiting returns the IDs that somebody has waited for at least so long, and whether anybody waits at all.
func (h *Hub[T]) waiting(age time.Duration) (ids []uuid.UUID, any bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	old := time.Now().Add(-age)
	for id, watches := range h.watches {
		if !watches[0].since.After(old) {
			ids = append(ids, id)
		}
	}
	return ids, len(h.watches) > 0
}
