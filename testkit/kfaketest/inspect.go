package kfaketest

import (
	"context"
	"log/slog"
	"testing"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/kafka/inspect"
)

// Backlog opens a backlog for the test.
func Backlog(t *testing.T, cfg kafka.Config, group string, topics ...string) *inspect.Backlog {
	t.Helper()
	b, err := inspect.OpenBacklog(t.Context(), cfg, group, topics...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// Handled are the messages that a backlog hands over.
func Handled(t *testing.T, b *inspect.Backlog) (got []kafka.Message) {
	t.Helper()
	if err := b.Handle(t.Context(), func(_ context.Context, messages []kafka.Message) error {
		if len(messages) == 0 || len(messages) > 1000 {
			t.Errorf("a batch of %d", len(messages))
		}
		got = append(got, messages...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

// Follow reads a topic from its present end until the test ends.
func Follow(t *testing.T, cfg kafka.Config, topic string) *Journal {
	t.Helper()
	tail, err := inspect.NewTail(t.Context(), cfg, topic, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	j, done := NewJournal(), make(chan struct{})
	go func() {
		defer close(done)
		tail.Run(ctx, j.Add)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return j
}
