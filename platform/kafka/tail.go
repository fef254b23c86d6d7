package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// Tail reads a topic from its present end on. It belongs to no group: every tail sees all messages, and leaves nothing
// behind at the broker. It suits a client that waits for the answers to what it sends.
type Tail struct {
	cluster  *cluster
	topic    string
	next     []int64 // by partition: the offset of the next message
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
	name := t.topic + "/" + strconv.Itoa(partition)
	for failures := 0; ctx.Err() == nil; {
		messages, next, err := t.cluster.fetchFrom(ctx, source, t.next[partition])
		if ctx.Err() != nil {
			return
		}
		if t.next[partition] = next; len(messages) > 0 {
			handle(messages)
		}
		if errors.Is(err, kafkago.OffsetOutOfRange) {
			t.next[partition], err = t.cluster.firstOffset(ctx, source)
			if err != nil {
				t.next[partition] = next
			}
		}
		t.troubles.note(name, err)
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

// ends returns the offset of the next message of each partition of a topic.
func (c *cluster) ends(ctx context.Context, topic string) ([]int64, error) {
	counts, err := c.partitions(ctx, topic)
	if err != nil {
		return nil, err
	}
	var requests []kafkago.OffsetRequest
	for partition := range counts[topic] {
		requests = append(requests, kafkago.LastOffsetOf(partition))
	}
	response, err := c.client.ListOffsets(ctx, &kafkago.ListOffsetsRequest{
		Topics: map[string][]kafkago.OffsetRequest{topic: requests},
	})
	if err != nil {
		return nil, err
	}
	if got := len(response.Topics[topic]); got != len(requests) {
		return nil, fmt.Errorf("topic %q: %d of %d partitions told their ends", topic, got, len(requests))
	}
	ends := make([]int64, len(requests))
	for _, p := range response.Topics[topic] {
		if p.Error != nil {
			return nil, fmt.Errorf("topic %q partition %d: %w", topic, p.Partition, p.Error)
		}
		ends[p.Partition] = p.LastOffset
	}
	return ends, nil
}

// fetchFrom asks for what a partition has from an offset on, and waits for it for up to fetchWait. next is the offset
// after what was read, also when it comes with an error.
func (c *cluster) fetchFrom(ctx context.Context, p topicPartition, offset int64) (messages []Message, next int64, err error) {
	response, err := c.client.Fetch(ctx, &kafkago.FetchRequest{
		Topic: p.topic, Partition: p.id, Offset: offset, MinBytes: 1, MaxBytes: maxFetchBytes, MaxWait: fetchWait,
	})
	if err == nil {
		err = response.Error
	}
	if err != nil {
		return nil, offset, err
	}
	next = offset
	for {
		record, err := response.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return messages, next, err
		}
		message, err := newMessage(p, record)
		if err != nil {
			return messages, next, err
		}
		if message.Offset >= offset { // a batch may begin before the offset that was asked for
			messages, next = append(messages, message), message.Offset+1
		}
	}
	// Batches without a message for us, such as the end marks of transactions, still take offsets.
	if stream, ok := response.Records.(*protocol.RecordStream); ok && len(stream.Records) > 0 && next == offset {
		next++
	}
	return messages, next, nil
}
