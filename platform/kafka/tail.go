package kafka

import (
	"context"
	"errors"
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
		next, err := cluster.ends(ctx, topic)
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
	var wait sync.WaitGroup
	for partition := range t.next {
		wait.Go(func() {
			t.read(ctx, partition, func(messages []Message) {
				mu.Lock()
				defer mu.Unlock()
				handle(messages)
			})
		})
	}
	wait.Wait()
}

func (t *Tail) read(ctx context.Context, partition int, handle func(messages []Message)) {
	source := topicPartition{t.topic, partition}
	offset := t.next[partition]
	for failures := 0; ctx.Err() == nil; {
		got, err := t.cluster.fetch(ctx, source, offset)
		if ctx.Err() != nil {
			return
		}
		if offset = got.next; len(got.messages) > 0 {
			handle(got.messages)
		}
		if errors.Is(err, kafkago.OffsetOutOfRange) {
			var first int64
			if first, err = t.cluster.firstOffset(ctx, source); err == nil {
				offset = first
			}
		}
		t.troubles.note(source.String(), err)
		if err == nil {
			failures = 0
			continue
		}
		if isStale(err) || !isAnswer(err) {
			t.cluster.forget()
		}
		backoff(ctx, failures, maxTroubleBackoff)
		failures++
	}
}
