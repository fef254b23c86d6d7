package kafka_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
)

func TestMessagesArriveWhole(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
		at := time.Date(2026, 7, 1, 12, 0, 0, 123e6, time.UTC)
		event := kafka.Event{
			ID: uuid.NewString(), Type: "order.placed", Source: "orders", Subject: uuid.NewString(),
			Time:        at.Add(456 * time.Microsecond),
			Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
			Tenant:      "shop",
		}
		sent := kafka.Message{Topic: topic, Key: []byte("key"), Value: []byte(`{"a":1}`), Headers: event.Headers(), Time: at}
		kfaketest.Produce(t, kfaketest.Producer(t, cfg), sent, kafka.Message{Topic: topic, Key: []byte("key"), Value: nil})
		consume(t, cfg, topic, []string{topic}, j, nil)
		got := j.Await(t, 2)
		first, second := got[0], got[1]
		if first.Topic != topic || string(first.Key) != "key" || string(first.Value) != `{"a":1}` || !first.Time.Equal(at) ||
			first.Offset != 0 {
			t.Errorf("consumed %+v", first)
		}
		if kafka.EventOf(first) != event {
			t.Errorf("headers say %+v, sent %+v", kafka.EventOf(first), event)
		}
		if second.Value != nil || second.Offset != 1 || second.Headers != nil {
			t.Errorf("consumed %+v", second)
		}
	})
}

// Tokens come apart from what a message carries on, however often and in whatever case their header comes.
func TestTokensAreKeptApart(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
		header := func(name, value string) kafka.Header { return kafka.Header{Key: name, Value: []byte(value)} }
		kfaketest.Produce(t, kfaketest.Producer(t, cfg), kafka.Message{Topic: topic, Value: []byte("1"),
			Headers: []kafka.Header{header("Authorization", "first"), header("a", "b"), header("authorization", "second"),
				header("c", "d")}},
			kafka.Message{Topic: topic, Value: []byte("2"), Headers: []kafka.Header{header("authorizations", "a")}})
		consume(t, cfg, topic, []string{topic}, j, nil)
		got := j.Await(t, 2)
		if !slices.Equal(got[0].Authorization, []string{"first", "second"}) || len(got[0].Headers) != 2 ||
			got[0].Header("a") != "b" || got[0].Header("c") != "d" {
			t.Errorf("consumed %+v", got[0])
		}
		if got[1].Authorization != nil || got[1].Header("authorizations") != "a" {
			t.Errorf("consumed %+v", got[1])
		}
		dead := kafka.DeadLetter(got[0], "it cannot be read")
		if again, ok := kafka.Original(dead); !ok || len(again.Headers) != 2 || again.Authorization != nil {
			t.Errorf("put back is %+v", again)
		}
	})
}

func TestPartitionIsThatOfTheLane(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t)
	topic := kfaketest.Topic(t, cfg)
	producer := kfaketest.Producer(t, cfg)
	for range 50 {
		account := uuid.New()
		partition := int32(contract.Lane(account)) % 4
		before := cluster.PartitionInfo(topic, partition).HighWatermark
		kfaketest.Produce(t, producer, kafka.Message{Topic: topic, Key: []byte(account.String())})
		if after := cluster.PartitionInfo(topic, partition).HighWatermark; after != before+1 {
			t.Fatalf("account %s of lane %d is not in partition %d", account, contract.Lane(account), partition)
		}
	}
}

func TestAllReplicasMustAcknowledge(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t)
	topic := kfaketest.Topic(t, cfg)
	var acks atomic.Int32
	cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		acks.Store(int32(r.(*kmsg.ProduceRequest).Acks))
		return nil, nil, false
	})
	kfaketest.Produce(t, kfaketest.Producer(t, cfg), kfaketest.Messages(topic, 0, 1, 1)...)
	if acks.Load() != -1 {
		t.Errorf("acks=%d", acks.Load())
	}
}

func TestNewTopicIsWaitedFor(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t)
	topic := kfaketest.Topic(t, cfg)
	for _, err := range []*kerr.Error{kerr.UnknownTopicOrPartition, kerr.LeaderNotAvailable, kerr.NotLeaderForPartition} {
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: err})
	}
	kfaketest.Produce(t, kfaketest.Producer(t, cfg), kfaketest.Messages(topic, 0, 10, 1)...)
}

func TestMissingTopicStopsNoOther(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		topic := kfaketest.Topic(t, cfg)
		producer := kfaketest.Producer(t, cfg)
		list := append(kfaketest.Messages(topic+".missing", 0, 3, 1), kfaketest.Messages(topic, 0, 3, 1)...)
		results := producer.Produce(t.Context(), list)
		for i, err := range results {
			if missing := i < 3; missing && (err == nil || kafka.Permanent(err)) || !missing && err != nil {
				t.Errorf("message %d: %v", i, err)
			}
		}
		if !errors.Is(results[0], kafkago.UnknownTopicOrPartition) ||
			!strings.Contains(results[0].Error(), topic+".missing") {
			t.Errorf("the reason is %v", results[0])
		}
		kfaketest.Ensure(t, cfg, topic+".missing")
		kfaketest.ProduceAll(t, producer, list...)
	})
}

func TestRefusedMessageStopsItsKeyAlone(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
		list := kfaketest.Messages(topic, 0, 40, 4)
		list[10].Value = make([]byte, kafka.MaxMessageBytes+1) // of key-2
		for i, err := range kfaketest.Producer(t, cfg).Produce(t.Context(), list) {
			switch {
			case i == 10 && !kafka.Permanent(err):
				t.Errorf("message %d: %v", i, err)
			case i > 10 && i%4 == 2 && (!errors.Is(err, kafka.ErrSkipped) || kafka.Permanent(err)):
				t.Errorf("message %d: %v", i, err)
			case (i < 10 || i%4 != 2) && err != nil:
				t.Errorf("message %d: %v", i, err)
			}
		}
		consume(t, cfg, topic, []string{topic}, j, nil)
		kfaketest.InOrder(t, j.Await(t, 32)) // 30 of the other keys, 2 before the refused one
	})
}

// carries selects the produce requests with a message that contains the text.
func carries(text string) func(kmsg.Request) bool {
	return func(r kmsg.Request) bool {
		return slices.ContainsFunc(r.(*kmsg.ProduceRequest).Topics, func(topic kmsg.ProduceRequestTopic) bool {
			return slices.ContainsFunc(topic.Partitions, func(p kmsg.ProduceRequestTopicPartition) bool {
				return strings.Contains(string(p.Records), text)
			})
		})
	}
}

func TestMessageThatTheBrokerRefusesIsFound(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t)
	topic := kfaketest.Topic(t, cfg)
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.InvalidRecord, Count: -1,
		When: carries("poison")})
	list := kfaketest.Messages(topic, 0, 500, 5)
	list[101].Value = []byte("poison") // of key-1
	list[333].Value = []byte("poison") // of key-3
	for i, err := range kfaketest.Producer(t, cfg).Produce(t.Context(), list) {
		behind := i > 101 && i%5 == 1 || i > 333 && i%5 == 3
		switch {
		case i == 101 || i == 333:
			if !kafka.Permanent(err) || !errors.Is(err, kafkago.InvalidRecord) {
				t.Errorf("message %d: %v", i, err)
			}
		case behind && !errors.Is(err, kafka.ErrSkipped), !behind && err != nil:
			t.Errorf("message %d: %v", i, err)
		}
	}
	list[101].Value, list[333].Value = []byte("101"), []byte("333")
	kfaketest.Produce(t, kfaketest.Producer(t, cfg), slices.DeleteFunc(slices.Clone(list), func(m kafka.Message) bool {
		i := slices.IndexFunc(list, func(other kafka.Message) bool { return string(other.Value) == string(m.Value) })
		return !(i >= 101 && i%5 == 1 || i >= 333 && i%5 == 3)
	})...)
	j := kfaketest.NewJournal()
	consume(t, cfg, topic, []string{topic}, j, nil)
	got := j.Await(t, 500)
	kfaketest.InOrder(t, got)
	if len(got) != 500 {
		t.Errorf("%d messages stored", len(got))
	}
}

// A broker that refuses the time of a message refuses it for good only where the message has brought that time. Else it
// is the clock's of this machine, which will be right again.
func TestTimeIsTheMessagesOrTheClocks(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t)
	topic := kfaketest.Topic(t, cfg)
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.InvalidTimestamp, Count: -1})
	producer := kfaketest.Producer(t, cfg)
	for _, at := range []time.Time{{}, time.Now().Add(24 * time.Hour)} {
		list := kfaketest.Messages(topic, 0, 1, 1)
		list[0].Time = at
		err := producer.Produce(t.Context(), list)[0]
		if !errors.Is(err, kafkago.InvalidTimestamp) || kafka.Permanent(err) == at.IsZero() {
			t.Errorf("with the time %s: %v, for good: %t", at, err, kafka.Permanent(err))
		}
	}
}

func TestRequestsStayUnderTheBrokersLimit(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		topic := kfaketest.Topic(t, cfg)
		list := kfaketest.Messages(topic, 0, 30, 1)
		for i := range list {
			list[i].Value = make([]byte, 200_000)
			list[i].Headers = []kafka.Header{{Key: "h", Value: make([]byte, 100)}}
		}
		largest := kafka.Message{Topic: topic, Key: []byte("key-0"), Value: make([]byte, kafka.MaxMessageBytes-100)}
		kfaketest.Produce(t, kfaketest.Producer(t, cfg), append(list, largest)...)
	})
}

func TestErrorEndsThePartition(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t)
	topic := kfaketest.Topic(t, cfg)
	producer := kfaketest.Producer(t, cfg)
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.NotEnoughReplicas,
		When: carries("1500")})
	list := kfaketest.Messages(topic, 0, 3000, 1)
	results := producer.Produce(t.Context(), list)
	for i, err := range results {
		switch {
		case i < 1000 && err != nil:
			t.Fatalf("message %d: %v", i, err)
		case i >= 1000 && i < 2000 && (!errors.Is(err, kafkago.NotEnoughReplicas) || kafka.Permanent(err)):
			t.Fatalf("message %d: %v", i, err)
		case i >= 2000 && !errors.Is(err, kafka.ErrSkipped):
			t.Fatalf("message %d: %v", i, err)
		}
	}
	kfaketest.Produce(t, producer, list[1000:]...)
	j := kfaketest.NewJournal()
	consume(t, cfg, topic, []string{topic}, j, nil)
	got := j.Await(t, 3000)
	kfaketest.InOrder(t, got)
	if len(got) != 3000 {
		t.Errorf("%d messages stored", len(got))
	}
}

func TestProducerFollowsTheLeader(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t, kfake.NumBrokers(3))
	topic := kfaketest.Topic(t, cfg)
	producer := kfaketest.Producer(t, cfg)
	for i := range 10 {
		for partition := range int32(4) {
			if err := cluster.MoveTopicPartition(topic, partition, int32(i%3)); err != nil {
				t.Fatal(err)
			}
		}
		kfaketest.Produce(t, producer, kfaketest.Messages(topic, 100*i, 100, 8)...)
	}
}

func TestLostBrokerIsTransient(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t)
	topic := kfaketest.Topic(t, cfg)
	producer := kfaketest.Producer(t, cfg)
	kfaketest.Produce(t, producer, kfaketest.Messages(topic, 0, 1, 1)...)
	cluster.Close()
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		for _, err := range producer.Produce(ctx, kfaketest.Messages(topic, 0, 2, 1)) {
			if err == nil || kafka.Permanent(err) {
				t.Errorf("%v", err)
			}
		}
		if ctx.Err() != nil {
			t.Error("a broker that is gone is waited for")
		}
		cancel()
	}
}

func TestImpossibleTopicIsPermanent(t *testing.T) {
	for i, err := range kfaketest.Producer(t, kfaketest.Broker(t)).Produce(t.Context(),
		kfaketest.Messages("no topic has blanks", 0, 2, 1)) {
		if !kafka.Permanent(err) {
			t.Errorf("message %d: %v", i, err)
		}
	}
}

func TestProducedAreCounted(t *testing.T) {
	cfg := kfaketest.Broker(t)
	topic := kfaketest.Topic(t, cfg)
	metrics := prometheus.NewRegistry()
	for range 2 { // two producers of a process share its registry
		producer, err := kafka.NewProducer(cfg, silent, metrics)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(producer.Close)
		list := kfaketest.Messages(topic, 0, 5, 5)
		list[0].Value = make([]byte, 2<<20)
		producer.Produce(t.Context(), list)
	}
	want := "# HELP altyn_kafka_produced_total Messages acknowledged by all in-sync replicas.\n# TYPE " +
		"altyn_kafka_produced_total counter\n" +
		`altyn_kafka_produced_total{topic="` + topic + `"} 8` + "\n"
	if err := testutil.GatherAndCompare(metrics, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
