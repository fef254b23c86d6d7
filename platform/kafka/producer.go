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
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/produce"

	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
	"github.com/altyn-pay/altyn/platform/telemetry"
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
	pool, err := broker.Connect(cfg, log)
	aside, errAside := broker.Connect(cfg, slog.New(slog.DiscardHandler))
	produced, errProduced := telemetry.Register(metrics, prometheus.NewCounterVec(prometheus.CounterOpts{
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

// batch is the messages of a call for one partition.
type batch struct {
	*call
	broker.Partition
	of      int            // how many partitions the topic has
	leader  int32          // the broker's ID
	list    []int          // the messages that are not sent yet, in their order
	refused map[string]int // by key: the message that was refused for good
}

// batches distributes messages to the partitions of their topic.
func (c *call) batches(name string, t broker.Topic, list []int) []*batch {
	numbers, batches := make([]int, len(t.Leaders)), make([]*batch, len(t.Leaders))
	for n := range numbers {
		numbers[n] = n
	}
	for _, i := range list {
		id := partitioner.Balance(kafkago.Message{Key: c.messages[i].Key}, numbers...)
		if batches[id] == nil {
			batches[id] = &batch{
				call: c, Partition: broker.Partition{Topic: name, ID: id}, of: len(numbers), leader: t.Leaders[id],
			}
		}
		batches[id].list = append(batches[id].list, i)
	}
	return slices.DeleteFunc(batches, func(b *batch) bool { return b == nil })
}

// send stores batches. Those whose partitions one broker leads share requests.
func (c *call) send(ctx context.Context, batches []*batch) {
	leaders := map[int32][]*batch{}
	for _, b := range batches {
		leaders[b.leader] = append(leaders[b.leader], b)
	}
	var wait sync.WaitGroup
	for _, led := range leaders {
		wait.Go(func() { c.sendTogether(ctx, led) })
	}
	wait.Wait()
}

// sendTogether stores batches in shared requests. A batch that fails leaves them and, if it can, goes on by itself.
func (c *call) sendTogether(ctx context.Context, batches []*batch) {
	var alone sync.WaitGroup
	for len(batches) > 0 {
		var parts []part
		for total := 0; len(batches) > 0 && total < maxRequestBytes; batches = batches[1:] {
			b := batches[0]
			next, rest, size := b.cut(b.list)
			if b.list = rest; len(next) > 0 {
				parts, total = append(parts, part{b, next}), total+size
			}
		}
		for i, err := range c.request(ctx, parts) {
			b, sent := parts[i].batch, parts[i].list
			if err != nil {
				alone.Go(func() {
					if b.settle(ctx, sent, err) {
						b.sendAll(ctx, b.list)
					} else {
						b.set(b.list, ErrSkipped)
					}
				})
				continue
			}
			if len(b.list) > 0 {
				batches = append(batches, b)
			}
		}
	}
	alone.Wait()
}

// sendAll stores messages of one partition in their order. It returns false when the partition must stop there.
func (b *batch) sendAll(ctx context.Context, list []int) bool {
	for len(list) > 0 {
		var next []int
		next, list, _ = b.cut(list)
		if len(next) > 0 && !b.settle(ctx, next, b.request(ctx, []part{{b, next}})[0]) {
			b.set(list, ErrSkipped)
			return false
		}
	}
	return true
}

// cut splits a list into the messages of the next request and the rest. It skips messages that must not be sent.
func (b *batch) cut(list []int) (next, rest []int, total int) {
	next = make([]int, 0, min(len(list), maxAppendMessages))
	for n, i := range list {
		size := b.messages[i].Size()
		if b.behind(i) {
			b.results[i] = ErrSkipped
			continue
		}
		if size > MaxMessageBytes {
			b.refuse(i, permanentError{
				fmt.Errorf("kafka: a message of %d bytes is larger than the %d allowed", size, MaxMessageBytes)})
			continue
		}
		if len(next) > 0 && (total+size > maxAppendBytes || len(next) == maxAppendMessages) {
			return next, list[n:], total
		}
		next = append(next, i)
		total += size
	}
	return next, nil, total
}

// settle handles the result of a request for these messages, and sends them again where that may help. When the broker
// refuses one of them, settle bisects the list, so that only that one is refused. It returns false when the partition
// must stop there.
func (b *batch) settle(ctx context.Context, list []int, err error) bool {
	err = b.whileStale(ctx, err, func() error { return b.request(ctx, []part{{b, list}})[0] })
	switch half := len(list) / 2; {
	case err == nil:
		return true
	case !broker.IsAny(err, kafkago.MessageSizeTooLarge, kafkago.RecordListTooLarge, kafkago.InvalidRecord) &&
		!(b.dated(list) && broker.IsAny(err, kafkago.InvalidTimestamp)): // it is not because of one of the messages
		err = fmt.Errorf("kafka: topic %q partition %d: %w", b.Topic, b.ID, err)
		b.set(list, unavailable(b.of, b.ID, err))
		return false
	case half == 0:
		b.refuse(list[0], permanentError{fmt.Errorf("kafka: topic %q: %w", b.Topic, err)})
		return true
	case !b.sendAll(ctx, list[:half]):
		b.set(list[half:], ErrSkipped)
		return false
	default: // cut leaves out what follows a message that was just refused
		return b.sendAll(ctx, list[half:])
	}
}

// dated tells whether any of the messages has a time of its own. The others get that of this machine's clock: where the
// broker refuses it, the clock is to blame, and the messages are taken once it is right.
func (b *batch) dated(list []int) bool {
	return slices.ContainsFunc(list, func(i int) bool { return !b.messages[i].Time.IsZero() })
}

// refuse fails a message for good. Later messages of its key are skipped from now on.
func (b *batch) refuse(i int, reason error) {
	b.results[i] = reason
	if b.refused == nil {
		b.refused = map[string]int{}
	}
	b.refused[string(b.messages[i].Key)] = i
}

// behind tells whether an earlier message of the same key was refused.
func (b *batch) behind(i int) bool {
	refused, ok := b.refused[string(b.messages[i].Key)]
	return ok && i > refused
}

func (c *call) set(list []int, err error) {
	for _, i := range list {
		if c.results[i] == nil {
			c.results[i] = err
		}
	}
}

// part is the messages of a request for one partition.
type part struct {
	*batch
	list []int
}

// request stores messages of partitions that one broker leads, and returns one result per partition.
func (c *call) request(ctx context.Context, parts []part) []error {
	results := make([]error, len(parts))
	if len(parts) == 0 {
		return results
	}
	timeout := broker.RequestTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	// The replicas get half of the time, so that the answer arrives within the rest.
	request := &produce.Request{Acks: int16(kafkago.RequireAll), Timeout: int32(timeout.Milliseconds() / 2)}
	for _, p := range parts {
		t := slices.IndexFunc(request.Topics, func(t produce.RequestTopic) bool { return t.Topic == p.Topic })
		if t < 0 {
			t, request.Topics = len(request.Topics), append(request.Topics, produce.RequestTopic{Topic: p.Topic})
		}
		records := make([]kafkago.Record, len(p.list))
		for n, i := range p.list {
			m := &c.messages[i]
			records[n] = kafkago.Record{
				Time: m.Time, Key: kafkago.NewBytes(m.Key), Value: kafkago.NewBytes(m.Value), Headers: m.Headers,
			}
		}
		request.Topics[t].Partitions = append(request.Topics[t].Partitions, produce.RequestPartition{
			Partition: int32(p.ID), RecordSet: protocol.RecordSet{Records: kafkago.NewRecordReader(records...)},
		})
	}
	response, err := c.pool.RoundTrip(ctx, request)
	answers := map[broker.Partition]error{}
	if err == nil {
		for _, t := range response.(*produce.Response).Topics {
			for _, p := range t.Partitions {
				answers[broker.Partition{Topic: t.Topic, ID: int(p.Partition)}] = broker.Answer(p.ErrorCode, p.ErrorMessage)
			}
		}
	}
	for i, p := range parts {
		var answered bool
		if results[i], answered = answers[p.Partition]; !answered {
			results[i] = cmp.Or(err, error(protocol.ErrNoPartition))
		}
	}
	return results
}
