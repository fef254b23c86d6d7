package outbox

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/pace"
	"github.com/altyn-pay/altyn/platform/postgres"
)

const (
	// lockClass is the first half of the advisory lock's key, Altyn's own in these databases.
	lockClass = 0x616c7402

	batchSize = 1000 // rows published at a time

	// So many published rows are deleted at once. Fewer wait for others, until the relay next looks by itself, as a statement
	// and a commit for each would cost as much as publishing it. If the relay ends in between, they are published again.
	deleteAtOnce = 64

	// standbyInterval is how often an instance that does not hold the lock asks for it.
	standbyInterval = time.Second
	maxBackoff      = 2 * time.Second

	// publishTimeout bounds one publication; what was not acknowledged by then is published again.
	publishTimeout = 30 * time.Second
)

// Publisher sends messages to the broker and returns once each of them is acknowledged or refused.
type Publisher interface {
	// Publish returns one error per message, nil where all in-sync replicas have it. Per key it neither reorders nor
	// sends a message after one that failed.
	Publish(ctx context.Context, messages []Message) []error
	// Permanent tells whether an error of Publish will come again however often the message is sent.
	Permanent(err error) bool
}

// Relay publishes a database's outbox. Any number of instances may run; the one that holds a session-level advisory
// lock works and the others stand by, so that the messages of a key leave in order.
type Relay struct {
	db        *sqlx.DB
	publisher Publisher
	log       *slog.Logger
	wake      chan struct{}
	published prometheus.Counter
	batches   prometheus.Histogram
	parked    prometheus.Counter
}

// NewRelay makes a relay; Run runs it.
func NewRelay(db *sqlx.DB, publisher Publisher, log *slog.Logger, metrics prometheus.Registerer) *Relay {
	r := &Relay{
		db: db, publisher: publisher, log: log, wake: make(chan struct{}, 1),
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

// depth tells how much waits to be published.
func depth(db *sqlx.DB) prometheus.Collector {
	return postgres.Gauges(db, `
		SELECT (SELECT count(*) FROM outbox),
			(SELECT coalesce(extract(epoch FROM clock_timestamp() - created_at), 0) FROM (SELECT min(created_at) AS created_at FROM outbox) o),
			(SELECT count(*) FROM outbox_parked)`,
		prometheus.GaugeOpts{Name: "altyn_outbox_messages", Help: "Messages that wait to be published."},
		prometheus.GaugeOpts{Name: "altyn_outbox_oldest_seconds", Help: "Age of the oldest of them."},
		prometheus.GaugeOpts{Name: "altyn_outbox_parked_messages", Help: "Messages that were set aside and wait for an operator."})
}

// Wake tells the relay that messages were committed. It never blocks.
func (r *Relay) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run publishes until ctx ends, then returns nil. It survives the loss of the database and of the broker.
func (r *Relay) Run(ctx context.Context) error {
	for failures := 0; ctx.Err() == nil; {
		err := r.lead(ctx)
		if ctx.Err() != nil {
			return nil
		}
		pause := standbyInterval
		if errors.Is(err, errStandby) {
			failures = 0
		} else {
			pause = min(maxBackoff, 50*time.Millisecond<<min(failures, 10))
			failures++
			r.log.Warn("outbox relay interrupted", "error", err, "retry_in", pause)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

var errStandby = errors.New("another instance holds the relay's lock")

// lead takes the lock on a connection of its own and relays on that connection until something fails: when the session
// is lost, so is the lock, and so is the right to publish.
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
		return errStandby
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

	l := leader{Relay: r, conn: conn}
	if err := l.run(ctx); err != nil {
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
	published postgres.Int64s // rows that are still to be deleted
}

// run publishes until ctx ends, then returns nil.
func (l *leader) run(ctx context.Context) error {
	var poll pace.Poll
	defer poll.Stop()
	woken := false
	for refusals := 0; ctx.Err() == nil; { // in a row, of the broker
		begin := time.Now()
		n, refused, err := l.runOnce(ctx, woken)
		switch {
		case err != nil:
			return err
		case refused != nil && refusals == 0:
			l.log.Warn("outbox cannot be published; it is tried again until it can", "error", refused)
		case refused == nil && refusals > 0 && n > 0:
			l.log.Info("outbox is published again")
			refusals = 0
		}
		switch {
		case refused != nil:
			// What is committed meanwhile does not shorten the pause.
			pace.Wait(ctx, min(maxBackoff, 50*time.Millisecond<<min(refusals, 10)))
			refusals++
			woken = false
		case n == batchSize:
			woken = true
		default:
			pace.Wait(ctx, pace.Rest(n, time.Since(begin)))
			woken = poll.Wait(ctx, l.wake, n > 0)
		}
	}
	return nil
}

// runOnce publishes one batch. It returns how many messages it took, and why the broker did not take some of them for now; err
// is the database's. There is no cursor: sequence order is not commit order, so whatever is visible is taken, but for what was
// published and is not deleted yet.
func (l *leader) runOnce(ctx context.Context, woken bool) (n int, refused, err error) {
	working := context.WithoutCancel(ctx) // a statement that is cut off ends the session; its settings bound the time
	messages, waiting, err := l.read(working)
	if err != nil {
		return 0, nil, fmt.Errorf("outbox: read: %w", err)
	}
	parked := map[int64]string{}
	if len(messages) > 0 && ctx.Err() == nil {
		refused = l.publish(ctx, messages, parked)
	}
	if len(l.published) >= deleteAtOnce || !woken {
		if err := l.deletePublished(working); err != nil {
			return 0, nil, err
		}
	}
	return len(messages) + len(waiting), refused, l.park(working, l.conn, parked, waiting)
}

// read returns what is to be published, and which rows are behind a parked message of their key.
func (l *leader) read(ctx context.Context) (messages []Message, waiting []int64, err error) {
	rows, err := l.conn.QueryContext(ctx, `
		SELECT seq, lane, id, type, topic, key, subject, payload, traceparent, created_at,
			EXISTS (SELECT FROM outbox_parked) AND EXISTS (SELECT FROM outbox_parked p WHERE p.topic = o.topic AND p.key = o.key)
		FROM outbox o WHERE seq <> ALL ($1::bigint[]) ORDER BY seq LIMIT $2`, l.published, batchSize)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var m Message
		var behind bool
		if err := rows.Scan(&m.Seq, &m.Lane, &m.ID, &m.Type, &m.Topic, &m.Key, &m.Subject, &m.Payload, &m.Traceparent, &m.CreatedAt,
			&behind); err != nil {
			return nil, nil, err
		}
		if behind {
			waiting = append(waiting, m.Seq)
		} else {
			messages = append(messages, m)
		}
	}
	return messages, waiting, rows.Err()
}

// publish publishes messages. It adds those that were refused for good to parked, with the reason, and returns why others
// were not published for now.
func (l *leader) publish(ctx context.Context, messages []Message, parked map[int64]string) (refused error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	done := 0
	for i, err := range l.publisher.Publish(ctx, messages) {
		switch m := messages[i]; {
		case err == nil:
			l.published = append(l.published, m.Seq)
			done++
		case l.publisher.Permanent(err):
			parked[m.Seq] = postgres.Storable(err.Error())
			l.log.Error("outbox message refused by the broker and parked", "id", m.ID, "topic", m.Topic, "key", m.Key, "error", err)
		case refused == nil: // the first is the cause; later ones of its key were only not sent
			refused = err
		}
	}
	if done > 0 {
		l.Relay.published.Add(float64(done))
		l.batches.Observe(float64(done))
	}
	return refused
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
