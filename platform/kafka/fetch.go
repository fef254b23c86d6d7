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

type topicPartition struct {
	topic string
	id    int
}

func (p topicPartition) String() string { return p.topic + "/" + strconv.Itoa(p.id) }

// fetched is what a partition has from an offset on.
type fetched struct {
	messages []Message
	next     int64 // the offset after them
	end      int64 // the offset after the partition's last message
}

// fetch asks for what a partition has from an offset on, and waits for it for up to fetchWait. What comes with an error
// is valid too.
func (c *cluster) fetch(ctx context.Context, p topicPartition, offset int64) (fetched, error) {
	got := fetched{next: offset}
	response, err := c.client.Fetch(ctx, &kafkago.FetchRequest{
		Topic: p.topic, Partition: p.id, Offset: offset, MinBytes: 1, MaxBytes: maxFetchBytes, MaxWait: fetchWait,
	})
	if err == nil {
		err = response.Error
	}
	if err != nil {
		return got, err
	}
	got.end = response.HighWatermark
	for {
		record, err := response.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return got, err
		}
		message, err := newMessage(p, record)
		if err != nil {
			return got, err
		}
		if message.Offset >= offset { // a batch may begin before the offset that was asked for
			got.messages, got.next = append(got.messages, message), message.Offset+1
		}
	}
	// Batches without a message for us, such as the end marks of transactions, still take offsets.
	if stream, ok := response.Records.(*protocol.RecordStream); ok && len(stream.Records) > 0 && got.next == offset {
		got.next++
	}
	return got, nil
}

// newMessage copies a record, whose memory is given back.
func newMessage(p topicPartition, record *kafkago.Record) (Message, error) {
	m := Message{Topic: p.topic, Partition: p.id, Offset: record.Offset, Time: record.Time, Headers: record.Headers}
	var errKey, errValue error
	m.Key, errKey = take(record.Key)
	m.Value, errValue = take(record.Value)
	return m, errors.Join(errKey, errValue)
}

func take(b kafkago.Bytes) ([]byte, error) {
	if b == nil {
		return nil, nil
	}
	defer b.Close()
	return protocol.ReadAll(b)
}

// firstOffset returns the offset of the oldest message that a partition still has.
func (c *cluster) firstOffset(ctx context.Context, p topicPartition) (int64, error) {
	offsets, err := c.offsets(ctx, p.topic, kafkago.FirstOffsetOf(p.id))
	if err != nil {
		return 0, err
	}
	return offsets[p.id].FirstOffset, nil
}

// ends returns the offset of the next message of each partition of a topic.
func (c *cluster) ends(ctx context.Context, topic string) ([]int64, error) {
	counts, err := c.partitions(ctx, topic)
	if err != nil {
		return nil, err
	}
	ends, requests := make([]int64, counts[topic]), make([]kafkago.OffsetRequest, counts[topic])
	for id := range requests {
		requests[id] = kafkago.LastOffsetOf(id)
	}
	offsets, err := c.offsets(ctx, topic, requests...)
	if err != nil {
		return nil, err
	}
	for id := range ends {
		ends[id] = offsets[id].LastOffset
	}
	return ends, nil
}

// offsets asks for offsets of a topic's partitions; the answer has all that were asked for.
func (c *cluster) offsets(ctx context.Context, topic string, requests ...kafkago.OffsetRequest) (map[int]kafkago.PartitionOffsets, error) {
	response, err := c.client.ListOffsets(ctx, &kafkago.ListOffsetsRequest{
		Topics: map[string][]kafkago.OffsetRequest{topic: requests},
	})
	if err != nil {
		return nil, err
	}
	offsets := map[int]kafkago.PartitionOffsets{}
	for _, p := range response.Topics[topic] {
		if p.Error != nil {
			return nil, p.Error
		}
		offsets[p.Partition] = p
	}
	if len(offsets) != len(requests) {
		return nil, kafkago.UnknownTopicOrPartition
	}
	return offsets, nil
}
