package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	kafkago "github.com/segmentio/kafka-go"
)

const (
	// A request carries at most this much. The broker appends it as one batch, whose size is what it limits.
	maxRequestMessages = 1000
	maxRequestBytes    = 1_000_000

	// patience bounds how long a call waits for a topic that was just created to become usable.
	patience        = 3 * time.Second
	maxStaleBackoff = 320 * time.Millisecond
)

// partitioner chooses as Java's clients do, but gives messages without a key one partition.
var partitioner = kafkago.Murmur2Balancer{Consistent: true}

// Producer publishes messages. It is safe for concurrent use; calls that overlap are not ordered with each other.
type Producer struct {
	cluster  *cluster
	log      *slog.Logger
	produced *prometheus.CounterVec

	mu   sync.Mutex
	away map[topicPartition]bool // for which a call has waited in vain
}

// NewProducer makes a producer; it connects when it is first used. It fails on an invalid configuration only.
func NewProducer(cfg Config, log *slog.Logger, metrics prometheus.Registerer) (*Producer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka: producer: %w", err)
	}
	cluster, err := cfg.connect()
	if err != nil {
		return nil, fmt.Errorf("kafka: producer: %w", err)
	}
	produced, err := register(metrics, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "altyn_kafka_produced_total", Help: "Messages acknowledged by all in-sync replicas."}, []string{"topic"}))
	if err != nil {
		return nil, fmt.Errorf("kafka: producer: %w", err)
	}
	return &Producer{cluster: cluster, log: log, produced: produced, away: map[topicPartition]bool{}}, nil
}

// Close drops the connections; requests under way end first.
func (p *Producer) Close() { p.cluster.close() }

// Produce publishes messages, each to the partition of its key (as Java's clients choose it), and returns one result
// per message: nil once all in-sync replicas have it. After an error a message may have been stored all the same.
//
// Partitions are written in parallel, each in the order of the messages, one request at a time. A message that is
// refused for good (Permanent) takes only the later ones of its key with it, which are ErrSkipped; any other error
// ends its partition, whose later messages are ErrSkipped. So whoever sends what was not acknowledged again, in the
// same order, keeps every key in order.
//
// It waits up to 3 s for a topic that has just been created, and up to 10 s for a broker that does not answer.
func (p *Producer) Produce(ctx context.Context, messages []Message) []error {
	results := make([]error, len(messages))
	topics := map[string][]int{}
	for i, m := range messages {
		topics[m.Topic] = append(topics[m.Topic], i)
	}
	var wait sync.WaitGroup
	for topic, indexes := range topics {
		wait.Go(func() { p.produceTopic(ctx, topic, messages, indexes, results) })
	}
	wait.Wait()
	return results
}

func (p *Producer) produceTopic(ctx context.Context, topic string, messages []Message, indexes []int, results []error) {
	partitions, err := p.partitions(ctx, topic)
	if err != nil {
		for _, i := range indexes {
			results[i] = err
		}
		return
	}
	numbers, batches := make([]int, partitions), make([][]int, partitions)
	for n := range numbers {
		numbers[n] = n
	}
	for _, i := range indexes {
		partition := partitioner.Balance(kafkago.Message{Key: messages[i].Key}, numbers...)
		batches[partition] = append(batches[partition], i)
	}
	var wait sync.WaitGroup
	for partition, indexes := range batches {
		if len(indexes) == 0 {
			continue
		}
		b := batch{Producer: p, topic: topic, partition: partition, messages: messages, results: results}
		wait.Go(func() { b.sendAll(ctx, indexes) })
	}
	wait.Wait()
	var acknowledged int
	for _, i := range indexes {
		if results[i] == nil {
			acknowledged++
		}
	}
	p.produced.WithLabelValues(topic).Add(float64(acknowledged))
}

// partitions returns the topic's number of partitions.
func (p *Producer) partitions(ctx context.Context, topic string) (n int, err error) {
	if !ValidTopic(topic) {
		return 0, permanentError{fmt.Errorf("kafka: topic %q: %w", topic, kafkago.InvalidTopic)}
	}
	err = p.whileStale(ctx, topicPartition{topic, -1}, func() error {
		counts, err := p.cluster.partitions(ctx, topic)
		n = counts[topic]
		return err
	})
	if err != nil {
		err = fmt.Errorf("kafka: %w", err)
	}
	return n, err
}

// whileStale repeats a request while it fails because the topic, or the partition's leader, is not known rightly, as
// when a topic has just been created or a leader moved. Only the first call waits: what stays away must not slow down
// the rest.
func (p *Producer) whileStale(ctx context.Context, target topicPartition, request func() error) error {
	start := time.Now()
	for failures := 0; ; failures++ {
		err := request()
		if err == nil {
			p.setAway(target, nil)
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		if isStale(err) || !isAnswer(err) {
			p.cluster.forget()
		}
		if !isStale(err) {
			return err
		}
		if p.isAway(target) && failures > 0 || time.Since(start) > patience {
			p.setAway(target, err)
			return err
		}
		if !backoff(ctx, failures, maxStaleBackoff) {
			return err
		}
	}
}

func (p *Producer) isAway(target topicPartition) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.away[target]
}

func (p *Producer) setAway(target topicPartition, reason error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch was := p.away[target]; {
	case reason != nil && !was:
		p.away[target] = true
		p.log.Warn("kafka topic cannot be written to", "topic", target.topic, "error", reason)
	case reason == nil && was:
		delete(p.away, target)
		p.log.Info("kafka topic can be written to again", "topic", target.topic)
	}
}

// batch is what one call has for one partition.
type batch struct {
	*Producer
	topic     string
	partition int
	messages  []Message // of the whole call, as is results
	results   []error
	refused   map[string]int // by key: the message that was refused for good
}

// sendAll stores a list of messages and returns false when the partition must stop here.
func (b *batch) sendAll(ctx context.Context, list []int) bool {
	for len(list) > 0 {
		var request []int
		request, list = b.cut(list)
		if len(request) > 0 && !b.send(ctx, request) {
			b.set(list, ErrSkipped)
			return false
		}
	}
	return true
}

// cut takes the messages of the next request off the list.
func (b *batch) cut(list []int) (request, rest []int) {
	var bytes int
	for n, i := range list {
		size := b.messages[i].size()
		if b.behind(i) {
			b.results[i] = ErrSkipped
			continue
		}
		if size > MaxMessageBytes {
			b.refuse(i, tooLarge(size))
			continue
		}
		if len(request) > 0 && (bytes+size > maxRequestBytes || len(request) == maxRequestMessages) {
			return request, list[n:]
		}
		request = append(request, i)
		bytes += size
	}
	return request, nil
}

// send stores the messages of one request, as sendAll does. When the broker refuses it for what one of them is, halves
// are sent, so that only that message is refused.
func (b *batch) send(ctx context.Context, request []int) bool {
	err := b.whileStale(ctx, topicPartition{b.topic, b.partition}, func() error { return b.request(ctx, request) })
	switch half := len(request) / 2; {
	case err == nil:
		return true
	case !refusesMessage(err):
		b.set(request, fmt.Errorf("kafka: topic %q partition %d: %w", b.topic, b.partition, err))
		return false
	case half == 0:
		b.refuse(request[0], permanentError{fmt.Errorf("kafka: topic %q: %w", b.topic, err)})
		return true
	case !b.send(ctx, request[:half]):
		b.set(request[half:], ErrSkipped)
		return false
	default: // as a request of its own, without what is behind a refused message now
		return b.sendAll(ctx, request[half:])
	}
}

func (b *batch) request(ctx context.Context, indexes []int) error {
	records := make([]kafkago.Record, len(indexes))
	for n, i := range indexes {
		m := &b.messages[i]
		headers := make([]kafkago.Header, len(m.Headers))
		for j, h := range m.Headers {
			headers[j] = kafkago.Header{Key: h.Key, Value: h.Value}
		}
		records[n] = kafkago.Record{Time: m.Time, Key: kafkago.NewBytes(m.Key), Value: kafkago.NewBytes(m.Value), Headers: headers}
	}
	response, err := b.cluster.client.Produce(ctx, &kafkago.ProduceRequest{
		Topic: b.topic, Partition: b.partition, RequiredAcks: kafkago.RequireAll, Records: kafkago.NewRecordReader(records...),
	})
	if err != nil {
		return err
	}
	return response.Error
}

// refuse ends a message for good, and with it the later ones of its key.
func (b *batch) refuse(i int, reason error) {
	b.results[i] = reason
	if b.refused == nil {
		b.refused = map[string]int{}
	}
	b.refused[string(b.messages[i].Key)] = i
}

// behind tells whether a message follows one of its key that was refused.
func (b *batch) behind(i int) bool {
	refused, ok := b.refused[string(b.messages[i].Key)]
	return ok && i > refused
}

func (b *batch) set(indexes []int, err error) {
	for _, i := range indexes {
		if b.results[i] == nil {
			b.results[i] = err
		}
	}
}
