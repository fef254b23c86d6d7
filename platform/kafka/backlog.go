package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

const (
	// A backlog that cannot be read or joined for this long is given up, so that a command ends.
	backlogPatience   = 30 * time.Second
	maxBacklogBackoff = time.Second
)

var errNothingComes = errors.New("a topic does not give the messages that it should have")

// Backlog is what topics have at a moment, and how far a group has come in it. It serves commands, which end when they are
// through, as a Consumer serves processes, which do not.
type Backlog struct {
	cluster *cluster
	group   string
	topics  []string
	spans   map[topicPartition]span
}

// span is the part of a partition that a backlog covers.
type span struct {
	first   int64 // the oldest message that is kept
	handled int64 // the first message that the group has not handled
	end     int64 // the offset after the last message at the backlog's moment
}

// OpenBacklog looks where topics end and where the group stands. What is produced afterwards is no part of the backlog. A
// topic that does not exist has nothing. Close it.
func OpenBacklog(ctx context.Context, cfg Config, group string, topics ...string) (*Backlog, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka: backlog: %w", err)
	}
	cluster, err := cfg.connect()
	if err != nil {
		return nil, fmt.Errorf("kafka: backlog: %w", err)
	}
	b := &Backlog{cluster: cluster, group: group}
	if err := b.patiently(ctx, func() error { return b.open(ctx, topics) }); err != nil {
		cluster.close()
		return nil, fmt.Errorf("kafka: backlog: %w", err)
	}
	return b, nil
}

func (b *Backlog) open(ctx context.Context, topics []string) error {
	b.topics, b.spans = nil, map[topicPartition]span{}
	partitions := map[string][]int{}
	for _, topic := range topics {
		ends, err := b.cluster.ends(ctx, topic, kafkago.ReadCommitted)
		if isAny(err, kafkago.UnknownTopicOrPartition) {
			continue
		}
		if err != nil {
			return fmt.Errorf("topic %q: %w", topic, err)
		}
		b.topics = append(b.topics, topic)
		for id, end := range ends {
			p := topicPartition{topic, id}
			first, err := b.cluster.firstOffset(ctx, p)
			if err != nil {
				return fmt.Errorf("topic %q: %w", topic, err)
			}
			b.spans[p] = span{first: first, handled: first, end: end}
			partitions[topic] = append(partitions[topic], id)
		}
	}
	committed, err := newMember(b.cluster, b.group, b.topics).committed(ctx, partitions)
	if err != nil && !isAny(err, kafkago.GroupIdNotFound) { // it has handled nothing yet
		return fmt.Errorf("group %q: %w", b.group, err)
	}
	b.stand(committed)
	return nil
}

// stand takes over where the group stands. An offset that the partition does not have, any more or yet, is that of a topic
// which was deleted and made again.
func (b *Backlog) stand(committed map[topicPartition]int64) {
	for p, offset := range committed {
		if s := b.spans[p]; offset >= s.first && offset <= s.end {
			s.handled = offset
			b.spans[p] = s
		}
	}
}

// Close drops the connections.
func (b *Backlog) Close() { b.cluster.close() }

// Len returns how many messages the group has not handled. Offsets that no message has are counted too.
func (b *Backlog) Len() (n int64) {
	for _, s := range b.spans {
		n += s.end - s.handled
	}
	return n
}

// Look hands over the whole backlog, partition by partition in order, with what the group has handled already.
func (b *Backlog) Look(ctx context.Context, see func(m Message, handled bool)) error {
	for _, p := range b.partitions() {
		s := b.spans[p]
		if err := b.read(ctx, p, s.first, s.end, func(messages []Message, _ int64) error {
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

// Handle hands over what the group has not handled, in batches of at most 1,000 messages of one partition each, and commits
// each batch once handle has returned nil. Its error ends the backlog there; the batch comes again with the next one. So does
// what was handled and could not be committed. It joins the group meanwhile: of several at the same time the last one goes
// on, and the others end with an error.
func (b *Backlog) Handle(ctx context.Context, handle Handler) error {
	if b.Len() == 0 {
		return nil
	}
	member := newMember(b.cluster, b.group, b.topics)
	var assigned assignment
	if err := b.patiently(ctx, func() (err error) {
		assigned, err = member.join(ctx)
		return err
	}); err != nil {
		return fmt.Errorf("kafka: join group %q: %w", b.group, err)
	}
	// What is not left by itself is given up after the session timeout.
	defer func() { _ = member.leave() }()
	b.stand(assigned.offsets)

	// The end of ctx ends it between two batches.
	working, end := context.WithCancelCause(context.WithoutCancel(ctx))
	beating := make(chan struct{})
	go func() {
		defer close(beating)
		b.keepAlive(working, member, end)
	}()
	defer func() { <-beating }()
	defer end(nil)
	for _, p := range b.partitions() {
		if _, mine := assigned.offsets[p]; !mine {
			continue // another member handles it
		}
		s := b.spans[p]
		err := b.read(working, p, s.handled, s.end, func(messages []Message, next int64) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if len(messages) > 0 {
				if err := handle(working, messages); err != nil {
					return err
				}
			}
			if err := member.commit(working, map[topicPartition]int64{p: next}); err != nil {
				return fmt.Errorf("commit: %w", err)
			}
			return nil
		})
		if cause := context.Cause(working); cause != nil {
			err = cause
		}
		if err != nil {
			return fmt.Errorf("kafka: handle %s: %w", p, err)
		}
	}
	return nil
}

// partitions are those of the backlog, sorted.
func (b *Backlog) partitions() (list []topicPartition) {
	for _, topic := range b.topics {
		for id := 0; ; id++ {
			p := topicPartition{topic, id}
			if _, ok := b.spans[p]; !ok {
				break
			}
			list = append(list, p)
		}
	}
	return list
}

// read hands over the messages of a partition from an offset on up to an end, and with them the offset after them; none
// where offsets have no message.
func (b *Backlog) read(ctx context.Context, p topicPartition, from, end int64, each func(messages []Message, next int64) error) error {
	for from < end {
		var got fetched
		if err := b.patiently(ctx, func() (err error) {
			got = b.cluster.fetch(ctx, fetchWait, position{p, from})[0]
			if err = got.err; isAny(err, kafkago.OffsetOutOfRange) { // its retention is over
				got.next, err = b.cluster.firstOffset(ctx, p)
			}
			if err == nil && got.next <= from {
				err = errNothingComes
			}
			return err
		}); err != nil {
			return err
		}
		messages := got.messages
		for len(messages) > 0 && messages[len(messages)-1].Offset >= end {
			messages = messages[:len(messages)-1]
		}
		for from = min(got.next, end); ; {
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

// patiently tries until it succeeds, the patience is over, or the error is one that stays.
func (b *Backlog) patiently(ctx context.Context, try func() error) error {
	for start, failures := time.Now(), 0; ; failures++ {
		err := try()
		if err == nil {
			return nil
		}
		if isStale(err) || !isAnswer(err) {
			b.cluster.forget()
		}
		if time.Since(start) > backlogPatience || isAny(err, kafkago.InvalidGroupId, kafkago.UnsupportedVersion,
			kafkago.UnsupportedSASLMechanism, kafkago.SASLAuthenticationFailed, kafkago.GroupAuthorizationFailed, kafkago.TopicAuthorizationFailed) ||
			!backoff(ctx, failures, maxBacklogBackoff) {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// keepAlive sends heartbeats until ctx ends. It ends the work when the coordinator says so or must have given the member up.
func (b *Backlog) keepAlive(ctx context.Context, member *member, end context.CancelCauseFunc) {
	ticker := time.NewTicker(heartbeatInterval)
	defer ticker.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		switch err := member.heartbeat(ctx); {
		case ctx.Err() != nil:
			return
		case err == nil:
			last = time.Now()
		case generationOver(err):
			end(fmt.Errorf("another one has begun meanwhile: %w", err))
		case time.Since(last) > sessionTimeout:
			end(errSession)
		}
	}
}
