package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/parked"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// behind is the reason of a parked message that was not refused itself: an earlier one of its topic and key was.
const behind = "behind a parked message of its key"

// Parked is the parked.Source of an outbox: the messages that the broker refused for good. Redriving one puts all
// parked messages of its topic and key back in their order; discarding one puts back all the others.
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
	Lane  int16  `db:"lane"`
	Topic string `db:"topic"`
	Key   string `db:"key"`
	Text  []byte `db:"payload"`
}

// item returns what operators see. A key that is a UUID is taken for the account.
func (r parkedRow) item() parked.Item {
	if account, err := uuid.Parse(r.Key); err == nil {
		r.AccountID = account
	}
	r.Attempts = 1
	return r.Show("outbox", r.Text)
}

var parkedRows = fmt.Sprintf(`
	SELECT seq, lane, id, topic, key, type AS kind, left(reason, %d) AS reason, parked_at,
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
func (p *Parked) Redrive(ctx context.Context, id uuid.UUID, record parked.Record) (parked.Item, error) {
	return p.putBack(ctx, id, record, func(*sqlx.Tx, parkedRow) error { return nil })
}

// Discard implements parked.Source.
func (p *Parked) Discard(ctx context.Context, id uuid.UUID, _ string, record parked.Record) (parked.Item, error) {
	return p.putBack(ctx, id, record, func(tx *sqlx.Tx, row parkedRow) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM outbox_parked WHERE seq = $1 AND lane = $2`, row.Seq,
			row.Lane); err != nil {
			return fmt.Errorf("outbox: discard: %w", err)
		}
		return nil
	})
}

// putBack calls change and record, and moves what is parked of the item's topic and key back into the outbox. All of it
// becomes visible at once and keeps its numbers, which are below those of later messages of the key, so the relay
// publishes it in order.
func (p *Parked) putBack(ctx context.Context, id uuid.UUID, record parked.Record,
	change func(*sqlx.Tx, parkedRow) error) (parked.Item, error) {
	var row parkedRow
	err := pg.InTx(ctx, p.db, func(tx *sqlx.Tx) error {
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
		if err := record(ctx, tx, row.item()); err != nil {
			return err
		}
		for more := true; more; {
			if more, err = moveBack(ctx, tx, row); err != nil {
				return fmt.Errorf("outbox: put back: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return parked.Item{}, err
	}
	p.wake()
	return row.item(), nil
}

// moveBack moves a batch of what is parked of a row's topic and key into the outbox. more tells that there may be
// others.
func moveBack(ctx context.Context, tx *sqlx.Tx, row parkedRow) (more bool, err error) {
	var messages []Message
	if err := tx.SelectContext(ctx, &messages, `
		DELETE FROM outbox_parked WHERE lane = $4 AND seq IN (
			SELECT seq FROM outbox_parked WHERE topic = $1 AND key = $2 AND lane = $4 ORDER BY seq LIMIT $3
		) RETURNING seq, lane, id, type, topic, key, subject, payload, traceparent, tenant, created_at`,
		row.Topic, row.Key, batchSize, row.Lane); err != nil {
		return false, err
	}
	rows := make([]storedRow, len(messages))
	for i, m := range messages {
		rows[i] = storedRow{Row: m.asRow(), Count: 1}
	}
	return len(messages) == batchSize, execRows(ctx, tx, insertRows, rows)
}

// lockParked excludes, until the transaction ends, everyone else who moves messages to or from outbox_parked. Otherwise
// the relay could park a message behind others while these are being put back.
func lockParked(ctx context.Context, tx *sqlx.Tx) error {
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1, 1)`, lockClass); err != nil {
		return fmt.Errorf("outbox: lock what is parked: %w", err)
	}
	return nil
}

// messageKey is what messages are ordered by: those with the same topic and key keep their order.
type messageKey struct{ topic, key string }

// parkedKeys returns the keys of messages that have something parked. which selects the messages to ask about.
func parkedKeys(ctx context.Context, tx *sqlx.Tx, rows []openRow,
	which func(openMessage) bool) (map[messageKey]bool, error) {
	var topics, keys pg.Texts
	var lanes pg.Lanes
	asked := map[messageKey]bool{}
	for _, row := range rows {
		for _, m := range row.open {
			if key := (messageKey{m.Topic, m.Key}); which(m) && !asked[key] {
				asked[key] = true
				topics, keys, lanes = append(topics, m.Topic), append(keys, m.Key), append(lanes, m.Lane)
			}
		}
	}
	found := map[messageKey]bool{}
	result, err := tx.QueryContext(ctx, `
		SELECT topic, key FROM unnest($1::text[], $2::text[]) AS m (topic, key)
		WHERE EXISTS (SELECT FROM outbox_parked p WHERE p.topic = m.topic AND p.key = m.key
			AND `+pg.InLanes("p.lane", "$3")+`)`, topics, keys, lanes)
	if err != nil {
		return nil, err
	}
	defer result.Close()
	for result.Next() {
		var key messageKey
		if err := result.Scan(&key.topic, &key.key); err != nil {
			return nil, err
		}
		found[key] = true
	}
	return found, result.Err()
}
