package broker

import (
	"context"
	"errors"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

const (
	// briefWait replaces FetchWait when a fetch leaves out partitions of its broker, so that they are soon in the next
	// one.
	briefWait = 25 * time.Millisecond

	nobody = -1 // leads a partition whose leader is not known
	lone   = -2 // stands for the leader of a source that is fetched by itself
)

// Reader reads partitions. Each broker gets one request at a time, for all the partitions that it leads. A partition
// that has no room for messages is left out. A partition in trouble is fetched by itself until it is well: its leader
// may have moved, and an answer that cannot be read does not tell which partition is the cause.
type Reader struct {
	Pool    *Pool
	Outages *Outages
	Topics  []string
	Sources []*Source
	// Accept takes what was fetched, before more of the source is fetched. It is called concurrently.
	Accept func(s *Source, got Fetched)
	// Full tells whether a source has no room; nil means never. Room signals that a full source may have room again.
	Full func(s *Source) bool
	Room <-chan struct{}

	turn int // which source comes first; they take turns, because the first ones may use up the bytes of an answer
}

// Source is a partition that is being read.
type Source struct {
	Partition
	Next     int64  // the offset to fetch from; negative for the first one
	name     string // for Outages; made once, because each fetch needs it
	failures int    // in a row
	away     bool   // in a round, which alone may use it until it comes back
}

// NewSource makes a source that begins at an offset.
func NewSource(p Partition, next int64) *Source {
	return &Source{Partition: p, Next: next, name: p.String()}
}

// round is one fetch from a broker, or a pause after one.
type round struct {
	leader  int32
	sources []*Source
	wait    time.Duration
}

// Run reads until ctx ends.
func (r *Reader) Run(ctx context.Context) {
	var rounds sync.WaitGroup
	defer rounds.Wait()
	back, busy := make(chan round), map[int32]bool{}
	for ctx.Err() == nil {
		for _, due := range r.due(ctx, busy) {
			busy[due.leader] = true
			for _, s := range due.sources {
				s.away = true
			}
			rounds.Go(func() { r.do(ctx, due, back) })
		}
		select {
		case <-ctx.Done():
		case <-r.Room:
		case done := <-back:
			delete(busy, done.leader)
			for _, s := range done.sources {
				s.away = false
			}
		}
	}
}

// due returns the rounds that can begin now.
func (r *Reader) due(ctx context.Context, busy map[int32]bool) (rounds []round) {
	var ready []*Source
	for i := range r.Sources {
		s := r.Sources[(r.turn+i)%len(r.Sources)]
		switch {
		case s.away || r.Full != nil && r.Full(s):
		case s.failures > 0 || s.Next < 0:
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
		rounds = append(rounds, round{by, sources, wait})
	}
	return rounds
}

// do fetches and hands the sources back, those that failed after a pause. It hands back none once ctx has ended.
func (r *Reader) do(ctx context.Context, it round, back chan<- round) {
	send := func(done round) {
		select {
		case <-ctx.Done():
		case back <- done:
		}
	}
	results := r.fetch(ctx, it)
	if ctx.Err() != nil {
		return
	}
	well, failed := round{leader: it.leader}, round{leader: lone}
	failures := 0
	for i, s := range it.sources {
		r.Accept(s, results[i])
		if err := results[i].Err; err != nil {
			failures = max(failures, s.failures)
			r.fail(s, results[i])
			failed.sources = append(failed.sources, s)
			continue
		}
		r.Outages.Note(s.name, nil)
		s.Next, s.failures = results[i].Next, 0
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
		positions[i] = Position{s.Partition, s.Next}
		if s.Next < 0 {
			offsets, err := r.Pool.Offsets(ctx, kafkago.ReadUncommitted, s.Topic, s.ID)
			if err != nil {
				return []Fetched{{From: s.Next, Next: s.Next, End: -1, Err: err}}
			}
			positions[i].Offset = offsets[s.ID].FirstOffset
		}
	}
	return r.Pool.Fetch(ctx, it.wait, positions...)
}

// fail handles an error that a source got instead of messages, or after them.
func (r *Reader) fail(s *Source, got Fetched) {
	r.Outages.Note(s.name, got.Err)
	s.failures++
	s.Next = got.Next
	switch {
	case errors.Is(got.Err, kafkago.OffsetOutOfRange):
		r.Outages.log.Warn("kafka offset is out of range, reading from the first one",
			"topic", s.Topic, "partition", s.ID, "offset", s.Next)
		s.Next = kafkago.FirstOffset
	case IsStale(got.Err) || !IsAnswer(got.Err):
		r.Pool.Forget()
	}
}
