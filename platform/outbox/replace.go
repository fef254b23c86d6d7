package outbox

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jmoiron/sqlx"

	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// takeApart replaces rows by what is left of them, in one transaction. Refused messages are parked, each with its
// reason. A message behind a parked one of its key is parked too, if that one is still there. The other messages are
// stored where they wait, and keep their numbers.
//
// Rows that were published before are deleted in the same transaction. Otherwise, if the relay died in between, an
// earlier message of a key might be published again after a later one.
func (l *leader) takeApart(ctx context.Context, rows []openRow) error {
	tx, err := l.conn.BeginTxx(ctx, nil)
	if err != nil {
		return fmt.Errorf("outbox: take rows apart: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	n, err := l.replace(ctx, tx, rows)
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		return fmt.Errorf("outbox: take rows apart: %w", err)
	}
	l.published = l.published[:0]
	l.parked.Add(float64(n))
	return nil
}

// replace does that in the transaction tx, and returns how many messages it has parked.
func (l *leader) replace(ctx context.Context, tx *sqlx.Tx, rows []openRow) (n int, err error) {
	if err := lockParked(ctx, tx); err != nil {
		return 0, err
	}
	stopped, err := parkedKeys(ctx, tx, rows, func(m openMessage) bool { return m.behind })
	if err != nil {
		return 0, err
	}
	replaced := slices.Clone(l.published)
	var left, moved []storedRow // what is replaced of parts, and what is stored there
	var kept []storedRow
	keep := func(to *waitingPart, r Row, count int) {
		if to == nil {
			kept = append(kept, storedRow{Row: r, Count: count})
		} else {
			moved = append(moved, storedRow{r, to.part, count})
		}
	}
	var refused []parkedMessage
	for _, row := range rows {
		if row.from == nil {
			replaced = append(replaced, row.Seq)
		} else {
			left = append(left, storedRow{Row: row.Row, part: row.from.part})
		}
		if to, whole := row.goesTo(); whole {
			keep(to, row.Row, len(row.open))
			continue
		}
		for _, m := range row.open {
			switch {
			case m.reason != "":
				refused = append(refused, parkedMessage{m.Message, m.reason})
			case m.behind && stopped[messageKey{m.Topic, m.Key}]:
				refused = append(refused, parkedMessage{m.Message, behind})
			default:
				keep(m.to, m.asRow(), 1)
			}
		}
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM outbox WHERE seq = ANY($1::bigint[])`, replaced); err != nil {
		return 0, err
	}
	if err := execRows(ctx, tx, deleteWaiting, left); err != nil {
		return 0, err
	}
	if err := execRows(ctx, tx, insertRows, kept); err != nil {
		return 0, err
	}
	if err := execRows(ctx, tx, insertWaiting, moved); err != nil {
		return 0, err
	}
	return len(refused), insertParked.Of(pg.Pointers(refused))(ctx, tx)
}

// parkedMessage is a message that the broker has refused, or that is behind one.
type parkedMessage struct {
	Message
	Reason string `db:"reason"`
}

var insertParked = pg.Insert[parkedMessage]("outbox_parked", "")

// storedRow is a row of the outbox, or, with its part, of outbox_waiting.
type storedRow struct {
	Row
	part
	Count int `json:"count"`
}

// The statements of execRows.
const (
	insertRows = `
		INSERT INTO outbox (seq, lane, count, messages, created_at) OVERRIDING SYSTEM VALUE
		SELECT seq, lane, count, messages, created_at FROM json_populate_recordset(NULL::outbox, $1)`
	insertWaiting = `
		INSERT INTO outbox_waiting SELECT * FROM json_populate_recordset(NULL::outbox_waiting, $1)`
	deleteWaiting = `
		DELETE FROM outbox_waiting w USING (SELECT topic, partitions, partition, seq
			FROM json_populate_recordset(NULL::outbox_waiting, $1)) d
		WHERE w.topic = d.topic AND w.partitions = d.partitions AND w.partition = d.partition AND w.seq = d.seq`
)

// execRows runs a statement over rows, which it gets as JSON.
func execRows(ctx context.Context, tx *sqlx.Tx, statement string, rows []storedRow) error {
	if len(rows) == 0 {
		return nil
	}
	text, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, statement, string(text))
	return err
}
