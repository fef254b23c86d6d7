package outbox

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/pace"
	"github.com/altyn-pay/altyn/platform/postgres"
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
		SELECT (SELECT coalesce(sum(count), 0) FROM outbox),
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
		case n >= batchSize:
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
	rows, err := l.read(working)
	if err != nil {
		return 0, nil, fmt.Errorf("outbox: read: %w", err)
	}
	for _, row := range rows {
		n += len(row.open)
	}
	if ctx.Err() == nil {
		refused = l.publish(ctx, rows)
	}
	switch torn := slices.DeleteFunc(rows, func(row openRow) bool { return !row.torn() }); {
	case len(torn) > 0:
		err = l.takeApart(working, torn)
	case len(l.published) >= deleteAtOnce || !woken:
		err = l.deletePublished(working)
	}
	return n, refused, err
}

// openRow is a row with messages that the broker does not have yet.
type openRow struct {
	Row
	open  []openMessage
	begun bool // the broker has others of its messages
}

// torn tells whether a row cannot stay: the broker has some of its messages and not others, or some must be parked.
func (row openRow) torn() bool {
	return row.begun && len(row.open) > 0 || slices.ContainsFunc(row.open, func(m openMessage) bool { return m.behind || m.reason != "" })
}

type openMessage struct {
	Message
	behind bool   // a parked message of its key
	reason string // why the broker refuses it for good
}

// read returns what is to be published. What is behind a parked message is found in the transaction that reads it: were that
// one put back in between, it would be overtaken.
func (l *leader) read(ctx context.Context) ([]openRow, error) {
	rows, parked, err := l.readRows(ctx, l.conn)
	if err != nil || !parked {
		return rows, err
	}
	tx, err := l.conn.BeginTxx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }()
	if rows, _, err = l.readRows(ctx, tx); err != nil {
		return nil, err
	}
	stopped, err := parkedKeys(ctx, tx, rows, func(openMessage) bool { return true })
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		for i, m := range row.open {
			row.open[i].behind = stopped[messageKey{m.Topic, m.Key}]
		}
	}
	return rows, tx.Commit()
}

// readRows also tells whether anything is parked.
func (l *leader) readRows(ctx context.Context, from sqlx.QueryerContext) (rows []openRow, parked bool, err error) {
	result, err := from.QueryxContext(ctx, `
		SELECT seq, lane, messages, created_at, EXISTS (SELECT FROM outbox_parked)
		FROM (
			SELECT *, sum(count) OVER (ORDER BY seq) - count AS before
			FROM (SELECT * FROM outbox WHERE seq <> ALL ($1::bigint[]) ORDER BY seq LIMIT $2) o
		) o
		WHERE before < $2 ORDER BY seq`, l.published, batchSize)
	if err != nil {
		return nil, false, err
	}
	defer result.Close()
	for result.Next() {
		var row openRow
		if err := result.Scan(&row.Seq, &row.Lane, &row.Messages, &row.CreatedAt, &parked); err != nil {
			return nil, false, err
		}
		messages, err := row.Unpack()
		if err != nil {
			return nil, false, err
		}
		for _, m := range messages {
			row.open = append(row.open, openMessage{Message: m})
		}
		rows = append(rows, row)
	}
	return rows, parked, result.Err()
}

// publish publishes the messages of rows that are not behind others. Those that are published it takes out of open, those that
// are refused for good get the reason. It returns why others were not published for now.
func (l *leader) publish(ctx context.Context, rows []openRow) (refused error) {
	var messages []Message
	for _, row := range rows {
		for _, m := range row.open {
			if !m.behind {
				messages = append(messages, m.Message)
			}
		}
	}
	if len(messages) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	results := l.publisher.Publish(ctx, messages)
	done, next := 0, 0
	for i, row := range rows {
		var left []openMessage
		for _, m := range row.open {
			if !m.behind {
				err := results[next]
				next++
				switch {
				case err == nil:
					done++
					continue
				case l.publisher.Permanent(err):
					m.reason = postgres.Storable(err.Error())
					l.log.Error("outbox message refused by the broker and parked", "id", m.ID, "topic", m.Topic, "key", m.Key, "error", err)
				case refused == nil: // the first is the cause; later ones of its key were only not sent
					refused = err
				}
			}
			left = append(left, m)
		}
		if len(left) == 0 {
			l.published = append(l.published, row.Seq)
		}
		rows[i].begun, rows[i].open = len(left) < len(row.open), left
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
