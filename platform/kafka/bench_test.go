package kafka_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/kafkatest"
)

func benchmarkBrokers(b *testing.B, benchmark func(b *testing.B, cfg kafka.Config)) {
	b.Run("embedded", func(b *testing.B) { benchmark(b, kafkatest.Broker(b)) })
	b.Run("apache", func(b *testing.B) { benchmark(b, apache(b)) })
}

// events makes messages as the outbox publishes them, of about 600 bytes.
func events(topic string, n int) []kafka.Message {
	list := make([]kafka.Message, n)
	for i := range list {
		event := kafka.Event{ID: uuid.NewString(), Type: "order.placed", Source: "orders", Subject: uuid.NewString(), Time: time.Now()}
		list[i] = kafka.Message{Topic: topic, Key: []byte(uuid.NewString()), Value: make([]byte, 300), Headers: event.Headers()}
	}
	return list
}

// BenchmarkLatency measures one message at a time on an idle broker, from the call of Produce to that of the handler.
func BenchmarkLatency(b *testing.B) {
	benchmarkBrokers(b, func(b *testing.B, cfg kafka.Config) {
		topic := newTopic(b, cfg)
		producer := newProducer(b, cfg)
		handled := make(chan time.Time, 1)
		consume(b, cfg, topic, []string{topic}, newJournal(), func(context.Context, []kafka.Message) error {
			handled <- time.Now()
			return nil
		})
		list := events(topic, 1)
		send := func() (acknowledged, seen time.Duration) {
			start := time.Now()
			produce(b, producer, list...)
			return time.Since(start), (<-handled).Sub(start)
		}
		send() // until here the consumer was joining
		var acknowledged, seen []time.Duration
		for b.Loop() {
			a, s := send()
			acknowledged, seen = append(acknowledged, a), append(seen, s)
		}
		quantile := func(of []time.Duration, q float64) float64 {
			slices.Sort(of)
			return float64(of[int(float64(len(of)-1)*q)].Microseconds())
		}
		b.ReportMetric(quantile(acknowledged, 0.5), "µs-to-ack")
		b.ReportMetric(quantile(seen, 0.5), "µs-to-handler")
		b.ReportMetric(quantile(seen, 0.99), "µs-to-handler-p99")
	})
}

// BenchmarkThroughput produces 400,000 messages, then consumes them.
func BenchmarkThroughput(b *testing.B) {
	benchmarkBrokers(b, func(b *testing.B, cfg kafka.Config) {
		const calls, perCall = 100, 4000
		topic := newTopic(b, cfg)
		producer := newProducer(b, cfg)
		list := events(topic, perCall)
		var produced, consumed time.Duration
		var batches, rounds int
		for b.Loop() {
			start := time.Now()
			for range calls {
				produce(b, producer, list...)
			}
			produced += time.Since(start)

			consumer, err := kafka.NewConsumer(cfg, topic, []string{topic}, silent, prometheus.NewRegistry())
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			var n int
			var first time.Time
			if err := consumer.Run(ctx, func(_ context.Context, messages []kafka.Message) error {
				if n == 0 {
					first = time.Now()
				}
				if n, batches = n+len(messages), batches+1; n == calls*perCall {
					consumed += time.Since(first)
					cancel()
				}
				return nil
			}); err != nil {
				b.Fatal(err)
			}
			rounds++
		}
		b.ReportMetric(0, "ns/op")
		total := float64(rounds * calls * perCall)
		b.ReportMetric(total/produced.Seconds(), "produced/s")
		b.ReportMetric(total/consumed.Seconds(), "consumed/s")
		b.ReportMetric(total/float64(batches), "messages/batch")
	})
}
