package outbox

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// Publisher sends messages to the broker and returns once each of them is acknowledged or refused.
type Publisher interface {
	// Publish returns one error per message: nil where all in-sync replicas have it, Unavailable where a part of a topic
	// takes none for now. Per key it neither reorders nor sends a message after one that failed. It does not wait for a
	// topic or a leader.
	Publish(ctx context.Context, messages []Message) []error
	// Retry is Publish for messages of a part of a topic that took none before. It may run at the same time as Publish and
	// other Retries.
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

// publish publishes those messages of the rows that can be sent now.
func (l *leader) publish(ctx context.Context, rows []openRow) {
	messages := toSend(rows)
	if len(messages) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	l.takeResults(rows, l.publisher.Publish(ctx, messages), map[*waitingPart]bool{})
}

// takeResults notes the results of messages that were sent. Published ones are no longer open; the others get the
// reason. It adds to failed the parts of topics that take nothing for now.
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

// takeError notes why a message of a row was not published. A message that is refused for good is to be parked, and so
// are later ones of its key; refused has these keys.
func (l *leader) takeError(row openRow, m *openMessage, err error,
	refused map[messageKey]bool, failed map[*waitingPart]bool) {
	var away *Unavailable
	switch key := (messageKey{m.Topic, m.Key}); {
	case l.publisher.Permanent(err):
		m.reason, refused[key] = pg.Storable(err.Error()), true
		l.log.Error("outbox message refused by the broker and parked", telemetry.WithTraceID([]any{"id", m.ID,
			"subject", m.Subject, "topic", m.Topic, "key", m.Key, "error", err}, m.Traceparent)...)
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

// openRow is a row with messages that the broker does not have yet.
type openRow struct {
	Row
	from     *waitingPart // where it waits; nil for the outbox
	rerouted bool         // its messages go to another topic than theirs
	open     []openMessage
	begun    bool // the broker has others of its messages
}

// openMessage is a message that the broker does not have yet.
type openMessage struct {
	Message
	behind bool         // a parked message of its key
	held   bool         // not to be published in this step
	err    error        // why it was not published
	reason string       // why it is parked
	to     *waitingPart // where it is to wait; nil for the outbox
}

// changed reports whether a row must be replaced by what is left of it: the broker has some of its messages but not
// all, or some are to be parked or to wait elsewhere. A row of the outbox that is published as a whole need not be
// replaced, only deleted.
func (row openRow) changed() bool {
	return row.begun && (len(row.open) > 0 || row.from != nil) ||
		slices.ContainsFunc(row.open, func(m openMessage) bool { return m.behind || m.reason != "" || m.to != row.from })
}

// goesTo returns where a row is to be stored; whole is false unless it can be stored unchanged.
func (row openRow) goesTo() (to *waitingPart, whole bool) {
	if row.begun || row.rerouted || len(row.open) == 0 {
		return nil, false
	}
	to = row.open[0].to
	return to, !slices.ContainsFunc(row.open, func(m openMessage) bool { return m.behind || m.reason != "" || m.to != to })
}

// stuck returns why a message that could have been published was not, though its part is available. The first such
// message has the cause; later ones of its key were merely not sent.
func (row openRow) stuck() error {
	for _, m := range row.open {
		if m.err != nil && m.reason == "" && m.to == row.from {
			return m.err
		}
	}
	return nil
}

// toSend are the messages of rows that can be published now.
func toSend(rows []openRow) (messages []Message) {
	for _, row := range rows {
		for _, m := range row.open {
			if !m.behind && !m.held {
				messages = append(messages, m.Message)
			}
		}
	}
	return messages
}

// read returns what is to be published. It reads the rows and what is parked in one transaction: if a parked message
// were put back in between, a later one of its key would overtake it.
func (l *leader) read(ctx context.Context) ([]openRow, error) {
	rows, parked, err := l.readRows(ctx, l.conn)
	if err != nil || !parked {
		return rows, err
	}
	tx, err := l.conn.BeginTxx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }()
	if rows, _, err = l.readRows(ctx, tx); err != nil {
		return nil, err
	}
	stopped, err := parkedKeys(ctx, tx, rows, func(openMessage) bool { return true })
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		for i, m := range row.open {
			row.open[i].behind = stopped[messageKey{m.Topic, m.Key}]
		}
	}
	return rows, tx.Commit()
}

// firstRows is a query for the first rows of a table that together have limit messages. Each row also tells whether
// anything is parked.
func firstRows(table, condition, limit string) string {
	return `
		SELECT seq, lane, messages, created_at, parked
		FROM (
			SELECT *, sum(count) OVER (ORDER BY seq) - count AS before
			FROM (SELECT * FROM ` + table + ` WHERE ` + condition + ` ORDER BY seq LIMIT ` + limit + `) o
		) o CROSS JOIN (SELECT count(*) > 0 AS parked FROM (SELECT seq FROM outbox_parked LIMIT 1) first) p
		WHERE before < ` + limit + ` ORDER BY seq`
}

var (
	fromOutbox  = firstRows("outbox", "seq <> ALL ($1::bigint[])", "$2")
	fromWaiting = firstRows("outbox_waiting", "topic = $1 AND partitions = $2 AND partition = $3", "$4")
)

// readRows returns the first rows of the outbox, those of the parts that are available again, and one row of each part
// that is to be tried. It also tells whether anything is parked.
func (l *leader) readRows(ctx context.Context, from sqlx.QueryerContext) (rows []openRow, parked bool, err error) {
	rows, _, parked, err = selectRows(ctx, from, fromOutbox, l.published, batchSize)
	left, running := l.catchUp, l.running
	now := time.Now()
	l.waiting.each(func(w *waitingPart) {
		limit, topic, due := 0, w.Topic, !now.Before(w.due)
		w.readAll = false
		switch {
		case err != nil || w.attempting || w.unsaved:
			return
		case w.available:
			limit = left
		case due && running < maxAttempts:
			limit = 1
			running++
		case !due:
			if topic = w.target(l.Relay, now); topic != w.Topic {
				limit = left
			}
		}
		if limit <= 0 {
			return
		}
		var some []openRow
		var n int
		var others bool
		some, n, others, err = selectRows(ctx, from, fromWaiting, w.Topic, w.Partitions, w.Partition, limit)
		for i := range some {
			row := &some[i]
			row.from, row.rerouted = w, topic != w.Topic
			if row.rerouted {
				for j := range row.open {
					row.open[j].Topic = topic
				}
			}
		}
		if limit > 1 {
			left -= n
		}
		w.readAll = w.available && n < limit || n == 0 && !w.lost
		parked = parked || others
		rows = append(rows, some...)
	})
	return rows, parked, err
}

// selectRows returns the rows of a query of firstRows, how many messages they have, and whether anything is parked.
func selectRows(ctx context.Context, from sqlx.QueryerContext, query string,
	args ...any) (rows []openRow, n int, parked bool, err error) {
	result, err := from.QueryxContext(ctx, query, args...)
	if err != nil {
		return nil, 0, false, err
	}
	defer result.Close()
	for result.Next() {
		var row openRow
		if err := result.Scan(&row.Seq, &row.Lane, &row.Messages, &row.CreatedAt, &parked); err != nil {
			return nil, 0, false, err
		}
		messages, err := row.Unpack()
		if err != nil {
			return nil, 0, false, err
		}
		for _, m := range messages {
			row.open = append(row.open, openMessage{Message: m})
		}
		n += len(messages)
		rows = append(rows, row)
	}
	return rows, n, parked, result.Err()
}
