package kafka

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
)

const (
	// Bounds of what a request has for one partition. The broker stores it as one record batch, whose size it limits.
	maxAppendMessages = 1000
	maxAppendBytes    = 1_000_000

	// maxRequestBytes closes a request to further partitions. Brokers limit requests too, to 100 MB by default.
	maxRequestBytes = 4 << 20

	// patience bounds how long a call waits for a topic that was just created to become usable.
	patience = 3 * time.Second
)

// partitioner chooses as Java's clients do, but puts all messages without a key into one partition.
var partitioner = kafkago.Murmur2Balancer{Consistent: true}

// Producer publishes messages. It is safe for concurrent use; calls that overlap are not ordered with each other.
type Producer struct {
	pool     *broker.Pool // for Publish
	aside    *broker.Pool // for all else, so that failures there, which refresh the metadata, do not disturb Publish
	log      *slog.Logger
	produced *prometheus.CounterVec
}

// NewProducer makes a producer; it connects when it is first used. It fails on an invalid configuration only.
func NewProducer(cfg Config, log *slog.Logger, metrics prometheus.Registerer) (*Producer, error) {
	pool, err := broker.Connect(cfg)
	aside, errAside := broker.Connect(cfg)
	produced, errProduced := register(metrics, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "altyn_kafka_produced_total", Help: "Messages acknowledged by all in-sync replicas."}, []string{"topic"}))
	if err := cmp.Or(err, errAside, errProduced); err != nil {
		return nil, fmt.Errorf("kafka: producer: %w", err)
	}
	return &Producer{pool: pool, aside: aside, log: log, produced: produced}, nil
}

// Close drops the connections; requests under way end first.
func (p *Producer) Close() {
	p.pool.Close()
	p.aside.Close()
}

// Produce publishes messages, each to the partition of its key (as Java's clients choose it), and returns one result
// per message: nil once all in-sync replicas have it. After an error a message may have been stored all the same.
//
// Brokers are written to in parallel, each with one request at a time, which carries what it leads; every partition
// gets the messages in their order. A message that is refused for good (Permanent) takes only the later ones of its
// key with it, which are ErrSkipped; any other error ends its partition, whose later messages are ErrSkipped. So
// whoever sends what was not acknowledged again, in the same order, keeps every key in order.
//
// It waits up to 3 s for a topic that has just been created, and up to 10 s for a broker that does not answer.
func (p *Producer) Produce(ctx context.Context, messages []Message) []error {
	return p.produce(ctx, p.aside, patience, messages)
}

// produce is Produce over the connections of a pool. With a patience of 0 it does not wait for stale metadata to heal.
func (p *Producer) produce(ctx context.Context, pool *broker.Pool, patience time.Duration, messages []Message) []error {
	c := call{Producer: p, pool: pool, patience: patience, messages: messages, results: make([]error, len(messages))}
	if len(messages) == 0 {
		return c.results
	}
	topics := map[string][]int{}
	for i := range messages {
		topics[messages[i].Topic] = append(topics[messages[i].Topic], i)
	}
	known, err := pool.Topics(ctx, slices.Collect(maps.Keys(topics))...)
	if err != nil {
		pool.Forget()
	}
	var ready []*batch
	var late sync.WaitGroup
	for name, indexes := range topics {
		t := known[name]
		if err != nil {
			t.Err = err
		}
		if t.Err == nil {
			ready = append(ready, c.batches(name, t, indexes)...)
			continue
		}
		late.Go(func() { // a topic that is missing, perhaps not yet created, must not delay the rest
			if t, err := c.await(ctx, name, t.Err); err != nil {
				c.set(indexes, err)
			} else {
				c.send(ctx, c.batches(name, t, indexes))
			}
		})
	}
	c.send(ctx, ready)
	late.Wait()
	for name, indexes := range topics {
		var acknowledged int
		for _, i := range indexes {
			if c.results[i] == nil {
				acknowledged++
			}
		}
		p.produced.WithLabelValues(name).Add(float64(acknowledged))
	}
	return c.results
}

// await waits for a topic that could not be found.
func (c *call) await(ctx context.Context, name string, reason error) (t broker.Topic, err error) {
	if !ValidTopic(name) {
		return t, permanentError{fmt.Errorf("kafka: topic %q: %w", name, kafkago.InvalidTopic)}
	}
	err = c.whileStale(ctx, reason, func() error {
		known, err := c.pool.Topics(ctx, name)
		t = known[name]
		return cmp.Or(err, t.Err)
	})
	if err != nil {
		err = unavailable(1, 0, fmt.Errorf("kafka: topic %q: %w", name, err))
	}
	return t, err
}

// whileStale repeats a request that ended with err while it fails because of stale metadata, as when a topic was just
// created or a leader moved.
func (c *call) whileStale(ctx context.Context, err error, again func() error) error {
	request := func() error { return err }
	return c.pool.Try(ctx, c.patience, func(err error) bool { return !broker.IsStale(err) }, func() error {
		err := request()
		request = again
		return err
	})
}

// call is one call of Produce.
type call struct {
	*Producer
	pool     *broker.Pool
	patience time.Duration
	messages []Message
	results  []error
}
