package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

// Tail reads a topic from its present end on. It belongs to no group: every tail sees all messages, and leaves nothing
// behind at the broker. It suits a client that waits for the answers to what it sends.
type Tail struct {
	cluster  *cluster
	topic    string
	next     []int64 // by partition: the offset that Run starts from
	troubles *troubles
}

// NewTail finds the ends of the topic's partitions: Run will see whatever is produced after it has returned. It waits up
// to 3 s for a topic that has just been created, and fails when the brokers or the topic are not there.
func NewTail(ctx context.Context, cfg Config, topic string, log *slog.Logger) (*Tail, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka: tail: %w", err)
	}
	cluster, err := cfg.connect()
	if err != nil {
		return nil, fmt.Errorf("kafka: tail: %w", err)
	}
	for start, failures := time.Now(), 0; ; failures++ {
		next, err := cluster.ends(ctx, topic, kafkago.ReadUncommitted)
		if err == nil {
			return &Tail{cluster: cluster, topic: topic, next: next, troubles: newTroubles(log)}, nil
		}
		cluster.forget()
		if !isStale(err) || time.Since(start) > patience || !backoff(ctx, failures, maxStaleBackoff) {
			return nil, fmt.Errorf("kafka: tail: %w", err)
		}
	}
}

// Run hands over what comes, one call at a time, each partition's messages in order, until ctx ends. It lives through
// the loss of brokers. Partitions that are added meanwhile are not seen. It can be called once.
func (t *Tail) Run(ctx context.Context, handle func(messages []Message)) {
	defer t.cluster.close()
	var mu sync.Mutex
	r := reader{cluster: t.cluster, troubles: t.troubles, topics: []string{t.topic}, accept: func(_ *source, got fetched) {
		if len(got.messages) > 0 {
			mu.Lock()
			defer mu.Unlock()
			handle(got.messages)
		}
	}}
	for partition, next := range t.next {
		r.sources = append(r.sources, newSource(topicPartition{t.topic, partition}, next))
	}
	r.run(ctx)
}
