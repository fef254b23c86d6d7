package outbox

import (
	"context"
	"fmt"
	"slices"

	"github.com/jmoiron/sqlx"

	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// takeApart replaces rows by what is left of them, in one transaction. Refused messages are parked, each with its
// reason, and so are messages behind a parked one of their key, if that is still there. The others are stored where
// they wait, and keep their numbers.
//
// Rows that were published before are deleted in the same transaction. Otherwise, if the relay died in between, an
// earlier message of a key could be published again after a later one.
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
	var left waitingRows // what is replaced of parts
	var kept outboxRows
	var moved waitingRows
	keep := func(to *waitingPart, r Row, count int) {
		if to == nil {
			kept.add(r, count)
		} else {
			moved.add(to.part, r, count)
		}
	}
	var refused []Message
	var reasons pg.Texts
	for _, row := range rows {
		if row.from == nil {
			replaced = append(replaced, row.Seq)
		} else {
			left.add(row.from.part, row.Row, 0)
		}
		if to, whole := row.goesTo(); whole {
			keep(to, row.Row, len(row.open))
			continue
		}
		for _, m := range row.open {
			switch {
			case m.reason != "":
				refused, reasons = append(refused, m.Message), append(reasons, m.reason)
			case m.behind && stopped[messageKey{m.Topic, m.Key}]:
				refused, reasons = append(refused, m.Message), append(reasons, behind)
			default:
				keep(m.to, m.asRow(), 1)
			}
		}
	}
	if _, err := tx.ExecContext(ctx, `DELETE FROM outbox WHERE seq = ANY($1::bigint[])`, replaced); err != nil {
		return 0, err
	}
	if err := left.delete(ctx, tx); err != nil {
		return 0, err
	}
	if err := kept.insert(ctx, tx); err != nil {
		return 0, err
	}
	if err := moved.insert(ctx, tx); err != nil {
		return 0, err
	}
	return len(refused), park(ctx, tx, refused, reasons)
}

// park stores messages that the broker has refused, or that are behind one, with the reasons.
func park(ctx context.Context, tx *sqlx.Tx, messages []Message, reasons pg.Texts) error {
	n := len(messages)
	if n == 0 {
		return nil
	}
	seqs, lanes, ids, created := make(pg.Int64s, n), make(pg.Int16s, n), make(pg.UUIDs, n), make(pg.Times, n)
	texts := func() pg.Texts { return make(pg.Texts, n) }
	types, topics, keys, subjects, payloads, traces := texts(), texts(), texts(), texts(), texts(), texts()
	for i, m := range messages {
		seqs[i], lanes[i] = m.Seq, m.Lane
		ids[i], created[i] = m.ID, m.CreatedAt
		types[i], topics[i] = m.Type, m.Topic
		keys[i], subjects[i] = m.Key, m.Subject
		payloads[i], traces[i] = m.Payload, m.Traceparent
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO outbox_parked (seq, lane, id, type, topic, key, subject, payload, traceparent, created_at, reason)
		SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[],
			$8::text[], $9::text[], $10::timestamptz[], $11::text[])`,
		seqs, lanes, ids, types, topics, keys, subjects, payloads, traces, created, reasons)
	return err
}

// outboxRows are the columns of rows of the outbox.
type outboxRows struct {
	seqs          pg.Int64s
	lanes, counts pg.Int16s
	messages      pg.Texts
	created       pg.Times
}

func (r *outboxRows) add(row Row, count int) {
	r.seqs, r.lanes = append(r.seqs, row.Seq), append(r.lanes, row.Lane)
	r.counts = append(r.counts, int16(count))
	r.messages, r.created = append(r.messages, row.Messages), append(r.created, row.CreatedAt)
}

func (r *outboxRows) insert(ctx context.Context, tx *sqlx.Tx) error {
	if len(r.seqs) == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO outbox (seq, lane, count, messages, created_at) OVERRIDING SYSTEM VALUE
		SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::smallint[], $4::text[], $5::timestamptz[])`,
		r.seqs, r.lanes, r.counts, r.messages, r.created)
	return err
}

// waitingRows are the columns of rows that wait in parts of topics.
type waitingRows struct {
	topics                pg.Texts
	partitions, partition pg.Int32s
	outboxRows
}

func (r *waitingRows) add(p part, row Row, count int) {
	r.topics = append(r.topics, p.Topic)
	r.partitions = append(r.partitions, int32(p.Partitions))
	r.partition = append(r.partition, int32(p.Partition))
	r.outboxRows.add(row, count)
}

func (r *waitingRows) insert(ctx context.Context, tx *sqlx.Tx) error {
	if len(r.seqs) == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO outbox_waiting (topic, partitions, partition, seq, lane, count, messages, created_at)
		SELECT * FROM unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[], $5::smallint[], $6::smallint[],
			$7::text[], $8::timestamptz[])`,
		r.topics, r.partitions, r.partition, r.seqs, r.lanes, r.counts, r.messages, r.created)
	return err
}

func (r *waitingRows) delete(ctx context.Context, tx *sqlx.Tx) error {
	if len(r.seqs) == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `
		DELETE FROM outbox_waiting w USING unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[])
			AS d (topic, partitions, partition, seq)
		WHERE w.topic = d.topic AND w.partitions = d.partitions AND w.partition = d.partition AND w.seq = d.seq`,
		r.topics, r.partitions, r.partition, r.seqs)
	return err
}
