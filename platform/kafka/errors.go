package kafka

import (
	"errors"
	"fmt"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
	"github.com/segmentio/kafka-go/protocol/produce"
)

// ErrSkipped is the result of a message that was not sent because an earlier one of its key or partition failed.
var ErrSkipped = errors.New("kafka: not sent, because an earlier message failed")

// partError is why a part of a topic takes no message: one of so many partitions, the only one of 1 where it is the whole topic.
type partError struct {
	partitions, partition int
	err                   error
}

func (e *partError) Error() string { return e.err.Error() }
func (e *partError) Unwrap() error { return e.err }

// permanentError is a refusal that will come again however often the message is sent.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// Permanent tells whether an error of Produce will come again however often the message is sent: it is too large, its
// record is invalid, or its topic has a name that cannot exist. Everything else heals, be it by an operator who grants
// a right or creates a topic.
func Permanent(err error) bool {
	var permanent permanentError
	return errors.As(err, &permanent)
}

// isLost tells whether a topic cannot be reached at all: it does not exist, or we may not write to it.
func isLost(err error) bool {
	return isAny(err, kafkago.UnknownTopicOrPartition, kafkago.UnknownTopicID, kafkago.TopicAuthorizationFailed, protocol.ErrNoTopic)
}

func tooLarge(size int) error {
	return permanentError{fmt.Errorf("kafka: a message of %d bytes is larger than the %d allowed", size, MaxMessageBytes)}
}

// refusesMessage tells whether the broker refused a request for what one of its messages is.
func refusesMessage(err error) bool {
	return isAny(err, kafkago.MessageSizeTooLarge, kafkago.RecordListTooLarge, kafkago.InvalidTimestamp, kafkago.InvalidRecord)
}

// isStale tells whether an error may be due to metadata that is not yet, or no longer, true: a topic that was created
// a moment ago or a partition whose leader moved. The library says so too, before it sends a request, when it knows no
// leader or another one for a part of the partitions.
func isStale(err error) bool {
	var produced *produce.Error
	var fetched *fetch.Error
	return errors.As(err, &produced) || errors.As(err, &fetched) ||
		isAny(err, kafkago.UnknownTopicOrPartition, kafkago.LeaderNotAvailable, kafkago.NotLeaderForPartition,
			kafkago.UnknownTopicID, protocol.ErrNoTopic, protocol.ErrNoPartition, protocol.ErrNoLeader)
}

// isAnswer tells whether an error is what a broker answered, rather than the lack of an answer.
func isAnswer(err error) bool {
	var code kafkago.Error
	return errors.As(err, &code)
}

// answer is the error of a broker's answer; nil for the code 0.
func answer(code int16, message string) error {
	switch {
	case code == 0:
		return nil
	case message == "":
		return kafkago.Error(code)
	default:
		return fmt.Errorf("%w: %s", kafkago.Error(code), message)
	}
}

func isAny(err error, targets ...error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
