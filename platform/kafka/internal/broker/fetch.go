package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/fetch"
)

const (
	// FetchWait is how long a fetch usually waits. A broker answers as soon as there is anything, or at its end. It bounds
	// how long a connection that is no longer needed stays open.
	FetchWait = time.Second

	// Bounds of one fetch for a partition, and for all of them. A single record batch may exceed both.
	maxPartitionBytes = 256 << 10
	maxFetchBytes     = 2 << 20

	// maxPartitionMemory bounds what one fetch keeps of a partition in memory: a few compressed bytes may hold many
	// messages.
	maxPartitionMemory = 2 << 20
)

// Partition is a partition of a topic.
type Partition struct {
	Topic string
	ID    int
}

func (p Partition) String() string { return p.Topic + "/" + strconv.Itoa(p.ID) }

// Position is where to fetch a partition from.
type Position struct {
	Partition
	Offset int64
}

// Fetched is what was fetched from a position. Its messages are valid even if there is an error.
type Fetched struct {
	Partition
	From     int64
	Messages []Message
	bytes    int   // what the messages take in memory
	Next     int64 // the offset to go on from
	End      int64 // the offset after the partition's last message; negative where it is not known
	Err      error
}

// Fetch asks the broker that leads these partitions for committed messages, and waits until there are some. It returns
// one result per position.
func (c *Pool) Fetch(ctx context.Context, wait time.Duration, positions ...Position) []Fetched {
	request := &fetch.Request{
		ReplicaID: -1, SessionEpoch: -1, // no session
		MaxWaitTime: int32(wait.Milliseconds()), MinBytes: 1, MaxBytes: maxFetchBytes,
		IsolationLevel: int8(kafkago.ReadCommitted),
	}
	for _, p := range positions {
		t := slices.IndexFunc(request.Topics, func(t fetch.RequestTopic) bool { return t.Topic == p.Topic })
		if t < 0 {
			t, request.Topics = len(request.Topics), append(request.Topics, fetch.RequestTopic{Topic: p.Topic})
		}
		request.Topics[t].Partitions = append(request.Topics[t].Partitions, fetch.RequestPartition{
			Partition: int32(p.ID), CurrentLeaderEpoch: -1, LogStartOffset: -1,
			FetchOffset: p.Offset, PartitionMaxBytes: maxPartitionBytes,
		})
	}
	response, err := c.RoundTrip(ctx, request)
	answers := map[Partition]*fetchPartition{}
	if err == nil {
		response := response.(*fetchResponse)
		err = Answer(response.ErrorCode, "")
		for _, t := range response.Topics {
			for i, p := range t.Partitions {
				answers[Partition{t.Topic, int(p.Partition)}] = &t.Partitions[i]
			}
		}
	}
	results := make([]Fetched, len(positions))
	for i, p := range positions {
		// A partition may be missing in the answer when the others have used up its bytes.
		if answered := answers[p.Partition]; answered == nil || err != nil {
			results[i] = Fetched{Partition: p.Partition, From: p.Offset, Next: p.Offset, End: -1, Err: err}
		} else {
			results[i] = p.read(answered)
		}
	}
	return results
}

// read reads the broker's answer: what is committed, within transactions or not, and nothing of aborted transactions.
func (p Position) read(answered *fetchPartition) Fetched {
	got := Fetched{
		Partition: p.Partition, From: p.Offset, Next: p.Offset,
		End: answered.HighWatermark, Err: Answer(answered.ErrorCode, ""),
	}
	if got.Err != nil {
		return got
	}
	aborted := answered.AbortedTransactions // each from its first offset to its end mark
	slices.SortFunc(aborted, func(a, b fetch.ResponseTransaction) int { return cmp.Compare(a.FirstOffset, b.FirstOffset) })
	dropped := map[int64]bool{} // producers whose current transaction was aborted
	for i := range answered.Records.list {
		batch := &answered.Records.list[i]
		for len(aborted) > 0 && aborted[0].FirstOffset <= batch.last {
			dropped[aborted[0].ProducerID], aborted = true, aborted[1:]
		}
		switch {
		case batch.last < p.Offset && !batch.attributes.Control():
		case batch.damaged:
			got.Err = fmt.Errorf("the record batch from offset %d to %d is damaged: its checksum is wrong",
				batch.base, batch.last)
			return got
		case batch.attributes.Control():
			if batch.aborts() {
				delete(dropped, batch.producerID)
			}
		case batch.attributes.Transactional() && dropped[batch.producerID]:
		case !got.add(batch):
			return got
		}
		got.Next = max(got.Next, batch.last+1) // some offsets have no record, such as end marks
	}
	return got
}

// add appends the batch's messages from the next offset on. What cannot be read becomes one message that says why. It
// returns false when it has taken as much as it may; the rest comes with the next fetch.
func (got *Fetched) add(batch *recordBatch) bool {
	records, err := batch.records(got.Next)
	got.Messages = slices.Grow(got.Messages, min(max(0, int(batch.count)), 1000))
	for err == nil {
		if got.bytes > maxPartitionMemory {
			return false
		}
		var m Message
		if m, err = records.next(); err == nil {
			m.Topic, m.Partition = got.Topic, got.ID
			got.Messages, got.Next = append(got.Messages, m), m.Offset+1
			got.bytes += m.memory()
		}
	}
	if !errors.Is(err, io.EOF) {
		first := max(batch.base, got.Next)
		got.Messages = append(got.Messages, Message{
			Topic: got.Topic, Partition: got.ID, Offset: first, Time: time.UnixMilli(batch.maxTime),
			Unreadable: &UnreadableError{First: first, Last: batch.last, Cause: err},
		})
	}
	return true
}

// Offsets returns the first and the last offset of these partitions of a topic, or of all: those of the oldest message
// that it still has, and of the next one, or, for ReadCommitted, of the first open transaction.
func (c *Pool) Offsets(ctx context.Context, isolation kafkago.IsolationLevel, topic string, ids ...int) (
	map[int]kafkago.PartitionOffsets, error) {
	if len(ids) == 0 {
		counts, err := c.Partitions(ctx, topic)
		if err != nil {
			return nil, err
		}
		for id := range counts[topic] {
			ids = append(ids, id)
		}
	}
	var requests []kafkago.OffsetRequest
	for _, id := range ids {
		requests = append(requests, kafkago.FirstOffsetOf(id), kafkago.LastOffsetOf(id))
	}
	response, err := c.Client.ListOffsets(ctx, &kafkago.ListOffsetsRequest{
		Topics: map[string][]kafkago.OffsetRequest{topic: requests}, IsolationLevel: isolation,
	})
	if err != nil {
		return nil, err
	}
	offsets := make(map[int]kafkago.PartitionOffsets, len(ids))
	for _, p := range response.Topics[topic] {
		if p.Error != nil {
			return nil, p.Error
		}
		offsets[p.Partition] = p
	}
	return offsets, nil
}
