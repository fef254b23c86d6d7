package kafka

import (
	"errors"
	"log/slog"
	"sync"

	kafkago "github.com/segmentio/kafka-go"
)

// troubles logs what keeps a consumer from reading once per change, not per attempt or partition.
type troubles struct {
	log *slog.Logger

	mu      sync.Mutex
	current map[string]string // by source: the kind of its trouble
}

func newTroubles(log *slog.Logger) *troubles {
	return &troubles{log: log, current: map[string]string{}}
}

// note says how a source (the group, a topic, a partition) fares: err, or nil when it is well.
func (t *troubles) note(source string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		if _, was := t.current[source]; was {
			delete(t.current, source)
			if len(t.current) == 0 {
				t.log.Info("kafka consumer recovered")
			}
		}
		return
	}
	if errors.Is(err, kafkago.RebalanceInProgress) {
		return // the ordinary course of a group
	}
	kind, known := kindOf(err), false
	for _, other := range t.current {
		known = known || other == kind
	}
	t.current[source] = kind
	if !known {
		t.log.Warn("kafka consumer waits", "for", source, "error", err)
	}
}

// kindOf tells what one logs an error for: a broker's answer, or that none can be reached, in whatever way that shows.
func kindOf(err error) string {
	if code, ok := errors.AsType[kafkago.Error](err); ok {
		return code.Title()
	}
	return "no answer"
}
