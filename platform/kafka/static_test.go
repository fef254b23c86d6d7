package kafka_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
)

// assignments counts how often a consumer has got partitions.
type assignments struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (a *assignments) Write(line []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.text.Write(line)
}

func (a *assignments) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Count(a.text.String(), "kafka partitions assigned")
}

func (a *assignments) logger() *slog.Logger { return slog.New(slog.NewTextHandler(a, nil)) }

// A member with a name of its own gets its partitions back after a restart, and the others never notice: they keep
// theirs in the same generation, and what they have handled meanwhile they have handled once.
func TestARestartOfANamedMemberIsNoRebalance(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		topic, producer, j := kfaketest.Topic(t, cfg), kfaketest.Producer(t, cfg), kfaketest.NewJournal()
		start := func(name string, handled *atomic.Int32, log *assignments) func() {
			cfg := cfg
			cfg.InstanceID = name
			return consumeLogged(t, cfg, topic, []string{topic}, j, func(_ context.Context, batch []kafka.Message) error {
				handled.Add(int32(len(batch)))
				return nil
			}, log.logger(), prometheus.NewRegistry())
		}
		var byStayed, byRestarted atomic.Int32
		var stayed, restarted assignments
		start("b", &byStayed, &stayed)
		stop := start("a", &byRestarted, &restarted)
		next := 0
		produce := func() {
			kfaketest.Produce(t, producer, kfaketest.Messages(topic, next, 40, 40)...)
			next += 40
		}
		for byStayed.Load() == 0 || byRestarted.Load() == 0 { // until both have partitions
			produce()
			j.Await(t, next)
		}
		before, others, share := stayed.count(), restarted.count(), byStayed.Load()
		const restarts = 3
		for range restarts {
			stop()
			produce()
			stop = start("a", &byRestarted, &restarted)
			produce()
			j.Await(t, next)
		}
		if stayed.count() != before {
			t.Errorf("the member that stayed has got partitions %d times, not %d:\n%s", stayed.count(), before, &stayed.text)
		}
		if share = byStayed.Load() - share; share == 0 || share%(2*restarts) != 0 {
			t.Errorf("the member that stayed has handled %d messages, not as many each time", share)
		}
		if got := len(j.Await(t, next)); restarted.count() != others+restarts || got != next {
			t.Errorf("%d messages were handled, not %d, and the other one got partitions %d times, not %d", got, next,
				restarted.count()-others, restarts)
		}
	})
}

// Of two processes with one name the newer one has it; the older one ends, and says why.
func TestANameIsOfOneMember(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		cfg.InstanceID = "one"
		topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
		kfaketest.Produce(t, kfaketest.Producer(t, cfg), kfaketest.Messages(topic, 0, 10, 10)...)
		older, err := kafka.NewConsumer(cfg, topic, []string{topic}, silent, prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		defer cancel()
		first, ended := make(chan struct{}), make(chan error, 1)
		var once sync.Once
		go func() {
			ended <- older.Run(ctx, func(context.Context, []kafka.Message) error {
				once.Do(func() { close(first) })
				return nil
			})
		}()
		<-first
		consume(t, cfg, topic, []string{topic}, j, nil)
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "another process has this KAFKA_INSTANCE_ID (one)") {
			t.Errorf("the older one has ended with %v", err)
		}
		kfaketest.Produce(t, kfaketest.Producer(t, cfg), kfaketest.Messages(topic, 10, 10, 10)...)
		j.Await(t, 10)
	})
}
