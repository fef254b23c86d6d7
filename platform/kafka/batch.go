package kafka

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/produce"

	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
)

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

// settle handles the result of a request for these messages: it sends them again where that may help. It returns
// false when the partition must stop there. When the broker refuses one of the messages, settle bisects the list, so
// that only that message is refused.
func (b *batch) settle(ctx context.Context, list []int, err error) bool {
	err = b.whileStale(ctx, err, func() error { return b.request(ctx, []part{{b, list}})[0] })
	switch half := len(list) / 2; {
	case err == nil:
		return true
	case !broker.IsAny(err, kafkago.MessageSizeTooLarge, kafkago.RecordListTooLarge,
		kafkago.InvalidTimestamp, kafkago.InvalidRecord): // it is not because of one of the messages
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
