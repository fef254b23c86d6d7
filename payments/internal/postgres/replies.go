package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
)

// AwaitReplies notes the topics to which commands that came again, while their first one waits, want the reply.
func (s *Store) AwaitReplies(ctx context.Context, tx *sqlx.Tx, repeated []ledger.Request) error {
	n := len(repeated)
	if n == 0 {
		return nil
	}
	ids, topics, lanes := texts(n), texts(n), make([]int64, n)
	for i, r := range repeated {
		ids[i], lanes[i], topics[i] = r.ID.String(), int64(r.Lane), r.Reply.Topic
	}
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO reply_topics (operation_id, lane, topic) SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::text[])
		ON CONFLICT DO NOTHING`, ids, pq.Array(lanes), topics); err != nil {
		return fmt.Errorf("await replies: %w", err)
	}
	return nil
}

// AwaitedReplies takes the topics that were noted for commands which have ended.
func (s *Store) AwaitedReplies(ctx context.Context, tx *sqlx.Tx, completed []ledger.Completion) (map[uuid.UUID][]string, error) {
	ids, lanes := texts(0), []int64(nil)
	for _, c := range completed {
		if c.Request.Reply != nil && c.Operation.Status != ledger.Created {
			ids, lanes = append(ids, c.Operation.ID.String()), append(lanes, int64(c.Operation.Lane))
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	var rows []struct {
		OperationID uuid.UUID `db:"operation_id"`
		Topic       string    `db:"topic"`
	}
	if err := tx.SelectContext(ctx, &rows, `
		DELETE FROM reply_topics USING unnest($1::uuid[], $2::smallint[]) AS ended (id, lane)
		WHERE operation_id = ended.id AND reply_topics.lane = ended.lane RETURNING operation_id, topic`, ids, pq.Array(lanes)); err != nil {
		return nil, fmt.Errorf("take awaited replies: %w", err)
	}
	topics := make(map[uuid.UUID][]string, len(rows))
	for _, row := range rows {
		topics[row.OperationID] = append(topics[row.OperationID], row.Topic)
	}
	return topics, nil
}
