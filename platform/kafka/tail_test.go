package kafka_test

import (
	"context"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/kafka/inspect"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
)

// follow reads a topic from its present end until the test ends.
func follow(t *testing.T, cfg kafka.Config, topic string) *journal {
	t.Helper()
	tail, err := inspect.NewTail(t.Context(), cfg, topic, silent)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	j, done := newJournal(), make(chan struct{})
	go func() {
		defer close(done)
		tail.Run(ctx, j.add)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return j
}

func TestTailSeesWhatComesAfterIt(t *testing.T) {
	brokers(t, func(t *testing.T, cfg kafka.Config) {
		topic, producer := newTopic(t, cfg), newProducer(t, cfg)
		early := follow(t, cfg, topic) // at the end of an empty topic
		produce(t, producer, messages(topic, 0, 100, 20)...)
		late := follow(t, cfg, topic)
		produce(t, producer, messages(topic, 100, 100, 20)...)
		produce(t, producer, messages(topic, 200, 100, 20)...)
		for name, test := range map[string]struct {
			journal *journal
			want    int
		}{"early": {early, 300}, "late": {late, 200}} {
			got := test.journal.await(t, test.want)
			if len(got) != test.want {
				t.Errorf("the %s tail got %d messages, want %d", name, len(got), test.want)
			}
			inOrder(t, got)
		}
	})
}

func TestTailNeedsTheTopic(t *testing.T) {
	cfg := kfaketest.Broker(t)
	if _, err := inspect.NewTail(t.Context(), cfg, "missing", silent); err == nil || !strings.Contains(err.Error(), `"missing"`) {
		t.Errorf("a topic that is not there: %v", err)
	}
}

func TestTailOutlivesFaults(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t, kfake.NumBrokers(2))
	topic, producer := newTopic(t, cfg), newProducer(t, cfg)
	j := follow(t, cfg, topic)
	produce(t, producer, messages(topic, 0, 100, 20)...)
	j.await(t, 100)
	for _, err := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.UnknownServerError, kerr.OffsetOutOfRange} {
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: err, Count: 4})
	}
	for partition := range int32(cfg.Partitions) {
		if err := cluster.MoveTopicPartition(topic, partition, partition%2); err != nil {
			t.Fatal(err)
		}
	}
	produceAll(t, producer, messages(topic, 100, 100, 20)...)
	inOrder(t, j.await(t, 200))
}
