package watch_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/watch"
)

var quiet = slog.New(slog.DiscardHandler)

func final(state string) bool { return state == "final" }

func TestPublishedStatesReachEveryWaiter(t *testing.T) {
	hub := watch.New(quiet, nil, func(context.Context, []uuid.UUID, []int64) (map[uuid.UUID]string, error) {
		t.Error("loaded without Run")
		return nil, nil
	})
	id := uuid.New()
	a, b := hub.Subscribe(id), hub.Subscribe(id)
	defer a.Close()
	hub.Publish(id, "first")
	hub.Publish(id, "final")
	hub.Publish(uuid.New(), "another's")
	for _, w := range []*watch.Watch[string]{a, b} {
		if state, ok := w.Until(t.Context(), final); !ok || state != "final" {
			t.Errorf("got %q, %v", state, ok)
		}
	}
	b.Close()
	b.Close() // is harmless
	hub.Publish(id, "later")
	if state := <-a.Changes(); state != "later" {
		t.Errorf("after the other has left: %q", state)
	}
}

func TestChangesOfOtherProcessesArePolled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var polls atomic.Int32
		var state atomic.Value
		state.Store("first")
		hub := watch.New(quiet, nil, func(_ context.Context, ids []uuid.UUID, _ []int64) (map[uuid.UUID]string, error) {
			if polls.Add(1) == 2 {
				return nil, errors.New("the database is away")
			}
			return map[uuid.UUID]string{ids[0]: state.Load().(string)}, nil
		})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- hub.Run(ctx, nil) }()
		<-time.After(time.Hour) // of the test's own clock
		if polls.Load() != 0 {
			t.Fatalf("%d polls while nobody waits", polls.Load())
		}
		w := hub.Subscribe(uuid.New())
		changed := time.Now().Add(100 * time.Millisecond)
		time.AfterFunc(100*time.Millisecond, func() { state.Store("final") })
		if _, ok := w.Until(ctx, final); !ok || time.Since(changed) > 50*time.Millisecond {
			t.Errorf("seen %v, %v after the change", ok, time.Since(changed))
		}
		w.Close()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A thousand waiters for a change that does not come cost a few queries in a second, however long they wait, and more
// of them than one query asks for get their turn.
func TestPollsOfThoseWhoWaitAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const waiters, most = 2500, 1000
		var queries, rows atomic.Int64
		polled := make(map[uuid.UUID]time.Time)
		longest := time.Duration(0)
		hub := watch.New(quiet, nil, func(_ context.Context, ids []uuid.UUID, _ []int64) (map[uuid.UUID]string, error) {
			queries.Add(1)
			if rows.Add(int64(len(ids))); len(ids) > most {
				t.Errorf("%d rows in one query", len(ids))
			}
			for _, id := range ids {
				if before, ok := polled[id]; ok {
					longest = max(longest, time.Since(before))
				}
				polled[id] = time.Now()
			}
			return nil, nil
		})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- hub.Run(ctx, nil) }()
		for i := range waiters {
			defer hub.Subscribe(uuid.UUID{byte(i), byte(i >> 8)}).Close()
			defer hub.Subscribe(uuid.UUID{byte(i), byte(i >> 8)}).Close() // shares the polls
		}
		<-time.After(10 * time.Second) // of the test's own clock
		before, begin := queries.Load(), rows.Load()
		<-time.After(20 * time.Second)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		// Each waiter four times in a second; they are due together, and three queries ask for them all.
		if n, r := queries.Load()-before, rows.Load()-begin; n > 20*4*3 || r > 20*4*waiters || len(polled) != waiters ||
			longest > 400*time.Millisecond {
			t.Errorf("%d queries for %d rows in 20 s; %d of %d waiters were polled for, once after %v", n, r, len(polled),
				waiters, longest)
		}
	})
}

// row is a state with a version.
type row struct {
	id      uuid.UUID
	version int64
}

func versionOf(r row) int64 { return r.version }

func TestOnlyNewerStatesAreDelivered(t *testing.T) {
	hub := watch.New(quiet, versionOf, nil)
	id := uuid.New()
	a, b := hub.Subscribe(id), hub.Subscribe(id)
	defer a.Close()
	defer b.Close()
	expect := func(name string, w *watch.Watch[row], version int64) {
		t.Helper()
		select {
		case got := <-w.Changes():
			if got.version != version {
				t.Errorf("%s got version %d instead of %d", name, got.version, version)
			}
		default:
			if version != 0 {
				t.Errorf("%s got nothing instead of version %d", name, version)
			}
		}
	}
	b.Seen(row{id, 3})
	hub.Publish(id, row{id, 2})
	hub.Publish(id, row{id, 1}) // late
	expect("a", a, 2)
	expect("b", b, 0)
	hub.Publish(id, row{id, 2}) // again
	expect("a", a, 0)
	hub.Publish(id, row{id, 4})
	a.Seen(row{id, 4}) // from elsewhere, before it was received
	b.Seen(row{id, 3}) // which is older than what waits
	expect("a", a, 0)
	expect("b", b, 4)
}

func TestUntilEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := watch.New(quiet, nil, func(context.Context, []uuid.UUID, []int64) (map[uuid.UUID]string, error) {
			return nil, nil
		})
		w := hub.Subscribe(uuid.New())
		defer w.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, ok := w.Until(ctx, final); ok {
			t.Error("found what never came")
		}
	})
}
