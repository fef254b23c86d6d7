package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/stage"
)

const (
	// A batch is what has arrived, up to these bounds; a single message may exceed the bytes.
	maxBatchMessages = 1000
	maxBatchBytes    = 4 << 20

	// Batches are made of chunks of at most this much, so that partitions take turns.
	maxChunkMessages = 250
	maxChunkBytes    = 256 << 10

	// A partition of which this much waits to be handled is not fetched. What is fetched ahead of a partition is bounded by
	// this and one fetch.
	maxWaitingMessages = 500
	maxWaitingBytes    = 512 << 10

	// commitInterval bounds how often offsets are committed, and with it how much is handled again after a crash.
	commitInterval = 200 * time.Millisecond
)

var (
	errSession    = fmt.Errorf("no heartbeat was answered for %s", sessionTimeout)
	errPartitions = errors.New("the topics have other partitions now")
)

// generation is the time during which this member has the same partitions. A reader fetches their messages; one collector
// takes all that has arrived and has it handled; one committer follows the collector.
type generation struct {
	*Consumer
	member     *member
	counts     map[string]int // of the topics' partitions
	troubles   *troubles
	handle     Handler
	partitions map[topicPartition]*partition
	arrived    chan struct{} // signals that messages wait
	room       chan struct{} // signals that some were taken

	mu      sync.Mutex
	turns   []*partition             // those of which messages wait, in the order in which they are taken
	handled map[topicPartition]int64 // the offsets that are to be committed
	dirty   chan struct{}            // signals that there are some
}

// partition is where this member stands in a partition.
type partition struct {
	*source
	waiting      []Message    // fetched, and not taken yet; the generation's mu guards it
	waitingBytes int          // its size; guarded too
	fetched      int64        // the offset after the last fetch; guarded too
	taken        bool         // whether messages are being handled; guarded too
	handled      atomic.Int64 // the next offset to handle; negative until it is known
	end          atomic.Int64 // the offset after the last message
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

func newGeneration(c *Consumer, m *member, a assignment, troubles *troubles, handle Handler) *generation {
	g := &generation{
		Consumer: c, member: m, counts: a.partitions, troubles: troubles, handle: handle,
		partitions: map[topicPartition]*partition{}, arrived: make(chan struct{}, 1), room: make(chan struct{}, 1),
		handled: map[topicPartition]int64{}, dirty: make(chan struct{}, 1),
	}
	for id, offset := range a.offsets {
		p := &partition{source: newSource(id, offset), lag: c.lag.WithLabelValues(c.group, id.topic, strconv.Itoa(id.id))}
		p.handled.Store(offset)
		g.partitions[id] = p
	}
	return g
}

// run returns when ctx or the generation ends, and the batch under way is done with and committed; so two handlers
// never run at once in this process. It returns why the generation ended.
func (g *generation) run(parent context.Context) error {
	g.log.Info("kafka partitions assigned", "generation", g.member.generation, "partitions", g.assigned())
	ctx, end := context.WithCancelCause(parent)
	defer end(nil)
	alive, rest := context.WithCancel(context.WithoutCancel(parent))
	defer rest()

	var workers, heart sync.WaitGroup
	heart.Go(func() { g.keepAlive(alive, end) })
	workers.Go(func() { g.commitAsHandled(ctx, end) })
	workers.Go(func() { g.read(ctx) })
	g.collect(ctx)
	end(nil)
	workers.Wait()

	// The group waits for this member until it joins again or leaves, so what was handled can still be committed.
	finish, cancel := context.WithTimeout(alive, leaveTimeout)
	defer cancel()
	if err := g.commit(finish); err != nil {
		g.log.Warn("kafka offsets not committed, messages will be handled again", "error", err)
	}
	rest()
	heart.Wait()
	for _, p := range g.partitions {
		g.lag.DeleteLabelValues(g.group, p.topic, strconv.Itoa(p.id))
	}
	if parent.Err() != nil {
		return nil
	}
	err := context.Cause(ctx)
	g.member.evicted(err)
	g.log.Info("kafka partitions given up", "generation", g.member.generation, "reason", err)
	return err
}

func (g *generation) assigned() map[string][]int {
	partitions := map[string][]int{}
	for id := range g.partitions {
		partitions[id.topic] = append(partitions[id.topic], id.id)
	}
	for _, ids := range partitions {
		slices.Sort(ids)
	}
	return partitions
}

// keepAlive sends heartbeats until ctx ends, even while the last batch is being finished. It ends the generation when
// the coordinator says so, when the coordinator must have given the member up, or when a topic's partitions changed.
func (g *generation) keepAlive(ctx context.Context, end context.CancelCauseFunc) {
	ticker := time.NewTicker(heartbeatInterval)
	defer ticker.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := g.member.heartbeat(ctx)
		if ctx.Err() != nil {
			return
		}
		switch {
		case generationOver(err):
			end(err)
			continue
		case err == nil:
			last = time.Now()
		default:
			g.member.cluster.forget()
			if time.Since(last) > sessionTimeout {
				end(errSession)
			}
		}
		g.troubles.note("group", err)
		if counts, err := g.member.cluster.partitions(ctx, g.topics...); err == nil && !maps.Equal(counts, g.counts) {
			end(errPartitions)
		}
	}
}

// read fetches the partitions' messages until ctx ends.
func (g *generation) read(ctx context.Context) {
	r := reader{
		cluster: g.member.cluster, troubles: g.troubles, topics: g.topics, accept: g.accept, full: g.full, room: g.room,
	}
	for _, p := range g.partitions {
		r.sources = append(r.sources, p.source)
		defer g.troubles.note(p.name, nil)
	}
	r.run(ctx)
}

// accept lets messages of a partition wait.
func (g *generation) accept(s *source, got fetched) {
	p := g.partitions[s.topicPartition]
	if s.next < 0 {
		p.handled.Store(got.from)
	}
	if got.end >= 0 {
		p.end.Store(got.end)
		p.observe()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if got.next > got.from {
		p.fetched = got.next
		// What has no message, such as the end mark of a transaction, is done with, unless something is before it.
		if len(got.messages) == 0 && len(p.waiting) == 0 && !p.taken {
			g.advance(p, got.next)
		}
	}
	if len(got.messages) == 0 {
		return
	}
	if len(p.waiting) == 0 {
		g.turns, p.waiting = append(g.turns, p), got.messages
	} else {
		p.waiting = append(p.waiting, got.messages...)
	}
	for i := range got.messages {
		p.waitingBytes += got.messages[i].size()
	}
	signal(g.arrived)
}

func (g *generation) full(s *source) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.partitions[s.topicPartition].full()
}

// collect handles batches until ctx ends.
func (g *generation) collect(ctx context.Context) {
	handling, done := outlive(ctx, handleGrace)
	defer done()
	for ctx.Err() == nil {
		batch := g.take()
		if len(batch) == 0 {
			select {
			case <-ctx.Done():
			case <-g.arrived:
			}
			continue
		}
		begin := time.Now()
		if !g.handleBatch(ctx, handling, batch) {
			return
		}
		g.markHandled(batch)
		stage.Gather(ctx, len(batch), begin)
	}
}

// take returns all messages that wait, up to the bounds of a batch, a chunk of each partition at a time.
func (g *generation) take() (batch []Message) {
	g.mu.Lock()
	defer g.mu.Unlock()
	waiting, freed := 0, false
	for _, p := range g.turns {
		waiting += len(p.waiting)
	}
	batch = make([]Message, 0, min(waiting, maxBatchMessages))
	for bytes := 0; len(g.turns) > 0 && len(batch) <= maxBatchMessages-maxChunkMessages && bytes <= maxBatchBytes-maxChunkBytes; {
		p := g.turns[0]
		g.turns = g.turns[1:]
		freed = freed || p.full()
		n, size := 0, 0
		for n < min(len(p.waiting), maxChunkMessages) && size < maxChunkBytes {
			size += p.waiting[n].size()
			n++
		}
		batch, p.waiting, p.taken = append(batch, p.waiting[:n]...), p.waiting[n:], true
		bytes, p.waitingBytes = bytes+size, p.waitingBytes-size
		if len(p.waiting) > 0 {
			g.turns = append(g.turns, p)
		} else {
			p.waiting = nil
		}
	}
	if freed {
		signal(g.room)
	}
	return batch
}

// handleBatch repeats until the batch is handled; false when ctx ended before.
func (g *generation) handleBatch(ctx, handling context.Context, batch []Message) bool {
	for failures := 0; ; failures++ {
		err := g.call(handling, batch)
		if err == nil {
			if failures > 0 {
				g.log.Info("kafka messages handled after all", "messages", len(batch), "failures", failures)
			}
			return true
		}
		if failures == 0 {
			g.log.Warn("kafka messages not handled, trying again", "messages", len(batch), "error", err)
		}
		if !backoff(ctx, failures, maxHandleBackoff) {
			return false
		}
	}
}

// call turns a panic of the handler into an error: it must not take the rest of the process with it.
func (g *generation) call(ctx context.Context, batch []Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			g.log.Error("a handler of kafka messages panicked", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	return g.handle(ctx, batch)
}

// markHandled lets the offsets of a batch be committed. What follows it up to the next message is done with too.
func (g *generation) markHandled(batch []Message) {
	counts := map[string]int{}
	g.mu.Lock()
	for first := 0; first < len(batch); { // a run of one partition at a time
		id, next := topicPartition{batch[first].Topic, batch[first].Partition}, first+1
		for next < len(batch) && batch[next].Partition == id.id && batch[next].Topic == id.topic {
			next++
		}
		p := g.partitions[id]
		if p.taken = false; len(p.waiting) > 0 {
			g.advance(p, p.waiting[0].Offset)
		} else {
			g.advance(p, p.fetched)
		}
		counts[id.topic] += next - first
		first = next
	}
	g.mu.Unlock()
	for topic, count := range counts {
		g.consumed.WithLabelValues(g.group, topic).Add(float64(count))
	}
}

// advance lets an offset of a partition be committed. The caller has locked mu.
func (g *generation) advance(p *partition, offset int64) {
	p.handled.Store(offset)
	p.observe()
	g.handled[p.topicPartition] = offset
	signal(g.dirty)
}

// signal sends a signal to whoever waits for it, now or later.
func signal(to chan<- struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// commitAsHandled commits beside the handling, until ctx ends: a broker takes up to 5 ms for it, which must neither
// delay the messages that have arrived meanwhile nor halve the throughput. Nor need it follow every single message: a
// commit covers what was handled until then, and the next one comes commitInterval later at the earliest.
func (g *generation) commitAsHandled(ctx context.Context, end context.CancelCauseFunc) {
	due := time.NewTicker(commitInterval)
	defer due.Stop()
	defer g.troubles.note("commit", nil)
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-g.dirty:
		}
		err := g.commit(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case generationOver(err):
			end(err)
			return
		}
		g.troubles.note("commit", err)
		if err == nil {
			failures = 0
			<-due.C
			continue
		}
		g.member.cluster.forget()
		backoff(ctx, failures, maxTroubleBackoff)
		failures++
		signal(g.dirty)
	}
}

// commit stores the offsets of what was handled, if there are any that are not stored.
func (g *generation) commit(ctx context.Context) error {
	g.mu.Lock()
	offsets := maps.Clone(g.handled)
	g.mu.Unlock()
	if len(offsets) == 0 {
		return nil
	}
	if err := g.member.commit(ctx, offsets); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	maps.DeleteFunc(g.handled, func(id topicPartition, offset int64) bool { return offsets[id] == offset })
	return nil
}

// outlive returns a context that ends a while after its parent has.
func outlive(parent context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	context.AfterFunc(parent, func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, cancel
}
