package kafka_test

import (
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/outbox"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
)

// outgoing are messages of a topic, one for each of 4 partitions, in their order.
func outgoing(topic string) []outbox.Message {
	list := make([]outbox.Message, 4)
	for i, found := 0, 0; found < 4; i++ {
		if key := strconv.Itoa(i); list[contract.Partition(key, 4)].Key == "" {
			list[contract.Partition(key, 4)] = outbox.Message{ID: uuid.New(), Topic: topic, Key: key, Payload: "{}"}
			found++
		}
	}
	return list
}

// Each event says whose it is.
func TestEventsCarryTheirTenant(t *testing.T) {
	cfg := kfaketest.Broker(t)
	topic, j := kfaketest.Topic(t, cfg), kfaketest.NewJournal()
	messages := outgoing(topic)[:3]
	want := map[string]string{messages[0].Key: "default", messages[1].Key: "default", messages[2].Key: "shop"}
	messages[1].Tenant, messages[2].Tenant = "default", "shop"
	for i := range messages {
		messages[i].Payload = strconv.Itoa(i)
	}
	publisher := kafka.NewPublisher(kfaketest.Producer(t, cfg), "/orders")
	if err := errors.Join(publisher.Publish(t.Context(), messages)...); err != nil {
		t.Fatal(err)
	}
	consume(t, cfg, topic, []string{topic}, j, nil)
	for _, m := range j.Await(t, len(messages)) {
		if got := m.Header("ce_tenant"); got != want[string(m.Key)] {
			t.Errorf("message %s is of %q", m.Key, got)
		}
	}
}

// unavailable are the parts of results, by message; nil where there is none.
func unavailable(t *testing.T, results []error) []*outbox.Unavailable {
	t.Helper()
	parts := make([]*outbox.Unavailable, len(results))
	for i, err := range results {
		if err != nil && !errors.As(err, &parts[i]) {
			t.Errorf("message %d: %v", i, err)
		}
	}
	return parts
}

// What takes no messages for now is told apart, at once: nothing is waited for, nothing asked anew, and the others
// are published.
func TestUnavailablePartsDelayNobody(t *testing.T) {
	const sick = 2
	for _, test := range []struct {
		name  string
		ill   func(cluster *kfake.Cluster, topic string) (heal func())
		whole bool // topic
		lost  bool
	}{
		{"too few replicas", func(cluster *kfake.Cluster, topic string) func() {
			return cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Partitions: []int32{sick},
				Err: kerr.NotEnoughReplicas, Count: -1}).Remove
		}, false, false},
		{"no answer of the replicas", func(cluster *kfake.Cluster, topic string) func() {
			return cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Partitions: []int32{sick},
				Err: kerr.RequestTimedOut, Count: -1}).Remove
		}, false, false},
		{"another leader", func(cluster *kfake.Cluster, topic string) func() {
			return cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Partitions: []int32{sick},
				Err: kerr.NotLeaderForPartition, Count: -1}).Remove
		}, false, false},
		{"forbidden", func(cluster *kfake.Cluster, topic string) func() {
			return cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Partitions: []int32{sick},
				Err: kerr.TopicAuthorizationFailed, Count: -1}).Remove
		}, false, true},
		{"deleted", func(cluster *kfake.Cluster, topic string) func() {
			if err := cluster.DeleteTopic(topic); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := cluster.CreateTopic(topic, 4, nil); err != nil {
					t.Fatal(err)
				}
			}
		}, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg, cluster := kfaketest.Cluster(t)
			topic, healthy := kfaketest.Topic(t, cfg), kfaketest.Topic(t, cfg)+".healthy"
			kfaketest.Ensure(t, cfg, healthy)
			publisher := kafka.NewPublisher(kfaketest.Producer(t, cfg), "/test")
			list := slices.Concat(outgoing(topic), outgoing(healthy))
			check := func(results []error) {
				t.Helper()
				for i, part := range unavailable(t, results) {
					want := i == sick || i < 4 && test.whole
					if want != (part != nil) {
						t.Errorf("message %d: %v", i, results[i])
					} else if want && (part.Lost != test.lost || !test.whole && (part.Partitions != 4 || part.Partition != sick) ||
						test.whole && part.Partitions != 1 && part.Partitions != 4) {
						t.Errorf("message %d: %+v", i, part)
					}
				}
			}
			if results := publisher.Publish(t.Context(), list); slices.ContainsFunc(results, func(err error) bool {
				return err != nil
			}) {
				t.Fatal(results)
			}
			heal := test.ill(cluster, topic)
			check(publisher.Publish(t.Context(), list))
			produced := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Observe: true, Count: -1})
			asked := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Observe: true, Count: -1})
			const many = 20
			start := time.Now()
			for range many {
				check(publisher.Publish(t.Context(), list))
			}
			if n := produced.Hits(); n > many {
				t.Errorf("%d calls made %d requests", many, n)
			}
			// The library asks by itself now and then. A leader that has moved must be asked for.
			took := time.Since(start)
			if n := asked.Hits(); n > 3+int(took/(20*time.Millisecond)) && test.name != "another leader" {
				t.Errorf("the brokers were asked %d times in %v", n, took)
			}
			// What is tried again notices at once when it is well, and then so do all.
			check(append(publisher.Retry(t.Context(), list[:4]), make([]error, 4)...))
			for range 3 { // the last of these has asked just before
				check(publisher.Publish(t.Context(), list))
			}
			heal()
			failed := func(err error) bool { return err != nil }
			for start := time.Now(); slices.ContainsFunc(publisher.Retry(t.Context(), list[:4]), failed); {
				if time.Since(start) > deadline {
					t.Fatal("it does not notice")
				}
			}
			if results := publisher.Publish(t.Context(), list); slices.ContainsFunc(results, failed) {
				t.Errorf("healed: %v", results)
			}
		})
	}
}

// Where no broker answers nothing is told apart.
func TestABrokerThatIsAwayIsNoPart(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t)
	publisher := kafka.NewPublisher(kfaketest.Producer(t, cfg), "/test")
	list := outgoing(kfaketest.Topic(t, cfg))
	for _, err := range publisher.Publish(t.Context(), list) {
		if err != nil {
			t.Fatal(err)
		}
	}
	cluster.Close()
	for range 3 {
		for _, err := range publisher.Publish(t.Context(), list) {
			var part *outbox.Unavailable
			if err == nil || errors.As(err, &part) || publisher.Permanent(err) {
				t.Errorf("%v", err)
			}
		}
	}
}

// One broker of several does not answer: its partitions are told apart, also when there is nothing else to publish.
func TestOneBrokerOfSeveralThatDoesNotAnswer(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t, kfake.NumBrokers(2))
	topic := kfaketest.Topic(t, cfg)
	publisher := kafka.NewPublisher(kfaketest.Producer(t, cfg), "/test")
	for partition := range int32(4) {
		if err := cluster.MoveTopicPartition(topic, partition, partition%2); err != nil {
			t.Fatal(err)
		}
	}
	list := outgoing(topic)
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if cluster.CurrentNode() == 1 {
			return nil, errors.New("the connection is cut"), true
		}
		return nil, nil, false
	})
	for _, list := range [][]outbox.Message{list, {list[1], list[3]}} {
		for i, part := range unavailable(t, publisher.Publish(t.Context(), list)) {
			if want := contract.Partition(list[i].Key, 4); (part != nil) != (want%2 == 1) ||
				part != nil && (part.Partition != want || part.Lost) {
				t.Errorf("partition %d: %+v", want, part)
			}
		}
	}
}

// What cannot be produced, as a dead letter whose topic is not there, does not have Publish ask the brokers anew.
func TestWhatCannotBeProducedDoesNotDisturbPublish(t *testing.T) {
	cfg, cluster := kfaketest.Cluster(t)
	topic := kfaketest.Topic(t, cfg)
	producer := kfaketest.Producer(t, cfg)
	publisher := kafka.NewPublisher(producer, "/test")
	list := outgoing(topic)
	publish := func() {
		t.Helper()
		if results := publisher.Publish(t.Context(), list); slices.ContainsFunc(results, func(err error) bool {
			return err != nil
		}) {
			t.Fatal(results)
		}
	}
	publish()
	// A connection that is made says what it can before anything else.
	connected := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ApiVersions}, Observe: true, Count: -1})
	for range 3 {
		producer.Produce(t.Context(), kfaketest.Messages(topic+".missing", 0, 1, 1))
	}
	before := connected.Hits()
	publish()
	if n := connected.Hits() - before; n != 0 {
		t.Errorf("Publish had to make %d connections", n)
	}
}
