package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/parked"
	"github.com/altyn-pay/altyn/platform/postgres"
)

// behind is the reason of a parked message that was never refused: it waits for one of its topic and key that was.
const behind = "behind a parked message of its key"

// Parked is the parked.Source of an outbox: the messages that the broker refused for good. Redriving one puts all parked
// messages of its topic and key back in their order; discarding it does so without it.
type Parked struct {
	db   *sqlx.DB
	wake func()
}

var _ parked.Source = (*Parked)(nil)

// NewParked makes the source; wake is called after messages were put back.
func NewParked(db *sqlx.DB, wake func()) *Parked { return &Parked{db, wake} }

type parkedRow struct {
	parked.Item
	Seq   int64  `db:"seq"`
	Topic string `db:"topic"`
	Key   string `db:"key"`
	Text  []byte `db:"payload"`
}

// item tells whose message it is where the key says it.
func (r parkedRow) item() parked.Item {
	if account, err := uuid.Parse(r.Key); err == nil {
		r.AccountID = account
	}
	r.Attempts = 1
	return r.Show("outbox", r.Text)
}

var parkedRows = fmt.Sprintf(`
	SELECT seq, id, topic, key, type AS kind, left(reason, %d) AS reason, parked_at,
		CASE WHEN octet_length(payload) <= %d THEN payload END AS payload
	FROM outbox_parked WHERE reason <> '%s'`, parked.MaxReason, parked.MaxPayload, behind)

// Parked implements parked.Source.
func (p *Parked) Parked(ctx context.Context, after parked.Position, limit int) ([]parked.Item, error) {
	var rows []parkedRow
	if err := p.db.SelectContext(ctx, &rows, parkedRows+` AND (parked_at, id) > ($1, $2) ORDER BY parked_at, id LIMIT $3`,
		after.At, after.ID, limit); err != nil {
		return nil, fmt.Errorf("outbox: list what is parked: %w", err)
	}
	items := make([]parked.Item, len(rows))
	for i, row := range rows {
		items[i] = row.item()
	}
	return items, nil
}

// Redrive implements parked.Source.
func (p *Parked) Redrive(ctx context.Context, id uuid.UUID) (parked.Item, error) {
	return p.putBack(ctx, id, func(*sqlx.Tx, parkedRow) error { return nil })
}

// Discard implements parked.Source.
func (p *Parked) Discard(ctx context.Context, id uuid.UUID, _ string) (parked.Item, error) {
	return p.putBack(ctx, id, func(tx *sqlx.Tx, row parkedRow) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM outbox_parked WHERE seq = $1`, row.Seq); err != nil {
			return fmt.Errorf("outbox: discard: %w", err)
		}
		return nil
	})
}

// putBack moves what is parked of an item's topic and key back into the outbox, after change. As it all becomes visible at
// once and with its old numbers, which are below those of its key's later messages, the relay publishes it in order.
func (p *Parked) putBack(ctx context.Context, id uuid.UUID, change func(*sqlx.Tx, parkedRow) error) (parked.Item, error) {
	var row parkedRow
	err := postgres.InTx(ctx, p.db, func(tx *sqlx.Tx) error {
		if err := lockParked(ctx, tx); err != nil {
			return err
		}
		row = parkedRow{}
		err := tx.GetContext(ctx, &row, parkedRows+` AND id = $1 ORDER BY seq LIMIT 1`, id)
		if errors.Is(err, sql.ErrNoRows) {
			return parked.ErrNotFound
		}
		if err != nil {
			return fmt.Errorf("outbox: find what is parked: %w", err)
		}
		if err := change(tx, row); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `
			WITH moved AS (DELETE FROM outbox_parked WHERE topic = $1 AND key = $2 RETURNING *)
			INSERT INTO outbox (seq, lane, id, type, topic, key, subject, payload, traceparent, created_at)
			OVERRIDING SYSTEM VALUE
			SELECT seq, lane, id, type, topic, key, subject, payload, traceparent, created_at FROM moved`, row.Topic, row.Key); err != nil {
			return fmt.Errorf("outbox: put back: %w", err)
		}
		return nil
	})
	if err != nil {
		return parked.Item{}, err
	}
	p.wake()
	return row.item(), nil
}

// lockParked takes turns, until the transaction ends, with whoever else moves messages to or from outbox_parked. Without it
// the relay could park a message behind others that are being put back, and they would be behind it.
func lockParked(ctx context.Context, tx *sqlx.Tx) error {
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1, 1)`, lockClass); err != nil {
		return fmt.Errorf("outbox: lock what is parked: %w", err)
	}
	return nil
}

// park sets messages aside: those that were refused, each with its reason, and those that were seen behind a parked one of
// their key, if it is still there.
func (r *Relay) park(ctx context.Context, conn *sqlx.Conn, refused map[int64]string, waiting []int64) error {
	if len(refused)+len(waiting) == 0 {
		return nil
	}
	var (
		seqs    postgres.Int64s
		reasons postgres.Texts
	)
	for seq, reason := range refused {
		seqs, reasons = append(seqs, seq), append(reasons, reason)
	}
	tx, err := conn.BeginTxx(ctx, nil)
	if err != nil {
		return fmt.Errorf("outbox: park: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	if err := lockParked(ctx, tx); err != nil {
		return err
	}
	result, err := tx.ExecContext(ctx, `
		WITH moved AS (
			DELETE FROM outbox o
			WHERE seq = ANY($1::bigint[]) OR seq = ANY($3::bigint[]) AND EXISTS (SELECT FROM outbox_parked p WHERE p.topic = o.topic AND p.key = o.key)
			RETURNING *
		)
		INSERT INTO outbox_parked (seq, lane, id, type, topic, key, subject, payload, traceparent, created_at, reason)
		SELECT m.seq, m.lane, m.id, m.type, m.topic, m.key, m.subject, m.payload, m.traceparent, m.created_at, coalesce(p.reason, $4)
		FROM moved m LEFT JOIN unnest($1::bigint[], $2::text[]) AS p (seq, reason) USING (seq)`,
		seqs, reasons, postgres.Int64s(waiting), behind)
	if err != nil {
		return fmt.Errorf("outbox: park: %w", err)
	}
	n, err := result.RowsAffected()
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		return fmt.Errorf("outbox: park: %w", err)
	}
	r.parked.Add(float64(n))
	return nil
}
