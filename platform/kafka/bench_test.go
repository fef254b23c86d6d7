package kafka_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/kfaketest"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

func benchmarkBrokers(b *testing.B, benchmark func(b *testing.B, cfg kafka.Config)) {
	b.Run("embedded", func(b *testing.B) { benchmark(b, kfaketest.Broker(b)) })
	b.Run("apache", func(b *testing.B) { benchmark(b, kfaketest.Apache(b)) })
}

// events makes messages as the outbox publishes them, of about 600 bytes.
func events(topic string, n int) []kafka.Message {
	list := make([]kafka.Message, n)
	for i := range list {
		event := kafka.Event{ID: uuid.NewString(), Type: "order.placed", Source: "orders", Subject: uuid.NewString(),
			Time: time.Now()}
		list[i] = kafka.Message{Topic: topic, Key: []byte(uuid.NewString()), Value: make([]byte, 300),
			Headers: event.Headers()}
	}
	return list
}

// BenchmarkLatency measures one message at a time on an idle broker, from the call of Produce to that of the handler.
func BenchmarkLatency(b *testing.B) {
	benchmarkBrokers(b, func(b *testing.B, cfg kafka.Config) {
		topic := kfaketest.Topic(b, cfg)
		producer := kfaketest.Producer(b, cfg)
		handled := make(chan time.Time, 1)
		consume(b, cfg, topic, []string{topic}, kfaketest.NewJournal(), func(context.Context, []kafka.Message) error {
			handled <- time.Now()
			return nil
		})
		list := events(topic, 1)
		send := func() (acknowledged, seen time.Duration) {
			start := time.Now()
			kfaketest.Produce(b, producer, list...)
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
		topic := kfaketest.Topic(b, cfg)
		producer := kfaketest.Producer(b, cfg)
		list := events(topic, perCall)
		var produced, consumed time.Duration
		var batches, rounds int
		for b.Loop() {
			start := time.Now()
			for range calls {
				kfaketest.Produce(b, producer, list...)
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

// BenchmarkCPU measures what a message costs under load, where the outbox publishes some 40 at a time: the CPU of this
// process, which has the producer and the consumer, and that of the broker. Linux tells it in ticks of 10 ms.
func BenchmarkCPU(b *testing.B) {
	const perCall = 40
	for _, kind := range []localkafka.Kind{localkafka.Embedded, localkafka.Apache} {
		for _, consumed := range []bool{false, true} {
			name := string(kind) + "/produced"
			if consumed {
				name += "-consumed"
			}
			b.Run(name, func(b *testing.B) {
				if kind == localkafka.Apache {
					kfaketest.NeedApache(b)
				}
				broker, err := localkafka.Start(b.Context(), localkafka.Options{Kind: kind})
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() {
					if err := broker.Stop(); err != nil {
						b.Error(err)
					}
				})
				cfg := broker.Config()
				topic, producer := kfaketest.Topic(b, cfg), kfaketest.Producer(b, cfg)
				var handled atomic.Int64
				all := make(chan struct{}, 1)
				if consumed {
					consumer, err := kafka.NewConsumer(cfg, topic, []string{topic}, silent, prometheus.NewRegistry())
					if err != nil {
						b.Fatal(err)
					}
					ctx, cancel := context.WithCancel(context.Background())
					done := make(chan error, 1)
					go func() {
						done <- consumer.Run(ctx, func(_ context.Context, messages []kafka.Message) error {
							if handled.Add(int64(len(messages)))%perCall == 0 {
								all <- struct{}{}
							}
							return nil
						})
					}()
					defer func() {
						cancel()
						if err := <-done; err != nil {
							b.Error(err)
						}
					}()
				}
				list := events(topic, perCall)
				send := func() {
					kfaketest.Produce(b, producer, list...)
					if consumed {
						<-all
					}
				}
				for range 3000 { // until the broker's code is compiled
					send()
				}
				var before, after syscall.Rusage
				ticks := ticksOf(b, broker.PID())
				if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					send()
				}
				if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
					b.Fatal(err)
				}
				messages := float64(b.N * perCall)
				cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
				b.ReportMetric(float64(cpu)/1e3/messages, "service-µs/message")
				b.ReportMetric(float64(ticksOf(b, broker.PID())-ticks)*1e4/messages, "broker-µs/message")
			})
		}
	}
}

// ticksOf is the CPU time of a process, in hundredths of a second; 0 where there is no /proc.
func ticksOf(b *testing.B, pid int) (ticks int) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')'):]) // the name of the program may have blanks
	for _, field := range fields[12:14] {                         // utime and stime
		n, err := strconv.Atoi(string(field))
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return ticks
}
