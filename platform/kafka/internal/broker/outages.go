package broker

import (
	"errors"
	"log/slog"
	"sync"

	kafkago "github.com/segmentio/kafka-go"
)

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
