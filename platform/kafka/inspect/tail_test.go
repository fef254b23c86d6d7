package inspect_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/kafka/inspect"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

func TestMain(m *testing.M) {
	localkafka.Child()
	goleak.VerifyTestMain(kfaketest.WithApache{M: m})
}

func TestTailSeesWhatComesAfterIt(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		topic, producer := kfaketest.Topic(t, cfg), kfaketest.Producer(t, cfg)
		early := kfaketest.Follow(t, cfg, topic) // at the end of an empty topic
		kfaketest.Produce(t, producer, kfaketest.Messages(topic, 0, 100, 20)...)
		late := kfaketest.Follow(t, cfg, topic)
		kfaketest.Produce(t, producer, kfaketest.Messages(topic, 100, 100, 20)...)
		kfaketest.Produce(t, producer, kfaketest.Messages(topic, 200, 100, 20)...)
		for name, test := range map[string]struct {
			journal *kfaketest.Journal
			want    int
		}{"early": {early, 300}, "late": {late, 200}} {
			got := test.journal.Await(t, test.want)
			if len(got) != test.want {
				t.Errorf("the %s tail got %d messages, want %d", name, len(got), test.want)
			}
			kfaketest.InOrder(t, got)
		}
	})
}

func TestTailNeedsTheTopic(t *testing.T) {
	cfg := kfaketest.Broker(t)
	if _, err := inspect.NewTail(t.Context(), cfg, "missing", slog.New(slog.DiscardHandler)); err == nil ||
		!strings.Contains(err.Error(), `"missing"`) {
		t.Errorf("a topic that is not there: %v", err)
	}
}

func TestTailOutlivesFaults(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t, kfake.NumBrokers(2))
	topic, producer := kfaketest.Topic(t, cfg), kfaketest.Producer(t, cfg)
	j := kfaketest.Follow(t, cfg, topic)
	kfaketest.Produce(t, producer, kfaketest.Messages(topic, 0, 100, 20)...)
	j.Await(t, 100)
	for _, err := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.UnknownServerError, kerr.OffsetOutOfRange} {
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: err, Count: 4})
	}
	for partition := range int32(cfg.Partitions) {
		if err := cluster.MoveTopicPartition(topic, partition, partition%2); err != nil {
			t.Fatal(err)
		}
	}
	kfaketest.ProduceAll(t, producer, kfaketest.Messages(topic, 100, 100, 20)...)
	kfaketest.InOrder(t, j.Await(t, 200))
}
