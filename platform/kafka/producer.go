package kafka

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/produce"
)

const (
	// A partition gets at most this much in a request. The broker appends it as one record batch, whose size is what it
	// limits.
	maxAppendMessages = 1000
	maxAppendBytes    = 1_000_000

	// A request that carries as much as this gets no more partitions. Brokers limit requests too, to 100 MB by default.
	maxRequestBytes = 4 << 20

	// patience bounds how long a call waits for a topic that was just created to become usable.
	patience        = 3 * time.Second
	maxStaleBackoff = 320 * time.Millisecond
)

// partitioner chooses as Java's clients do, but gives messages without a key one partition.
var partitioner = kafkago.Murmur2Balancer{Consistent: true}

// Producer publishes messages. It is safe for concurrent use; calls that overlap are not ordered with each other.
type Producer struct {
	cluster  *cluster // of Publish
	aside    *cluster // of all else: what fails there and asks for metadata anew does not disturb Publish
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
	aside, err := cfg.connect()
	if err != nil {
		return nil, fmt.Errorf("kafka: producer: %w", err)
	}
	produced, err := register(metrics, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "altyn_kafka_produced_total", Help: "Messages acknowledged by all in-sync replicas."}, []string{"topic"}))
	if err != nil {
		return nil, fmt.Errorf("kafka: producer: %w", err)
	}
	return &Producer{cluster: cluster, aside: aside, log: log, produced: produced, away: map[topicPartition]bool{}}, nil
}

// Close drops the connections; requests under way end first.
func (p *Producer) Close() {
	p.cluster.close()
	p.aside.close()
}

// Produce publishes messages, each to the partition of its key (as Java's clients choose it), and returns one result
// per message: nil once all in-sync replicas have it. After an error a message may have been stored all the same.
//
// Brokers are written to in parallel, each with one request at a time, which carries what it leads; every partition gets
// the messages in their order. A message that is refused for good (Permanent) takes only the later ones of its key with it,
// which are ErrSkipped; any other error ends its partition, whose later messages are ErrSkipped. So whoever sends what was
// not acknowledged again, in the same order, keeps every key in order.
//
// It waits up to 3 s for a topic that has just been created, and up to 10 s for a broker that does not answer.
func (p *Producer) Produce(ctx context.Context, messages []Message) []error {
	return p.produce(ctx, p.aside, patience, messages)
}

// produce is Produce by the connections of a cluster, with its own patience: without any, what is not known rightly ends at once.
func (p *Producer) produce(ctx context.Context, cluster *cluster, patience time.Duration, messages []Message) []error {
	c := call{Producer: p, cluster: cluster, patience: patience, messages: messages, results: make([]error, len(messages))}
	if len(messages) == 0 {
		return c.results
	}
	topics := map[string][]int{}
	for i := range messages {
		topics[messages[i].Topic] = append(topics[messages[i].Topic], i)
	}
	known, err := cluster.topics(ctx, slices.Collect(maps.Keys(topics))...)
	if err != nil {
		cluster.forget()
	}
	var ready []*batch
	var late sync.WaitGroup
	for name, indexes := range topics {
		t := known[name]
		if err != nil {
			t.err = err
		}
		if t.err == nil {
			p.setAway(topicPartition{name, -1}, nil)
			ready = append(ready, c.batches(name, t, indexes)...)
			continue
		}
		late.Go(func() { // what is not there, perhaps not yet, must not delay the rest
			if t, err := c.await(ctx, name, t.err); err != nil {
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
func (c *call) await(ctx context.Context, name string, reason error) (t topic, err error) {
	if !ValidTopic(name) {
		return t, permanentError{fmt.Errorf("kafka: topic %q: %w", name, kafkago.InvalidTopic)}
	}
	err = reason
	if c.patience > 0 {
		err = c.whileStale(ctx, topicPartition{name, -1}, reason, func() error {
			known, err := c.cluster.topics(ctx, name)
			if t = known[name]; err != nil {
				return err
			}
			return t.err
		})
	}
	if err != nil {
		err = &partError{partitions: 1, err: fmt.Errorf("kafka: topic %q: %w", name, err)}
	}
	return t, err
}

// whileStale takes how a request ended and repeats it while it fails because the topic, or the partition's leader, is not
// known rightly, as when a topic has just been created or a leader moved. Only the first call waits: what stays away must
// not slow down the rest.
func (c *call) whileStale(ctx context.Context, target topicPartition, err error, again func() error) error {
	start := time.Now()
	for failures := 0; ; failures++ {
		if err == nil {
			c.setAway(target, nil)
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		if isStale(err) || !isAnswer(err) {
			c.cluster.forget()
		}
		if !isStale(err) || c.patience == 0 {
			return err
		}
		if c.isAway(target) && failures > 0 || time.Since(start) > c.patience {
			c.setAway(target, err)
			return err
		}
		if !backoff(ctx, failures, maxStaleBackoff) {
			return err
		}
		err = again()
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

// call is one of Produce.
type call struct {
	*Producer
	cluster  *cluster
	patience time.Duration
	messages []Message
	results  []error
}

// batch is what a call has for one partition.
type batch struct {
	*call
	topicPartition
	of      int            // so many partitions
	leader  int32          // the broker's ID
	list    []int          // the messages that are not sent yet, in their order
	refused map[string]int // by key: the message that was refused for good
}

// batches distributes messages to the partitions of their topic.
func (c *call) batches(name string, t topic, list []int) []*batch {
	numbers, batches := make([]int, len(t.leaders)), make([]*batch, len(t.leaders))
	for n := range numbers {
		numbers[n] = n
	}
	for _, i := range list {
		id := partitioner.Balance(kafkago.Message{Key: c.messages[i].Key}, numbers...)
		if batches[id] == nil {
			batches[id] = &batch{call: c, topicPartition: topicPartition{name, id}, of: len(numbers), leader: t.leaders[id]}
		}
		batches[id].list = append(batches[id].list, i)
	}
	return slices.DeleteFunc(batches, func(b *batch) bool { return b == nil })
}

// send stores batches, those together that one broker leads.
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

// sendTogether stores batches in requests that carry something of each. One that fails leaves the others and goes on, if it
// can, by itself.
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
			if c.setAway(b.topicPartition, nil); len(b.list) > 0 {
				batches = append(batches, b)
			}
		}
	}
	alone.Wait()
}

// sendAll stores a list of messages and returns false when the partition must stop here.
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

// cut takes the messages of the next request off the list.
func (b *batch) cut(list []int) (next, rest []int, total int) {
	next = make([]int, 0, min(len(list), maxAppendMessages))
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
		if len(next) > 0 && (total+size > maxAppendBytes || len(next) == maxAppendMessages) {
			return next, list[n:], total
		}
		next = append(next, i)
		total += size
	}
	return next, nil, total
}

// settle takes how a request with these messages of the partition ended, sends them again where that may help, and returns
// false when the partition must stop here. When the broker refuses them for what one of them is, halves are sent, so that
// only that message is refused.
func (b *batch) settle(ctx context.Context, list []int, err error) bool {
	err = b.whileStale(ctx, b.topicPartition, err, func() error { return b.request(ctx, []part{{b, list}})[0] })
	switch half := len(list) / 2; {
	case err == nil:
		return true
	case !refusesMessage(err):
		err = fmt.Errorf("kafka: topic %q partition %d: %w", b.topic, b.id, err)
		b.set(list, &partError{partitions: b.of, partition: b.id, err: err})
		return false
	case half == 0:
		b.refuse(list[0], permanentError{fmt.Errorf("kafka: topic %q: %w", b.topic, err)})
		return true
	case !b.sendAll(ctx, list[:half]):
		b.set(list[half:], ErrSkipped)
		return false
	default: // as a request of its own, without what is behind a refused message now
		return b.sendAll(ctx, list[half:])
	}
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

func (c *call) set(list []int, err error) {
	for _, i := range list {
		if c.results[i] == nil {
			c.results[i] = err
		}
	}
}

// part is what a request has for one partition.
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
	timeout := requestTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	// The replicas have half of the time, so that the answer comes in time.
	request := &produce.Request{Acks: int16(kafkago.RequireAll), Timeout: int32(timeout.Milliseconds() / 2)}
	for _, p := range parts {
		t := slices.IndexFunc(request.Topics, func(t produce.RequestTopic) bool { return t.Topic == p.topic })
		if t < 0 {
			t, request.Topics = len(request.Topics), append(request.Topics, produce.RequestTopic{Topic: p.topic})
		}
		request.Topics[t].Partitions = append(request.Topics[t].Partitions, produce.RequestPartition{
			Partition: int32(p.id), RecordSet: protocol.RecordSet{Records: &records{messages: c.messages, list: p.list}},
		})
	}
	response, err := c.cluster.roundTrip(ctx, request)
	answers := map[topicPartition]error{}
	if err == nil {
		for _, t := range response.(*produce.Response).Topics {
			for _, p := range t.Partitions {
				answers[topicPartition{t.Topic, int(p.Partition)}] = answer(p.ErrorCode, p.ErrorMessage)
			}
		}
	}
	for i, p := range parts {
		var answered bool
		if results[i], answered = answers[p.topicPartition]; !answered {
			results[i] = cmp.Or(err, error(protocol.ErrNoPartition))
		}
	}
	return results
}

// records reads messages as the library sends them.
type records struct {
	messages []Message
	list     []int // of those that are still to be read

	record     kafkago.Record
	key, value contents
}

// contents is a key or a value.
type contents struct{ bytes.Reader }

func (*contents) Close() error { return nil }

func (c *contents) of(b []byte) kafkago.Bytes {
	if b == nil {
		return nil
	}
	c.Reset(b)
	return c
}

// ReadRecord implements kafkago.RecordReader: what it returns is valid until the next call.
func (r *records) ReadRecord() (*kafkago.Record, error) {
	if len(r.list) == 0 {
		return nil, io.EOF
	}
	m := &r.messages[r.list[0]]
	r.list = r.list[1:]
	r.record = kafkago.Record{Time: m.Time, Key: r.key.of(m.Key), Value: r.value.of(m.Value), Headers: m.Headers}
	return &r.record, nil
}
