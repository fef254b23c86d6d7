package outbox

import (
	"context"
	"database/sql/driver"
	"errors"
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

	batchSize = 1000 // messages published at a time, and those that share a row with the last of them

	// So many published rows are deleted at once. Fewer wait for others, until the relay next looks by itself, as a statement
	// and a commit for each would cost as much as publishing it. If the relay ends in between, they are published again.
	deleteAtOnce = 64

	// standbyInterval is how often an instance that does not hold the lock asks for it.
	standbyInterval = time.Second

	// publishTimeout bounds one publication; what was not acknowledged by then is published again.
	publishTimeout = 30 * time.Second
)

// Publisher sends messages to the broker and returns once each of them is acknowledged or refused.
type Publisher interface {
	// Publish returns one error per message, nil where all in-sync replicas have it, Unavailable where it is about a part of a topic.
	// Per key it neither reorders nor sends a message after one that failed. It does not wait for what may come to be.
	Publish(ctx context.Context, messages []Message) []error
	// Retry is Publish for messages of a part of a topic that took none before. It may run beside Publish and others like it.
	Retry(ctx context.Context, messages []Message) []error
	// Permanent tells whether an error of Publish will come again however often the message is sent.
	Permanent(err error) bool
}

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
			Name: "altyn_outbox_batch_size", Help: "Messages published at a time.", Buckets: prometheus.ExponentialBuckets(1, 4, 6)}),
		parked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "altyn_outbox_parked_total", Help: "Messages set aside because the broker refused them or an earlier one of their key."}),
	}
	metrics.MustRegister(r.published, r.batches, r.parked, depth(db))
	return r
}

// Instead has messages go to another topic when theirs, for a minute, has not existed or been forbidden to us. fallback names the
// other one, or "" where there is none. It is called before Run.
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
		prometheus.GaugeOpts{Name: "altyn_outbox_waiting_messages", Help: "Those of them whose part of a topic takes none for now."},
		prometheus.GaugeOpts{Name: "altyn_outbox_parked_messages", Help: "Messages that were set aside and wait for an operator."})
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

// lead takes the lock, if no other instance has it, on a connection of its own, and publishes on that connection until ctx ends or
// something fails: when the session is lost, so is the lock, and so is the right to publish.
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
	flying, stop := context.WithCancel(ctx)
	defer l.flights.Wait()
	defer stop()
	if err := l.run(flying); err != nil {
		return err
	}
	// What the broker has is deleted even when the process is being stopped, or it would be published again.
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
	waits     waits
	catchUp   int // messages
	flights   sync.WaitGroup
	flying    int         // attempts that have not landed
	landed    chan flight // has room for all of them
}

func newLeader(ctx context.Context, r *Relay, conn *sqlx.Conn) (*leader, error) {
	waits, err := loadWaits(ctx, conn)
	return &leader{Relay: r, conn: conn, waits: waits, catchUp: catchUp, landed: make(chan flight, maxFlights)}, err
}

// run publishes until ctx ends, then returns nil, or until the database fails. While the broker refuses everything, it backs off.
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

// runOnce publishes one batch. It returns how many messages it took, and why the broker did not take some of them for now; err
// is the database's. There is no cursor: sequence order is not commit order, so whatever is visible is taken, but for what was
// published and is not deleted yet.
func (l *leader) runOnce(ctx context.Context, woken bool) (n int, refused, err error) {
	working := context.WithoutCancel(ctx) // a statement that is cut off ends the session; its settings bound the time
	landed := l.land()
	rows, err := l.read(working)
	if err != nil {
		return 0, nil, fmt.Errorf("outbox: read: %w", err)
	}
	l.hold(rows)
	if ctx.Err() == nil {
		rows = l.launch(ctx, rows)
		for _, row := range rows {
			n += len(row.open)
		}
		l.publish(ctx, rows)
	}
	l.place(rows)
	for _, row := range rows {
		if refused == nil && (row.from == nil || row.from.open || row.instead) {
			refused = row.stuck()
		}
	}
	rows = append(rows, landed...)
	l.close(rows)
	switch changed := slices.DeleteFunc(rows, func(row openRow) bool { return !row.changed() }); {
	case len(changed) > 0:
		err = l.takeApart(working, changed)
	case len(l.published) >= deleteAtOnce || !woken:
		err = l.deletePublished(working)
	}
	return n, refused, err
}

// publish publishes the messages of rows that can be.
func (l *leader) publish(ctx context.Context, rows []openRow) {
	messages := toSend(rows)
	if len(messages) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	l.settle(rows, l.publisher.Publish(ctx, messages), map[*waiting]bool{})
}

// settle takes the results of what could be sent. Published messages it takes out of open, what is refused for good gets the
// reason, and what a part of a topic does not take for now is noted in failed.
func (l *leader) settle(rows []openRow, results []error, failed map[*waiting]bool) {
	done, next := 0, 0
	parked := map[messageKey]bool{}
	for i, row := range rows {
		var left []openMessage
		for _, m := range row.open {
			if m.behind || m.held {
				left = append(left, m)
				continue
			}
			err := results[next]
			next++
			var away *Unavailable
			switch key := (messageKey{m.Topic, m.Key}); {
			case err == nil:
				done++
				continue
			case l.publisher.Permanent(err):
				m.reason, parked[key] = pg.Storable(err.Error()), true
				l.log.Error("outbox message refused by the broker and parked", "id", m.ID, "subject", m.Subject, "topic", m.Topic, "key", m.Key, "error", err)
			case parked[key]:
				m.reason = behind
			case errors.As(err, &away):
				p := part{m.Topic, away.Partitions, away.Partition}
				if row.from != nil && !row.instead && p.Partitions <= row.from.Partitions {
					p = row.from.part // it is in there, and so is what comes after it
				}
				l.fail(p, away, failed)
			default:
				m.err = err
			}
			left = append(left, m)
		}
		if len(left) == 0 && row.from == nil {
			l.published = append(l.published, row.Seq)
		}
		rows[i].begun, rows[i].open = len(left) < len(row.open), left
	}
	if done > 0 {
		l.Relay.published.Add(float64(done))
		l.batches.Observe(float64(done))
	}
}

// stuck tells why a message that could have been published stays where it is, but for its part of a topic. The first is the
// cause; later ones of its key were only not sent.
func (row openRow) stuck() error {
	for _, m := range row.open {
		if m.err != nil && m.reason == "" && m.to == row.from {
			return m.err
		}
	}
	return nil
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
