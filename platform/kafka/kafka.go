// Package kafka publishes and consumes messages with the guarantees the rest of Altyn is built on, and is the only
// importer of segmentio/kafka-go.
//
// A Producer acknowledges a message once all in-sync replicas have it, and never lets a later message of a key overtake
// an earlier one. A Consumer hands over whatever has arrived from all of its partitions of a topic as one batch, and
// commits the offsets only after the batch was handled: every message is handled at least once, a partition's messages
// in order. Neither waits for more messages to come, so an idle system answers at the speed of its network and a busy
// one works in large batches. Duplicates are part of the contract (after a lost acknowledgement a message is sent
// twice); whoever handles a message recognises it by its ID.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
	"github.com/altyn-pay/altyn/platform/kafka/internal/group"
	"github.com/altyn-pay/altyn/platform/outbox"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// Config says how to reach the brokers and how topics are made.
type Config = broker.Config

// Message is one record of a topic.
type Message = broker.Message

// Header is a named value beside the payload. Names may repeat.
type Header = broker.Header

// MaxMessageBytes bounds a message: its key, value and headers with some bytes of overhead each. It is what a broker
// accepts by default.
const MaxMessageBytes = broker.MaxMessageBytes

// UnreadableError is the reason why a part of a record batch, or all of it, cannot be read however often it is fetched.
type UnreadableError = broker.UnreadableError

// Ping returns nil when one of the brokers is up and accepts us.
func Ping(ctx context.Context, cfg Config) error {
	pool, err := broker.Connect(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return fmt.Errorf("kafka: ping: %w", err)
	}
	defer pool.Close()
	if _, err := pool.Client.ApiVersions(ctx, &kafkago.ApiVersionsRequest{}); err != nil {
		return fmt.Errorf("kafka: ping: %w", err)
	}
	return nil
}

// ErrSkipped is the result of a message that was not sent because an earlier one of its key or partition failed.
var ErrSkipped = errors.New("kafka: not sent, because an earlier message failed")

// unavailable is the error of a partition that takes no messages; partitions is how many its topic has. For a whole
// topic it is partition 0 of 1.
func unavailable(partitions, partition int, err error) error {
	return &outbox.Unavailable{Partitions: partitions, Partition: partition, Err: err,
		Lost: broker.IsAny(err, kafkago.UnknownTopicOrPartition, kafkago.UnknownTopicID,
			kafkago.TopicAuthorizationFailed, protocol.ErrNoTopic)}
}

// permanentError is a refusal that sending again does not change.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// Permanent tells whether an error of Produce will come again however often the message is sent: the message is too
// large, its record is invalid, or its topic has a name that cannot exist. Everything else heals, if need be when an
// operator grants a right or creates a topic.
func Permanent(err error) bool {
	return errors.As(err, new(permanentError))
}

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
		Pool: pool, Name: name, Topics: topics, Instance: cfg.InstanceID, Log: log.With("group", name),
		Consumed: consumed, Lag: lag,
	}, nil
}
