package kafka

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

const (
	// A broker answers a fetch as soon as there is anything, or at the end of the wait. The wait bounds how long a
	// connection that is no longer needed stays open.
	fetchWait     = 250 * time.Millisecond
	maxFetchBytes = 4 << 20
)

// fetch feeds the queue with the messages of a partition until ctx ends.
func (g *generation) fetch(ctx context.Context, p *partition) {
	source := p.topic + "/" + strconv.Itoa(p.id)
	defer g.troubles.note(source, nil)
	for failures := 0; ctx.Err() == nil; {
		err := g.fetchOnce(ctx, p)
		if ctx.Err() != nil {
			return
		}
		g.troubles.note(source, err)
		if err == nil {
			failures = 0
			continue
		}
		switch {
		case errors.Is(err, kafkago.OffsetOutOfRange):
			g.log.Warn("kafka offset is out of range, reading from the first one", "topic", p.topic, "partition", p.id, "offset", p.fetched)
			p.fetched = kafkago.FirstOffset
		case isStale(err) || !isAnswer(err):
			g.member.cluster.forget()
		}
		if !backoff(ctx, failures, maxTroubleBackoff) {
			return
		}
		failures++
	}
}

// fetchOnce asks for what follows the last message and queues it.
func (g *generation) fetchOnce(ctx context.Context, p *partition) error {
	if p.fetched < 0 {
		first, err := g.member.cluster.firstOffset(ctx, p.topicPartition)
		if err != nil {
			return err
		}
		p.fetched = first
		p.handled.Store(first)
	}
	response, err := g.member.cluster.client.Fetch(ctx, &kafkago.FetchRequest{
		Topic: p.topic, Partition: p.id, Offset: p.fetched, MinBytes: 1, MaxBytes: maxFetchBytes, MaxWait: fetchWait,
	})
	if err != nil {
		return err
	}
	if response.Error != nil {
		return response.Error
	}
	p.end.Store(response.HighWatermark)
	p.observe()
	return g.enqueue(ctx, p, response.Records)
}

// enqueue passes records on in chunks; it waits while the queue is full.
func (g *generation) enqueue(ctx context.Context, p *partition, records kafkago.RecordReader) error {
	var (
		start = p.fetched
		next  chunk
	)
	flush := func() error {
		if len(next.messages) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case g.queue <- next:
			p.fetched = next.messages[len(next.messages)-1].Offset + 1
			next = chunk{}
			return nil
		}
	}
	for {
		record, err := records.ReadRecord()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return errors.Join(flush(), err)
		}
		message, err := newMessage(p.topicPartition, record)
		if err != nil {
			return errors.Join(flush(), err)
		}
		if message.Offset < start { // a batch may begin before the offset that was asked for
			continue
		}
		next.messages = append(next.messages, message)
		next.bytes += message.size()
		if len(next.messages) == maxChunkMessages || next.bytes >= maxChunkBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	// Batches without a message for us, such as the end marks of transactions, still take offsets.
	if stream, ok := records.(*protocol.RecordStream); ok && len(stream.Records) > 0 && p.fetched == start {
		p.fetched++
	}
	return nil
}

// newMessage copies a record, whose memory is given back.
func newMessage(p topicPartition, record *kafkago.Record) (Message, error) {
	m := Message{Topic: p.topic, Partition: p.id, Offset: record.Offset, Time: record.Time}
	var errKey, errValue error
	m.Key, errKey = take(record.Key)
	m.Value, errValue = take(record.Value)
	if len(record.Headers) > 0 {
		m.Headers = make([]Header, len(record.Headers))
		for i, h := range record.Headers {
			m.Headers[i] = Header{h.Key, h.Value}
		}
	}
	return m, errors.Join(errKey, errValue)
}

func take(b kafkago.Bytes) ([]byte, error) {
	if b == nil {
		return nil, nil
	}
	defer b.Close()
	return protocol.ReadAll(b)
}

func (c *cluster) firstOffset(ctx context.Context, p topicPartition) (int64, error) {
	response, err := c.client.ListOffsets(ctx, &kafkago.ListOffsetsRequest{
		Topics: map[string][]kafkago.OffsetRequest{p.topic: {kafkago.FirstOffsetOf(p.id)}},
	})
	if err != nil {
		return 0, err
	}
	for _, offsets := range response.Topics[p.topic] {
		if offsets.Partition == p.id {
			return offsets.FirstOffset, offsets.Error
		}
	}
	return 0, kafkago.UnknownTopicOrPartition
}
