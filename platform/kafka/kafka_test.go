package kafka_test

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

const deadline = kfaketest.Patience

var silent = slog.New(slog.DiscardHandler)

func TestMain(m *testing.M) {
	localkafka.Child()
	// sarama counts what it does in meters, which share a goroutine that never ends.
	goleak.VerifyTestMain(kfaketest.WithApache{M: m},
		goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

// consume runs a consumer until the test ends or stop is called, which waits for its end. The journal has what handle
// (nil for nothing) succeeded with.
func consume(t testing.TB, cfg kafka.Config, group string, topics []string, j *kfaketest.Journal,
	handle kafka.Handler) (stop func()) {
	t.Helper()
	return consumeLogged(t, cfg, group, topics, j, handle, silent, prometheus.NewRegistry())
}

func consumeLogged(t testing.TB, cfg kafka.Config, group string, topics []string, j *kfaketest.Journal,
	handle kafka.Handler, log *slog.Logger, metrics prometheus.Registerer) (stop func()) {
	t.Helper()
	c, err := kafka.NewConsumer(cfg, group, topics, log, metrics)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	var inside sync.Map // by topic
	go func() {
		ended <- c.Run(ctx, func(ctx context.Context, messages []kafka.Message) error {
			if len(messages) == 0 || len(messages) > 1000 {
				t.Errorf("a batch of %d messages", len(messages))
				return nil
			}
			topic := messages[0].Topic
			if _, two := inside.LoadOrStore(topic, true); two {
				t.Errorf("two batches of %s are handled at once", topic)
			}
			defer inside.Delete(topic)
			if slices.ContainsFunc(messages, func(m kafka.Message) bool { return m.Topic != topic }) {
				t.Error("a batch of two topics")
			}
			if handle != nil {
				if err := handle(ctx, messages); err != nil {
					return err
				}
			}
			j.Add(messages)
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
