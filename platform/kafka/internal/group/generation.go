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

// generation is the time during which this member has the same partitions. A reader fetches their messages, a collector
// has all that has arrived handled as one batch, and a committer follows the collector.
type generation struct {
	*Group
	member     *Member
	counts     map[string]int // of the topics' partitions
	outages    *broker.Outages
	handle     Handler
	partitions map[broker.Partition]*partition
	arrived    stage.Signal // messages wait
	room       stage.Signal // some were taken

	mu      sync.Mutex
	turns   []*partition               // those with waiting messages, in the order in which they are taken
	handled map[broker.Partition]int64 // the offsets to commit
	dirty   stage.Signal               // there are some
}

func newGeneration(group *Group, m *Member, a assignment, outages *broker.Outages, handle Handler) *generation {
	g := &generation{
		Group: group, member: m, counts: a.partitions, outages: outages, handle: handle,
		partitions: map[broker.Partition]*partition{}, arrived: stage.NewSignal(), room: stage.NewSignal(),
		handled: map[broker.Partition]int64{}, dirty: stage.NewSignal(),
	}
	for id, offset := range a.offsets {
		lag := group.Lag.WithLabelValues(group.Name, id.Topic, strconv.Itoa(id.ID))
		p := &partition{Source: broker.NewSource(id, offset), lag: lag}
		p.handled.Store(offset)
		g.partitions[id] = p
	}
	return g
}

// run returns once ctx or the generation has ended and the batch under way is handled and committed, so that two
// handlers never run at once in this process. It returns why the generation ended.
func (g *generation) run(parent context.Context) error {
	g.Log.Info("kafka partitions assigned", "generation", g.member.generation, "partitions", g.assigned())
	ctx, end := context.WithCancelCause(parent)
	defer end(nil)
	alive, rest := context.WithCancel(context.WithoutCancel(parent))
	defer rest()

	var workers, heart sync.WaitGroup
	heart.Go(func() {
		g.member.keepAlive(alive, end, func(err error) {
			g.outages.Note("group", err)
			if counts, err := g.member.pool.Partitions(alive, g.Topics...); err == nil && !maps.Equal(counts, g.counts) {
				end(errPartitions)
			}
		})
	})
	workers.Go(func() { g.commitAsHandled(ctx, end) })
	workers.Go(func() { g.read(ctx) })
	g.collect(ctx)
	end(nil)
	workers.Wait()

	// The group waits until this member joins again or leaves, so what was handled can still be committed.
	finish, cancel := context.WithTimeout(alive, leaveTimeout)
	defer cancel()
	if err := g.commit(finish); err != nil {
		g.Log.Warn("kafka offsets not committed, messages will be handled again", "error", err)
	}
	rest()
	heart.Wait()
	for _, p := range g.partitions {
		g.Lag.DeleteLabelValues(g.Name, p.Topic, strconv.Itoa(p.ID))
	}
	if parent.Err() != nil {
		return nil
	}
	err := context.Cause(ctx)
	g.member.evicted(err)
	g.Log.Info("kafka partitions given up", "generation", g.member.generation, "reason", err)
	return err
}

func (g *generation) assigned() map[string][]int {
	partitions := map[string][]int{}
	for id := range g.partitions {
		partitions[id.Topic] = append(partitions[id.Topic], id.ID)
	}
	for _, ids := range partitions {
		slices.Sort(ids)
	}
	return partitions
}

// read fetches the partitions' messages until ctx ends.
func (g *generation) read(ctx context.Context) {
	r := broker.Reader{
		Pool: g.member.pool, Outages: g.outages, Topics: g.Topics, Accept: g.accept, Full: g.full, Room: g.room,
	}
	for id, p := range g.partitions {
		r.Sources = append(r.Sources, p.Source)
		defer g.outages.Note(id.String(), nil)
	}
	r.Run(ctx)
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
