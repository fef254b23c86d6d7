package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/kafkatest"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
	"github.com/altyn-pay/altyn/testkit/wait"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// Purchases come by both ways, each more than once, with one that cannot be read in between: each counts once, and
// the last event has the total.
func TestPointsAreAddedOnce(t *testing.T) {
	db := postgrestest.Database(t, "points", migrations()...)
	broker := kafkatest.Broker(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() {
		if err := run(ctx, db.Config, broker, httpserver.Server{Name: "points", Listener: listener}); err != nil {
			t.Error(err)
		}
	})
	if err := kafka.EnsureTopics(t.Context(), broker, "purchases", "purchases.dlq", "points"); err != nil {
		t.Fatal(err)
	}
	log, metrics := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	producer, err := kafka.NewProducer(broker, log, metrics)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	consumer, err := kafka.NewConsumer(broker, "test", []string{"points", "purchases.dlq"}, log, metrics)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	newest := map[string]string{} // the last message by topic
	running.Go(func() {
		if err := consumer.Run(ctx, func(_ context.Context, messages []kafka.Message) error {
			mu.Lock()
			defer mu.Unlock()
			for _, m := range messages {
				newest[m.Topic] = string(m.Value)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	})

	const n, points = 10, 5
	customer := uuid.New()
	var records []kafka.Message
	for range n {
		purchase := fmt.Sprintf(`{"id": %q, "customer": %q, "points": %d}`, uuid.New(), customer, points)
		record := kafka.Message{Topic: "purchases", Key: []byte(customer.String()), Value: []byte(purchase)}
		records = append(records, record, record)
		response, err := http.Post("http://"+listener.Addr().String()+"/purchases", "application/json",
			strings.NewReader(purchase))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusNoContent {
			t.Fatalf("%s: %s", purchase, response.Status)
		}
	}
	records[n].Value = []byte("points for everybody")
	// The last one comes by the topic alone, so all before it in its partition were handled once its points are there.
	last := fmt.Sprintf(`{"id": %q, "customer": %q, "points": 1}`, uuid.New(), customer)
	records = append(records, kafka.Message{Topic: "purchases", Key: records[0].Key, Value: []byte(last)})
	for _, err := range producer.Produce(t.Context(), records) {
		if err != nil {
			t.Fatal(err)
		}
	}
	total := fmt.Sprintf(`{"customer" : %q, "points" : %d}`, customer, n*points+1)
	wait.Until(t, "the last total and the dead letter", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return newest["points"] == total &&
			newest["purchases.dlq"] == "points for everybody"
	})
	postgrestest.AwaitCount(t, db.Owner, n*points+1, `SELECT points FROM totals`)
	postgrestest.AwaitCount(t, db.Owner, n+1, `SELECT count(*) FROM purchases`)
}
