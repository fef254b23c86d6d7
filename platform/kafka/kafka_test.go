package kafka_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/altyn-pay/altyn/platform/kafka"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const topic = "orders"

// deadline bounds every wait of these tests; it is reached only by a test that fails.
const deadline = 60 * time.Second

var silent = slog.New(slog.NewTextHandler(io.Discard, nil))

func ensure(t testing.TB, cfg kafka.Config, topics ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if err := kafka.EnsureTopics(ctx, cfg, topics...); err != nil {
		t.Fatal(err)
	}
}

func newProducer(t testing.TB, cfg kafka.Config) *kafka.Producer {
	t.Helper()
	p, err := kafka.NewProducer(cfg, silent, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// messages makes n messages of this topic for so many keys; their values count up from first.
func messages(topic string, first, n, keys int) []kafka.Message {
	list := make([]kafka.Message, n)
	for i := range list {
		list[i] = kafka.Message{Topic: topic, Key: fmt.Appendf(nil, "key-%d", (first+i)%keys), Value: fmt.Append(nil, first+i)}
	}
	return list
}

func produce(t testing.TB, p *kafka.Producer, messages ...kafka.Message) {
	t.Helper()
	for i, err := range p.Produce(t.Context(), messages) {
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
}

// reader consumes in the background and keeps what it was given.
type reader struct {
	stop func()

	mu      sync.Mutex
	changed chan struct{}
	got     []kafka.Message
	batches int
}

// read starts a consumer that ends with the test at the latest. before, where it is not nil, is what the handler does
// first.
func read(t testing.TB, cfg kafka.Config, group string, topics []string, before kafka.Handler) *reader {
	t.Helper()
	c, err := kafka.NewConsumer(cfg, group, topics, silent, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- c.Run(ctx, func(ctx context.Context, messages []kafka.Message) error {
			if before != nil {
				if err := before(ctx, messages); err != nil {
					return err
				}
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.got = append(r.got, messages...)
			r.batches++
			close(r.changed)
			r.changed = make(chan struct{})
			return nil
		})
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("consumer: %v", err)
			}
		case <-time.After(deadline):
			t.Error("the consumer does not end")
		}
	})
	t.Cleanup(r.stop)
	return r
}

func (r *reader) messages() []kafka.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]kafka.Message(nil), r.got...)
}

// await waits until enough holds of what was handled.
func (r *reader) await(t testing.TB, enough func([]kafka.Message) bool) []kafka.Message {
	t.Helper()
	timeout := time.After(deadline)
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		if got := r.messages(); enough(got) {
			return got
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("waited in vain; %d messages handled", len(r.messages()))
		}
	}
}

func count(n int) func([]kafka.Message) bool {
	return func(got []kafka.Message) bool { return len(got) >= n }
}

// distinct counts values, whatever was handled twice.
func distinct(n int) func([]kafka.Message) bool {
	return func(got []kafka.Message) bool {
		values := map[string]bool{}
		for _, m := range got {
			values[string(m.Value)] = true
		}
		return len(values) >= n
	}
}
