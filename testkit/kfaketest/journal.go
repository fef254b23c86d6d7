package kfaketest

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/kafka/inspect"
)

// Patience bounds every wait; it is reached only by a test that fails.
const Patience = 2 * time.Minute

// Producer makes a producer for the test.
func Producer(t testing.TB, cfg kafka.Config) *kafka.Producer {
	t.Helper()
	p, err := kafka.NewProducer(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// Messages makes n messages for so many keys; their values count up from first.
func Messages(topic string, first, n, keys int) []kafka.Message {
	list := make([]kafka.Message, n)
	for i := range list {
		key := fmt.Appendf(nil, "key-%d", (first+i)%keys)
		list[i] = kafka.Message{Topic: topic, Key: key, Value: fmt.Append(nil, first+i)}
	}
	return list
}

// Produce publishes messages; each must be acknowledged.
func Produce(t testing.TB, p *kafka.Producer, messages ...kafka.Message) {
	t.Helper()
	for i, err := range p.Produce(context.Background(), messages) {
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
}

// ProduceAll sends what was not acknowledged again until all is, as an outbox does.
func ProduceAll(t testing.TB, p *kafka.Producer, messages ...kafka.Message) {
	t.Helper()
	for start := time.Now(); len(messages) > 0; {
		var rest []kafka.Message
		var last error
		for i, err := range p.Produce(context.Background(), messages) {
			if err != nil {
				rest, last = append(rest, messages[i]), err
			}
		}
		if messages = rest; time.Since(start) > Patience {
			t.Fatalf("%d messages not acknowledged: %v", len(rest), last)
		}
	}
}

// Journal is what the consumers of a test have handled, in the order in which they did.
type Journal struct {
	mu      sync.Mutex
	changed chan struct{}
	got     []kafka.Message
	largest int
}

// NewJournal makes an empty journal.
func NewJournal() *Journal { return &Journal{changed: make(chan struct{})} }

// Add notes a batch that was handled.
func (j *Journal) Add(messages []kafka.Message) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.got = append(j.got, messages...)
	j.largest = max(j.largest, len(messages))
	close(j.changed)
	j.changed = make(chan struct{})
}

// Largest is the size of the largest batch.
func (j *Journal) Largest() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.largest
}

// Await waits until n different values were handled and returns all messages, repeated ones too.
func (j *Journal) Await(t testing.TB, n int) []kafka.Message {
	t.Helper()
	timeout := time.After(Patience)
	values, seen := map[string]bool{}, 0
	for {
		j.mu.Lock()
		changed, got := j.changed, j.got
		j.mu.Unlock()
		for _, m := range got[seen:] {
			values[string(m.Value)] = true
		}
		if seen = len(got); len(values) >= n {
			return slices.Clone(got)
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%d of %d messages handled", len(values), n)
		}
	}
}

// InOrder checks that the values of each key count up, apart from those that were handled before.
func InOrder(t testing.TB, got []kafka.Message) {
	t.Helper()
	last, times := map[string]int{}, map[string]int{}
	for _, m := range got {
		times[m.Topic+string(m.Value)]++
	}
	for _, m := range got {
		value, err := strconv.Atoi(string(m.Value))
		if err != nil {
			t.Fatal(err)
		}
		key := m.Topic + string(m.Key)
		// first-time values are only ever greater than all before
		if before, ok := last[key]; !ok || value > before {
			last[key] = value
		} else if times[m.Topic+string(m.Value)] == 1 {
			t.Fatalf("%s: %d handled after %d", m.Key, value, before)
		}
	}
}

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
