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

// Run reads until ctx ends. It calls accept with what was fetched, and fetches more of it when accept has returned: so
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

// do fetches and hands the sources back, those that failed after a pause. It hands back none once ctx has ended.
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
		}
	}
	return r.Pool.Fetch(ctx, it.wait, positions...)
}

// fail handles an error that a source got instead of messages, or after them.
func (r *Reader) fail(s *Source, err error) {
	s.failures++
	switch {
	case errors.Is(err, kafkago.OffsetOutOfRange):
		r.Outages.log.Warn("kafka offset is out of range, reading from the first one",
			"topic", s.Topic, "partition", s.ID, "offset", s.next)
		s.next = kafkago.FirstOffset
	case IsStale(err) || !IsAnswer(err):
		r.Pool.Forget()
	}
}
