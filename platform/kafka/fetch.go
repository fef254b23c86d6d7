package kafka

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
)

const (
	// A broker answers a fetch as soon as there is anything, or at the end of the wait. The wait bounds how long a
	// connection that is no longer needed stays open.
	fetchWait = time.Second

	// What a partition, and all of them, give in one fetch; a single record batch may exceed both.
	maxPartitionBytes = 512 << 10
	maxFetchBytes     = 2 << 20
)

type topicPartition struct {
	topic string
	id    int
}

func (p topicPartition) String() string { return p.topic + "/" + strconv.Itoa(p.id) }

// position is from where on a partition is fetched.
type position struct {
	topicPartition
	offset int64
}

// fetched is what a partition has from a position on. What comes with an error is valid too.
type fetched struct {
	from     int64
	messages []Message
	next     int64 // the offset after the messages
	end      int64 // the offset after the partition's last message; negative where it was not told
	err      error
}

// fetch asks the broker that leads the partitions for what they have, and waits for it until there is anything. It returns
// one result per position.
func (c *cluster) fetch(ctx context.Context, wait time.Duration, positions ...position) []fetched {
	request := &fetch.Request{
		ReplicaID: -1, MaxWaitTime: int32(wait.Milliseconds()), MinBytes: 1, MaxBytes: maxFetchBytes, SessionEpoch: -1, // no session
	}
	for _, p := range positions {
		t := slices.IndexFunc(request.Topics, func(t fetch.RequestTopic) bool { return t.Topic == p.topic })
		if t < 0 {
			t, request.Topics = len(request.Topics), append(request.Topics, fetch.RequestTopic{Topic: p.topic})
		}
		request.Topics[t].Partitions = append(request.Topics[t].Partitions, fetch.RequestPartition{
			Partition: int32(p.id), CurrentLeaderEpoch: -1, FetchOffset: p.offset, LogStartOffset: -1, PartitionMaxBytes: maxPartitionBytes,
		})
	}
	response, err := c.roundTrip(ctx, request)
	answers := map[topicPartition]*fetch.ResponsePartition{}
	if err == nil {
		response := response.(*fetch.Response)
		err = answer(response.ErrorCode, "")
		for _, t := range response.Topics {
			for i, p := range t.Partitions {
				answers[topicPartition{t.Topic, int(p.Partition)}] = &t.Partitions[i]
			}
		}
	}
	results := make([]fetched, len(positions))
	for i, p := range positions {
		// A partition for which the bytes did not suffice may be missing in the answer.
		if answered := answers[p.topicPartition]; answered == nil || err != nil {
			results[i] = fetched{from: p.offset, next: p.offset, end: -1, err: err}
		} else {
			results[i] = p.read(answered)
		}
	}
	return results
}

// read takes what the broker answered.
func (p position) read(answered *fetch.ResponsePartition) fetched {
	got := fetched{from: p.offset, next: p.offset, end: answered.HighWatermark, err: answer(answered.ErrorCode, "")}
	if got.err != nil || answered.RecordSet.Records == nil {
		return got
	}
	got.messages = make([]Message, 0, min(max(0, got.end-p.offset), maxBatchMessages))
	for {
		record, err := answered.RecordSet.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			break
		}
		var message Message
		if err == nil {
			message, err = newMessage(p.topicPartition, record)
		}
		if err != nil {
			got.err = err
			return got
		}
		if message.Offset >= p.offset { // a batch may begin before the offset that was asked for
			got.messages, got.next = append(got.messages, message), message.Offset+1
		}
	}
	// Batches without a message for us, such as the end marks of transactions, still take offsets.
	if stream, ok := answered.RecordSet.Records.(*protocol.RecordStream); ok && len(stream.Records) > 0 && got.next == p.offset {
		got.next++
	}
	return got
}

// newMessage copies a record, whose memory is given back.
func newMessage(p topicPartition, record *kafkago.Record) (Message, error) {
	m := Message{Topic: p.topic, Partition: p.id, Offset: record.Offset, Time: record.Time, Headers: record.Headers}
	var errKey, errValue error
	m.Key, errKey = take(record.Key)
	m.Value, errValue = take(record.Value)
	return m, cmp.Or(errKey, errValue)
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
