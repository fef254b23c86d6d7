package kafka

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// MaxMessageBytes bounds a message: its key, value and headers with some bytes of overhead each. It is what a broker
// accepts by default.
const MaxMessageBytes = 1 << 20

// Message is one record of a topic.
type Message struct {
	Topic     string
	Partition int   // set when consumed; a Producer derives it from the key
	Offset    int64 // set when consumed
	Key       []byte
	Value     []byte
	Headers   []Header
	Time      time.Time // of its production; zero means now

	// Unreadable is set when consumed: it says why, and which offsets of the partition, could not be read. The message has
	// nothing else but its place.
	Unreadable *UnreadableError
}

// UnreadableError is the reason why a part of a record batch, or all of it, cannot be read however often it is fetched.
type UnreadableError struct {
	First, Last int64 // offsets
	Cause       error
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("the record batch with the offsets %d to %d cannot be read: %v", e.First, e.Last, e.Cause)
}

func (e *UnreadableError) Unwrap() error { return e.Cause }

// Header is a named value beside the payload. Names may repeat.
type Header = kafkago.Header

// Header returns the last value of that name, as Kafka's own clients do, or "" where there is none.
func (m Message) Header(name string) string {
	for _, h := range slices.Backward(m.Headers) {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// ShortHeader is a header for the log: its first 64 bytes, as anybody may have written it.
func (m Message) ShortHeader(name string) string {
	value := m.Header(name)
	return value[:min(len(value), maxShort)]
}

const maxShort = 64

// size is an upper bound of what the message takes in a record batch.
func (m Message) size() int {
	// A record has at most 21 bytes of attributes, length, time and offset, and 5 bytes for each further length.
	n := 36 + len(m.Key) + len(m.Value)
	for _, h := range m.Headers {
		n += 10 + len(h.Key) + len(h.Value)
	}
	return n
}

// memory is about what a consumed message takes.
func (m Message) memory() int { return m.size() + 160 + 40*len(m.Headers) }

// Event is the context of a message in the binary mode of CloudEvents 1.0 over Kafka: everything but the payload.
type Event struct {
	ID          string
	Type        string
	Source      string
	Subject     string    // optional
	Time        time.Time // optional
	Traceparent string    // optional; the W3C trace context
}

// eventHeaders are the names of the headers of events.
var eventHeaders = [...]string{"ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "ce_subject", "content-type", "traceparent"}

// Headers returns the event as headers of a message whose value is JSON.
func (e Event) Headers() []Header {
	headers := make([]Header, 0, 8)
	values := make([]byte, 0, 64+len(e.ID)+len(e.Type)+len(e.Source)+len(e.Subject)+len(e.Traceparent)) // one for all
	add := func(key, value string) {
		if value != "" {
			start := len(values)
			values = append(values, value...)
			headers = append(headers, Header{Key: key, Value: values[start:len(values):len(values)]})
		}
	}
	add("ce_specversion", "1.0")
	add("ce_id", e.ID)
	add("ce_type", e.Type)
	add("ce_source", e.Source)
	if !e.Time.IsZero() {
		add("ce_time", contract.Time(e.Time).String())
	}
	add("ce_subject", e.Subject)
	add("content-type", "application/json")
	add("traceparent", e.Traceparent)
	return headers
}

// EventOf reads what a message's headers say; what is missing or malformed is left zero.
func EventOf(m Message) (event Event) {
	for _, h := range m.Headers { // of several with a name the last one counts, as in Header
		switch h.Key {
		case "ce_id":
			event.ID = string(h.Value)
		case "ce_type":
			event.Type = string(h.Value)
		case "ce_source":
			event.Source = string(h.Value)
		case "ce_subject":
			event.Subject = string(h.Value)
		case "ce_time":
			at, _ := time.Parse(time.RFC3339Nano, string(h.Value))
			event.Time = at.UTC()
		case "traceparent": // anyone may have written it, and it is kept and passed on
			event.Traceparent, _ = telemetry.ParseTraceparent(string(h.Value))
		}
	}
	return event
}

// maxReasonBytes bounds the reason in a dead letter's headers.
const maxReasonBytes = 1000

// DeadLetter is the message that keeps m for an operator: the same key, value and headers on <topic>.dlq, with the
// headers dlq_reason, dlq_topic, dlq_partition and dlq_offset from which it can be put back. The broker must never
// refuse it for its size, or its reader would be stuck, so what exceeds MaxMessageBytes is cut off the value, and then
// headers and key are left out; dlq_truncated then says so, and the original stays at its offset for its retention. So it
// is with what is Unreadable, of which dlq_last_offset tells the end.
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
	if dead.size() <= MaxMessageBytes {
		return dead
	}
	origin = append(origin, Header{Key: truncatedHeader, Value: []byte("true")})
	dead.Headers = append(append([]Header(nil), m.Headers...), origin...)
	dead.Value = nil
	if dead.size() > MaxMessageBytes {
		dead.Headers, dead.Key = origin, nil
	}
	dead.Value = m.Value[:min(len(m.Value), MaxMessageBytes-dead.size())]
	return dead
}

// readable makes a reason of whatever an error says: one line of valid text, of bounded length and never empty.
func readable(reason string) string {
	reason = strings.ToValidUTF8(reason, "?")
	reason = strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, reason))
	for len(reason) > maxReasonBytes { // at the end of a letter
		_, size := utf8.DecodeLastRuneInString(reason)
		reason = reason[:len(reason)-size]
	}
	if reason == "" {
		return "unknown"
	}
	return reason
}
