package kafka

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/altyn-pay/altyn/platform/contract"
)

const (
	// deadLetterPatience is how long dead letters are tried before they are parked.
	deadLetterPatience   = 10 * time.Second
	maxDeadLetterBackoff = 500 * time.Millisecond
)

// deadLetterPrefix begins the headers that DeadLetter adds.
const deadLetterPrefix = "dlq_"

// truncatedHeader says of a dead letter that it is not the whole message.
const truncatedHeader = deadLetterPrefix + "truncated"

// Original is the message that a dead letter keeps, to be produced again: on the topic that it came from, with its key,
// value and headers. It is false where there is no whole one: what was cut for its size, and what is no dead letter.
func Original(dead Message) (m Message, ok bool) {
	topic, ok := strings.CutSuffix(dead.Topic, contract.DeadLetter(""))
	if !ok || dead.Header(truncatedHeader) != "" {
		return Message{}, false
	}
	m = Message{Topic: topic, Key: dead.Key, Value: dead.Value}
	for _, h := range dead.Headers {
		if !strings.HasPrefix(h.Key, deadLetterPrefix) {
			m.Headers = append(m.Headers, h)
		}
	}
	return m, true
}

// PanicError is the reason why a message cannot be read whose reader panicked.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("reading it panicked: %v", e.Value) }

// Read calls a function that reads a message, and returns why the message cannot be read: what the consumer knows of it, the
// function's error, or its panic, which concerns this message alone.
func Read(m Message, read func() error) (reason error) {
	if m.Unreadable != nil {
		return m.Unreadable
	}
	defer func() {
		if p := recover(); p != nil {
			reason = &PanicError{Value: p, Stack: debug.Stack()}
		}
	}()
	return read()
}

// DeadLetters keeps messages that cannot be read, each with its reason, on the dead-letter topics of theirs, and returns nil
// once all are safe. What the broker refuses for good, or still refuses after 10 s, goes to park instead, so that it stops
// nobody; a broker that does not answer is waited for. Only the letters that were not kept are tried again: a caller that had
// the whole batch delivered again would do the rest of it twice. An error means that ctx has ended.
func (p *Producer) DeadLetters(ctx context.Context, messages []Message, reasons []error,
	park func(ctx context.Context, messages []Message, reasons []error) error) error {
	type letter struct {
		message Message
		reason  error
	}
	letters := make([]letter, len(messages))
	for i, m := range messages {
		letters[i] = letter{m, reasons[i]}
	}
	var parked []letter
	for start, failures := time.Now(), 0; ; failures++ {
		batch := make([]Message, len(letters))
		for i, l := range letters {
			batch[i] = DeadLetter(l.message, l.reason.Error())
		}
		var rest []letter
		var failed error
		for i, err := range p.Produce(ctx, batch) {
			switch l := letters[i]; {
			case err == nil:
				p.logDead("message cannot be read; kept as a dead letter", l.message, l.reason)
			case Permanent(err), time.Since(start) > deadLetterPatience && (isAnswer(err) || isStale(err)):
				parked = append(parked, letter{l.message, fmt.Errorf("%w; no dead letter: %w", l.reason, err)})
			default:
				rest, failed = append(rest, l), err
			}
		}
		letters = rest
		if len(parked) > 0 {
			messages, reasons := make([]Message, len(parked)), make([]error, len(parked))
			for i, l := range parked {
				messages[i], reasons[i] = l.message, l.reason
			}
			err := park(ctx, messages, reasons)
			if err == nil {
				for _, l := range parked {
					p.logDead("message cannot be read; parked", l.message, l.reason)
				}
				parked = nil
			}
			failed = errors.Join(failed, err)
		}
		if len(letters) == 0 && len(parked) == 0 {
			return nil
		}
		if failures == 0 {
			p.log.Warn("dead letters not kept, trying again", "messages", len(letters)+len(parked), "error", failed)
		}
		if !backoff(ctx, failures, maxDeadLetterBackoff) {
			return fmt.Errorf("kafka: keep %d dead letters: %w", len(letters)+len(parked), errors.Join(failed, ctx.Err()))
		}
	}
}

func (p *Producer) logDead(what string, m Message, reason error) {
	attributes := []any{"topic", m.Topic, "partition", m.Partition, "offset", m.Offset, "ce_id", m.ShortHeader("ce_id"),
		"subject", m.ShortHeader("ce_subject"), "reason", reason}
	if panicked := (*PanicError)(nil); errors.As(reason, &panicked) {
		attributes = append(attributes, "stack", string(panicked.Stack))
	}
	p.log.Error(what, attributes...)
}
