package kafka

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
	"github.com/altyn-pay/altyn/platform/kafka/internal/group"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// Consumer reads topics as a member of a consumer group, which shares their partitions among its members.
type Consumer = group.Group

// Handler takes a batch of messages of one topic: at least one, at most 1,000, each partition's in order. When it
// returns an error it gets the same batch again, and the topic waits; the others go on. It is called for several topics
// at the same time, and for one batch of each.
type Handler = group.Handler

// NewConsumer makes a consumer; Run runs it. It fails on an invalid configuration only.
func NewConsumer(cfg Config, name string, topics []string, log *slog.Logger, metrics prometheus.Registerer) (
	*Consumer, error) {
	pool, err := broker.Connect(cfg, log)
	if name == "" || len(topics) == 0 {
		err = errors.Join(err, errors.New("a group and a topic are needed"))
	}
	consumed, errConsumed := telemetry.Register(metrics, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "altyn_kafka_consumed_total", Help: "Messages handled."}, []string{"group", "topic"}))
	lag, errLag := telemetry.Register(metrics, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "altyn_kafka_consumer_lag", Help: "Messages of a partition assigned to this process that are not handled yet."},
		[]string{"group", "topic", "partition"}))
	if err := errors.Join(err, errConsumed, errLag); err != nil {
		return nil, fmt.Errorf("kafka: consumer: %w", err)
	}
	return &Consumer{
		Pool: pool, Name: name, Topics: topics, Log: log.With("group", name), Consumed: consumed, Lag: lag,
	}, nil
}
