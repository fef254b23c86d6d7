package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
	"github.com/segmentio/kafka-go/protocol/produce"
)

// IsStale tells whether an error may come from metadata that is not yet true or no longer so: a topic was created a
// moment ago, or a partition's leader moved. kafka-go itself returns such errors before it sends a request, when it
// knows no leader of a partition, or different leaders of the partitions in it.
func IsStale(err error) bool {
	return errors.As(err, new(*produce.Error)) || errors.As(err, new(*fetch.Error)) ||
		IsAny(err, kafkago.UnknownTopicOrPartition, kafkago.LeaderNotAvailable, kafkago.NotLeaderForPartition,
			kafkago.UnknownTopicID, protocol.ErrNoTopic, protocol.ErrNoPartition, protocol.ErrNoLeader)
}

// IsAnswer tells whether an error is a broker's answer rather than the lack of one.
func IsAnswer(err error) bool {
	return errors.As(err, new(kafkago.Error))
}

// IsRefusal tells whether the brokers refuse this configuration for good.
func IsRefusal(err error) bool {
	return IsAny(err, kafkago.InvalidGroupId, kafkago.InvalidSessionTimeout, kafkago.UnsupportedVersion,
		kafkago.FencedInstanceID, kafkago.UnsupportedSASLMechanism, kafkago.SASLAuthenticationFailed)
}

// Answer returns the error that a broker's answer stands for, nil for the code 0.
func Answer(code int16, message string) error {
	switch {
	case code == 0:
		return nil
	case message == "":
		return kafkago.Error(code)
	default:
		return fmt.Errorf("%w: %s", kafkago.Error(code), message)
	}
}

// IsAny tells whether an error is, or wraps, one of the targets.
func IsAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
}

// Outages logs what keeps a consumer from reading: once per change, not per attempt or partition.
type Outages struct {
	log *slog.Logger

	mu      sync.Mutex
	current map[string]string // by source: the kind of its outage
}

// NewOutages makes the log of a consumer to which nothing has happened yet.
func NewOutages(log *slog.Logger) *Outages {
	return &Outages{log: log, current: map[string]string{}}
}

// Note notes the state of a source (the group, a topic, a partition): its error, or nil when it is well.
func (o *Outages) Note(source string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		if _, was := o.current[source]; was {
			delete(o.current, source)
			if len(o.current) == 0 {
				o.log.Info("kafka consumer recovered")
			}
		}
		return
	}
	if errors.Is(err, kafkago.RebalanceInProgress) {
		return // the ordinary course of a group
	}
	kind, known := kindOf(err), false
	for _, other := range o.current {
		known = known || other == kind
	}
	o.current[source] = kind
	if !known {
		o.log.Warn("kafka consumer waits", "for", source, "error", err)
	}
}

// kindOf is the kind of an outage: the code of a broker's answer, or that no broker answers, whatever the error.
func kindOf(err error) string {
	if code, ok := errors.AsType[kafkago.Error](err); ok {
		return code.Title()
	}
	return "no answer"
}
