package inbox

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/stage"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// batchSize is how many messages are settled in one transaction.
const batchSize = 1000

// Handler gives a batch its effect in the transaction tx, which commits it. The batch is sorted by arrival and holds
// messages of many accounts; the transaction holds their lanes. The function it returns, if any, runs once the
// transaction has committed. An error rolls everything back; when it is not the database's own trouble, smaller
// batches are tried until the message that causes it is found. The handler must recognise a message that has taken
// effect before.
type Handler[B any] func(ctx context.Context, tx *sqlx.Tx, batch []Message[B]) (committed func(), err error)

// Worker settles the inbox of a database. Any number of workers may run, in any number of processes.
type Worker[B any] struct {
	// Describe, if not nil, gives the lines of the log about a message more attributes. It is set before the worker is
	// used.
	Describe func(m Message[B]) []any

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
		SELECT (SELECT count(*) FROM inbox),
			(SELECT coalesce(extract(epoch FROM clock_timestamp() - min(received_at)), 0) FROM inbox),
			(SELECT count(*) FROM inbox_stops), (SELECT count(*) FROM inbox_stops WHERE retry_at IS NULL AND NOT probing)`,
		prometheus.GaugeOpts{Name: "altyn_inbox_messages", Help: "Messages that wait to take effect."},
		prometheus.GaugeOpts{Name: "altyn_inbox_oldest_seconds", Help: "Age of the oldest of them."},
		prometheus.GaugeOpts{
			Name: "altyn_inbox_stopped_accounts", Help: "Accounts whose queue stands still because a message failed."},
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
	err := w.inbox.db.GetContext(ctx, &ready, `SELECT EXISTS (SELECT FROM inbox WHERE NOT stopped)`)
	if err != nil {
		return false, fmt.Errorf("inbox: look for messages: %w", err)
	}
	return ready, nil
}

// runOnce settles one batch and returns how many messages it took. An error is the database's trouble; a message's own
// is dealt with.
func (w *Worker[B]) runOnce(ctx context.Context) (int, error) {
	batch, err := w.settle(ctx, nil, nil)
	if err == nil || len(batch) == 0 || pg.IsTransient(err) {
		return len(batch), err
	}
	w.log.Warn("a batch failed; looking for the message", "messages", len(batch), "error", err)
	// What follows a stopped message in its account's queue is left out by claim.
	return len(batch), stage.Isolate(batch, err,
		func(part []Stored) error { _, err := w.settle(ctx, batch, part); return err },
		func(err error) bool { return !pg.IsTransient(err) },
		func(m Stored, cause error) error { return w.stop(ctx, m, cause) })
}

// settle claims and handles a batch in one transaction, or, if only is not nil, that part of one that has failed. The
// batch is returned also when it failed.
func (w *Worker[B]) settle(ctx context.Context, failed, only []Stored) ([]Stored, error) {
	var (
		batch     claimed
		committed func()
		begin     = time.Now()
	)
	err := pg.InTx(ctx, w.inbox.db, func(tx *sqlx.Tx) (err error) {
		committed = nil
		if batch, err = w.claim(ctx, tx, failed, only); err != nil || len(batch.rows) == 0 {
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
		telemetry.LogEach(w.log, slog.LevelInfo, "message took effect after all; its account's queue goes on", "id",
			len(batch.probed), func(i int) (string, []any) { return batch.probed[i].ID.String(), w.about(batch.probed[i]) })
	}
	return batch.rows, err
}

func (w *Worker[B]) claim(ctx context.Context, tx *sqlx.Tx, failed, only []Stored) (claimed, error) {
	if only != nil {
		return reclaim(ctx, tx, failed, only, w.inbox.apart)
	}
	batch, turn, err := claim(ctx, tx, w.turn.Load(), batchSize, w.inbox.apart)
	w.turn.Store(turn)
	return batch, err
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
