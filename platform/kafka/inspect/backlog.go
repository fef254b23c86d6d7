package inspect

import (
	"context"
	"errors"
	"fmt"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
	"github.com/altyn-pay/altyn/platform/kafka/internal/group"
)

const (
	// patience is how long a backlog is tried to be read or joined. Then it fails, so that a command ends.
	patience   = 30 * time.Second
	maxBackoff = time.Second

	maxBatchMessages = 1000
)

var errNothingComes = errors.New("a topic does not give the messages that it should have")

// Backlog is what topics have at one moment, and how far a group has come in it.
type Backlog struct {
	pool   *broker.Pool
	group  string
	topics []string
	spans  map[broker.Partition]span
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
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka: backlog: %w", err)
	}
	pool, err := broker.Connect(cfg)
	if err != nil {
		return nil, fmt.Errorf("kafka: backlog: %w", err)
	}
	b := &Backlog{pool: pool, group: name}
	if err := b.patiently(ctx, func() error { return b.open(ctx, topics) }); err != nil {
		pool.Close()
		return nil, fmt.Errorf("kafka: backlog: %w", err)
	}
	return b, nil
}

func (b *Backlog) open(ctx context.Context, topics []string) error {
	b.topics, b.spans = nil, map[broker.Partition]span{}
	partitions := map[string][]int{}
	for _, topic := range topics {
		ends, err := b.pool.Ends(ctx, topic, kafkago.ReadCommitted)
		if broker.IsAny(err, kafkago.UnknownTopicOrPartition) {
			continue
		}
		if err != nil {
			return fmt.Errorf("topic %q: %w", topic, err)
		}
		b.topics = append(b.topics, topic)
		for id, end := range ends {
			p := broker.Partition{Topic: topic, ID: id}
			first, err := b.pool.FirstOffset(ctx, p)
			if err != nil {
				return fmt.Errorf("topic %q: %w", topic, err)
			}
			b.spans[p] = span{first: first, handled: first, end: end}
			partitions[topic] = append(partitions[topic], id)
		}
	}
	committed, err := group.NewMember(b.pool, b.group, b.topics).Committed(ctx, partitions)
	if err != nil && !broker.IsAny(err, kafkago.GroupIdNotFound) { // it has handled nothing yet
		return fmt.Errorf("group %q: %w", b.group, err)
	}
	b.stand(committed)
	return nil
}

// stand notes where the group stands. It ignores an offset outside of the partition: the topic was deleted and made
// again.
func (b *Backlog) stand(committed map[broker.Partition]int64) {
	for p, offset := range committed {
		if s := b.spans[p]; offset >= s.first && offset <= s.end {
			s.handled = offset
			b.spans[p] = s
		}
	}
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
// and commits each batch once handle has returned nil. An error of handle ends it; the next Backlog begins with that
// batch. So it does with a batch that was handled and could not be committed.
//
// Handle is a member of the group while it runs. Of several at the same time the last one goes on, and the others end
// with an error.
func (b *Backlog) Handle(ctx context.Context, handle kafka.Handler) error {
	if b.Len() == 0 {
		return nil
	}
	member := group.NewMember(b.pool, b.group, b.topics)
	var assigned group.Assignment
	if err := b.patiently(ctx, func() (err error) {
		assigned, err = member.Join(ctx)
		return err
	}); err != nil {
		return fmt.Errorf("kafka: join group %q: %w", b.group, err)
	}
	// If this fails, the group gives the member up after the session timeout.
	defer func() { _ = member.Leave() }()
	b.stand(assigned.Offsets)

	// The end of ctx takes effect between two batches.
	working, end := context.WithCancelCause(context.WithoutCancel(ctx))
	beating := make(chan struct{})
	go func() {
		defer close(beating)
		member.KeepAlive(working, end, nil)
	}()
	defer func() { <-beating }()
	defer end(nil)
	for _, p := range b.partitions() {
		if _, mine := assigned.Offsets[p]; !mine {
			continue // another member handles it
		}
		s := b.spans[p]
		err := b.read(working, p, s.handled, s.end, func(messages []kafka.Message, next int64) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if len(messages) > 0 {
				if err := handle(working, messages); err != nil {
					return err
				}
			}
			if err := member.Commit(working, map[broker.Partition]int64{p: next}); err != nil {
				return fmt.Errorf("commit: %w", err)
			}
			return nil
		})
		if cause := context.Cause(working); group.GenerationOver(cause) {
			err = fmt.Errorf("another one has begun meanwhile: %w", cause)
		} else if cause != nil {
			err = cause
		}
		if err != nil {
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
		if err := b.patiently(ctx, func() (err error) {
			got = b.pool.Fetch(ctx, broker.FetchWait, broker.Position{Partition: p, Offset: from})[0]
			if err = got.Err; broker.IsAny(err, kafkago.OffsetOutOfRange) { // its retention is over
				got.Next, err = b.pool.FirstOffset(ctx, p)
			}
			if err == nil && got.Next <= from {
				err = errNothingComes
			}
			return err
		}); err != nil {
			return err
		}
		messages := got.Messages
		for len(messages) > 0 && messages[len(messages)-1].Offset >= end {
			messages = messages[:len(messages)-1]
		}
		for from = min(got.Next, end); ; {
			n := min(len(messages), maxBatchMessages)
			next := from
			if n < len(messages) {
				next = messages[n].Offset
			}
			if err := each(messages[:n], next); err != nil {
				return err
			}
			if messages = messages[n:]; len(messages) == 0 {
				break
			}
		}
	}
	return nil
}

// patiently repeats try until it succeeds, the patience is over, or the error is one that stays.
func (b *Backlog) patiently(ctx context.Context, try func() error) error {
	for start, failures := time.Now(), 0; ; failures++ {
		err := try()
		if err == nil {
			return nil
		}
		if broker.IsStale(err) || !broker.IsAnswer(err) {
			b.pool.Forget()
		}
		if time.Since(start) > patience || broker.IsAny(err, kafkago.InvalidGroupId, kafkago.UnsupportedVersion,
			kafkago.UnsupportedSASLMechanism, kafkago.SASLAuthenticationFailed,
			kafkago.GroupAuthorizationFailed, kafkago.TopicAuthorizationFailed) ||
			!broker.Backoff(ctx, failures, maxBackoff) {
			return errors.Join(ctx.Err(), err)
		}
	}
}
