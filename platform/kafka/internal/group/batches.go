package group

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
)

const (
	// A batch is what has arrived, up to these bounds; a single message may exceed the bytes.
	maxBatchMessages = 1000
	maxBatchBytes    = 4 << 20

	// Batches are made of chunks of at most this much, so that partitions take turns.
	maxChunkMessages = 250
	maxChunkBytes    = 256 << 10

	// Stop fetching a partition once this much of it waits. So what is read ahead is bounded by this and one fetch.
	maxWaitingMessages = 500
	maxWaitingBytes    = 512 << 10
)

// partition is an assigned partition and where this member stands in it.
type partition struct {
	*broker.Source
	waiting      []broker.Message // fetched and not taken yet; guarded by the generation's mu
	waitingBytes int              // their size; guarded by mu too
	fetched      int64            // the offset after the last fetch; guarded by mu too
	taken        bool             // whether messages are being handled; guarded by mu too
	handled      atomic.Int64     // the next offset to handle; negative until it is known
	end          atomic.Int64     // the offset after the last message
	lag          prometheus.Gauge
}

func (p *partition) observe() {
	if handled := p.handled.Load(); handled >= 0 {
		p.lag.Set(float64(max(0, p.end.Load()-handled)))
	}
}

// full tells whether enough messages wait.
func (p *partition) full() bool {
	return len(p.waiting) >= maxWaitingMessages || p.waitingBytes >= maxWaitingBytes
}

// accept queues what was fetched of a partition.
func (g *generation) accept(s *broker.Source, got broker.Fetched) {
	p := g.partitions[s.Partition]
	if s.Next < 0 {
		p.handled.Store(got.From)
	}
	if got.End >= 0 {
		p.end.Store(got.End)
		p.observe()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if got.Next > got.From {
		p.fetched = got.Next
		// Offsets without a message, such as a transaction's end mark, count as handled unless a message before them waits.
		if len(got.Messages) == 0 && len(p.waiting) == 0 && !p.taken {
			g.advance(p, got.Next)
		}
	}
	if len(got.Messages) == 0 {
		return
	}
	if len(p.waiting) == 0 {
		g.turns, p.waiting = append(g.turns, p), got.Messages
	} else {
		p.waiting = append(p.waiting, got.Messages...)
	}
	for i := range got.Messages {
		p.waitingBytes += got.Messages[i].Size()
	}
	g.arrived.Send()
}

func (g *generation) full(s *broker.Source) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.partitions[s.Partition].full()
}

// take returns the next batch: what waits, up to the bounds of a batch, a chunk of each partition at a time.
func (g *generation) take() (batch []broker.Message) {
	g.mu.Lock()
	defer g.mu.Unlock()
	waiting, freed := 0, false
	for _, p := range g.turns {
		waiting += len(p.waiting)
	}
	batch = make([]broker.Message, 0, min(waiting, maxBatchMessages))
	const lastMessages, lastBytes = maxBatchMessages - maxChunkMessages, maxBatchBytes - maxChunkBytes
	for bytes := 0; len(g.turns) > 0 && len(batch) <= lastMessages && bytes <= lastBytes; {
		p := g.turns[0]
		g.turns = g.turns[1:]
		freed = freed || p.full()
		n, size := 0, 0
		for n < min(len(p.waiting), maxChunkMessages) && size < maxChunkBytes {
			size += p.waiting[n].Size()
			n++
		}
		batch = append(batch, p.waiting[:n]...)
		p.waiting, p.taken = p.waiting[n:], true
		bytes += size
		p.waitingBytes -= size
		if len(p.waiting) > 0 {
			g.turns = append(g.turns, p)
		} else {
			p.waiting = nil
		}
	}
	if freed {
		g.room.Send()
	}
	return batch
}

// markHandled makes the offsets of a batch ready to be committed, and those up to the next message with them.
func (g *generation) markHandled(batch []broker.Message) {
	counts := map[string]int{}
	g.mu.Lock()
	for first := 0; first < len(batch); { // a run of one partition at a time
		id, next := broker.Partition{Topic: batch[first].Topic, ID: batch[first].Partition}, first+1
		for next < len(batch) && batch[next].Partition == id.ID && batch[next].Topic == id.Topic {
			next++
		}
		p := g.partitions[id]
		if p.taken = false; len(p.waiting) > 0 {
			g.advance(p, p.waiting[0].Offset)
		} else {
			g.advance(p, p.fetched)
		}
		counts[id.Topic] += next - first
		first = next
	}
	g.mu.Unlock()
	for topic, count := range counts {
		g.Consumed.WithLabelValues(g.Name, topic).Add(float64(count))
	}
}

// advance makes an offset of a partition ready to be committed. The caller holds mu.
func (g *generation) advance(p *partition, offset int64) {
	p.handled.Store(offset)
	p.observe()
	g.handled[p.Partition] = offset
	g.dirty.Send()
}
