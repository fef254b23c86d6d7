package group

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
	"github.com/altyn-pay/altyn/platform/stage"
)

const (
	// handleGrace bounds how long a handler may go on once its partitions are taken away or the process stops.
	handleGrace = 10 * time.Second
	// commitInterval bounds how often offsets are committed, and with it how much is handled again after a crash.
	commitInterval = 200 * time.Millisecond
)

var errPartitions = errors.New("the topics have other partitions now")

// generation is the time during which this member has the same partitions. It has what was fetched of them handled,
// while a committer follows.
type generation struct {
	*Group
	member     *Member
	counts     map[string]int // of the topics' partitions
	outages    *broker.Outages
	handle     Handler
	partitions map[broker.Partition]*partition

	mu      sync.Mutex
	handled map[broker.Partition]int64 // the offsets to commit
	dirty   stage.Signal               // there are some
}

// partition is where this member stands in an assigned partition.
type partition struct {
	handled int64 // the next offset to handle; negative until it is known
	end     int64 // the offset after the last message
	lag     prometheus.Gauge
}

func (p *partition) observe() {
	if p.handled >= 0 {
		p.lag.Set(float64(max(0, p.end-p.handled)))
	}
}

func newGeneration(group *Group, m *Member, a assignment, outages *broker.Outages, handle Handler) *generation {
	g := &generation{
		Group: group, member: m, counts: a.partitions, outages: outages, handle: handle,
		partitions: map[broker.Partition]*partition{},
		handled:    map[broker.Partition]int64{}, dirty: stage.NewSignal(),
	}
	for id, offset := range a.offsets {
		lag := group.Lag.WithLabelValues(group.Name, id.Topic, strconv.Itoa(id.ID))
		g.partitions[id] = &partition{handled: offset, lag: lag}
	}
	return g
}

// run returns once ctx or the generation has ended and the batches under way are handled and committed, so that two
// handlers of a topic never run at once in this process. It returns why the generation ended.
func (g *generation) run(parent context.Context) error {
	ctx, end := context.WithCancelCause(parent)
	defer end(nil)
	alive, rest := context.WithCancel(context.WithoutCancel(parent))
	defer rest()

	var committer, heart sync.WaitGroup
	heart.Go(func() {
		g.member.keepAlive(alive, end, func(err error) {
			g.outages.Note("group", err)
			if counts, err := g.member.pool.Partitions(alive, g.Topics...); err == nil && !maps.Equal(counts, g.counts) {
				end(errPartitions)
			}
		})
	})
	committer.Go(func() { g.commitAsHandled(ctx, end) })
	g.read(ctx)
	committer.Wait()

	// The group waits until this member joins again or leaves, so what was handled can still be committed.
	finish, cancel := context.WithTimeout(alive, leaveTimeout)
	defer cancel()
	if err := g.commit(finish); err != nil {
		g.Log.Warn("kafka offsets not committed, messages will be handled again", "error", err)
	}
	rest()
	heart.Wait()
	for id := range g.partitions {
		g.Lag.DeleteLabelValues(g.Name, id.Topic, strconv.Itoa(id.ID))
	}
	if parent.Err() != nil {
		return nil
	}
	err := context.Cause(ctx)
	g.member.evicted(err)
	g.Log.Info("kafka partitions given up", "generation", g.member.generation, "reason", err)
	return err
}

// read fetches and handles the partitions' messages until ctx ends, each topic's by themselves.
func (g *generation) read(ctx context.Context) {
	sources := map[string][]*broker.Source{}
	for id, p := range g.partitions {
		sources[id.Topic] = append(sources[id.Topic], broker.NewSource(id, p.handled))
		defer g.outages.Note(id.String(), nil)
	}
	var topics sync.WaitGroup
	for topic, of := range sources {
		topics.Go(func() { g.readTopic(ctx, topic, of) })
	}
	topics.Wait()
}

func (g *generation) readTopic(ctx context.Context, topic string, sources []*broker.Source) {
	handling, done := outlive(ctx, handleGrace)
	defer done()
	r := broker.Reader{Pool: g.member.pool, Outages: g.outages, Topics: []string{topic}, Sources: sources}
	r.Run(ctx, func(fetched []broker.Fetched) {
		for rest := g.arrived(fetched); len(rest) > 0 && ctx.Err() == nil; {
			var b batch
			b, rest = cut(rest)
			begin := time.Now()
			if len(b.messages) > 0 && !g.handleBatch(ctx, handling, b.messages) {
				return
			}
			g.markHandled(topic, b)
			if len(rest) == 0 {
				stage.Gather(ctx, len(b.messages), begin)
			}
		}
	})
}

// arrived notes how far the partitions go, and returns what there is to handle. Some of it may have no messages, such
// as the end mark of a transaction.
func (g *generation) arrived(fetched []broker.Fetched) []broker.Fetched {
	for _, f := range fetched {
		p := g.partitions[f.Partition]
		if p.handled < 0 {
			p.handled = f.From
		}
		if f.End >= 0 {
			p.end = f.End
		}
		p.observe()
	}
	return slices.DeleteFunc(fetched, func(f broker.Fetched) bool { return f.Next <= f.From })
}

// markHandled makes the offsets after a topic's batch ready to be committed.
func (g *generation) markHandled(topic string, b batch) {
	g.Consumed.WithLabelValues(g.Name, topic).Add(float64(len(b.messages)))
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, next := range b.next {
		g.handled[id] = next
		p := g.partitions[id]
		p.handled = next
		p.observe()
	}
	g.dirty.Send()
}

// handleBatch tries until the batch is handled. It returns false when ctx ended before.
func (g *generation) handleBatch(ctx, handling context.Context, batch []broker.Message) bool {
	for failures := 0; ; failures++ {
		err := g.call(handling, batch)
		if err == nil {
			if failures > 0 {
				g.Log.Info("kafka messages handled after all", "messages", len(batch), "failures", failures)
			}
			return true
		}
		if failures == 0 {
			g.Log.Warn("kafka messages not handled, trying again", "messages", len(batch), "error", err)
		}
		if !broker.Backoff(ctx, failures) {
			return false
		}
	}
}

// call runs the handler. A panic becomes an error, so that it does not end the process.
func (g *generation) call(ctx context.Context, batch []broker.Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			g.Log.Error("a handler of kafka messages panicked", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	return g.handle(ctx, batch)
}

// commitAsHandled commits offsets until ctx ends. It runs beside the handling, because a commit takes up to 5 ms, which
// would delay messages and halve the throughput. A commit covers all that was handled until then; the next one follows
// commitInterval later at the earliest.
func (g *generation) commitAsHandled(ctx context.Context, end context.CancelCauseFunc) {
	ticker := time.NewTicker(commitInterval)
	defer ticker.Stop()
	defer g.outages.Note("commit", nil)
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
		g.outages.Note("commit", err)
		if err == nil {
			failures = 0
			<-ticker.C
			continue
		}
		g.member.pool.Forget()
		broker.Backoff(ctx, failures)
		failures++
		g.dirty.Send()
	}
}

// commit stores the offsets of what was handled since the last commit.
func (g *generation) commit(ctx context.Context) error {
	g.mu.Lock()
	offsets := maps.Clone(g.handled)
	g.mu.Unlock()
	if len(offsets) == 0 {
		return nil
	}
	if err := g.member.Commit(ctx, offsets); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	maps.DeleteFunc(g.handled, func(id broker.Partition, offset int64) bool { return offsets[id] == offset })
	return nil
}

// outlive returns a context that ends a while after its parent has.
func outlive(parent context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	context.AfterFunc(parent, func() {
		timer := time.AfterFunc(grace, cancel)
		context.AfterFunc(ctx, func() { timer.Stop() })
	})
	return ctx, cancel
}
