package kafka

import (
	"errors"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
)

// ErrSkipped is the result of a message that was not sent because an earlier one of its key or partition failed.
var ErrSkipped = errors.New("kafka: not sent, because an earlier message failed")

// partError is why a partition takes no messages, or a whole topic, which then counts as one partition of one.
type partError struct {
	partitions, partition int
	err                   error
}

func (e *partError) Error() string { return e.err.Error() }
func (e *partError) Unwrap() error { return e.err }

// permanentError is a refusal that sending again does not change.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// Permanent tells whether an error of Produce will come again however often the message is sent: the message is too
// large, its record is invalid, or its topic has a name that cannot exist. Everything else heals, if need be when an
// operator grants a right or creates a topic.
func Permanent(err error) bool {
	var permanent permanentError
	return errors.As(err, &permanent)
}

// isLost tells whether a topic cannot be reached at all: it does not exist, or we may not write to it.
func isLost(err error) bool {
	return broker.IsAny(err, kafkago.UnknownTopicOrPartition, kafkago.UnknownTopicID,
		kafkago.TopicAuthorizationFailed, protocol.ErrNoTopic)
}
