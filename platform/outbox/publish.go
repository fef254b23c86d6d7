package outbox

import (
	"context"
	"errors"

	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Publisher sends messages to the broker and returns once each of them is acknowledged or refused.
type Publisher interface {
	// Publish returns one error per message: nil where all in-sync replicas have it, Unavailable where a part of a topic
	// takes none for now. Per key it neither reorders nor sends a message after one that failed. It does not wait for a
	// topic or a leader.
	Publish(ctx context.Context, messages []Message) []error
	// Retry is Publish for messages of a part of a topic that took none before. It may run beside Publish and others like
	// it.
	Retry(ctx context.Context, messages []Message) []error
	// Permanent tells whether an error of Publish will come again however often the message is sent.
	Permanent(err error) bool
}

// Unavailable is the error of Publish for a message whose part of its topic takes none for now, while others may.
type Unavailable struct {
	// The part is the keys that contract.Partition gives this partition of so many; 0 of 1 is the whole topic.
	Partitions, Partition int
	Lost                  bool // the topic does not exist, or we may not write to it
	Err                   error
}

func (e *Unavailable) Error() string { return e.Err.Error() }
func (e *Unavailable) Unwrap() error { return e.Err }

// publish publishes the messages of rows that can be.
func (l *leader) publish(ctx context.Context, rows []openRow) {
	messages := toSend(rows)
	if len(messages) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	l.takeResults(rows, l.publisher.Publish(ctx, messages), map[*waitingPart]bool{})
}

// takeResults takes up the results of what was sent: published messages are open no more, the others say why they are.
// failed gets the parts of topics that take nothing for now.
func (l *leader) takeResults(rows []openRow, results []error, failed map[*waitingPart]bool) {
	published, next := 0, 0
	refused := map[messageKey]bool{}
	for i, row := range rows {
		var left []openMessage
		for _, m := range row.open {
			if !m.behind && !m.held {
				err := results[next]
				next++
				if err == nil {
					published++
					continue
				}
				l.takeError(row, &m, err, refused, failed)
			}
			left = append(left, m)
		}
		if len(left) == 0 && row.from == nil {
			l.published = append(l.published, row.Seq)
		}
		rows[i].begun = len(left) < len(row.open)
		rows[i].open = left
	}
	if published > 0 {
		l.Relay.published.Add(float64(published))
		l.batches.Observe(float64(published))
	}
}

// takeError notes why a message of a row was not published. What is refused for good is to be parked, with what comes
// after it of its key; refused are the keys of such.
func (l *leader) takeError(row openRow, m *openMessage, err error,
	refused map[messageKey]bool, failed map[*waitingPart]bool) {
	var away *Unavailable
	switch key := (messageKey{m.Topic, m.Key}); {
	case l.publisher.Permanent(err):
		m.reason, refused[key] = pg.Storable(err.Error()), true
		l.log.Error("outbox message refused by the broker and parked", "id", m.ID, "subject", m.Subject,
			"topic", m.Topic, "key", m.Key, "error", err)
	case refused[key]:
		m.reason = behind
	case errors.As(err, &away):
		p := part{m.Topic, away.Partitions, away.Partition}
		if row.from != nil && !row.rerouted && p.Partitions <= row.from.Partitions {
			p = row.from.part // it is in there, and so is what comes after it
		}
		l.fail(p, away, failed)
	default:
		m.err = err
	}
}
