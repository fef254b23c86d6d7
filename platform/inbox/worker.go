package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/stage"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

const (
	batchSize = 1000 // messages settled in one transaction

	// retryInterval is how often a worker looks for accounts whose head message is due for another try.
	retryInterval = 250 * time.Millisecond
	maxProbes     = 100 // accounts woken at a time
)

// Handler gives a batch its effect in the transaction tx, which commits it. The batch is sorted by arrival and holds
// messages of many accounts; the transaction holds their lanes. The function it returns, if any, runs once the
// transaction has committed. An error rolls everything back; when it is not the database's own trouble, smaller
// batches are tried until the message that causes it is found. The handler must recognise a message that has taken
// effect before.
type Handler[B any] func(ctx context.Context, tx *sqlx.Tx, batch []Message[B]) (committed func(), err error)

// Retry says how often a message that fails unexpectedly is tried, and how long its account waits between two attempts:
// First after the first one, twice as long each time, up to Longest. After the last attempt it is parked.
type Retry struct {
	Attempts       int
	First, Longest time.Duration
}

// DefaultRetry parks a message after some 13 s.
var DefaultRetry = Retry{Attempts: 8, First: 100 * time.Millisecond, Longest: 30 * time.Second}

// after is the wait after so many attempts; parked is true when there is no further one.
func (r Retry) after(attempts int) (pause time.Duration, parked bool) {
	if attempts >= r.Attempts {
		return 0, true
	}
	pause = r.First
	for range attempts - 1 {
		if pause *= 2; pause >= r.Longest {
			break
		}
	}
	return min(pause, r.Longest), false
}

// Worker settles the inbox of a database. Any number of workers may run, in any number of processes.
type Worker[B any] struct {
	// Describe, if not nil, gives the lines of the log about a message more attributes. It is set before the worker is
	// used.
	Describe func(m Message[B]) []any

	inbox  *Inbox[B]
	db     *sqlx.DB
	handle Handler[B]
	retry  Retry
	log    *slog.Logger
	wake   stage.Signal
	poll   *stage.Poll // of all that Run

	batches  prometheus.Histogram
	duration prometheus.Histogram
	failures *prometheus.CounterVec
}

// NewWorker makes a worker; Run runs it.
func NewWorker[B any](inbox *Inbox[B], handle Handler[B], retry Retry, log *slog.Logger,
	metrics prometheus.Registerer) *Worker[B] {
	w := &Worker[B]{
		inbox: inbox, db: inbox.db, handle: handle, retry: retry, log: log, wake: stage.NewSignal(), poll: stage.NewPoll(),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "altyn_inbox_batch_size", Help: "Messages settled in one transaction.", Buckets: prometheus.ExponentialBuckets(1, 4, 6)}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "altyn_inbox_batch_seconds", Help: "Time to settle one batch.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 12)}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "altyn_inbox_failures_total", Help: "Unexpected failures of single messages, by what follows."}, []string{"outcome"}),
	}
	metrics.MustRegister(w.batches, w.duration, w.failures, depth(inbox.db))
	return w
}

// depth tells how much waits to take effect.
func depth(db *sqlx.DB) prometheus.Collector {
	return pg.Gauges(db, `
		SELECT (SELECT count(*) FROM inbox),
			(SELECT coalesce(extract(epoch FROM clock_timestamp() - received_at), 0) FROM (SELECT min(received_at) AS received_at FROM inbox) i),
			(SELECT count(*) FROM inbox_stops), (SELECT count(*) FROM inbox_stops WHERE retry_at IS NULL AND NOT probing)`,
		prometheus.GaugeOpts{Name: "altyn_inbox_messages", Help: "Messages that wait to take effect."},
		prometheus.GaugeOpts{Name: "altyn_inbox_oldest_seconds", Help: "Age of the oldest of them."},
		prometheus.GaugeOpts{Name: "altyn_inbox_stopped_accounts", Help: "Accounts whose queue stands still because a message failed."},
		prometheus.GaugeOpts{Name: "altyn_inbox_parked_accounts", Help: "Those of them that wait for an operator."})
}

// Wake tells the worker that messages were committed. It never blocks.
func (w *Worker[B]) Wake() { w.wake.Send() }

// Run settles until ctx ends, then returns nil; the batch in flight is finished. It survives the loss of the database.
// It may run several times at once; one of them looks for what other processes have stored, and the others are woken,
// or look when that one is at work.
func (w *Worker[B]) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return stage.Loop{
			Name: "inbox worker", Log: w.log, Once: w.runOnce, Look: w.hasWork, Wake: w.wake, Poll: w.poll, Full: batchSize,
		}.Run(ctx)
	})
	group.Go(func() error {
		return stage.Loop{Name: "inbox retries", Log: w.log, Once: w.probe, Every: retryInterval}.Run(ctx)
	})
	return group.Wait()
}

// hasWork looks whether any message is ready, which costs a fraction of a settlement that finds none.
func (w *Worker[B]) hasWork(ctx context.Context) (bool, error) {
	var ready bool
	err := w.db.GetContext(ctx, &ready, `SELECT EXISTS (SELECT FROM inbox WHERE NOT stopped)`)
	if err != nil {
		return false, fmt.Errorf("inbox: look for messages: %w", err)
	}
	return ready, nil
}

// runOnce settles one batch and returns how many messages it took. An error is the database's trouble; a message's own
// is dealt with.
func (w *Worker[B]) runOnce(ctx context.Context) (int, error) {
	batch, err := w.settle(ctx, nil)
	if err == nil || len(batch) == 0 || pg.IsTransient(err) {
		return len(batch), err
	}
	w.log.Warn("a batch failed; looking for the message", "messages", len(batch), "error", err)
	// What follows a stopped message in its account's queue is left out by claim.
	return len(batch), stage.Isolate(batch, err,
		func(part []Stored) error { _, err := w.settle(ctx, part); return err },
		func(err error) bool { return !pg.IsTransient(err) },
		func(m Stored, cause error) error { return w.stop(ctx, m, cause) })
}

// settle claims and handles a batch in one transaction. The batch is returned also when it failed.
func (w *Worker[B]) settle(ctx context.Context, only []Stored) ([]Stored, error) {
	var (
		batch     claimed
		committed func()
		begin     = time.Now()
	)
	err := pg.InTx(ctx, w.db, func(tx *sqlx.Tx) (err error) {
		committed = nil
		if batch, err = claim(ctx, tx, only, batchSize); err != nil || len(batch.rows) == 0 {
			return err
		}
		if committed, err = w.guard(func() (func(), error) {
			messages, err := w.inbox.decodeAll(batch.rows)
			if err != nil {
				return nil, err
			}
			return w.handle(ctx, tx, messages)
		}); err != nil {
			return err
		}
		return batch.remove(ctx, tx)
	})
	if err == nil && len(batch.rows) > 0 {
		w.settled(len(batch.rows), begin, committed)
		telemetry.LogEach(w.log, slog.LevelInfo, "message took effect after all; its account's queue goes on", "id", len(batch.probed),
			func(i int) (string, []any) { return batch.probed[i].ID.String(), w.about(batch.probed[i]) })
	}
	return batch.rows, err
}

// settled tells of a batch that was committed.
func (w *Worker[B]) settled(messages int, begin time.Time, committed func()) {
	w.batches.Observe(float64(messages))
	w.duration.Observe(time.Since(begin).Seconds())
	if committed != nil {
		committed()
	}
}

// guard runs the application's code and turns a panic into an error, which stops one account instead of the process.
func (w *Worker[B]) guard(run func() (func(), error)) (committed func(), err error) {
	defer func() {
		if p := recover(); p != nil {
			committed, err = nil, fmt.Errorf("panic: %v", p)
			w.log.Error("a handler panicked", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	return run()
}

// stop makes an account's queue stand still after its head message has failed: for a while, or, after too many
// attempts, until an operator acts.
func (w *Worker[B]) stop(ctx context.Context, m Stored, cause error) error {
	return pg.InTx(ctx, w.db, func(tx *sqlx.Tx) error {
		if err := lockLane(ctx, tx, m.Lane); err != nil {
			return err
		}
		var attempts int
		err := tx.GetContext(ctx, &attempts, `
			INSERT INTO inbox_stops (account_id, lane, message_id, attempts, reason)
			SELECT account_id, lane, id, 1, $4 FROM inbox WHERE account_id = $1 AND lane = $2 AND id = $3
			ON CONFLICT (account_id, lane) DO UPDATE SET
				attempts = CASE WHEN inbox_stops.message_id = excluded.message_id THEN inbox_stops.attempts + 1 ELSE 1 END,
				message_id = excluded.message_id, reason = excluded.reason, probing = false, stopped_at = clock_timestamp()
			RETURNING attempts`, m.AccountID, m.Lane, m.ID, pg.Storable(cause.Error()))
		if errors.Is(err, sql.ErrNoRows) {
			return nil // another worker has settled it meanwhile
		}
		if err != nil {
			return fmt.Errorf("inbox: stop: %w", err)
		}
		outcome := "retried"
		pause, parked := w.retry.after(attempts)
		if parked {
			outcome = "parked"
		}
		if _, err := tx.ExecContext(ctx, `
			UPDATE inbox_stops SET retry_at = clock_timestamp() + make_interval(secs => $3) WHERE account_id = $1 AND lane = $2`,
			m.AccountID, m.Lane, sql.NullFloat64{Float64: pause.Seconds(), Valid: !parked}); err != nil {
			return fmt.Errorf("inbox: stop: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `UPDATE inbox SET stopped = true WHERE account_id = $1 AND lane = $2 AND NOT stopped`,
			m.AccountID, m.Lane); err != nil {
			return fmt.Errorf("inbox: stop: %w", err)
		}
		w.failures.WithLabelValues(outcome).Inc()
		w.log.Error("message failed; its account's queue stands still", append([]any{"outcome", outcome, "id", m.ID,
			"attempts", attempts, "error", cause}, w.about(m)...)...)
		return nil
	})
}

// about are the attributes of lines about a message.
func (w *Worker[B]) about(row Stored) []any {
	attributes := []any{"kind", row.Kind, "account_id", row.AccountID}
	if w.Describe == nil {
		return attributes
	}
	if m, err := w.inbox.decode(row); err == nil {
		attributes = append(attributes, w.Describe(m)...)
	}
	return attributes
}

// probe makes the head messages of accounts whose time has come ready for another try. It returns how many accounts
// were due.
func (w *Worker[B]) probe(ctx context.Context) (int, error) {
	var due []stop
	if err := w.db.SelectContext(ctx, &due, `
		SELECT account_id, lane FROM inbox_stops
		WHERE retry_at <= clock_timestamp() ORDER BY retry_at LIMIT $1`, maxProbes); err != nil {
		return 0, fmt.Errorf("inbox: find stops: %w", err)
	}
	for _, s := range due {
		if err := pg.InTx(ctx, w.db, func(tx *sqlx.Tx) error {
			if err := lockLane(ctx, tx, s.Lane); err != nil {
				return err
			}
			// Another worker may have been first, and the message may have failed since, or have taken effect.
			stopped, err := changed(tx.ExecContext(ctx, `
				UPDATE inbox_stops SET probing = true, retry_at = NULL
				WHERE account_id = $1 AND lane = $2 AND retry_at <= clock_timestamp()`, s.AccountID, s.Lane))
			if err != nil {
				return fmt.Errorf("inbox: probe: %w", err)
			}
			if !stopped {
				return nil
			}
			return ready(ctx, tx, s)
		}); err != nil {
			return 0, err
		}
	}
	if len(due) > 0 {
		w.Wake()
	}
	return len(due), nil
}

// ready lets the head message of a stopped account, which the caller has marked as probing, be claimed once more.
func ready(ctx context.Context, tx *sqlx.Tx, s stop) error {
	found, err := changed(tx.ExecContext(ctx, `
		UPDATE inbox SET stopped = false FROM inbox_stops s
		WHERE s.account_id = $1 AND s.lane = $2 AND inbox.id = s.message_id AND inbox.lane = s.lane`, s.AccountID, s.Lane))
	if err != nil {
		return fmt.Errorf("inbox: make ready: %w", err)
	}
	if !found { // somebody has deleted it: there is nothing to wait for
		return wake(ctx, tx, s)
	}
	return nil
}

// lockLane takes a lane's lock until the transaction ends. The wait is bounded by the session's lock_timeout; a
// settlement holds a lane for some milliseconds.
func lockLane(ctx context.Context, tx *sqlx.Tx, lane int16) error {
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1, $2)`, lockClass, lane); err != nil {
		return fmt.Errorf("inbox: lock lane: %w", err)
	}
	return nil
}

// changed tells whether a statement has changed any row.
func changed(result sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}
