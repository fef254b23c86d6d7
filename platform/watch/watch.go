// Package watch lets requests wait for rows to change. The process that commits a change publishes it to its own
// waiters at once. What other processes commit is found by looking at the watched rows, all in one query:
//
//   - without a Feed every few milliseconds, and the less often the longer somebody waits: for few waiters that wait
//     briefly;
//   - with a Feed, which says which rows have changed (Announcements in the transaction, Listen in every process), at
//     those alone and at once, and at the others now and then: for thousands of waiters that may wait for hours.
package watch

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/stage"
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
	wake    stage.Signal // something has changed

	mu      sync.Mutex
	rows    map[uuid.UUID]*row[T]
	changed map[uuid.UUID]struct{} // rows that are to be read at once
	hears   bool                   // a feed reports every change
	swept   time.Time              // when all rows were last gone through
}

// row is what somebody watches.
type row[T any] struct {
	watches []*Watch[T]
	since   time.Time // its last waiter has come
	looked  time.Time // it was last looked at without a report of a change
}

// Watch is one waiter's subscription. It must be closed.
type Watch[T any] struct {
	hub  *Hub[T]
	id   uuid.UUID
	seen int64 // the highest version that was handed over
	// changes holds the latest state that the waiter has not seen.
	changes chan T
}

// New makes a hub. load reads the present states of these IDs; those that are not there are left out.
//
// With a version, waiters get only states of a higher version than they have had, so that the same one does not come
// twice and a late one does not replace a newer one; load may leave out states whose version is not above the one in
// seen. Where version is nil, waiters get every state that is published or loaded, in the order in which that happens.
func New[T any](log *slog.Logger, version func(T) int64,
	load func(ctx context.Context, ids []uuid.UUID, seen []int64) (map[uuid.UUID]T, error)) *Hub[T] {
	return &Hub[T]{
		load: load, version: version, log: log, wake: stage.NewSignal(),
		rows: make(map[uuid.UUID]*row[T]), changed: make(map[uuid.UUID]struct{}),
	}
}

// Subscribe begins to watch an ID. Subscribe before the change is set off, or before the state is read that it is to
// change, so that it cannot be missed.
func (h *Hub[T]) Subscribe(id uuid.UUID) *Watch[T] {
	w := &Watch[T]{hub: h, id: id, seen: math.MinInt64, changes: make(chan T, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.rows[id]
	if r == nil {
		r = &row[T]{looked: time.Now().Add(firstLook - pollTick)}
		h.rows[id] = r
	}
	r.since = time.Now()
	r.watches = append(r.watches, w)
	return w
}

// Close ends the subscription.
func (w *Watch[T]) Close() {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.rows[w.id]
	if r == nil {
		return
	}
	r.watches = slices.DeleteFunc(r.watches, func(other *Watch[T]) bool { return other == w })
	if len(r.watches) == 0 {
		delete(h.rows, w.id)
	}
}

// Seen says that the waiter has got this state elsewhere: from now on only newer ones are delivered.
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

// Changes delivers states. A state that was not received in time is replaced by the next.
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
	r := h.rows[id]
	if r == nil {
		return
	}
	for _, w := range r.watches {
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
		if r := h.rows[id]; r != nil {
			seen[i] = r.seen()
		}
	}
	return seen
}

// seen returns the version that every waiter for the row has had.
func (r *row[T]) seen() int64 {
	seen := int64(math.MaxInt64)
	for _, w := range r.watches {
		seen = min(seen, w.seen)
	}
	return seen
}

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

const (
	separator = " "
	ofVersion = ":"
	// maxAnnounced is how many changes go into one notification. PostgreSQL allows less than 8,000 bytes; an ID has 36, a
	// version up to 19.
	maxAnnounced = 100
)

// Announcements returns the texts with which a transaction notifies a channel of changes, so that every process that
// listens on it hears of them after the commit. Transactions that notify commit one after another, so one should carry
// many changes.
func Announcements(changes []Change) (texts []string) {
	for len(changes) > 0 {
		part := changes[:min(len(changes), maxAnnounced)]
		changes = changes[len(part):]
		words := make([]string, len(part))
		for i, c := range part {
			words[i] = c.ID.String() + ofVersion + strconv.FormatInt(c.Version, 10)
		}
		texts = append(texts, strings.Join(words, separator))
	}
	return texts
}

// Listen returns the feed of the announcements on a channel of a database.
func Listen(cfg pg.Config, channel string, log *slog.Logger) Feed {
	return func(ctx context.Context, heard func([]Change), listening func(bool)) error {
		return pg.Listen(ctx, cfg, channel, log, func(text string) { heard(parse(text)) }, listening)
	}
}

// parse ignores what is not a change: anyone who may connect to the database may send notifications.
func parse(text string) []Change {
	words := strings.Split(text, separator)
	changes := make([]Change, 0, len(words))
	for _, word := range words {
		id, version, _ := strings.Cut(word, ofVersion)
		c := Change{}
		var errID, errVersion error
		c.ID, errID = uuid.Parse(id)
		c.Version, errVersion = strconv.ParseInt(version, 10, 64)
		if errID == nil && errVersion == nil {
			changes = append(changes, c)
		}
	}
	return changes
}
