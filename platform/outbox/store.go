package outbox

import (
	"context"
	"slices"

	"github.com/jmoiron/sqlx"

	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// goesTo returns where a row is to be stored as it is, if that is so.
func (row openRow) goesTo() (to *waiting, whole bool) {
	if row.begun || row.instead || len(row.open) == 0 {
		return nil, false
	}
	to = row.open[0].to
	return to, !slices.ContainsFunc(row.open, func(m openMessage) bool { return m.behind || m.reason != "" || m.to != to })
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
