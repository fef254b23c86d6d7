package inbox

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/platform/contract"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/stage"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// batchSize is how many messages are settled in one transaction.
const batchSize = 1000

// Handler gives a batch its effect in the transaction tx, which commits it. The batch is sorted by arrival and holds
// messages of many accounts; the transaction holds their lanes. The function that it returns, if any, runs once the
// transaction has committed. An error rolls everything back. Unless it is the database's fault, smaller batches are
// then tried until the message at fault is found. The handler must recognise a message that has taken effect before.
type Handler[B any] func(ctx context.Context, tx *sqlx.Tx, batch []Message[B]) (committed func(), err error)

// Worker settles the inbox of a database. Any number of workers may run, in any number of processes.
type Worker[B any] struct {
	// Describe, if not nil, gives the lines of the log about a message more attributes. It is set before the worker is
	// used.
	Describe func(m Message[B]) []any
	// Tracer, if not nil, makes the spans of messages. It is set before the worker is used.
	Tracer *telemetry.Tracer

	inbox  *Inbox[B]
	handle Handler[B]
	retry  Retry
	log    *slog.Logger
	wake   stage.Signal
	poll   *stage.Poll            // of all that Run
	turn   atomic.Pointer[string] // of the next claim; nil where the last one took all that waited

	batches  prometheus.Histogram
	duration prometheus.Histogram
	failures *prometheus.CounterVec
}

// NewWorker makes a worker; Run runs it.
func NewWorker[B any](inbox *Inbox[B], handle Handler[B], retry Retry, log *slog.Logger,
	metrics prometheus.Registerer) *Worker[B] {
	w := &Worker[B]{
		inbox: inbox, handle: handle, retry: retry, log: log, wake: stage.NewSignal(), poll: stage.NewPoll(),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "altyn_inbox_batch_size", Help: "Messages settled in one transaction.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 6)}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "altyn_inbox_batch_seconds", Help: "Time to settle one batch.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 12)}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "altyn_inbox_failures_total", Help: "Unexpected failures of single messages, by what follows."},
			[]string{"outcome"}),
	}
	metrics.MustRegister(w.batches, w.duration, w.failures, depth(inbox.db))
	return w
}

// depth tells how much waits to take effect.
func depth(db *sqlx.DB) prometheus.Collector {
	return pg.Gauges(db, `
		SELECT m.n, coalesce(extract(epoch FROM clock_timestamp() - m.oldest), 0),
			coalesce(extract(epoch FROM clock_timestamp() - m.ready), 0), s.n, s.parked, s.unknown
		FROM (SELECT count(*) AS n, min(received_at) AS oldest, min(received_at) FILTER (WHERE NOT stopped) AS ready
				FROM inbox) m,
			(SELECT count(*) AS n, count(*) FILTER (WHERE retry_at IS NULL AND NOT probing) AS parked,
				count(*) FILTER (WHERE retry_at = 'infinity') AS unknown FROM inbox_stops) s`,
		prometheus.GaugeOpts{Name: "altyn_inbox_messages", Help: "Messages that wait to take effect."},
		prometheus.GaugeOpts{Name: "altyn_inbox_oldest_seconds", Help: "Age of the oldest of them."},
		prometheus.GaugeOpts{
			Name: "altyn_inbox_ready_oldest_seconds",
			Help: "Age of the oldest of them that is not held up: by a failure or a wait for money in its account."},
		prometheus.GaugeOpts{
			Name: "altyn_inbox_stopped_accounts", Help: "Accounts whose queue stands still because a message failed."},
		prometheus.GaugeOpts{Name: "altyn_inbox_parked_accounts", Help: "Those of them that wait for an operator."},
		prometheus.GaugeOpts{Name: "altyn_inbox_unknown_accounts",
			Help: "Those of them that wait for a version of the service which knows the message."})
}

// Wake tells the worker that messages were committed. It never blocks.
func (w *Worker[B]) Wake() { w.wake.Send() }

// Run settles until ctx ends, then returns nil; the batch in flight is finished. It survives the loss of the database.
// It may run several times at once: one Run looks for what other processes have stored; the others are woken, or look
// while that one is at work.
func (w *Worker[B]) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return stage.Loop{
			Name: "inbox worker", Log: w.log, Look: w.hasWork, Wake: w.wake, Poll: w.poll, Full: batchSize,
			Once: func(ctx context.Context) (int, error) {
				n, err := w.runOnce(ctx)
				if n > 0 && pg.Distributed(w.inbox.db) { // it was a batch of a shard: others may have more
					n = batchSize
				}
				return n, err
			},
		}.Run(ctx)
	})
	group.Go(func() error {
		return stage.Loop{Name: "inbox retries", Log: w.log, Once: w.probe, Every: retryInterval}.Run(ctx)
	})
	group.Go(func() error {
		var after uuid.UUID
		return stage.Loop{Name: "inbox successor", Log: w.log, Every: takeUpInterval, Full: maxProbes,
			Once: func(ctx context.Context) (int, error) { return w.takeUp(ctx, &after) }}.Run(ctx)
	})
	return group.Wait()
}

// hasWork reports whether any message is ready. It costs a fraction of a settlement that finds none.
func (w *Worker[B]) hasWork(ctx context.Context) (bool, error) {
	var lane int16
	err := w.inbox.db.GetContext(ctx, &lane, `SELECT lane FROM inbox WHERE NOT stopped LIMIT 1`)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("inbox: look for messages: %w", err)
	}
	return true, nil
}

// runOnce settles one batch and returns how many messages it took. Its error is the database's; a message that fails is
// dealt with here.
func (w *Worker[B]) runOnce(ctx context.Context) (int, error) {
	batch, err := w.settle(ctx, nil, nil)
	if err == nil || len(batch.rows) == 0 || pg.IsTransient(err) {
		return batch.taken, err
	}
	w.log.Warn("a batch failed; looking for the message", "messages", len(batch.rows), "error", err)
	// What follows a stopped message in its account's queue is left out by claim.
	return batch.taken, stage.Isolate(batch.rows, err,
		func(part []Stored) error { _, err := w.settle(ctx, batch.rows, part); return err },
		func(err error) bool { return !pg.IsTransient(err) },
		func(m Stored, cause error) error { return w.stop(ctx, m, cause) })
}

// settle claims and handles a batch in one transaction. If only is not nil, it does so with that part of a batch that
// has failed. It returns the batch even if it fails, without what is not known here.
func (w *Worker[B]) settle(ctx context.Context, failed, only []Stored) (batch claimed, err error) {
	var (
		committed func()
		spans     *telemetry.Batch
		begin     = time.Now()
	)
	err = pg.InTx(ctx, w.inbox.db, func(tx *sqlx.Tx) (err error) {
		spans.End(errAgain)
		committed, spans = nil, nil
		if batch, err = w.claim(ctx, tx, failed, only); err != nil || len(batch.rows) == 0 {
			return err
		}
		if err = stage.Guard(w.log, func() error {
			messages, unknown, err := w.inbox.decodeAll(&batch)
			if err == nil {
				err = w.keep(ctx, tx, unknown)
			}
			if err != nil || len(messages) == 0 {
				return err
			}
			spans = w.begin(messages)
			committed, err = w.handle(telemetry.WithBatch(ctx, spans), tx, messages)
			return err
		}); err != nil {
			return err
		}
		return batch.remove(ctx, tx)
	})
	w.end(spans, len(batch.rows), err)
	if err == nil && len(batch.rows) > 0 {
		w.settled(len(batch.rows), begin, committed)
		telemetry.LogEach(w.log, slog.LevelInfo, "message took effect after all; its account's queue goes on", "id",
			len(batch.probed), func(i int) string { return batch.probed[i].ID.String() },
			func(i int) []any { return w.about(batch.probed[i]) })
	}
	return batch, err
}

func (w *Worker[B]) claim(ctx context.Context, tx *sqlx.Tx, failed, only []Stored) (claimed, error) {
	if only != nil {
		return reclaim(ctx, tx, failed, only, w.inbox.exempt)
	}
	for _, lanes := range pg.Shards(w.inbox.db, rand.N[int16](contract.Lanes)) {
		batch, turn, err := claim(ctx, tx, lanes, w.turn.Load(), batchSize, w.inbox.exempt)
		w.turn.Store(turn)
		if err != nil || len(batch.rows) > 0 {
			return batch, err
		}
	}
	return claimed{}, nil
}

// settled reports a batch that was committed.
func (w *Worker[B]) settled(messages int, begin time.Time, committed func()) {
	w.batches.Observe(float64(messages))
	w.duration.Observe(time.Since(begin).Seconds())
	if committed != nil {
		committed()
	}
}

// about are the attributes of lines about a message.
func (w *Worker[B]) about(row Stored) []any {
	attributes := telemetry.WithTraceID([]any{"kind", row.Kind, "account_id", row.AccountID}, row.Traceparent)
	if w.Describe == nil {
		return attributes
	}
	if m, err := w.inbox.decode(row); err == nil {
		attributes = append(attributes, w.Describe(m)...)
	}
	return attributes
}

// lockClass is the first half of the advisory locks' key; the second is the lane.
const lockClass = 0x616c7401

// claimed is a batch that this transaction may settle: it holds the lanes' locks until it ends.
type claimed struct {
	rows   []Stored
	taken  int      // how many there were, with those of stopped accounts and those that are not known here
	probes []stop   // accounts whose head message is in the batch for another try
	probed []Stored // those messages
}

// exempt reports which messages of stopped accounts are claimed all the same; see Inbox.Exempt.
type exempt func(ctx context.Context, tx *sqlx.Tx, messages []Stored) ([]bool, error)

// claim locks some of the lanes that have ready messages, from a random one on, until one batch is full, and reads the
// batch, sorted by arrival. The locks are taken in a statement of their own and the messages are read by a later one: a
// statement that did both would read what was there before the lock.
//
// After a full batch, turn is not nil. Then half of the batch goes in equal shares to the tenants whose names follow
// turn, and the other half by arrival. Messages that are in no share are taken from the front of their lane, so the
// batch has the first ones of each account. claim returns the turn after a full batch.
func claim(ctx context.Context, tx *sqlx.Tx, of pg.Lanes, turn *string, limit int, exempt exempt) (
	c claimed, next *string, err error) {
	var rows []claimedRow
	var after string
	if turn != nil {
		if rows, after, err = claimShares(ctx, tx, of, *turn, limit/2); err != nil {
			return claimed{}, nil, err
		}
	}
	lanes, err := lockReadyLanes(ctx, tx, of, limit)
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
				WHERE inbox.lane = held.lane AND NOT stopped AND seq <> ALL ($2::bigint[]) AND `+pg.InLanes("inbox.lane", "$4")+`
				ORDER BY seq LIMIT $3
			) m LEFT JOIN inbox_stops s ON s.account_id = m.account_id AND s.lane = m.lane AND `+pg.InLanes("s.lane", "$4")+`
			LIMIT $3`, lanes, shared, limit-len(rows), pg.Lanes(lanes)); err != nil {
			return claimed{}, nil, fmt.Errorf("inbox: read: %w", err)
		}
		rows = append(rows, others...)
	}
	if len(rows) == limit {
		next = &after
	}
	c, err = leaveStopped(ctx, tx, rows, exempt)
	return c, next, err
}

// reclaim claims the messages of batch that are in only once more. It leaves out those behind a message of their
// account that is in batch, not in only and not settled: another worker may have held its lane for a moment.
func reclaim(ctx context.Context, tx *sqlx.Tx, batch, only []Stored, exempt exempt) (claimed, error) {
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
				AND `+pg.InLanes("lane", "$3")+`
		) m LEFT JOIN inbox_stops s ON s.account_id = m.account_id AND s.lane = m.lane AND `+pg.InLanes("s.lane", "$3"),
		ids, lanes, pg.Lanes(lanes)); err != nil {
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
	}), exempt)
}

// claimedRow is a ready message, and the stop of its account if there is one.
type claimedRow struct {
	Stored
	StopMessageID uuid.NullUUID `db:"stop_message_id"`
	StopProbing   sql.NullBool  `db:"stop_probing"`
}

// lockLanes locks those of the lanes that are free, and returns them.
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

// lockReadyLanes locks free lanes that have work. It begins with a random lane, so that a long queue in one lane does
// not keep workers from the others. Locks are taken where the statement is planned, so not together with reading a
// table.
func lockReadyLanes(ctx context.Context, tx *sqlx.Tx, of pg.Lanes, limit int) (held pg.Int16s, err error) {
	first := rand.N[int16](contract.Lanes)
	var wanted pg.Int16s
	if err := tx.SelectContext(ctx, &wanted, `
		SELECT DISTINCT lane FROM (
			(SELECT lane FROM inbox WHERE NOT stopped AND lane >= $1 AND `+pg.InLanes("lane", "$3")+`
			ORDER BY lane, seq LIMIT $2)
			UNION ALL
			(SELECT lane FROM inbox WHERE NOT stopped AND lane < $1 AND `+pg.InLanes("lane", "$3")+`
			ORDER BY lane, seq LIMIT $2)
		) ready LIMIT $2`, first, limit, of); err != nil {
		return nil, fmt.Errorf("inbox: find lanes: %w", err)
	}
	if len(wanted) == 0 {
		return nil, nil
	}
	if held, err = lockLanes(ctx, tx, wanted); err != nil {
		return nil, err
	}
	distance := func(lane int16) int16 { return (lane - first + contract.Lanes) % contract.Lanes }
	slices.SortFunc(held, func(a, b int16) int { return cmp.Compare(distance(a), distance(b)) })
	return held, nil
}

func bySeq(a, b claimedRow) int { return cmp.Compare(a.Seq, b.Seq) }

// leaveStopped sorts a batch by arrival. It takes the messages of stopped accounts out of it and flags them, so that
// they are not claimed again before their account is woken. Insert does not look at the stops; here, under the lane's
// lock, looking at them cannot race with waking an account. Those that are exempt stay in the batch.
func leaveStopped(ctx context.Context, tx *sqlx.Tx, rows []claimedRow, exempt exempt) (claimed, error) {
	slices.SortFunc(rows, bySeq)
	c := claimed{rows: make([]Stored, 0, len(rows)), taken: len(rows)}
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
	are, err := exempt(ctx, tx, waiting)
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
