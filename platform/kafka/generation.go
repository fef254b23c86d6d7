package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/altyn-pay/altyn/platform/pace"
)

const (
	// A batch is what has arrived, up to these bounds; a single message may exceed the bytes.
	maxBatchMessages = 1000
	maxBatchBytes    = 4 << 20

	// Fetched messages move in chunks of at most this much, so that partitions take turns, and the queue holds so many
	// chunks: what is fetched ahead is bounded by 4,000 messages and 4 MiB, and one fetch per partition.
	maxChunkMessages = 250
	maxChunkBytes    = 256 << 10
	queueChunks      = 16

	// commitInterval bounds how often offsets are committed, and with it how much is handled again after a crash.
	commitInterval = 200 * time.Millisecond
)

var (
	errSession    = fmt.Errorf("no heartbeat was answered for %s", sessionTimeout)
	errPartitions = errors.New("the topics have other partitions now")
)

// generation is the time during which this member has the same partitions. Fetchers, one per partition, feed a queue;
// one collector takes all that has arrived in it and has it handled; one committer follows the collector.
type generation struct {
	*Consumer
	member     *member
	counts     map[string]int // of the topics' partitions
	troubles   *troubles
	handle     Handler
	queue      chan chunk
	partitions map[topicPartition]*partition

	mu      sync.Mutex
	handled map[topicPartition]int64 // the offsets that are to be committed
	dirty   chan struct{}            // signals that there are some
}

// partition is where this member stands in a partition.
type partition struct {
	topicPartition
	fetched int64        // the next offset to fetch; the fetcher's own
	handled atomic.Int64 // the next offset to handle; negative until it is known
	end     atomic.Int64 // the offset after the last message
	lag     prometheus.Gauge
}

func (p *partition) observe() {
	if handled := p.handled.Load(); handled >= 0 {
		p.lag.Set(float64(max(0, p.end.Load()-handled)))
	}
}

type chunk struct {
	messages []Message
	bytes    int
}

func newGeneration(c *Consumer, m *member, a assignment, troubles *troubles, handle Handler) *generation {
	g := &generation{
		Consumer: c, member: m, counts: a.partitions, troubles: troubles, handle: handle,
		queue: make(chan chunk, queueChunks), partitions: map[topicPartition]*partition{},
		handled: map[topicPartition]int64{}, dirty: make(chan struct{}, 1),
	}
	for id, offset := range a.offsets {
		p := &partition{topicPartition: id, fetched: offset, lag: c.lag.WithLabelValues(c.group, id.topic, strconv.Itoa(id.id))}
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
	for _, p := range g.partitions {
		workers.Go(func() { g.fetch(ctx, p) })
	}
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

// fetch feeds the queue with the messages of a partition until ctx ends.
func (g *generation) fetch(ctx context.Context, p *partition) {
	source := p.String()
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
		backoff(ctx, failures, maxTroubleBackoff)
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
	got, err := g.member.cluster.fetch(ctx, p.topicPartition, p.fetched)
	if err == nil {
		p.end.Store(got.end)
		p.observe()
	}
	if !g.enqueue(ctx, got.messages) {
		return ctx.Err()
	}
	p.fetched = got.next
	return err
}

// enqueue passes messages on in chunks; it waits while the queue is full, and returns false when ctx ended first.
func (g *generation) enqueue(ctx context.Context, messages []Message) bool {
	for len(messages) > 0 {
		var next chunk
		n := 0
		for n < min(len(messages), maxChunkMessages) && next.bytes < maxChunkBytes {
			next.bytes += messages[n].size()
			n++
		}
		next.messages, messages = messages[:n:n], messages[n:]
		select {
		case <-ctx.Done():
			return false
		case g.queue <- next:
		}
	}
	return true
}

// collect handles batches until ctx ends.
func (g *generation) collect(ctx context.Context) {
	handling, done := outlive(ctx, handleGrace)
	defer done()
	for {
		batch := g.next(ctx)
		if len(batch) == 0 || !g.handleBatch(ctx, handling, batch) {
			return
		}
		g.markHandled(batch)
		pace.Wait(ctx, pace.Rest(len(batch)))
	}
}

// next waits for messages and takes all that have arrived, up to the bounds of a batch; none when ctx has ended.
func (g *generation) next(ctx context.Context) []Message {
	if ctx.Err() != nil {
		return nil
	}
	var batch chunk
	select {
	case <-ctx.Done():
		return nil
	case batch = <-g.queue:
	}
	for len(batch.messages) <= maxBatchMessages-maxChunkMessages && batch.bytes <= maxBatchBytes-maxChunkBytes {
		select {
		case more := <-g.queue:
			batch.messages, batch.bytes = append(batch.messages, more.messages...), batch.bytes+more.bytes
		default:
			return batch.messages
		}
	}
	return batch.messages
}

// handleBatch repeats until the batch is handled; false when ctx ended before.
func (g *generation) handleBatch(ctx, handling context.Context, batch []Message) bool {
	for failures := 0; ; failures++ {
		err := g.handle(handling, batch)
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

// markHandled lets the offsets of a batch be committed.
func (g *generation) markHandled(batch []Message) {
	offsets, counts := map[topicPartition]int64{}, map[string]int{}
	for _, m := range batch {
		offsets[topicPartition{m.Topic, m.Partition}] = m.Offset + 1
		counts[m.Topic]++
	}
	for id, offset := range offsets {
		g.partitions[id].handled.Store(offset)
		g.partitions[id].observe()
	}
	for topic, count := range counts {
		g.consumed.WithLabelValues(g.group, topic).Add(float64(count))
	}
	g.mu.Lock()
	maps.Copy(g.handled, offsets)
	g.mu.Unlock()
	g.markDirty()
}

func (g *generation) markDirty() {
	select {
	case g.dirty <- struct{}{}:
	default:
	}
}

// commitAsHandled commits beside the handling, until ctx ends: a broker takes up to 5 ms for it, which must neither
// delay the messages that have arrived meanwhile nor halve the throughput. Nor need it follow every single message: a
// commit covers what was handled until then, and the next one comes commitInterval later at the earliest.
func (g *generation) commitAsHandled(ctx context.Context, end context.CancelCauseFunc) {
	pace := time.NewTicker(commitInterval)
	defer pace.Stop()
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
			<-pace.C
			continue
		}
		g.member.cluster.forget()
		backoff(ctx, failures, maxTroubleBackoff)
		failures++
		g.markDirty()
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
