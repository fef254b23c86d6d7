package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/platform/contract"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

const (
	// sweepPage is how many orders a round of the sweep reads.
	sweepPage = 50_000
	// oldestRows is how many of the outbox's oldest rows, and of the parked events, Held looks at.
	oldestRows = 10_000
)

// Unsettled is an order that is watched, as it is now.
type Unsettled struct {
	Order        order.Order
	Watched      order.Unsettled
	Cancellation Cancellation // zero unless one has begun
}

// TakeTurn begins a round of healing. ok is false when a round of any process began less than this time ago, or is
// under way. now is the database's time. The turn ends with the transaction.
func (s *Store) TakeTurn(ctx context.Context, tx *sqlx.Tx, every time.Duration) (now time.Time, ok bool, err error) {
	err = tx.GetContext(ctx, &now, `
		UPDATE sweep SET at = clock_timestamp() WHERE one = (
			SELECT one FROM sweep WHERE one AND at <= clock_timestamp() - $1::bigint * interval '1 microsecond'
			FOR UPDATE SKIP LOCKED
		) RETURNING at`, every.Microseconds())
	if errors.Is(err, sql.ErrNoRows) {
		return time.Time{}, false, nil
	}
	if err != nil {
		return time.Time{}, false, fmt.Errorf("take turn: %w", err)
	}
	return now.UTC(), true, nil
}

// writers selects the transactions that are writing orders now.
const writers = `
	SELECT virtualtransaction FROM pg_locks
	WHERE relation = 'orders'::regclass AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND mode = 'RowExclusiveLock'`

// Sweep begins to watch the orders that were placed longer than patience ago and are not at their end. It looks at each
// order once: a sweep goes on where the last one ended.
func (s *Store) Sweep(ctx context.Context, tx *sqlx.Tx, patience time.Duration) error {
	var end int64
	if err := tx.GetContext(ctx, &end, `
		SELECT coalesce((SELECT seq FROM orders ORDER BY seq DESC LIMIT 1), 0)`); err != nil {
		return fmt.Errorf("read the end of the orders: %w", err)
	}
	// By a later statement: a transaction that has taken a lower seq holds its lock by now, unless it has ended.
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO sweep_marks (seq, writers, at) SELECT $1, ARRAY(`+writers+`), clock_timestamp()
		WHERE $1 > (SELECT seq FROM sweep WHERE one)
		ON CONFLICT DO NOTHING`, end); err != nil {
		return fmt.Errorf("mark the end of the orders: %w", err)
	}
	var bound int64
	err := tx.GetContext(ctx, &bound, `
		WITH present AS MATERIALIZED (`+writers+`)
		SELECT seq FROM sweep_marks
		WHERE at <= clock_timestamp() - $1::bigint * interval '1 microsecond'
			AND NOT EXISTS (SELECT FROM present WHERE virtualtransaction = ANY(writers))
		ORDER BY seq DESC LIMIT 1`, patience.Microseconds())
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read how far to sweep: %w", err)
	}
	if _, err := tx.ExecContext(ctx, `
		WITH page AS MATERIALIZED (
			SELECT seq, id, status FROM orders WHERE seq > (SELECT seq FROM sweep WHERE one) AND seq <= $1 ORDER BY seq LIMIT $2
		), watched AS (
			INSERT INTO unsettled (order_id, due_at)
			SELECT id, clock_timestamp() FROM page WHERE status IN ('pending', 'authorized', 'cancelling')
			ON CONFLICT DO NOTHING
		), swept AS (
			UPDATE sweep SET seq = (SELECT CASE WHEN count(*) < $2 THEN $1 ELSE max(seq) END FROM page) WHERE one RETURNING seq
		)
		DELETE FROM sweep_marks WHERE seq <= (SELECT seq FROM swept)`, bound, sweepPage); err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	return nil
}

// unsettledRow is what is remembered of a watched order.
type unsettledRow struct {
	OrderID uuid.UUID    `db:"order_id"`
	Version int64        `db:"version"`
	Asked   int          `db:"asked"`
	AskedAt sql.NullTime `db:"asked_at"`
	DueAt   time.Time    `db:"due_at"`
}

// Due returns watched orders that are due, the longest due first. It locks them until the transaction ends, so that a
// cancellation that begins meanwhile has its order watched anew.
func (s *Store) Due(ctx context.Context, tx *sqlx.Tx, limit int) ([]Unsettled, error) {
	var watched []unsettledRow
	if err := tx.SelectContext(ctx, &watched, `
		SELECT `+pg.ColumnsOf[unsettledRow]().String()+` FROM unsettled WHERE due_at <= clock_timestamp()
		ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED`, limit); err != nil {
		return nil, fmt.Errorf("read unsettled orders: %w", err)
	}
	if len(watched) == 0 {
		return nil, nil
	}
	ids := make([]uuid.UUID, len(watched))
	for i, w := range watched {
		ids[i] = w.OrderID
	}
	orders, err := selectOrders(ctx, tx, `SELECT `+orderColumns.String()+` FROM orders WHERE id = ANY($1::uuid[])`, ids)
	if err != nil {
		return nil, err
	}
	cancelled, err := s.Cancellations(ctx, tx, ids)
	if err != nil {
		return nil, err
	}
	due := make([]Unsettled, len(watched))
	for i, w := range watched {
		o, ok := orders[w.OrderID]
		if !ok {
			return nil, fmt.Errorf("order %s is watched and not there", w.OrderID)
		}
		due[i] = Unsettled{Order: o, Cancellation: cancelled[o.ID], Watched: order.Unsettled{
			Version: w.Version, Asked: w.Asked, AskedAt: w.AskedAt.Time.UTC(), DueAt: w.DueAt.UTC()}}
	}
	return due, nil
}

// Held returns the orders that need not be announced again, because the reason why they stand still is in this
// database: in the outbox something of their lane is late, waits for its partition or is parked, or an event of theirs
// is parked.
func (s *Store) Held(ctx context.Context, tx *sqlx.Tx, orders []Unsettled, patience time.Duration) (
	map[uuid.UUID]bool, error) {
	if len(orders) == 0 {
		return nil, nil
	}
	ids, keys, lanes := make(pg.UUIDs, len(orders)), make(pg.Texts, len(orders)), make(pg.Int16s, len(orders))
	for i, u := range orders {
		account := u.Order.AccountID
		ids[i], keys[i], lanes[i] = u.Order.ID, account.String(), contract.Lane(account)
	}
	var held []uuid.UUID
	if err := tx.SelectContext(ctx, &held, `
		WITH RECURSIVE parts AS (
			(SELECT partitions, partition FROM outbox_waiting WHERE topic = '`+contract.TopicOrders+`'
				ORDER BY partitions, partition LIMIT 1)
			UNION ALL
			SELECT next.* FROM parts p CROSS JOIN LATERAL (
				SELECT partitions, partition FROM outbox_waiting w
				WHERE topic = '`+contract.TopicOrders+`' AND (w.partitions, w.partition) > (p.partitions, p.partition)
				ORDER BY partitions, partition LIMIT 1
			) next
		), late AS MATERIALIZED (
			SELECT DISTINCT lane FROM (SELECT lane, created_at FROM outbox ORDER BY seq LIMIT $5) o
			WHERE created_at <= clock_timestamp() - $4::bigint * interval '1 microsecond'
		), parked AS MATERIALIZED (
			SELECT payload FROM parked_events WHERE payload IS NOT NULL LIMIT $5
		)
		SELECT id FROM unnest($1::uuid[], $2::text[], $3::smallint[]) AS asked (id, account, lane)
		WHERE asked.lane IN (SELECT lane FROM late)
			OR EXISTS (SELECT FROM parts WHERE asked.lane % partitions = partition)
			OR EXISTS (SELECT FROM outbox_parked WHERE topic = '`+contract.TopicOrders+`' AND key = account)
			OR EXISTS (SELECT FROM parked WHERE position(convert_to(asked.id::text, 'UTF8') IN payload) > 0)`,
		ids, keys, lanes, patience.Microseconds(), oldestRows); err != nil {
		return nil, fmt.Errorf("look what holds %d orders: %w", len(orders), err)
	}
	result := make(map[uuid.UUID]bool, len(held))
	for _, id := range held {
		result[id] = true
	}
	return result, nil
}

// maxOverdue bounds what OverdueGauges counts.
const maxOverdue = 10_000

// OverdueGauges tells of the orders that are pending or cancelling for longer than patience and have no reason to
// wait, as far as a sweep has found them.
func (s *Store) OverdueGauges(patience time.Duration) prometheus.Collector {
	return pg.Gauges(s.db, fmt.Sprintf(`
		SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(o.updated_at)), 0)
		FROM (SELECT order_id FROM unsettled WHERE asked > 0 ORDER BY due_at LIMIT %d) u JOIN orders o ON o.id = u.order_id
		WHERE o.status = '%s' OR o.status = '%s' AND o.reason NOT IN ('%s', '%s')`,
		maxOverdue, order.Cancelling, order.Pending, contract.WaitingForFunds, contract.WaitingForInventory),
		prometheus.GaugeOpts{
			Name: "altyn_orders_overdue", Help: "Orders that are not at their end, for longer than they should take."},
		prometheus.GaugeOpts{
			Name: "altyn_orders_oldest_overdue_seconds", Help: "Time since the last change of the one that stands longest."})
}

var updateUnsettled = pg.Update[unsettledRow]("unsettled", []string{"order_id"},
	[]string{"version", "asked", "asked_at", "due_at"}, "true")

// SaveUnsettled stores watched orders that Due has returned, and forgets those that are settled.
func (s *Store) SaveUnsettled(ctx context.Context, tx *sqlx.Tx, changed []Unsettled, settled []uuid.UUID) error {
	rows := make([]*unsettledRow, len(changed))
	for i, u := range changed {
		w := u.Watched
		rows[i] = &unsettledRow{u.Order.ID, w.Version, w.Asked, sql.NullTime{Time: w.AskedAt}, w.DueAt}
	}
	if err := updateUnsettled.Of(rows)(ctx, tx); err != nil || len(settled) == 0 {
		return err
	}
	return pg.ExecExactly(ctx, tx, "forget settled orders", len(settled), `
		DELETE FROM unsettled WHERE order_id = ANY($1::uuid[])`, pg.UUIDs(settled))
}
