package broker

import (
	"fmt"
	"slices"
	"strings"
	"time"

	kafkago "github.com/segmentio/kafka-go"
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

	// Appended is set on a consumed message whose Time is when the broker got it; its writer did not choose that time.
	Appended bool
	// Authorization is the values of the headers authorization, in any case, of a consumed message. They are not among
	// its Headers: a token is for whoever judges the message, and must not go with it into a table, a dead letter or
	// a log.
	Authorization []string

	// Unreadable is set on a consumed message that stands for offsets which could not be read. Such a message has only its
	// place.
	Unreadable *UnreadableError
}

// UnreadableError is why a record batch, or a part of it, cannot be read however often it is fetched.
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

// authorization is the header that has a token.
const authorization = "authorization"

// keepApart moves the headers authorization to where nothing forwards them.
func (m *Message) keepApart() {
	isToken := func(h Header) bool { return strings.EqualFold(h.Key, authorization) }
	if !slices.ContainsFunc(m.Headers, isToken) {
		return
	}
	for _, h := range m.Headers {
		if isToken(h) {
			m.Authorization = append(m.Authorization, string(h.Value))
		}
	}
	m.Headers = slices.DeleteFunc(m.Headers, isToken)
}

// Place names where a consumed message is: topic/partition/offset.
func (m Message) Place() string { return fmt.Sprintf("%s/%d/%d", m.Topic, m.Partition, m.Offset) }

// Header returns the last value of that name, as Kafka's own clients do, or "" where there is none.
func (m Message) Header(name string) string {
	for _, h := range slices.Backward(m.Headers) {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// ShortHeader is a header for the log: its first 64 bytes, because anybody may have written it.
func (m Message) ShortHeader(name string) string {
	value := m.Header(name)
	return value[:min(len(value), 64)]
}

// Size is an upper bound of the bytes that the message takes in a record batch.
func (m Message) Size() int {
	// A record has at most 21 bytes of attributes, length, time and offset, and 5 bytes for each further length.
	n := 36 + len(m.Key) + len(m.Value)
	for _, h := range m.Headers {
		n += 10 + len(h.Key) + len(h.Value)
	}
	return n
}

// memory is about how much memory a consumed message takes.
func (m Message) memory() int {
	n := m.Size() + 160 + 40*len(m.Headers)
	for _, value := range m.Authorization {
		n += 16 + len(value)
	}
	return n
}
