package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
)

func TestEveryMessageIsHandledInOrder(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		one, two, j := kfaketest.Topic(t, cfg), kfaketest.Topic(t, cfg), kfaketest.NewJournal()
		producer := kfaketest.Producer(t, cfg)
		for i := range 10 {
			kfaketest.Produce(t, producer, kfaketest.Messages(one, 1000*i, 1000, 13)...)
			kfaketest.Produce(t, producer, kfaketest.Messages(two, 100_000+10*i, 10, 3)...)
		}
		consume(t, cfg, one, []string{one, two}, j, nil)
		got := j.Await(t, 10_100)
		kfaketest.InOrder(t, got)
		if len(got) != 10_100 {
			t.Errorf("%d messages handled", len(got))
		}
		if j.Largest() < 500 {
			t.Errorf("of 10,100 waiting messages at most %d were handled at once", j.Largest())
		}
	})
}

// A topic that cannot be handled holds up no other one, whatever it holds up of itself, and goes on where it was.
func TestTopicsDoNotWaitForEachOther(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		well, ill, j := kfaketest.Topic(t, cfg), kfaketest.Topic(t, cfg), kfaketest.NewJournal()
		producer := kfaketest.Producer(t, cfg)
		tried, healed := make(chan struct{}), make(chan struct{})
		try := sync.OnceFunc(func() { close(tried) })
		consume(t, cfg, well, []string{well, ill}, j, func(_ context.Context, batch []kafka.Message) error {
			if batch[0].Topic == ill {
				try()
				select {
				case <-healed:
				default:
					return errors.New("the issuer is away")
				}
			}
			return nil
		})
		kfaketest.Produce(t, producer, kfaketest.Messages(ill, 0, 100, 7)...)
		<-tried
		for i := range 10 { // each after the one before was handled
			kfaketest.Produce(t, producer, kfaketest.Messages(well, 100+10*i, 10, 7)...)
			for _, m := range j.Await(t, 10*(i+1)) {
				if m.Topic != well {
					t.Fatalf("a message of %s was handled", m.Topic)
				}
			}
		}
		close(healed)
		if got := j.Await(t, 200); len(got) != 200 {
			t.Errorf("%d messages handled", len(got))
		} else {
			kfaketest.InOrder(t, got)
		}
	})
}

func TestFailedBatchIsHandledAgain(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
		kfaketest.Produce(t, kfaketest.Producer(t, cfg), kfaketest.Messages(topic, 0, 300, 9)...)
		var attempts [][]kafka.Message
		consume(t, cfg, topic, []string{topic}, j, func(_ context.Context, batch []kafka.Message) error {
			if attempts = append(attempts, batch); len(attempts) < 5 {
				return errors.New("the database is away")
			}
			return nil
		})
		got := j.Await(t, 300)
		kfaketest.InOrder(t, got)
		if len(got) != 300 {
			t.Errorf("%d messages handled", len(got))
		}
		for i, attempt := range attempts[:5] {
			if len(attempt) != len(attempts[0]) || string(attempt[0].Value) != string(attempts[0][0].Value) {
				t.Errorf("attempt %d is another batch", i)
			}
		}
	})
}

// What was not handled comes again to the next consumer; what was does not.
func TestOffsetsFollowTheHandling(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		topic := kfaketest.Topic(t, cfg)
		producer := kfaketest.Producer(t, cfg)
		kfaketest.Produce(t, producer, kfaketest.Messages(topic, 0, 100, 5)...)
		first := kfaketest.NewJournal()
		stop := consume(t, cfg, topic, []string{topic}, first, nil)
		first.Await(t, 100)
		stop()

		kfaketest.Produce(t, producer, kfaketest.Messages(topic, 100, 100, 5)...)
		failed := make(chan struct{}, 1)
		stop = consume(t, cfg, topic, []string{topic}, kfaketest.NewJournal(), func(context.Context, []kafka.Message) error {
			select {
			case failed <- struct{}{}:
			default:
			}
			return errors.New("no")
		})
		<-failed
		stop()

		second := kfaketest.NewJournal()
		consume(t, cfg, topic, []string{topic}, second, nil)
		for _, m := range second.Await(t, 100) {
			if len(m.Value) != 3 {
				t.Fatalf("%s was handled and came again", m.Value)
			}
		}
	})
}

func TestShutdownFinishesTheBatch(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		topic := kfaketest.Topic(t, cfg)
		kfaketest.Produce(t, kfaketest.Producer(t, cfg), kfaketest.Messages(topic, 0, 10, 1)...)
		consumer, err := kafka.NewConsumer(cfg, topic, []string{topic}, silent, prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		handled := 0
		if err := consumer.Run(ctx, func(handling context.Context, batch []kafka.Message) error {
			cancel()
			handled += len(batch)
			return handling.Err() // nothing is cut off by the shutdown
		}); err != nil {
			t.Fatal(err)
		}
		// Another member gets the partitions at once, from where the first one stopped.
		kfaketest.Produce(t, kfaketest.Producer(t, cfg), kfaketest.Messages(topic, 10, 1, 1)...)
		j := kfaketest.NewJournal()
		consume(t, cfg, topic, []string{topic}, j, nil)
		if got := j.Await(t, 11-handled); string(got[0].Value) != fmt.Sprint(handled) {
			t.Errorf("%d handled before the shutdown, then %s came", handled, got[0].Value)
		}
	})
}

func TestMembersShareThePartitions(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
		producer := kfaketest.Producer(t, cfg)
		var handled [3]atomic.Int32
		member := func(n int) func() {
			return consume(t, cfg, topic, []string{topic}, j, func(_ context.Context, batch []kafka.Message) error {
				handled[n].Add(int32(len(batch)))
				return nil
			})
		}
		// Members come and go while messages flow.
		next := 0
		flow := func(enough func() bool) {
			for start := time.Now(); !enough(); next += 40 {
				if time.Since(start) > deadline {
					t.Fatalf("after %d messages: %d, %d and %d handled", next, handled[0].Load(), handled[1].Load(), handled[2].Load())
				}
				kfaketest.Produce(t, producer, kfaketest.Messages(topic, next, 40, 20)...)
				j.Await(t, next+40)
			}
		}
		stop := member(0)
		flow(func() bool { return handled[0].Load() > 0 })
		member(1)
		flow(func() bool { return handled[1].Load() > 0 })
		member(2)
		flow(func() bool { return handled[2].Load() > 0 })
		stop()
		alone := handled[1].Load() + handled[2].Load()
		flow(func() bool { return handled[1].Load()+handled[2].Load() > alone+400 })
		kfaketest.InOrder(t, j.Await(t, next))
	})
}

// A handler that is busy when its partitions are taken away finishes and commits before another member gets them.
func TestRebalanceWaitsForTheHandler(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t)
	topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
	producer := kfaketest.Producer(t, cfg)
	kfaketest.Produce(t, producer, kfaketest.Messages(topic, 0, 40, 40)...)
	entered, release := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	consume(t, cfg, topic, []string{topic}, j, func(ctx context.Context, _ []kafka.Message) error {
		if once.CompareAndSwap(false, true) {
			close(entered)
			<-release
		}
		return ctx.Err()
	})
	<-entered
	consume(t, cfg, topic, []string{topic}, j, nil)
	waitGroup(t, cluster, topic, func(g *kfake.GroupInfo) bool { return g.State == "PreparingRebalance" })
	close(release)
	waitGroup(t, cluster, topic, func(g *kfake.GroupInfo) bool { return g.State == "Stable" && len(g.Members) == 2 })
	kfaketest.Produce(t, producer, kfaketest.Messages(topic, 40, 40, 40)...)
	if got := j.Await(t, 80); len(got) != 80 {
		t.Errorf("%d messages handled, so some twice", len(got))
	}
}

func waitGroup(t *testing.T, cluster *kfake.Cluster, group string, holds func(*kfake.GroupInfo) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	if info, err := cluster.WaitGroupInfo(ctx, group, func(g *kfake.GroupInfo) bool {
		return g != nil && holds(g)
	}); err != nil {
		t.Fatalf("group: %+v: %v", info, err)
	}
}

func TestDuplicatesAreHandedOver(t *testing.T) {
	cfg := kfaketest.Broker(t)
	topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
	producer := kfaketest.Producer(t, cfg)
	for range 2 {
		kfaketest.Produce(t, producer, kfaketest.Messages(topic, 0, 50, 5)...)
	}
	kfaketest.Produce(t, producer, kfaketest.Messages(topic, 50, 5, 5)...) // the last of each key
	consume(t, cfg, topic, []string{topic}, j, nil)
	if got := j.Await(t, 55); len(got) != 105 {
		t.Errorf("%d messages handled instead of 105", len(got))
	}
}

func TestTopicMayComeLater(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
		var log strings.Builder
		metrics := prometheus.NewRegistry()
		waits := make(chan struct{}, 100)
		consumeLogged(t, cfg, topic, []string{topic, topic + ".later"}, j, nil, logger(&log, waits), metrics)
		<-waits
		kfaketest.Ensure(t, cfg, topic+".later")
		kfaketest.Produce(t, kfaketest.Producer(t, cfg), kfaketest.Messages(topic+".later", 0, 3, 3)...)
		kfaketest.Produce(t, kfaketest.Producer(t, cfg), kfaketest.Messages(topic, 3, 3, 3)...)
		j.Await(t, 6)
	})
}

func TestPartitionsMayBeAdded(t *testing.T) {
	kfaketest.Brokers(t, func(t *testing.T, cfg kafka.Config) {
		topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
		consume(t, cfg, topic, []string{topic}, j, nil)
		producer := kfaketest.Producer(t, cfg)
		kfaketest.Produce(t, producer, kfaketest.Messages(topic, 0, 10, 10)...)
		j.Await(t, 10)
		client := &kafkago.Client{Addr: kafkago.TCP(cfg.Brokers...), Transport: &kafkago.Transport{}}
		defer client.Transport.(*kafkago.Transport).CloseIdleConnections()
		response, err := client.CreatePartitions(t.Context(), &kafkago.CreatePartitionsRequest{
			Topics: []kafkago.TopicPartitionsConfig{{Name: topic, Count: 8}},
		})
		if err != nil || response.Errors[topic] != nil {
			t.Fatal(err, response)
		}
		kfaketest.Ensure(t, cfg, topic)
		// A new partition's messages are read once the group has noticed it.
		fresh := kfaketest.Producer(t, cfg)
		kfaketest.Produce(t, fresh, kfaketest.Messages(topic, 10, 200, 200)...)
		partitions := map[int]bool{}
		for _, m := range j.Await(t, 210) {
			partitions[m.Partition] = true
		}
		if len(partitions) != 8 {
			t.Errorf("messages of %d partitions", len(partitions))
		}
	})
}

func TestLagIsShown(t *testing.T) {
	cfg := kfaketest.Broker(t)
	topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
	kfaketest.Produce(t, kfaketest.Producer(t, cfg), kfaketest.Messages(topic, 0, 25, 1)...)
	metrics := prometheus.NewRegistry()
	entered, release := make(chan struct{}), make(chan struct{})
	stop := consumeLogged(t, cfg, topic, []string{topic}, j, func(context.Context, []kafka.Message) error {
		close(entered)
		<-release
		return nil
	}, silent, metrics)
	lag := func() (sum float64, series int) {
		families, err := metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			if family.GetName() == "altyn_kafka_consumer_lag" {
				for _, metric := range family.Metric {
					sum, series = sum+metric.Gauge.GetValue(), series+1
				}
			}
		}
		return sum, series
	}
	<-entered
	if sum, _ := lag(); sum != 25 {
		t.Errorf("lag %v while 25 messages wait", sum)
	}
	close(release)
	j.Await(t, 25)
	stop()
	if sum, series := lag(); sum != 0 || series != 0 {
		t.Errorf("lag %v of %d partitions after the end", sum, series)
	}
	want := "# HELP altyn_kafka_consumed_total Messages handled.\n# TYPE altyn_kafka_consumed_total counter\n" +
		fmt.Sprintf("altyn_kafka_consumed_total{group=%q,topic=%q} 25\n", topic, topic)
	if err := testutil.GatherAndCompare(metrics, strings.NewReader(want), "altyn_kafka_consumed_total"); err != nil {
		t.Error(err)
	}
}
