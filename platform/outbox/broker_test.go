package outbox_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// With a broker: a partition lacks replicas, a reply topic is deleted, and more messages of both come than fit into a
// batch. Everybody else's are published; in the end those are too, in their order.
func TestWithABrokerNothingHealthyWaits(t *testing.T) {
	t.Parallel()
	db := postgrestest.Database(t, "outbox", outbox.Migrations())
	cfg, cluster := kfaketest.Cluster(t)
	const topic, gone = "orders", "replies.gone"
	if err := kafka.EnsureTopics(t.Context(), cfg, topic, gone); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	producer, err := kafka.NewProducer(cfg, log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(producer.Close)
	if err := cluster.DeleteTopic(gone); err != nil {
		t.Fatal(err)
	}
	const sick = 2
	fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Partitions: []int32{sick},
		Err: kerr.NotEnoughReplicas, Count: -1})

	var mu sync.Mutex
	got := map[string][]string{} // by topic and key
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	consume := func(topic string) {
		consumer, err := kafka.NewConsumer(cfg, "test-"+topic, []string{topic}, log, prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			if err := consumer.Run(ctx, func(_ context.Context, messages []kafka.Message) error {
				mu.Lock()
				defer mu.Unlock()
				for _, m := range messages {
					key := m.Topic + " " + string(m.Key)
					got[key] = append(got[key], string(m.Value))
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	consume(topic)
	relay := outbox.NewRelay(db.Service, kafka.NewPublisher(producer, "/test"), log, prometheus.NewRegistry())
	running.Go(func() {
		if err := relay.Run(ctx); err != nil {
			t.Error(err)
		}
	})

	want := map[string][]string{}
	add := func(topic, key string, n int) {
		var list []outbox.Message
		for range n {
			place := topic + " " + key
			payload := fmt.Sprintf(`"%s %d"`, place, len(want[place]))
			want[place] = append(want[place], payload)
			list = append(list, outbox.Message{Lane: int16(contract.Partition(key, contract.Lanes)), ID: uuid.New(),
				Type: "test", Topic: topic, Key: key, Payload: payload})
		}
		if err := pg.InTx(t.Context(), db.Service, func(tx *sqlx.Tx) error {
			return outbox.Append(t.Context(), tx, list...)
		}); err != nil {
			t.Fatal(err)
		}
		relay.Wake()
	}
	arrived := func(which func(key string) bool) {
		t.Helper()
		for start := time.Now(); ; {
			mu.Lock()
			missing := ""
			for key, list := range want {
				if which(key) && len(got[key]) < len(list) {
					missing = key
				}
			}
			mu.Unlock()
			if missing == "" {
				return
			}
			if time.Since(start) > time.Minute {
				t.Fatalf("not within a minute: %s has %d of %d", missing, len(got[missing]), len(want[missing]))
			}
			var one int // the wait is the database's answer
			if err := db.Service.GetContext(t.Context(), &one, `SELECT 1`); err != nil {
				t.Fatal(err)
			}
		}
	}
	var keys []string
	for i := range 40 {
		keys = append(keys, fmt.Sprint("key-", i))
	}
	isSick := func(place string) bool {
		return slices.ContainsFunc(keys, func(key string) bool {
			return place == topic+" "+key && contract.Partition(key, 4) == sick || place == gone+" "+key
		})
	}
	for range 3 {
		for _, key := range keys {
			add(gone, key, 50)
			if isSick(topic + " " + key) {
				add(topic, key, 200)
			}
		}
		for _, key := range keys {
			add(topic, key, 1)
		}
		arrived(func(key string) bool { return !isSick(key) })
	}
	mu.Lock()
	for key, list := range got {
		if isSick(key) {
			t.Errorf("%s has %d messages", key, len(list))
		}
	}
	mu.Unlock()
	fault.Remove()
	if err := cluster.CreateTopic(gone, 3, nil); err != nil { // other partitions than before
		t.Fatal(err)
	}
	consume(gone)
	arrived(func(string) bool { return true })
	mu.Lock()
	defer mu.Unlock()
	for key, list := range want {
		if !slices.Equal(got[key], list) {
			t.Errorf("%s has %d messages of %d, in order: %v", key, len(got[key]), len(list), slices.Equal(got[key], list))
		}
	}
}
