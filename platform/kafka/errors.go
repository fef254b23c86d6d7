package kafka

import (
	"errors"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
	"github.com/altyn-pay/altyn/platform/outbox"
)

// ErrSkipped is the result of a message that was not sent because an earlier one of its key or partition failed.
var ErrSkipped = errors.New("kafka: not sent, because an earlier message failed")

// unavailable is why one of so many partitions takes no messages, or a whole topic, which counts as one of one.
func unavailable(partitions, partition int, err error) error {
	return &outbox.Unavailable{Partitions: partitions, Partition: partition, Err: err,
		Lost: broker.IsAny(err, kafkago.UnknownTopicOrPartition, kafkago.UnknownTopicID,
			kafkago.TopicAuthorizationFailed, protocol.ErrNoTopic)}
}

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
