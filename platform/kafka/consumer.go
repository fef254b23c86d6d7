package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	kafkago "github.com/segmentio/kafka-go"
)

// handleGrace bounds how long a handler may go on once its partitions are taken away or the process stops.
const handleGrace = 10 * time.Second

const (
	maxJoinBackoff    = 500 * time.Millisecond
	maxHandleBackoff  = 2 * time.Second
	maxTroubleBackoff = 250 * time.Millisecond
)

// Handler takes a batch of messages: at least one, at most 1,000, each partition's in order. When it returns an error
// it gets the same batch again. Its context outlives the shutdown and the loss of the partitions by 10 s, so that a
// database transaction under way ends by itself.
type Handler func(ctx context.Context, messages []Message) error

// Consumer reads topics as a member of a consumer group, which shares their partitions among its members.
type Consumer struct {
	cfg      Config
	group    string
	topics   []string
	log      *slog.Logger
	consumed *prometheus.CounterVec
	lag      *prometheus.GaugeVec
}

// NewConsumer makes a consumer; Run runs it. It fails on an invalid configuration only.
func NewConsumer(cfg Config, group string, topics []string, log *slog.Logger, metrics prometheus.Registerer) (*Consumer, error) {
	err := cfg.Validate()
	if group == "" || len(topics) == 0 {
		err = errors.Join(err, errors.New("a group and a topic are needed"))
	}
	if err != nil {
		return nil, fmt.Errorf("kafka: consumer: %w", err)
	}
	consumed, errConsumed := register(metrics, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "altyn_kafka_consumed_total", Help: "Messages handled."}, []string{"group", "topic"}))
	lag, errLag := register(metrics, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "altyn_kafka_consumer_lag", Help: "Messages of a partition assigned to this process that are not handled yet."},
		[]string{"group", "topic", "partition"}))
	if err := errors.Join(errConsumed, errLag); err != nil {
		return nil, fmt.Errorf("kafka: consumer: %w", err)
	}
	return &Consumer{cfg: cfg, group: group, topics: topics, log: log.With("group", group), consumed: consumed, lag: lag}, nil
}

// Run hands batches to handle until ctx ends, then finishes and commits the batch under way, leaves the group and
// returns nil. A message is committed after its batch was handled, never before, so it is handled at least once; of
// each partition in order. Only one batch is handled at a time. Run waits for topics that do not exist yet, and lives
// through the loss of brokers, coordinators and offsets; an error means that the brokers refuse this configuration for
// good.
func (c *Consumer) Run(ctx context.Context, handle Handler) error {
	cluster, err := c.cfg.connect()
	if err != nil {
		return fmt.Errorf("kafka: consumer: %w", err)
	}
	defer cluster.close()
	member, troubles := newMember(cluster, c.group, c.topics), newTroubles(c.log)
	for failures := 0; ctx.Err() == nil; {
		assigned, err := member.join(ctx)
		if ctx.Err() != nil {
			break
		}
		if isAny(err, kafkago.InvalidGroupId, kafkago.InvalidSessionTimeout, kafkago.UnsupportedVersion,
			kafkago.UnsupportedSASLMechanism, kafkago.SASLAuthenticationFailed) {
			return fmt.Errorf("kafka: consumer group %q: %w", c.group, err)
		}
		troubles.note("group", err)
		if err == nil {
			err = newGeneration(c, member, assigned, troubles, handle).run(ctx)
			if isAny(err, kafkago.RebalanceInProgress) {
				err = nil
			}
		} else if isStale(err) || !isAnswer(err) {
			cluster.forget()
		}
		if err == nil {
			failures = 0
			continue
		}
		backoff(ctx, failures, maxJoinBackoff)
		failures++
	}
	if err := member.leave(); err != nil {
		c.log.Info("kafka consumer group not left; it will notice after the session timeout", "error", err)
	}
	return nil
}
