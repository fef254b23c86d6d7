package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// deadLetterPatience is how long dead letters are tried before they are parked.
const deadLetterPatience = 10 * time.Second

// DeadLetterPrefix begins the headers that only dead letters have, and DeadLetterIdentity is the one that says whose
// message it was, as contract.IdentityHeader does.
const (
	DeadLetterPrefix   = "dlq_"
	DeadLetterIdentity = DeadLetterPrefix + contract.IdentityHeader
)

// truncatedHeader marks a dead letter that is not the whole message.
const truncatedHeader = DeadLetterPrefix + "truncated"

// maxReasonBytes bounds the reason in a dead letter's headers.
const maxReasonBytes = 1000

// DeadLetter returns the message that keeps m for an operator: the same key, value and headers on <topic>.dlq, and
// the headers dlq_reason, dlq_topic, dlq_partition and dlq_offset, from which it can be put back.
//
// The broker must never refuse a dead letter for its size, or the reader of m would be stuck. So what exceeds
// MaxMessageBytes is cut off the value; if that is not enough, headers and key are left out. dlq_truncated then says
// so, and the original stays at its offset for its retention. A message that is Unreadable has no value either;
// dlq_last_offset is where it ends.
func DeadLetter(m Message, reason string) Message {
	if m.Unreadable != nil {
		reason = m.Unreadable.Error()
	}
	origin := []Header{
		{Key: "dlq_reason", Value: []byte(readable(reason))},
		{Key: "dlq_topic", Value: []byte(m.Topic)},
		{Key: "dlq_partition", Value: strconv.AppendInt(nil, int64(m.Partition), 10)},
		{Key: "dlq_offset", Value: strconv.AppendInt(nil, m.Offset, 10)},
	}
	dead := Message{Topic: contract.DeadLetter(m.Topic), Key: m.Key, Value: m.Value}
	if m.Unreadable != nil {
		dead.Headers = slices.Concat(origin, []Header{
			{Key: "dlq_last_offset", Value: strconv.AppendInt(nil, m.Unreadable.Last, 10)},
			{Key: truncatedHeader, Value: []byte("true")},
		})
		return dead
	}
	dead.Headers = append(append(dead.Headers, m.Headers...), origin...)
	if dead.Size() <= MaxMessageBytes {
		return dead
	}
	origin = append(origin, Header{Key: truncatedHeader, Value: []byte("true")})
	dead.Headers = append(append([]Header(nil), m.Headers...), origin...)
	dead.Value = nil
	if dead.Size() > MaxMessageBytes {
		dead.Headers, dead.Key = origin, nil
	}
	dead.Value = m.Value[:min(len(m.Value), MaxMessageBytes-dead.Size())]
	return dead
}

// readable turns whatever an error says into one line of valid text, of bounded length and never empty.
func readable(reason string) string {
	reason = strings.ToValidUTF8(reason, "?")
	reason = strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, reason))
	for len(reason) > maxReasonBytes { // cut between letters
		_, size := utf8.DecodeLastRuneInString(reason)
		reason = reason[:len(reason)-size]
	}
	if reason == "" {
		return "unknown"
	}
	return reason
}

// Original returns the message that a dead letter keeps, ready to be produced on the topic that it came from. It
// returns false for a message that was cut for its size, and for one that is no dead letter.
func Original(dead Message) (m Message, ok bool) {
	topic, ok := strings.CutSuffix(dead.Topic, contract.DeadLetter(""))
	if !ok || dead.Header(truncatedHeader) != "" {
		return Message{}, false
	}
	m = Message{Topic: topic, Key: dead.Key, Value: dead.Value}
	for _, h := range dead.Headers {
		if !strings.HasPrefix(h.Key, DeadLetterPrefix) {
			m.Headers = append(m.Headers, h)
		}
	}
	return m, true
}

// PanicError is the reason of a dead letter whose reader panicked.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("reading it panicked: %v", e.Value) }

// Read calls a function that reads a message, and returns why the message cannot be read: the consumer found it to be
// Unreadable, or the function failed or panicked.
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

// DeadLetters publishes messages that cannot be read, each with its reason, on the dead-letter topics of their
// topics, and returns nil once all are safe. A letter that the broker refuses for good, or still refuses after 10 s,
// goes to park instead, so that it stops nobody. DeadLetters waits for a broker that does not answer, and tries again
// only the letters that were not kept: if the caller had the batch delivered again, it would handle the rest of it
// twice. An error means that ctx has ended.
func (p *Producer) DeadLetters(ctx context.Context, messages []Message, reasons []error,
	park func(ctx context.Context, messages []Message, reasons []error) error) error {
	var parked []Message
	var parkedFor []error
	for start, failures := time.Now(), 0; ; failures++ {
		letters := make([]Message, len(messages))
		for i, m := range messages {
			letters[i] = DeadLetter(m, reasons[i].Error())
		}
		results := p.Produce(ctx, letters)
		refused := time.Since(start) > deadLetterPatience && !slices.ContainsFunc(results, unanswered)
		var rest []Message
		var restFor []error
		var failed error
		for i, err := range results {
			switch m, reason := messages[i], reasons[i]; {
			case err == nil:
				p.logDead("message cannot be read; kept as a dead letter", m, reason)
			case Permanent(err), refused:
				parked = append(parked, m)
				parkedFor = append(parkedFor, fmt.Errorf("%w; no dead letter: %w", reason, err))
			default:
				rest, restFor, failed = append(rest, m), append(restFor, reason), cmp.Or(failed, err)
			}
		}
		messages, reasons = rest, restFor
		if len(parked) > 0 {
			err := park(ctx, parked, parkedFor)
			for i := 0; err == nil && i < len(parked); i++ {
				p.logDead("message cannot be read; parked", parked[i], parkedFor[i])
			}
			if err == nil {
				parked, parkedFor = nil, nil
			}
			failed = errors.Join(failed, err)
		}
		left := len(messages) + len(parked)
		if left == 0 {
			return nil
		}
		if failures == 0 {
			p.log.Warn("dead letters not kept, trying again", "messages", left, "error", failed)
		}
		if !broker.Backoff(ctx, failures) {
			return fmt.Errorf("kafka: keep %d dead letters: %w", left, errors.Join(failed, ctx.Err()))
		}
	}
}

// unanswered tells whether a result of Produce is that no broker answered, rather than what one said of this message or
// of an earlier one.
func unanswered(err error) bool {
	return err != nil && !errors.Is(err, ErrSkipped) && !broker.IsAnswer(err) && !broker.IsStale(err)
}

func (p *Producer) logDead(what string, m Message, reason error) {
	attributes := telemetry.WithTraceID([]any{"topic", m.Topic, "partition", m.Partition, "offset", m.Offset,
		"ce_id", m.ShortHeader("ce_id"), "subject", m.ShortHeader("ce_subject"), "reason", reason}, EventOf(m).Traceparent)
	if panicked := (*PanicError)(nil); errors.As(reason, &panicked) {
		attributes = append(attributes, "stack", string(panicked.Stack))
	}
	p.log.Error(what, attributes...)
}
