// Package inspect reads topics for commands and clients, which come to an end; package kafka serves processes that do
// not. A Tail reads what comes from now on, a Backlog what is there at this moment.
package inspect

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
)

// topicPatience bounds how long a topic that was just created is waited for.
const topicPatience = 3 * time.Second

// Tail reads a topic from its present end on. It belongs to no group: every tail sees all messages and leaves nothing
// behind at the broker. It suits a client that waits for replies.
type Tail struct {
	pool    *broker.Pool
	topic   string
	from    map[int]kafkago.PartitionOffsets // by partition: Run starts from their ends
	outages *broker.Outages
}

// NewTail finds the ends of the topic's partitions: Run will see whatever is produced after it has returned. It waits
// up to 3 s for a topic that has just been created, and fails when the brokers or the topic are not there.
func NewTail(ctx context.Context, cfg kafka.Config, topic string, log *slog.Logger) (*Tail, error) {
	pool, err := broker.Connect(cfg, log)
	if err != nil {
		return nil, fmt.Errorf("kafka: tail: %w", err)
	}
	t := &Tail{pool: pool, topic: topic, outages: broker.NewOutages(log)}
	stays := func(err error) bool { return !broker.IsStale(err) }
	if err := pool.Try(ctx, topicPatience, stays, func() (err error) {
		t.from, err = pool.Offsets(ctx, kafkago.ReadUncommitted, topic)
		return err
	}); err != nil {
		pool.Close()
		return nil, fmt.Errorf("kafka: tail: %w", err)
	}
	return t, nil
}

// Run calls handle with what comes, one call at a time, each partition's messages in order, until ctx ends. It lives
// through the loss of brokers. It does not see partitions that are added meanwhile. It can be called once.
func (t *Tail) Run(ctx context.Context, handle func(messages []kafka.Message)) {
	defer t.pool.Close()
	r := broker.Reader{Pool: t.pool, Outages: t.outages, Topics: []string{t.topic}}
	for id, offsets := range t.from {
		r.Sources = append(r.Sources, broker.NewSource(broker.Partition{Topic: t.topic, ID: id}, offsets.LastOffset))
	}
	r.Run(ctx, func(fetched []broker.Fetched) {
		for _, got := range fetched {
			if len(got.Messages) > 0 {
				handle(got.Messages)
			}
		}
	})
}
