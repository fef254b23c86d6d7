package kafka

import (
	"context"
	"errors"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

const (
	// briefWait is that of a fetch which leaves out partitions of the broker, so that they are soon in the next one.
	briefWait = 25 * time.Millisecond

	nobody = -1 // leads a partition whose leader is not known
	lone   = -2 // in place of the leader of a source that is fetched by itself
)

// reader reads partitions. A broker has one request at a time, for all the partitions that it leads. One that has no room
// for messages is left out. One in trouble is fetched by itself until it is well: its leader may have moved, and an answer
// that cannot be read does not tell which partition is the cause.
type reader struct {
	cluster  *cluster
	troubles *troubles
	topics   []string
	sources  []*source
	accept   func(s *source, got fetched) // takes what came, before more of the source is fetched; called concurrently
	full     func(s *source) bool         // tells whether a source has no room; nil for never
	room     <-chan struct{}              // signals that one which had none may have some

	turn int // the source that comes first, each in its turn: the first ones may take all the bytes of an answer
}

// source is a partition that is being read.
type source struct {
	topicPartition
	name     string
	next     int64 // the offset to fetch from; negative for the first one
	failures int   // in a row
	away     bool  // with a trip, which alone may use it
}

func newSource(p topicPartition, next int64) *source {
	return &source{topicPartition: p, name: p.String(), next: next}
}

// trip is a request, or a pause after one.
type trip struct {
	leader  int32
	sources []*source
	wait    time.Duration
}

// run reads until ctx ends.
func (r *reader) run(ctx context.Context) {
	var trips sync.WaitGroup
	defer trips.Wait()
	back, busy := make(chan trip), map[int32]bool{}
	for ctx.Err() == nil {
		for _, t := range r.due(ctx, busy) {
			busy[t.leader] = true
			for _, s := range t.sources {
				s.away = true
			}
			trips.Go(func() { r.travel(ctx, t, back) })
		}
		select {
		case <-ctx.Done():
		case <-r.room:
		case t := <-back:
			delete(busy, t.leader)
			for _, s := range t.sources {
				s.away = false
			}
		}
	}
}

// due returns the trips for which it is time.
func (r *reader) due(ctx context.Context, busy map[int32]bool) (trips []trip) {
	var ready []*source
	for i := range r.sources {
		s := r.sources[(r.turn+i)%len(r.sources)]
		switch {
		case s.away || r.full != nil && r.full(s):
		case s.failures > 0 || s.next < 0:
			trips = append(trips, trip{leader: lone, sources: []*source{s}})
		default:
			ready = append(ready, s)
		}
	}
	if r.turn++; len(ready) == 0 {
		return trips
	}
	known, _ := r.cluster.topics(ctx, r.topics...) // without an answer, the requests will tell why
	leader := func(s *source) int32 {
		if leaders := known[s.topic].leaders; s.id < len(leaders) {
			return leaders[s.id]
		}
		return nobody
	}
	shared, led := map[int32][]*source{}, map[int32]int{}
	for _, s := range r.sources {
		led[leader(s)]++
	}
	for _, s := range ready {
		if by := leader(s); !busy[by] {
			shared[by] = append(shared[by], s)
		}
	}
	for by, sources := range shared {
		wait := fetchWait
		if len(sources) < led[by] {
			wait = briefWait
		}
		trips = append(trips, trip{by, sources, wait})
	}
	return trips
}

// travel fetches and sends the sources back, those that failed after a pause; none when ctx has ended.
func (r *reader) travel(ctx context.Context, t trip, back chan<- trip) {
	send := func(t trip) {
		select {
		case <-ctx.Done():
		case back <- t:
		}
	}
	results := r.fetch(ctx, t)
	if ctx.Err() != nil {
		return
	}
	well, failed := trip{leader: t.leader}, trip{leader: lone}
	failures := 0
	for i, s := range t.sources {
		r.accept(s, results[i])
		if err := results[i].err; err != nil {
			failures = max(failures, s.failures)
			r.fail(s, results[i])
			failed.sources = append(failed.sources, s)
			continue
		}
		r.troubles.note(s.name, nil)
		s.next, s.failures = results[i].next, 0
		well.sources = append(well.sources, s)
	}
	send(well)
	if len(failed.sources) > 0 && backoff(ctx, failures, maxTroubleBackoff) {
		send(failed)
	}
}

// fetch asks for what follows what each source has had. One whose offset is not known comes alone.
func (r *reader) fetch(ctx context.Context, t trip) []fetched {
	positions := make([]position, len(t.sources))
	for i, s := range t.sources {
		positions[i] = position{s.topicPartition, s.next}
		if s.next < 0 {
			first, err := r.cluster.firstOffset(ctx, s.topicPartition)
			if err != nil {
				return []fetched{{from: s.next, next: s.next, end: -1, err: err}}
			}
			positions[i].offset = first
		}
	}
	return r.cluster.fetch(ctx, t.wait, positions...)
}

// fail takes note of what a source was told instead of messages, or after them.
func (r *reader) fail(s *source, got fetched) {
	r.troubles.note(s.name, got.err)
	s.failures++
	s.next = got.next
	switch {
	case errors.Is(got.err, kafkago.OffsetOutOfRange):
		r.troubles.log.Warn("kafka offset is out of range, reading from the first one", "topic", s.topic, "partition", s.id, "offset", s.next)
		s.next = kafkago.FirstOffset
	case isStale(got.err) || !isAnswer(got.err):
		r.cluster.forget()
	}
}
