package inbox

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/contract"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// lockClass is the first half of the advisory locks' key; the second is the lane.
const lockClass = 0x616c7401

// claimed is a batch that this transaction may settle: it holds the lanes' locks until it ends.
type claimed struct {
	rows   []Stored
	probes []stop   // accounts whose head message is in the batch for another try
	probed []Stored // those messages
}

// apart tells which messages of stopped accounts are claimed all the same; see Inbox.Apart.
type apart func(ctx context.Context, tx *sqlx.Tx, messages []Stored) ([]bool, error)

// claim locks lanes that have ready messages, from a random one on, until one batch is full, and reads the batch,
// sorted by arrival. The locks are taken in a statement of their own and the messages are read by a later one: a
// statement that did both would read what was there before the lock.
//
// Where the batch before was full, turn is not nil, and says with which tenants' shares half of the batch begins. The
// other half goes by arrival. Of a lane it takes the first messages that are in no share, so that of each account's
// messages the batch has the first ones. claim returns the turn after a full batch.
func claim(ctx context.Context, tx *sqlx.Tx, turn *string, limit int, apart apart) (
	c claimed, next *string, err error) {
	var rows []claimedRow
	var after string
	if turn != nil {
		if rows, after, err = claimShares(ctx, tx, *turn, limit/2); err != nil {
			return claimed{}, nil, err
		}
	}
	lanes, err := lockReadyLanes(ctx, tx, limit)
	if err != nil {
		return claimed{}, nil, err
	}
	if len(lanes) > 0 {
		shared := make(pg.Int64s, len(rows))
		for i, row := range rows {
			shared[i] = row.Seq
		}
		var others []claimedRow
		// Lane by lane, so that no more than limit rows are read however long the queues are.
		if err := tx.SelectContext(ctx, &others, `
			SELECT m.*, s.message_id AS stop_message_id, s.probing AS stop_probing
			FROM unnest($1::smallint[]) AS held (lane) CROSS JOIN LATERAL (
				SELECT `+columns+` FROM inbox
				WHERE inbox.lane = held.lane AND NOT stopped AND seq <> ALL ($2::bigint[])
				ORDER BY seq LIMIT $3
			) m LEFT JOIN inbox_stops s ON s.account_id = m.account_id AND s.lane = m.lane
			LIMIT $3`, lanes, shared, limit-len(rows)); err != nil {
			return claimed{}, nil, fmt.Errorf("inbox: read: %w", err)
		}
		rows = append(rows, others...)
	}
	if len(rows) == limit {
		next = &after
	}
	c, err = leaveStopped(ctx, tx, rows, apart)
	return c, next, err
}

// reclaim claims those messages of a batch once more that are in only, except those with others of their account before
// them that are neither in only nor settled: another worker may have held their lane for a moment.
func reclaim(ctx context.Context, tx *sqlx.Tx, batch, only []Stored, apart apart) (claimed, error) {
	lanes, err := lockLanes(ctx, tx, lanesOf(only))
	if err != nil || len(lanes) == 0 {
		return claimed{}, err
	}
	ids := make(pg.UUIDs, len(batch))
	for i, m := range batch {
		ids[i] = m.ID
	}
	var rows []claimedRow
	if err := tx.SelectContext(ctx, &rows, `
		SELECT m.*, s.message_id AS stop_message_id, s.probing AS stop_probing
		FROM (
			SELECT `+columns+` FROM inbox WHERE id = ANY($1::uuid[]) AND lane = ANY($2::smallint[]) AND NOT stopped
		) m LEFT JOIN inbox_stops s ON s.account_id = m.account_id AND s.lane = m.lane`, ids, lanes); err != nil {
		return claimed{}, fmt.Errorf("inbox: read again: %w", err)
	}
	slices.SortFunc(rows, bySeq)
	wanted, before := make(map[int64]bool, len(only)), make(map[uuid.UUID]bool)
	for _, m := range only {
		wanted[m.Seq] = true
	}
	return leaveStopped(ctx, tx, slices.DeleteFunc(rows, func(row claimedRow) bool {
		if !wanted[row.Seq] {
			before[row.AccountID] = true
		}
		return before[row.AccountID]
	}), apart)
}

// claimedRow is a ready message, and the stop of its account if there is one.
type claimedRow struct {
	Stored
	StopMessageID uuid.NullUUID `db:"stop_message_id"`
	StopProbing   sql.NullBool  `db:"stop_probing"`
}

// lockLanes takes the locks of these lanes, as far as they are free, and returns those that it has taken.
func lockLanes(ctx context.Context, tx *sqlx.Tx, lanes pg.Int16s) (held pg.Int16s, err error) {
	slices.Sort(lanes)
	if err := tx.SelectContext(ctx, &held,
		`SELECT lane FROM unnest($1::smallint[]) AS lane WHERE pg_try_advisory_xact_lock($2::integer, lane)`,
		slices.Compact(lanes), lockClass); err != nil {
		return nil, fmt.Errorf("inbox: lock lanes: %w", err)
	}
	return held, nil
}

// lockLane takes a lane's lock until the transaction ends. The wait is bounded by the session's lock_timeout; a
// settlement holds a lane for some milliseconds.
func lockLane(ctx context.Context, tx *sqlx.Tx, lane int16) error {
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1, $2)`, lockClass, lane); err != nil {
		return fmt.Errorf("inbox: lock lane: %w", err)
	}
	return nil
}

// lockReadyLanes takes the locks of lanes that have work, as far as they are free. Those after a random lane come
// first, so that a long queue in one lane does not keep workers from the others.
func lockReadyLanes(ctx context.Context, tx *sqlx.Tx, limit int) (held pg.Int16s, err error) {
	first := rand.N[int16](contract.Lanes)
	if err := tx.SelectContext(ctx, &held, `
		WITH wanted AS MATERIALIZED (
			SELECT DISTINCT lane FROM (
				(SELECT lane FROM inbox WHERE NOT stopped AND lane >= $1 ORDER BY lane, seq LIMIT $2)
				UNION ALL
				(SELECT lane FROM inbox WHERE NOT stopped AND lane < $1 ORDER BY lane, seq LIMIT $2)
			) ready LIMIT $2
		) SELECT lane FROM wanted WHERE pg_try_advisory_xact_lock($3::integer, lane)`, first, limit, lockClass); err != nil {
		return nil, fmt.Errorf("inbox: lock lanes: %w", err)
	}
	distance := func(lane int16) int16 { return (lane - first + contract.Lanes) % contract.Lanes }
	slices.SortFunc(held, func(a, b int16) int { return cmp.Compare(distance(a), distance(b)) })
	return held, nil
}

func bySeq(a, b claimedRow) int { return cmp.Compare(a.Seq, b.Seq) }

// leaveStopped sorts a batch by arrival. It takes the messages of stopped accounts out of it and flags them, so that
// they are not claimed again before their account is woken. Insert does not look at the stops; here, under the lane's
// lock, looking at them cannot race with waking an account. Those that are apart stay in the batch.
func leaveStopped(ctx context.Context, tx *sqlx.Tx, rows []claimedRow, apart apart) (claimed, error) {
	slices.SortFunc(rows, bySeq)
	c := claimed{rows: make([]Stored, 0, len(rows))}
	var (
		waiting []Stored
		flagged pg.Int64s
		lanes   pg.Int16s
	)
	for _, row := range rows {
		switch {
		case !row.StopMessageID.Valid:
			c.rows = append(c.rows, row.Stored)
		case row.StopProbing.Bool && row.StopMessageID.UUID == row.ID:
			c.rows = append(c.rows, row.Stored)
			c.probed = append(c.probed, row.Stored)
			c.probes = append(c.probes, stop{AccountID: row.AccountID, Lane: row.Lane})
		default:
			waiting = append(waiting, row.Stored)
		}
	}
	if len(waiting) == 0 {
		return c, nil
	}
	are, err := apart(ctx, tx, waiting)
	if err != nil {
		return claimed{}, err
	}
	for i, m := range waiting {
		if are[i] {
			c.rows = append(c.rows, m)
		} else {
			flagged, lanes = append(flagged, m.Seq), append(lanes, m.Lane)
		}
	}
	slices.SortFunc(c.rows, func(a, b Stored) int { return cmp.Compare(a.Seq, b.Seq) })
	if len(flagged) == 0 {
		return c, nil
	}
	// NOT stopped is true for all of them; it is there for the index, which finds them in a queue of any length.
	if _, err := tx.ExecContext(ctx, `
		UPDATE inbox SET stopped = true WHERE seq = ANY($1::bigint[]) AND lane = ANY($2::smallint[]) AND NOT stopped`,
		flagged, lanes); err != nil {
		return claimed{}, fmt.Errorf("inbox: flag: %w", err)
	}
	return c, nil
}

// remove deletes the settled batch. It must find exactly the rows that were settled: anything else means that a lock
// did not hold, and the transaction must roll back.
func (c *claimed) remove(ctx context.Context, tx *sqlx.Tx) error {
	if len(c.rows) == 0 {
		return nil
	}
	n := len(c.rows)
	ids, seqs, lanes := make(pg.UUIDs, n), make(pg.Int64s, n), make(pg.Int16s, n)
	for i, m := range c.rows {
		ids[i], seqs[i], lanes[i] = m.ID, m.Seq, m.Lane
	}
	slices.Sort(lanes)
	// Find them by ID and tell them apart by arrival number, since another of these lanes may have the same ID. No join:
	// its plan is made while the queue is empty, and would read all of a long one.
	if err := pg.ExecExactly(ctx, tx, "inbox: delete what is settled", n, `
		DELETE FROM inbox WHERE id = ANY($1::uuid[]) AND lane = ANY($2::smallint[]) AND seq = ANY($3::bigint[])`,
		ids, slices.Compact(lanes), seqs); err != nil {
		return err
	}
	for _, s := range c.probes {
		if err := wake(ctx, tx, s); err != nil {
			return err
		}
	}
	return nil
}
