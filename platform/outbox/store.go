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

// stored are the columns of rows, of the outbox or of parts.
type stored struct {
	topics                pg.Texts
	partitions, partition pg.Int32s
	seqs                  pg.Int64s
	lanes, counts         pg.Int16s
	messages              pg.Texts
	created               pg.Times
}

func (s *stored) add(to *waiting, row Row, count int) {
	if to != nil {
		s.topics, s.partitions, s.partition = append(s.topics, to.Topic), append(s.partitions, int32(to.Partitions)), append(s.partition, int32(to.Partition))
	}
	s.seqs, s.lanes, s.counts = append(s.seqs, row.Seq), append(s.lanes, row.Lane), append(s.counts, int16(count))
	s.messages, s.created = append(s.messages, row.Messages), append(s.created, row.CreatedAt)
}

// insert stores them in the outbox.
func (s *stored) insert(ctx context.Context, tx *sqlx.Tx) error {
	if len(s.seqs) == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO outbox (seq, lane, count, messages, created_at) OVERRIDING SYSTEM VALUE
		SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::smallint[], $4::text[], $5::timestamptz[])`,
		s.seqs, s.lanes, s.counts, s.messages, s.created)
	return err
}

// insertWaiting stores them in their parts.
func (s *stored) insertWaiting(ctx context.Context, tx *sqlx.Tx) error {
	if len(s.seqs) == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO outbox_waiting (topic, partitions, partition, seq, lane, count, messages, created_at)
		SELECT * FROM unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[], $5::smallint[], $6::smallint[], $7::text[], $8::timestamptz[])`,
		s.topics, s.partitions, s.partition, s.seqs, s.lanes, s.counts, s.messages, s.created)
	return err
}

// delete deletes them from their parts.
func (s *stored) delete(ctx context.Context, tx *sqlx.Tx) error {
	if len(s.seqs) == 0 {
		return nil
	}
	_, err := tx.ExecContext(ctx, `
		DELETE FROM outbox_waiting w USING unnest($1::text[], $2::integer[], $3::integer[], $4::bigint[]) AS d (topic, partitions, partition, seq)
		WHERE w.topic = d.topic AND w.partitions = d.partitions AND w.partition = d.partition AND w.seq = d.seq`,
		s.topics, s.partitions, s.partition, s.seqs)
	return err
}
