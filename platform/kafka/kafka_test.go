package kafka_test

import (
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

// deadline bounds every wait of these tests; it is reached only by a test that fails.
const deadline = 2 * time.Minute

var silent = slog.New(slog.DiscardHandler)

func TestMain(m *testing.M) {
	localkafka.Child()
	// sarama counts what it does in meters, which share a goroutine that never ends.
	goleak.VerifyTestMain(withApache{m}, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

// withApache ends the tests with the end of the broker they share.
type withApache struct{ *testing.M }

func (m withApache) Run() int {
	code := m.M.Run()
	if shared.broker != nil {
		if err := shared.broker.Stop(); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	return code
}

var shared struct {
	sync.Once
	broker *localkafka.Broker
	err    error
}

// apache returns an Apache Kafka that all tests share; each names its topics and groups after itself.
func apache(t testing.TB) kafka.Config {
	t.Helper()
	needApache(t)
	shared.Do(func() {
		shared.broker, shared.err = localkafka.Start(context.Background(), localkafka.Options{Kind: localkafka.Apache})
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.broker.Config()
}

func needApache(t testing.TB) {
	t.Helper()
	for _, program := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("APACHE KAFKA IS NOT TESTED HERE: %v", err)
		}
	}
}

// brokers runs a test against the embedded broker and against Apache Kafka.
func brokers(t *testing.T, test func(t *testing.T, cfg kafka.Config)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) { test(t, kfaketest.Broker(t)) })
	t.Run("apache", func(t *testing.T) { test(t, apache(t)) })
}

// newTopic creates a topic of the test's own; its name serves as that of a group too.
func newTopic(t testing.TB, cfg kafka.Config) string {
	t.Helper()
	topic := strings.NewReplacer("/", ".", "#", ".").Replace(t.Name()) + strconv.FormatInt(time.Now().UnixNano(), 36)
	ensure(t, cfg, topic)
	return topic
}

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

// messages makes n messages for so many keys; their values count up from first.
func messages(topic string, first, n, keys int) []kafka.Message {
	list := make([]kafka.Message, n)
	for i := range list {
		list[i] = kafka.Message{Topic: topic, Key: fmt.Appendf(nil, "key-%d", (first+i)%keys), Value: fmt.Append(nil, first+i)}
	}
	return list
}

func produce(t testing.TB, p *kafka.Producer, messages ...kafka.Message) {
	t.Helper()
	for i, err := range p.Produce(context.Background(), messages) {
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
}

// produceAll sends what was not acknowledged again until all is, as an outbox does.
func produceAll(t testing.TB, p *kafka.Producer, messages ...kafka.Message) {
	t.Helper()
	for start := time.Now(); len(messages) > 0; {
		var rest []kafka.Message
		var last error
		for i, err := range p.Produce(context.Background(), messages) {
			if err != nil {
				rest, last = append(rest, messages[i]), err
			}
		}
		if messages = rest; time.Since(start) > deadline {
			t.Fatalf("%d messages not acknowledged: %v", len(rest), last)
		}
	}
}

// journal is what the consumers of a test have handled, in the order in which they did.
type journal struct {
	mu      sync.Mutex
	changed chan struct{}
	got     []kafka.Message
	batches []int
}

func newJournal() *journal { return &journal{changed: make(chan struct{})} }

func (j *journal) add(messages []kafka.Message) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.got = append(j.got, messages...)
	j.batches = append(j.batches, len(messages))
	close(j.changed)
	j.changed = make(chan struct{})
}

// await waits until n different values were handled and returns all messages, repeated ones too.
func (j *journal) await(t testing.TB, n int) []kafka.Message {
	t.Helper()
	timeout := time.After(deadline)
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

// inOrder checks that the values of each key count up, apart from those that were handled before.
func inOrder(t testing.TB, got []kafka.Message) {
	t.Helper()
	last := map[string]int{}
	for _, m := range got {
		value, err := strconv.Atoi(string(m.Value))
		if err != nil {
			t.Fatal(err)
		}
		key := m.Topic + string(m.Key)
		// first-time values are only ever greater than all before
		if before, ok := last[key]; !ok || value > before {
			last[key] = value
		} else if !seenBefore(got, m, value) {
			t.Fatalf("%s: %d handled after %d", m.Key, value, before)
		}
	}
}

// seenBefore tells whether a value was handled more than once.
func seenBefore(got []kafka.Message, m kafka.Message, value int) bool {
	count := 0
	for _, other := range got {
		if other.Topic == m.Topic && string(other.Value) == strconv.Itoa(value) {
			count++
		}
	}
	return count > 1
}

// consume runs a consumer until the test ends or stop is called, which waits for its end. The journal has what handle
// (nil for nothing) succeeded with.
func consume(t testing.TB, cfg kafka.Config, group string, topics []string, j *journal, handle kafka.Handler) (stop func()) {
	t.Helper()
	return consumeLogged(t, cfg, group, topics, j, handle, silent, prometheus.NewRegistry())
}

func consumeLogged(t testing.TB, cfg kafka.Config, group string, topics []string, j *journal, handle kafka.Handler, log *slog.Logger, metrics prometheus.Registerer) (stop func()) {
	t.Helper()
	c, err := kafka.NewConsumer(cfg, group, topics, log, metrics)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	var inside atomic.Int32
	go func() {
		ended <- c.Run(ctx, func(ctx context.Context, messages []kafka.Message) error {
			if inside.Add(1) != 1 {
				t.Error("two batches are handled at once")
			}
			defer inside.Add(-1)
			if len(messages) == 0 || len(messages) > 1000 {
				t.Errorf("a batch of %d messages", len(messages))
			}
			if handle != nil {
				if err := handle(ctx, messages); err != nil {
					return err
				}
			}
			j.add(messages)
			return nil
		})
	}()
	stop = sync.OnceFunc(func() {
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
	t.Cleanup(stop)
	return stop
}
