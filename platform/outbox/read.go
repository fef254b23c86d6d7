package outbox

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"
)

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

// changed tells whether a row must be replaced by what is left of it: the broker has some of its messages and not
// others, or some are to be parked or to wait elsewhere. A row of the outbox that is published as a whole is no such
// row: it is only deleted.
func (row openRow) changed() bool {
	return row.begun && (len(row.open) > 0 || row.from != nil) ||
		slices.ContainsFunc(row.open, func(m openMessage) bool { return m.behind || m.reason != "" || m.to != row.from })
}

// goesTo returns where a row is to be stored, if it can be stored unchanged.
func (row openRow) goesTo() (to *waitingPart, whole bool) {
	if row.begun || row.rerouted || len(row.open) == 0 {
		return nil, false
	}
	to = row.open[0].to
	return to, !slices.ContainsFunc(row.open, func(m openMessage) bool { return m.behind || m.reason != "" || m.to != to })
}

// stuck returns why a message that could have been published was not, where its part is available. The first such
// message has the cause; later ones of its key were just not sent.
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

// read returns what is to be published. It reads the rows and what is parked in one transaction: were a parked message
// put back in between, a later one of its key would overtake it.
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
		SELECT seq, lane, messages, created_at, EXISTS (SELECT FROM outbox_parked)
		FROM (
			SELECT *, sum(count) OVER (ORDER BY seq) - count AS before
			FROM (SELECT * FROM ` + table + ` WHERE ` + condition + ` ORDER BY seq LIMIT ` + limit + `) o
		) o
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
