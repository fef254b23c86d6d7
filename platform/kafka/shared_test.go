package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/stage"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
)

// lead makes the brokers lead a topic's four partitions in turn, from the first one on.
func lead(t *testing.T, cluster *kfake.Cluster, topic string, first, brokers int) {
	t.Helper()
	for partition := range 4 {
		if err := cluster.MoveTopicPartition(topic, int32(partition), int32((first+partition)%brokers)); err != nil {
			t.Fatal(err)
		}
	}
}

// partitionOf is the one of four that a message goes to.
func partitionOf(m kafka.Message) int {
	return kafkago.Murmur2Balancer{Consistent: true}.Balance(kafkago.Message{Key: m.Key}, 0, 1, 2, 3)
}

// observe counts requests.
func observe(cluster *kfake.Cluster, key kmsg.Key, which func(kmsg.Request) bool) *kfake.FaultHandle {
	return cluster.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Observe: true, Count: -1, When: which})
}

// awaitFetch waits for a fetch that asks for these partitions and no others.
func awaitFetch(t *testing.T, cluster *kfake.Cluster, partitions ...int32) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	handle := observe(cluster, kmsg.Fetch, func(r kmsg.Request) bool { return slices.Equal(fetches(r), partitions) })
	defer handle.Remove()
	if err := handle.Wait(ctx, 1); err != nil {
		t.Fatalf("nobody fetches %v: %v", partitions, err)
	}
}

// fetches are the partitions that a request asks for, sorted.
func fetches(r kmsg.Request) (partitions []int32) {
	for _, topic := range r.(*kmsg.FetchRequest).Topics {
		for _, p := range topic.Partitions {
			partitions = append(partitions, p.Partition)
		}
	}
	slices.Sort(partitions)
	return partitions
}

func TestBrokerGetsOneProduceRequest(t *testing.T) {
	for brokers := 1; brokers <= 4; brokers++ {
		cfg, cluster := kfaketest.Cluster(t, kfake.NumBrokers(brokers))
		one, two, j := kfaketest.Topic(t, cfg), kfaketest.Topic(t, cfg), kfaketest.NewJournal()
		lead(t, cluster, one, 0, brokers)
		lead(t, cluster, two, 1, brokers)
		asked := observe(cluster, kmsg.Produce, nil)
		kfaketest.Produce(t, kfaketest.Producer(t, cfg),
			append(kfaketest.Messages(one, 0, 100, 50), kfaketest.Messages(two, 100, 100, 50)...)...)
		if asked.Hits() != brokers {
			t.Errorf("%d requests to %d brokers", asked.Hits(), brokers)
		}
		consume(t, cfg, one, []string{one, two}, j, nil)
		got, partitions := j.Await(t, 200), map[string]bool{}
		for _, m := range got {
			partitions[fmt.Sprint(m.Topic, m.Partition)] = true
		}
		if kfaketest.InOrder(t, got); len(got) != 200 || len(partitions) != 8 {
			t.Errorf("%d messages in %d partitions", len(got), len(partitions))
		}
	}
}

// What is too much for one request is cut, and fetched again in as many answers as it takes.
func TestManyBytesTakeSeveralRequests(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		cfg.Partitions = 16
		topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
		list := kfaketest.Messages(topic, 0, 300, 100)
		for i := range list {
			list[i].Headers = []kafka.Header{{Key: "padding", Value: make([]byte, 100_000)}}
		}
		kfaketest.Produce(t, kfaketest.Producer(t, cfg), list...)
		consume(t, cfg, topic, []string{topic}, j, nil)
		got := j.Await(t, 300)
		if kfaketest.InOrder(t, got); len(got) != 300 {
			t.Errorf("%d messages", len(got))
		}
	})
}

// After a batch what follows gathers for as long as it took.
func TestAConsumerRestsAfterABatch(t *testing.T) {
	cfg, _ := kfaketest.Cluster(t)
	topic, producer, j := kfaketest.Topic(t, cfg), kfaketest.Producer(t, cfg), kfaketest.NewJournal()
	var begin, end, next time.Time
	stop := consume(t, cfg, topic, []string{topic}, j, func(context.Context, []kafka.Message) error {
		switch {
		case begin.IsZero():
			// Long enough to be told from the time between two batches without a rest.
			for begin = time.Now(); time.Since(begin) < 20*time.Millisecond; {
				kfaketest.Produce(t, producer, kfaketest.Messages(topic, 1, 1, 1)...)
			}
			end = time.Now()
		case next.IsZero():
			next = time.Now()
		}
		return nil
	})
	kfaketest.Produce(t, producer, kfaketest.Messages(topic, 0, 1, 1)...)
	j.Await(t, 2)
	stop()
	if rested, want := next.Sub(end), stage.Rest(1, end.Sub(begin)); rested < want {
		t.Errorf("the consumer rested %s, want at least %s", rested, want)
	}
}

func TestRequestsAreBounded(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t)
	cfg.Partitions = 16
	topic, largest := kfaketest.Topic(t, cfg), 0
	observe(cluster, kmsg.Produce, func(r kmsg.Request) bool {
		size := 0
		for _, topic := range r.(*kmsg.ProduceRequest).Topics {
			for _, p := range topic.Partitions {
				size += len(p.Records)
			}
		}
		largest = max(largest, size)
		return true
	})
	list := kfaketest.Messages(topic, 0, 300, 100)
	for i := range list {
		list[i].Headers = []kafka.Header{{Key: "padding", Value: make([]byte, 100_000)}}
	}
	kfaketest.Produce(t, kfaketest.Producer(t, cfg), list...)
	cluster.Close() // so that nobody observes any more
	if largest < 3<<20 || largest > 5<<20 {
		t.Errorf("the largest request had %d bytes", largest)
	}
}

func TestProducingToAPartitionInError(t *testing.T) {
	for name, test := range map[string]struct {
		fault kfake.Fault
		want  func(err error) bool
	}{
		"it fails": {kfake.Fault{Err: kerr.NotEnoughReplicas},
			func(err error) bool {
				return !kafka.Permanent(err) && (errors.Is(err, kafkago.NotEnoughReplicas) || errors.Is(err, kafka.ErrSkipped))
			}},
		"its leader moved": {kfake.Fault{Err: kerr.NotLeaderForPartition},
			func(err error) bool { return err == nil }},
		"it refuses all messages": {kfake.Fault{Err: kerr.InvalidRecord, Count: -1},
			func(err error) bool { return errors.Is(err, kafkago.InvalidRecord) || errors.Is(err, kafka.ErrSkipped) }},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, cluster := kfaketest.Cluster(t)
			topic, producer, j := kfaketest.Topic(t, cfg), kfaketest.Producer(t, cfg), kfaketest.NewJournal()
			test.fault.Keys, test.fault.Partitions = []kmsg.Key{kmsg.Produce}, []int32{2}
			handle := cluster.Fault(test.fault)
			list := kfaketest.Messages(topic, 0, 10_000, 40) // several requests
			var failed []kafka.Message
			for i, err := range producer.Produce(t.Context(), list) {
				if bad := partitionOf(list[i]) == 2; bad && !test.want(err) || !bad && err != nil {
					t.Errorf("message %d of partition %d: %v", i, partitionOf(list[i]), err)
				}
				if err != nil {
					failed = append(failed, list[i])
				}
			}
			handle.Remove()
			kfaketest.Produce(t, producer, failed...)
			consume(t, cfg, topic, []string{topic}, j, nil)
			got := j.Await(t, 10_000)
			if kfaketest.InOrder(t, got); len(got) != 10_000 {
				t.Errorf("%d messages stored", len(got))
			}
		})
	}
}

// Leaders move while a call that takes several requests is under way.
func TestLeadersMoveBetweenRequests(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t, kfake.NumBrokers(3))
	topic, producer, j := kfaketest.Topic(t, cfg), kfaketest.Producer(t, cfg), kfaketest.NewJournal()
	consume(t, cfg, topic, []string{topic}, j, nil)
	tail := kfaketest.Follow(t, cfg, topic)
	n := 0
	for round := range 5 {
		lead(t, cluster, topic, round, 3)
		asked := make(chan struct{})
		var once sync.Once
		handle := observe(cluster, kmsg.Produce, func(kmsg.Request) bool {
			once.Do(func() { close(asked) })
			return true
		})
		moved := make(chan struct{})
		go func() {
			defer close(moved)
			<-asked
			lead(t, cluster, topic, round+1, 3)
		}()
		kfaketest.ProduceAll(t, producer, kfaketest.Messages(topic, n, 10_000, 40)...)
		n += 10_000
		<-moved
		handle.Remove()
	}
	for name, j := range map[string]*kfaketest.Journal{"consumer": j, "tail": tail} {
		got := j.Await(t, n)
		if kfaketest.InOrder(t, got); len(got) < n {
			t.Errorf("the %s has %d messages", name, len(got))
		}
	}
}

func TestBrokerGetsOneFetch(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t, kfake.NumBrokers(2))
	topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
	lead(t, cluster, topic, 0, 2)
	consume(t, cfg, topic, []string{topic}, j, nil)
	awaitFetch(t, cluster, 0, 2)
	awaitFetch(t, cluster, 1, 3)
	kfaketest.Produce(t, kfaketest.Producer(t, cfg), kfaketest.Messages(topic, 0, 100, 20)...)
	j.Await(t, 100)
	if err := cluster.MoveTopicPartition(topic, 3, 0); err != nil {
		t.Fatal(err)
	}
	awaitFetch(t, cluster, 0, 2, 3)
	awaitFetch(t, cluster, 1)
}

func TestFetchingFromAPartitionInError(t *testing.T) {
	// Each makes partition 1 impossible to fetch until it is healed.
	ills := map[string]func(cluster *kfake.Cluster) (heal func()){
		"it is unreadable together with what comes with it": func(cluster *kfake.Cluster) func() {
			var healed atomic.Bool
			cluster.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				if slices.Contains(fetches(r), 1) && !healed.Load() {
					return nil, errors.New("cut"), true
				}
				return nil, nil, false
			})
			return func() { healed.Store(true) }
		},
	}
	for _, err := range []*kerr.Error{kerr.UnknownServerError, kerr.NotLeaderForPartition, kerr.KafkaStorageError,
		kerr.OffsetOutOfRange} {
		ills[err.Message] = func(cluster *kfake.Cluster) func() {
			return cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Partitions: []int32{1}, Err: err, Count: -1}).Remove
		}
	}
	for name, ill := range ills {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, cluster := kfaketest.Cluster(t)
			topic, consumed := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
			consume(t, cfg, topic, []string{topic}, consumed, nil)
			tailed := kfaketest.Follow(t, cfg, topic)
			heal := ill(cluster)
			list, well := kfaketest.Messages(topic, 0, 100, 20), 0
			for _, m := range list {
				if partitionOf(m) != 1 {
					well++
				}
			}
			producer := kfaketest.Producer(t, cfg)
			kfaketest.Produce(t, producer, list[:50]...)
			kfaketest.Produce(t, producer, list[50:]...)
			for _, j := range []*kfaketest.Journal{consumed, tailed} {
				for _, m := range j.Await(t, well) {
					if m.Partition == 1 {
						t.Error("partition 1 is not in error")
					}
				}
			}
			heal()
			for _, j := range []*kfaketest.Journal{consumed, tailed} {
				kfaketest.InOrder(t, j.Await(t, 100))
			}
			awaitFetch(t, cluster, 0, 1, 2, 3)
		})
	}
}

// What arrives while a batch is handled waits at the broker.
func TestNothingIsFetchedWhileABatchIsHandled(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t)
	topic, j, producer := kfaketest.Topic(t, cfg), kfaketest.NewJournal(), kfaketest.Producer(t, cfg)
	kfaketest.Produce(t, producer, kfaketest.Messages(topic, 0, 10, 1)...)
	var first sync.Once
	consume(t, cfg, topic, []string{topic}, j, func(_ context.Context, batch []kafka.Message) error {
		first.Do(func() {
			asked := observe(cluster, kmsg.Fetch, func(r kmsg.Request) bool {
				return slices.Contains(fetches(r), int32(batch[0].Partition))
			})
			kfaketest.Produce(t, producer, kfaketest.Messages(topic, 10, 1000, 1)...)
			if asked.Hits() > 0 {
				t.Error("more was fetched")
			}
			asked.Remove()
		})
		return nil
	})
	if got := j.Await(t, 1010); len(got) != 1010 {
		t.Errorf("%d messages handled", len(got))
	}
	awaitFetch(t, cluster, 0, 1, 2, 3)
}
