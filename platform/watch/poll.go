package watch

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
)

const (
	pollInterval = 20 * time.Millisecond
	// pollAge is how long a waiter waits before it is polled for: most changes are this process's own, and come sooner.
	pollAge = 2 * pollInterval
	// A waiter is polled for again after a sixteenth of the time that it has waited, at most after longestPoll: what has not
	// come for seconds is not missed for a moment more.
	pollShare   = 16
	longestPoll = 250 * time.Millisecond
)

// Poll sees the changes of other processes, while somebody waits. However many wait, it asks for at most 1,000 IDs in each
// interval of 20 ms, those first that are overdue most. It returns nil when ctx ends.
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
		ids, waiting := h.due(time.Now())
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

// due returns the IDs that are to be polled for now, and whether anybody waits at all. All who wait for an ID share its polls.
func (h *Hub[T]) due(now time.Time) (ids []uuid.UUID, some bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	since := make(map[uuid.UUID]time.Time) // each is due
	for id, watches := range h.watches {
		for _, w := range watches {
			if first, ok := since[id]; !w.due.After(now) && (!ok || w.due.Before(first)) {
				since[id] = w.due
			}
		}
	}
	ids = slices.Collect(maps.Keys(since))
	if len(ids) > maxLoaded {
		slices.SortFunc(ids, func(a, b uuid.UUID) int { return since[a].Compare(since[b]) })
		ids = ids[:maxLoaded]
	}
	for _, id := range ids {
		for _, w := range h.watches[id] {
			w.due = now.Add(min(max(now.Sub(w.since)/pollShare, pollInterval), longestPoll))
		}
	}
	return ids, len(h.watches) > 0
}
