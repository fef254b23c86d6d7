package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
)

const (
	// briefWait replaces FetchWait in a fetch that leaves out some of its broker's partitions, so that they are in the
	// next one soon.
	briefWait = 25 * time.Millisecond

	nobody = -1 // leads a partition whose leader is not known
	lone   = -2 // stands for the leader of a source that is fetched by itself
)

// Reader reads partitions. Each broker gets one request at a time, for all the partitions that it leads. A partition in
// trouble is fetched by itself until it is well: its leader may have moved, and an answer that cannot be read does not
// tell which partition is the cause.
type Reader struct {
	Pool    *Pool
	Outages *Outages
	Topics  []string
	Sources []*Source

	turn int // which source comes first; they take turns, because the first ones may use up the bytes of an answer
}

// Source is a partition that is being read.
type Source struct {
	Partition
	next     int64  // the offset to fetch from; negative for the first one
	gone     int64  // the offset that the broker has not, while next is negative because of that; else 0
	name     string // for Outages; made once, because each fetch needs it
	failures int    // in a row
	away     bool   // in a round, which alone may use it until it comes back
}

// NewSource makes a source that begins at an offset, or at the first one if that is negative.
func NewSource(p Partition, next int64) *Source {
	return &Source{Partition: p, next: next, name: p.String()}
}

// round is one fetch from a broker, or a pause after one.
type round struct {
	leader  int32
	sources []*Source
	wait    time.Duration
	fetched []Fetched
}

// Run reads until ctx ends. It calls accept with what was fetched, and fetches more once accept has returned, so
// whatever arrives meanwhile comes with the next fetch.
func (r *Reader) Run(ctx context.Context, accept func(fetched []Fetched)) {
	var rounds sync.WaitGroup
	defer rounds.Wait()
	back, busy := make(chan round), map[int32]bool{}
	end := func(done round) []Fetched {
		delete(busy, done.leader)
		for _, s := range done.sources {
			s.away = false
		}
		return done.fetched
	}
	for ctx.Err() == nil {
		for _, due := range r.due(ctx, busy) {
			busy[due.leader] = true
			for _, s := range due.sources {
				s.away = true
			}
			rounds.Go(func() { r.do(ctx, due, back) })
		}
		var fetched []Fetched
		select {
		case <-ctx.Done():
			return
		case done := <-back:
			fetched = end(done)
		}
		for others := true; others; {
			select {
			case done := <-back:
				fetched = append(fetched, end(done)...)
			default:
				others = false
			}
		}
		accept(fetched)
	}
}

// due returns the rounds that can begin now.
func (r *Reader) due(ctx context.Context, busy map[int32]bool) (rounds []round) {
	var ready []*Source
	for i := range r.Sources {
		s := r.Sources[(r.turn+i)%len(r.Sources)]
		switch {
		case s.away:
		case s.failures > 0 || s.next < 0:
			rounds = append(rounds, round{leader: lone, sources: []*Source{s}})
		default:
			ready = append(ready, s)
		}
	}
	if r.turn++; len(ready) == 0 {
		return rounds
	}
	known, _ := r.Pool.Topics(ctx, r.Topics...) // if this fails, the fetches will tell why
	leader := func(s *Source) int32 {
		if leaders := known[s.Topic].Leaders; s.ID < len(leaders) {
			return leaders[s.ID]
		}
		return nobody
	}
	shared, led := map[int32][]*Source{}, map[int32]int{}
	for _, s := range r.Sources {
		led[leader(s)]++
	}
	for _, s := range ready {
		if by := leader(s); !busy[by] {
			shared[by] = append(shared[by], s)
		}
	}
	for by, sources := range shared {
		wait := FetchWait
		if len(sources) < led[by] {
			wait = briefWait
		}
		rounds = append(rounds, round{leader: by, sources: sources, wait: wait})
	}
	return rounds
}

// do fetches and hands the sources back; those that failed come after a pause. Once ctx has ended it hands back none.
func (r *Reader) do(ctx context.Context, it round, back chan<- round) {
	send := func(done round) {
		select {
		case <-ctx.Done():
		case back <- done:
		}
	}
	well, failed := round{leader: it.leader, fetched: r.fetch(ctx, it)}, round{leader: lone}
	if ctx.Err() != nil {
		return
	}
	failures := 0
	for i, s := range it.sources {
		got := well.fetched[i]
		s.next = got.Next
		r.Outages.Note(s.name, got.Err)
		if got.Err != nil {
			failures = max(failures, s.failures)
			r.fail(s, got.Err)
			failed.sources = append(failed.sources, s)
			continue
		}
		s.failures = 0
		well.sources = append(well.sources, s)
	}
	send(well)
	if len(failed.sources) > 0 && Backoff(ctx, failures) {
		send(failed)
	}
}

// fetch asks for what comes next in each source. A source whose offset is not known yet comes alone.
func (r *Reader) fetch(ctx context.Context, it round) []Fetched {
	positions := make([]Position, len(it.sources))
	for i, s := range it.sources {
		positions[i] = Position{s.Partition, s.next}
		if s.next < 0 {
			offsets, err := r.Pool.Offsets(ctx, kafkago.ReadUncommitted, s.Topic, s.ID)
			if err != nil {
				return []Fetched{{Partition: s.Partition, From: s.next, Next: s.next, End: -1, Err: err}}
			}
			positions[i].Offset = offsets[s.ID].FirstOffset
			if s.gone > 0 {
				// Of a topic that was made anew nobody knows how many there were.
				r.Outages.log.Warn("kafka offset is out of range, reading from the first one", "topic", s.Topic,
					"partition", s.ID, "offset", s.gone, "first", positions[i].Offset, "lost", max(0, positions[i].Offset-s.gone))
				s.gone = 0
			}
		}
	}
	return r.Pool.Fetch(ctx, it.wait, positions...)
}

// fail handles an error that a source got instead of messages, or after them.
func (r *Reader) fail(s *Source, err error) {
	s.failures++
	switch {
	case errors.Is(err, kafkago.OffsetOutOfRange):
		s.gone, s.next = s.next, kafkago.FirstOffset
	case IsStale(err) || !IsAnswer(err):
		r.Pool.Forget()
	}
}

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

// read reads the broker's answer: everything that is committed, in a transaction or not, and nothing of aborted
// transactions.
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

// OffsetAt returns the offset of the first message of a partition that has this time or a later one, or that of the
// next message if there is none.
func (c *Pool) OffsetAt(ctx context.Context, p Partition, at time.Time) (int64, error) {
	response, err := c.Client.ListOffsets(ctx, &kafkago.ListOffsetsRequest{
		Topics: map[string][]kafkago.OffsetRequest{p.Topic: {kafkago.TimeOffsetOf(p.ID, at), kafkago.LastOffsetOf(p.ID)}},
	})
	if err != nil {
		return 0, err
	}
	list := response.Topics[p.Topic]
	switch {
	case len(list) != 1:
		return 0, protocol.ErrNoPartition
	case list[0].Error != nil:
		return 0, list[0].Error
	}
	offset := list[0].LastOffset
	for found := range list[0].Offsets {
		if found >= 0 { // negative where there is none
			offset = found
		}
	}
	return offset, nil
}

// Offsets returns the first and the last offset of these partitions of a topic, or of all its partitions: the offset of
// the oldest message that it still has, and that of the next message, or, for ReadCommitted, of the first open
// transaction.
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
