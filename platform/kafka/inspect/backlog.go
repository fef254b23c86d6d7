package inspect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
	"github.com/altyn-pay/altyn/platform/kafka/internal/group"
)

const (
	// patience is how long reading a backlog is tried. Then it fails, so that a command ends.
	patience = 30 * time.Second

	maxBatchMessages = 1000
)

var errNothingComes = errors.New("a topic does not give the messages that it should have")

// Backlog is what topics have at one moment, and how far a group has come in it.
type Backlog struct {
	pool   *broker.Pool
	member *group.Member // which never joins
	topics []string
	spans  map[broker.Partition]span
	gone   int64
}

// span is the part of a partition that a backlog covers.
type span struct {
	first   int64 // the oldest message that is kept
	handled int64 // the first message that the group has not handled
	end     int64 // the offset after the last message at the backlog's moment
}

// OpenBacklog finds where topics end and where the group stands. What is produced afterwards is no part of the backlog;
// a topic that does not exist is empty. The caller closes it.
func OpenBacklog(ctx context.Context, cfg kafka.Config, name string, topics ...string) (*Backlog, error) {
	pool, err := broker.Connect(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, fmt.Errorf("kafka: backlog: %w", err)
	}
	b := &Backlog{pool: pool, member: group.NewMember(pool, name, nil)}
	if err := b.try(ctx, func() error { return b.open(ctx, topics) }); err != nil {
		pool.Close()
		return nil, fmt.Errorf("kafka: backlog: %w", err)
	}
	return b, nil
}

func (b *Backlog) open(ctx context.Context, topics []string) error {
	b.topics, b.spans, b.gone = nil, map[broker.Partition]span{}, 0
	partitions := map[string][]int{}
	for _, topic := range topics {
		offsets, err := b.pool.Offsets(ctx, kafkago.ReadCommitted, topic)
		if broker.IsAny(err, kafkago.UnknownTopicOrPartition) {
			continue
		}
		if err != nil {
			return fmt.Errorf("topic %q: %w", topic, err)
		}
		b.topics = append(b.topics, topic)
		for id, of := range offsets {
			b.spans[broker.Partition{Topic: topic, ID: id}] = span{of.FirstOffset, of.FirstOffset, of.LastOffset}
			partitions[topic] = append(partitions[topic], id)
		}
	}
	committed, err := b.member.Committed(ctx, partitions)
	if err != nil && !broker.IsAny(err, kafkago.GroupIdNotFound) { // it has handled nothing yet
		return err
	}
	for p, s := range b.spans {
		b.gone += max(0, s.first-max(0, committed[p])) // it is negative, or not there, where the group has not begun
	}
	for p, offset := range committed {
		// An offset outside of the partition is of a topic that was deleted and made again.
		if s := b.spans[p]; offset >= s.first && offset <= s.end {
			b.spans[p] = span{s.first, offset, s.end}
		}
	}
	return nil
}

// Close drops the connections.
func (b *Backlog) Close() { b.pool.Close() }

// Len returns how many offsets the group has not handled. A few of them may have no message.
func (b *Backlog) Len() (n int64) {
	for _, s := range b.spans {
		n += s.end - s.handled
	}
	return n
}

// Gone returns how many offsets the broker has no more that the group has not handled.
func (b *Backlog) Gone() int64 { return b.gone }

// Rewind has the group go back to a time: it has handled nothing that the broker has got since then. Where it is
// further back it stays. Rewind returns how many offsets more it has to handle. It fails while the group has members,
// since each of them knows where it stands.
func (b *Backlog) Rewind(ctx context.Context, to time.Time) (n int64, err error) {
	before := b.Len()
	if err := b.move(ctx, to, func(at, handled int64) int64 { return min(at, handled) }); err != nil {
		return 0, err
	}
	return b.Len() - before, nil
}

// Seek is Rewind that goes forward, too: what is older counts as handled.
func (b *Backlog) Seek(ctx context.Context, to time.Time) error {
	return b.move(ctx, to, func(at, _ int64) int64 { return at })
}

// move has the group go on, in each partition, where choose says: it gets the offset of a time and that where the group
// is.
func (b *Backlog) move(ctx context.Context, to time.Time, choose func(at, handled int64) int64) error {
	moved := map[broker.Partition]int64{}
	for p, s := range b.spans {
		var at int64
		if err := b.try(ctx, func() (err error) {
			at, err = b.pool.OffsetAt(ctx, p, to)
			return err
		}); err != nil {
			return fmt.Errorf("kafka: find the offset of %s at %s: %w", p, to, err)
		}
		if next := choose(min(max(at, s.first), s.end), s.handled); next != s.handled {
			moved[p], b.spans[p] = next, span{s.first, next, s.end}
		}
	}
	if len(moved) == 0 {
		return nil
	}
	if err := b.member.Commit(ctx, moved); err != nil {
		return fmt.Errorf("kafka: commit from where the group goes on (it must have no members): %w", err)
	}
	return nil
}

// Look calls see with every message of the backlog, partition by partition in order, and whether the group has handled
// it.
func (b *Backlog) Look(ctx context.Context, see func(m kafka.Message, handled bool)) error {
	for _, p := range b.partitions() {
		s := b.spans[p]
		if err := b.read(ctx, p, s.first, s.end, func(messages []kafka.Message, _ int64) error {
			for _, m := range messages {
				see(m, m.Offset < s.handled)
			}
			return nil
		}); err != nil {
			return fmt.Errorf("kafka: read %s: %w", p, err)
		}
	}
	return nil
}

// Handle calls handle with what the group has not handled, in batches of at most 1,000 messages of one partition each,
// and commits each batch once handle has returned nil. An error of handle ends it; the next Backlog then begins with
// that batch, as it does with a batch that was handled but could not be committed. The end of ctx takes effect between
// two batches. Handle does not join the group: two Handles at the same time both handle the same messages.
func (b *Backlog) Handle(ctx context.Context, handle kafka.Handler) error {
	working := context.WithoutCancel(ctx)
	for _, p := range b.partitions() {
		s := b.spans[p]
		if err := b.read(ctx, p, s.handled, s.end, func(messages []kafka.Message, next int64) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if len(messages) > 0 {
				if err := handle(working, messages); err != nil {
					return err
				}
			}
			if err := b.member.Commit(working, map[broker.Partition]int64{p: next}); err != nil {
				return fmt.Errorf("commit: %w", err)
			}
			return nil
		}); err != nil {
			return fmt.Errorf("kafka: handle %s: %w", p, err)
		}
	}
	return nil
}

// partitions are those of the backlog, sorted.
func (b *Backlog) partitions() (list []broker.Partition) {
	for _, topic := range b.topics {
		for id := 0; ; id++ {
			p := broker.Partition{Topic: topic, ID: id}
			if _, ok := b.spans[p]; !ok {
				break
			}
			list = append(list, p)
		}
	}
	return list
}

// read calls each with the messages of a partition between two offsets, and the offset after them. There may be no
// messages, as some offsets have none.
func (b *Backlog) read(ctx context.Context, p broker.Partition, from, end int64,
	each func(messages []kafka.Message, next int64) error) error {
	for from < end {
		var got broker.Fetched
		if err := b.try(ctx, func() (err error) {
			got = b.pool.Fetch(ctx, broker.FetchWait, broker.Position{Partition: p, Offset: from})[0]
			if err = got.Err; broker.IsAny(err, kafkago.OffsetOutOfRange) { // its retention is over
				var offsets map[int]kafkago.PartitionOffsets
				offsets, err = b.pool.Offsets(ctx, kafkago.ReadCommitted, p.Topic, p.ID)
				got.Next = offsets[p.ID].FirstOffset
			}
			if err == nil && got.Next <= from {
				err = errNothingComes
			}
			return err
		}); err != nil {
			return err
		}
		messages := slices.DeleteFunc(got.Messages, func(m kafka.Message) bool { return m.Offset >= end })
		for ; len(messages) > maxBatchMessages; messages = messages[maxBatchMessages:] {
			if err := each(messages[:maxBatchMessages], messages[maxBatchMessages].Offset); err != nil {
				return err
			}
		}
		from = min(got.Next, end)
		if err := each(messages, from); err != nil {
			return err
		}
	}
	return nil
}

func (b *Backlog) try(ctx context.Context, request func() error) error {
	return b.pool.Try(ctx, patience, broker.IsRefusal, request)
}
