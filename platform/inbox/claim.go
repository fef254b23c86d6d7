package inbox

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/altyn-pay/altyn/platform/contract"
)

// lockClass is the first half of the advisory locks' key; the second is the lane.
const lockClass = 0x616c7401

// stop is an account whose queue stands still, see the table inbox_stops.
type stop struct {
	AccountID uuid.UUID `db:"account_id"`
	Lane      int16     `db:"lane"`
	MessageID uuid.UUID `db:"message_id"`
	Attempts  int       `db:"attempts"`
	Probing   bool      `db:"probing"`
}

// claimed is a batch that this transaction may settle: it holds the lanes' locks until it ends.
type claimed struct {
	messages []Message
	probes   []stop // accounts whose head message is in the batch for another try
}

// claim takes lanes that have ready messages, from a random one on, until one batch is full, and reads the batch, sorted
// by arrival. A non-nil only restricts it to these messages. The locks are taken in a statement of their own and
// everything is read by later ones: a statement that locks and reads would read what was there before the lock.
func claim(ctx context.Context, tx *sqlx.Tx, only []Message, limit int) (claimed, error) {
	lanes, err := lanesWithWork(ctx, tx, only, limit)
	if err != nil || len(lanes) == 0 {
		return claimed{}, err
	}
	var held []int64
	if err := tx.SelectContext(ctx, &held,
		`SELECT lane FROM unnest($1::int[]) WITH ORDINALITY AS l (lane, n) WHERE pg_try_advisory_xact_lock($2, lane) ORDER BY n`,
		pq.Array(lanes), lockClass); err != nil {
		return claimed{}, fmt.Errorf("inbox: lock lanes: %w", err)
	}
	if len(held) == 0 {
		return claimed{}, nil
	}
	var seqs []int64 // nil matches all
	for _, m := range only {
		seqs = append(seqs, m.Seq)
	}
	var batch claimed
	// Lane by lane, so that no more than limit rows are read however long the queues are.
	if err := tx.SelectContext(ctx, &batch.messages, `
		SELECT m.* FROM unnest($1::smallint[]) AS held (lane) CROSS JOIN LATERAL (
			SELECT seq, id, lane, account_id, kind, payload, fingerprint, traceparent, received_at
			FROM inbox WHERE inbox.lane = held.lane AND NOT stopped AND ($2::bigint[] IS NULL OR seq = ANY($2::bigint[]))
			ORDER BY seq LIMIT $3
		) m LIMIT $3`, pq.Array(held), pq.Array(seqs), limit); err != nil {
		return claimed{}, fmt.Errorf("inbox: read: %w", err)
	}
	slices.SortFunc(batch.messages, func(a, b Message) int { return cmp.Compare(a.Seq, b.Seq) })
	return batch, batch.leaveStopped(ctx, tx, held)
}

// lanesWithWork returns the lanes to try, those that come first after a random one first, so that a long queue in one
// lane does not keep workers from the others.
func lanesWithWork(ctx context.Context, tx *sqlx.Tx, only []Message, limit int) ([]int64, error) {
	if only != nil {
		var lanes []int64
		for _, m := range only {
			lanes = append(lanes, int64(m.Lane))
		}
		slices.Sort(lanes)
		return slices.Compact(lanes), nil
	}
	var lanes []int64
	first := rand.Int64N(contract.Lanes)
	if err := tx.SelectContext(ctx, &lanes, `
		SELECT DISTINCT lane FROM (
			(SELECT lane FROM inbox WHERE NOT stopped AND lane >= $1 ORDER BY lane, seq LIMIT $2)
			UNION ALL
			(SELECT lane FROM inbox WHERE NOT stopped AND lane < $1 ORDER BY lane, seq LIMIT $2)
		) ready LIMIT $2`, first, limit); err != nil {
		return nil, fmt.Errorf("inbox: find lanes: %w", err)
	}
	distance := func(lane int64) int64 { return (lane - first + contract.Lanes) % contract.Lanes }
	slices.SortFunc(lanes, func(a, b int64) int { return cmp.Compare(distance(a), distance(b)) })
	return lanes, nil
}

// leaveStopped takes the messages of stopped accounts out of the batch and flags them, so that they are not claimed
// again before their account is woken. Messages are inserted without a look at the stops; here, under the lane's lock,
// the look cannot race with the waking.
func (c *claimed) leaveStopped(ctx context.Context, tx *sqlx.Tx, lanes []int64) error {
	var stops []stop
	if err := tx.SelectContext(ctx, &stops,
		`SELECT account_id, lane, message_id, attempts, probing FROM inbox_stops WHERE lane = ANY($1)`,
		pq.Array(lanes)); err != nil {
		return fmt.Errorf("inbox: read stops: %w", err)
	}
	if len(stops) == 0 {
		return nil
	}
	byAccount := make(map[uuid.UUID]stop, len(stops))
	for _, s := range stops {
		byAccount[s.AccountID] = s
	}
	ready := c.messages[:0]
	var flagged []int64
	for _, m := range c.messages {
		s, stopped := byAccount[m.AccountID]
		switch {
		case !stopped:
			ready = append(ready, m)
		case s.Probing && s.MessageID == m.ID:
			ready = append(ready, m)
			c.probes = append(c.probes, s)
		default:
			flagged = append(flagged, m.Seq)
		}
	}
	c.messages = ready
	if len(flagged) == 0 {
		return nil
	}
	if _, err := tx.ExecContext(ctx, `UPDATE inbox SET stopped = true WHERE seq = ANY($1) AND lane = ANY($2)`,
		pq.Array(flagged), pq.Array(lanes)); err != nil {
		return fmt.Errorf("inbox: flag: %w", err)
	}
	return nil
}

// remove deletes the settled batch. It must find exactly the rows that were settled: anything else means that a lock
// did not hold, and the transaction must roll back.
func (c *claimed) remove(ctx context.Context, tx *sqlx.Tx) error {
	if len(c.messages) == 0 {
		return nil
	}
	ids, lanes := make(pq.StringArray, len(c.messages)), make([]int64, len(c.messages))
	for i, m := range c.messages {
		ids[i], lanes[i] = m.ID.String(), int64(m.Lane)
	}
	result, err := tx.ExecContext(ctx, `
		DELETE FROM inbox USING unnest($1::uuid[], $2::smallint[]) AS settled (id, lane)
		WHERE inbox.id = settled.id AND inbox.lane = settled.lane`, ids, pq.Array(lanes))
	if err != nil {
		return fmt.Errorf("inbox: delete: %w", err)
	}
	if n, err := result.RowsAffected(); err != nil || n != int64(len(c.messages)) {
		return fmt.Errorf("inbox: settled %d messages but deleted %d: %w", len(c.messages), n, err)
	}
	for _, s := range c.probes {
		if _, err := tx.ExecContext(ctx, `DELETE FROM inbox_stops WHERE account_id = $1 AND lane = $2`, s.AccountID, s.Lane); err != nil {
			return fmt.Errorf("inbox: wake: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `UPDATE inbox SET stopped = false WHERE account_id = $1 AND lane = $2 AND stopped`,
			s.AccountID, s.Lane); err != nil {
			return fmt.Errorf("inbox: wake: %w", err)
		}
	}
	return nil
}
