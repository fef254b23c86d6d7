package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
	"github.com/altyn-pay/altyn/platform/kafka/internal/group"
)

// Handler takes a batch of messages: at least one, at most 1,000, each partition's in order. When it returns an error
// it gets the same batch again. Its context outlives the shutdown and the loss of the partitions by 10 s, so that a
// database transaction under way ends by itself.
type Handler func(ctx context.Context, messages []Message) error

// Consumer reads topics as a member of a consumer group, which shares their partitions among its members.
type Consumer struct {
	pool  *broker.Pool
	group group.Group
}

// NewConsumer makes a consumer; Run runs it. It fails on an invalid configuration only.
func NewConsumer(cfg Config, name string, topics []string, log *slog.Logger, metrics prometheus.Registerer) (
	*Consumer, error) {
	pool, err := broker.Connect(cfg)
	if name == "" || len(topics) == 0 {
		err = errors.Join(err, errors.New("a group and a topic are needed"))
	}
	consumed, errConsumed := register(metrics, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "altyn_kafka_consumed_total", Help: "Messages handled."}, []string{"group", "topic"}))
	lag, errLag := register(metrics, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "altyn_kafka_consumer_lag", Help: "Messages of a partition assigned to this process that are not handled yet."},
		[]string{"group", "topic", "partition"}))
	if err := errors.Join(err, errConsumed, errLag); err != nil {
		return nil, fmt.Errorf("kafka: consumer: %w", err)
	}
	return &Consumer{pool, group.Group{
		Name: name, Topics: topics, Log: log.With("group", name), Consumed: consumed, Lag: lag,
	}}, nil
}

// Run hands batches to handle until ctx ends, then finishes and commits the batch under way, leaves the group and
// returns nil. Offsets are committed after their batch was handled, never before, so every message is handled at
// least once, and the messages of a partition in order. Only one batch is handled at a time. Run waits for topics
// that do not exist yet, and lives through the loss of brokers, coordinators and offsets. An error means that the
// brokers refuse this configuration for good.
func (c *Consumer) Run(ctx context.Context, handle Handler) error {
	defer c.pool.Close()
	return c.group.Run(ctx, c.pool, handle)
}
