// Package group makes the process a member of a consumer group, which shares the partitions of topics among its
// members.
//
// A Group lives through generations, in each of which the member has the same partitions. For each topic a
// broker.Reader fetches their messages; whatever has arrived is handled as one batch; the offsets are committed after
// it.
package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
	"github.com/altyn-pay/altyn/platform/stage"
)

// Handler takes a batch of messages of one topic: at least one, at most 1,000, each partition's in order. When it
// returns an error it gets the same batch again, and the topic waits; the others go on. It is called for several topics
// at the same time, and for one batch of each. Its context outlives the shutdown and the loss of the partitions by
// 10 s, so that a database transaction under way ends by itself.
type Handler func(ctx context.Context, messages []broker.Message) error

// Group is a consumer group, and what this process consumes as a member of it.
type Group struct {
	Pool     *broker.Pool
	Name     string
	Topics   []string
	Instance string // see Member
	Log      *slog.Logger
	Consumed *prometheus.CounterVec // by group and topic
	Lag      *prometheus.GaugeVec   // by group, topic and partition
}

// Run hands batches to handle until ctx ends, then finishes and commits the batches under way, leaves the group and
// returns nil. Offsets are committed after their batch was handled, never before, so every message is handled at
// least once, and the messages of a partition in order. Run waits for topics that do not exist yet, and lives through
// the loss of brokers, coordinators and offsets. An error means that the brokers refuse this configuration for good.
func (g *Group) Run(ctx context.Context, handle Handler) error {
	defer g.Pool.Close()
	member, outages := NewMember(g.Pool, g.Name, g.Topics), broker.NewOutages(g.Log)
	member.instance = g.Instance
	for failures := 0; ctx.Err() == nil; {
		assigned, err := member.join(ctx)
		if ctx.Err() != nil {
			break
		}
		if !broker.IsRefusal(err) {
			outages.Note("group", err)
		}
		if err == nil {
			g.Log.Info("kafka partitions assigned", "generation", member.generation, "partitions", assigned.ids)
			err = newGeneration(g, member, assigned, outages, handle).run(ctx)
			if broker.IsAny(err, kafkago.RebalanceInProgress) {
				err = nil
			}
		} else if broker.IsStale(err) || !broker.IsAnswer(err) {
			g.Pool.Forget()
		}
		if err == nil {
			failures = 0
			continue
		}
		if broker.IsAny(err, kafkago.FencedInstanceID) {
			return fmt.Errorf("kafka: consumer group %q: another process has this KAFKA_INSTANCE_ID (%s): %w",
				g.Name, g.Instance, err)
		}
		if broker.IsRefusal(err) {
			return fmt.Errorf("kafka: consumer group %q: %w", g.Name, err)
		}
		broker.Backoff(ctx, failures)
		failures++
	}
	if err := member.leave(); err != nil {
		g.Log.Info("kafka consumer group not left; it will notice after the session timeout", "error", err)
	}
	return nil
}

const (
	// handleGrace bounds how long a handler may go on once its partitions are taken away or the process stops.
	handleGrace = 10 * time.Second
	// commitInterval bounds how often offsets are committed, and with it how much is handled again after a crash.
	commitInterval = 200 * time.Millisecond
	// lookInterval bounds how often is looked whether the topics have other partitions.
	lookInterval = time.Second
)

var errPartitions = errors.New("the topics have other partitions now")

// generation is the time during which this member has the same partitions. It fetches their messages and has them
// handled; a committer follows.
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
		looked := time.Now()
		g.member.keepAlive(alive, end, func(err error) {
			g.outages.Note("group", err)
			if time.Since(looked) < lookInterval {
				return
			}
			looked = time.Now()
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

// arrived notes how far the partitions go, and returns what there is to handle. Some of it may contain no messages,
// only the end mark of a transaction.
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
		err := stage.Guard(g.Log, func() error { return g.handle(handling, batch) })
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

// commitAsHandled commits offsets until ctx ends. It runs beside the handlers: a commit takes up to 5 ms, which would
// delay messages and halve the throughput. A commit covers all that was handled until then; the next one follows at
// least commitInterval later.
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

const (
	// A batch is what has arrived, up to these bounds; a single message may exceed the bytes.
	maxBatchMessages = 1000
	maxBatchBytes    = 4 << 20

	// Batches are made of chunks of at most this much, so that partitions take turns.
	maxChunkMessages = 250
	maxChunkBytes    = 256 << 10
)

// batch is messages that are handled together.
type batch struct {
	messages []broker.Message
	next     map[broker.Partition]int64 // the offsets to go on from after it
}

// cut makes a batch of what was fetched, and returns what is left.
func cut(fetched []broker.Fetched) (b batch, rest []broker.Fetched) {
	waiting := 0
	for _, f := range fetched {
		waiting += len(f.Messages)
	}
	b = batch{make([]broker.Message, 0, min(waiting, maxBatchMessages)), map[broker.Partition]int64{}}
	const lastMessages, lastBytes = maxBatchMessages - maxChunkMessages, maxBatchBytes - maxChunkBytes
	for size := 0; len(fetched) > 0 && len(b.messages) <= lastMessages && size <= lastBytes; {
		f := fetched[0]
		fetched = fetched[1:]
		n := 0
		for chunk := 0; n < min(len(f.Messages), maxChunkMessages) && chunk < maxChunkBytes; n++ {
			chunk += f.Messages[n].Size()
			size += f.Messages[n].Size()
		}
		b.messages, b.next[f.Partition] = append(b.messages, f.Messages[:n]...), f.Next
		if f.Messages = f.Messages[n:]; len(f.Messages) > 0 {
			b.next[f.Partition] = f.Messages[0].Offset
			fetched = append(fetched, f)
		}
	}
	return b, fetched
}
