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

func final(state string) bool { return state == "final" }

func TestPublishedStatesReachEveryWaiter(t *testing.T) {
	hub := watch.New(slog.New(slog.DiscardHandler), func(context.Context, []uuid.UUID) (map[uuid.UUID]string, error) {
		t.Error("polled without Run")
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
		hub := watch.New(slog.New(slog.DiscardHandler), func(_ context.Context, ids []uuid.UUID) (map[uuid.UUID]string, error) {
			if polls.Add(1) == 2 {
				return nil, errors.New("the database is away")
			}
			return map[uuid.UUID]string{ids[0]: state.Load().(string)}, nil
		})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- hub.Run(ctx) }()
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

func TestUntilEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := watch.New(slog.New(slog.DiscardHandler), func(context.Context, []uuid.UUID) (map[uuid.UUID]string, error) { return nil, nil })
		w := hub.Subscribe(uuid.New())
		defer w.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, ok := w.Until(ctx, final); ok {
			t.Error("found what never came")
		}
	})
}
