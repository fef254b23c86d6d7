package outbox

import (
	"context"
	"database/sql/driver"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/stage"
)

const (
	// lockClass is the first half of the advisory lock's key, Altyn's own in these databases.
	lockClass = 0x616c7402

	batchSize = 1000 // messages published at a time; the rest of the last row comes on top

	// deleteAtOnce is how many published rows are deleted together. Fewer of them wait for more, at most until the relay
	// next looks without being woken: a statement and a commit for each would cost as much as publishing it. If the relay
	// dies in between, they are published again.
	deleteAtOnce = 64

	// standbyInterval is how often an instance that does not hold the lock asks for it.
	standbyInterval = time.Second

	// publishTimeout bounds one publication; what was not acknowledged by then is published again.
	publishTimeout = 30 * time.Second
)

// Relay publishes a database's outbox. Any number of instances may run; the one that holds a session-level advisory
// lock works and the others stand by, so that the messages of a key leave in order.
type Relay struct {
	db        *sqlx.DB
	publisher Publisher
	fallback  func(topic string) string
	log       *slog.Logger
	wake      stage.Signal
	published prometheus.Counter
	batches   prometheus.Histogram
	parked    prometheus.Counter
}

// NewRelay makes a relay; Run runs it.
func NewRelay(db *sqlx.DB, publisher Publisher, log *slog.Logger, metrics prometheus.Registerer) *Relay {
	r := &Relay{
		db: db, publisher: publisher, log: log, wake: stage.NewSignal(),
		published: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "altyn_outbox_published_total", Help: "Messages acknowledged by the broker."}),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "altyn_outbox_batch_size", Help: "Messages published at a time.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 6)}),
		parked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "altyn_outbox_parked_total",
			Help: "Messages set aside because the broker refused them or an earlier one of their key."}),
	}
	metrics.MustRegister(r.published, r.batches, r.parked, depth(db))
	return r
}

// Instead has messages go to another topic once their own has not existed, or has been forbidden to us, for a minute.
// fallback returns the other topic's name, or "" where there is none. Call it before Run.
func (r *Relay) Instead(fallback func(topic string) string) { r.fallback = fallback }

// depth tells how much waits to be published.
func depth(db *sqlx.DB) prometheus.Collector {
	return pg.Gauges(db, `
		SELECT o.n + w.n, coalesce(extract(epoch FROM clock_timestamp() - least(o.oldest, w.oldest)), 0), w.n,
			(SELECT count(*) FROM outbox_parked)
		FROM (SELECT coalesce(sum(count), 0) AS n, min(created_at) AS oldest FROM outbox) o,
			(SELECT coalesce(sum(count), 0) AS n, min(created_at) AS oldest FROM outbox_waiting) w`,
		prometheus.GaugeOpts{Name: "altyn_outbox_messages", Help: "Messages that wait to be published."},
		prometheus.GaugeOpts{Name: "altyn_outbox_oldest_seconds", Help: "Age of the oldest of them."},
		prometheus.GaugeOpts{
			Name: "altyn_outbox_waiting_messages", Help: "Those of them whose part of a topic takes none for now."},
		prometheus.GaugeOpts{
			Name: "altyn_outbox_parked_messages", Help: "Messages that were set aside and wait for an operator."})
}

// Wake tells the relay that messages were committed. It never blocks.
func (r *Relay) Wake() { r.wake.Send() }

// Run publishes until ctx ends, then returns nil. It survives the loss of the database and of the broker.
func (r *Relay) Run(ctx context.Context) error {
	return stage.Loop{
		Name: "outbox relay", Log: r.log, Every: standbyInterval,
		Once: func(context.Context) (int, error) { return 0, r.lead(ctx) },
	}.Run(ctx)
}

// lead takes the lock, if no other instance has it, on a connection of its own, and publishes on that connection until
// ctx ends or something fails: when the session is lost, so is the lock, and so is the right to publish.
func (r *Relay) lead(ctx context.Context) error {
	conn, err := r.db.Connx(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var leads bool
	if err := conn.GetContext(ctx, &leads, `SELECT pg_try_advisory_lock($1, 0)`, lockClass); err != nil {
		return err
	}
	if !leads {
		return nil
	}
	// The pool would hand the session on with its lock and its settings, so it is discarded at the end.
	defer discard(conn)
	// A holder that is frozen, or whose host is lost, must not keep the lock: the server ends a session that says
	// nothing for this long, and notices a peer that is gone.
	if _, err := conn.ExecContext(ctx, `
		SELECT set_config('idle_session_timeout', '40s', false), set_config('tcp_keepalives_idle', '5', false),
			set_config('tcp_keepalives_interval', '2', false), set_config('tcp_keepalives_count', '3', false),
			set_config('tcp_user_timeout', '10s', false)`); err != nil {
		return err
	}
	r.log.Info("outbox relay leads")

	l, err := newLeader(ctx, r, conn)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer l.attempts.Wait()
	defer stop()
	if err := l.run(running); err != nil {
		return err
	}
	// Delete what the broker has, even when the process is stopping: otherwise it would be published again.
	return l.deletePublished(context.WithoutCancel(ctx))
}

// discard closes the session instead of giving it back to the pool.
func discard(conn *sqlx.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
}

// leader is a relay that holds the lock, on the session that has it.
type leader struct {
	*Relay
	conn      *sqlx.Conn
	published pg.Int64s // rows of the outbox that are still to be deleted
	waiting   waitingParts
	catchUp   int // messages read at a time of parts that are available again

	attempts sync.WaitGroup
	running  int          // attempts whose results were not handled
	ended    chan attempt // has room for all of them
}

func newLeader(ctx context.Context, r *Relay, conn *sqlx.Conn) (*leader, error) {
	waiting, err := loadParts(ctx, conn)
	return &leader{Relay: r, conn: conn, waiting: waiting, catchUp: catchUp, ended: make(chan attempt, maxAttempts)}, err
}

// run publishes until ctx ends, then returns nil, or until the database fails. While the broker refuses everything, it
// backs off.
func (l *leader) run(ctx context.Context) (err error) {
	running, end := context.WithCancel(ctx)
	defer end()
	woken := false
	_ = stage.Loop{
		Name: "publishing the outbox", Log: l.log, Wake: l.wake, Full: batchSize, Gather: true,
		Look: func(context.Context) (bool, error) { woken = false; return true, nil },
		Once: func(context.Context) (n int, refused error) {
			if n, refused, err = l.runOnce(ctx, woken); err != nil {
				end()
				return 0, nil
			}
			woken = refused == nil
			return n, refused
		},
	}.Run(running)
	return err
}

// runOnce publishes one batch. It returns how many messages it took, and why the broker refused some of them for now;
// err is the database's. There is no cursor, since the order of sequence numbers is not that of commits: it takes all
// rows that are visible, except those that are published and not deleted yet.
func (l *leader) runOnce(ctx context.Context, woken bool) (n int, refused, err error) {
	working := context.WithoutCancel(ctx) // a statement that is cut off ends the session; its settings bound the time
	ended := l.finishAttempts()
	rows, err := l.read(working)
	if err != nil {
		return 0, nil, fmt.Errorf("outbox: read: %w", err)
	}
	l.hold(rows)
	if ctx.Err() == nil {
		rows = l.startAttempts(ctx, rows)
		for _, row := range rows {
			n += len(row.open)
		}
		l.publish(ctx, rows)
	}
	l.place(rows)
	for _, row := range rows {
		if refused == nil && (row.from == nil || row.from.available || row.rerouted) {
			refused = row.stuck()
		}
	}
	rows = append(rows, ended...)
	l.endStep(rows)
	switch changed := slices.DeleteFunc(rows, func(row openRow) bool { return !row.changed() }); {
	case len(changed) > 0:
		err = l.takeApart(working, changed)
	case len(l.published) >= deleteAtOnce || !woken:
		err = l.deletePublished(working)
	}
	return n, refused, err
}

// deletePublished deletes what the broker has.
func (l *leader) deletePublished(ctx context.Context) error {
	if len(l.published) == 0 {
		return nil
	}
	if _, err := l.conn.ExecContext(ctx, `DELETE FROM outbox WHERE seq = ANY($1::bigint[])`, l.published); err != nil {
		return fmt.Errorf("outbox: delete: %w", err)
	}
	l.published = l.published[:0]
	return nil
}
