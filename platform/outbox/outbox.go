package outbox

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/stage"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations creates the outbox's tables.
func Migrations() pg.Migrations { return pg.Embedded("outbox", files) }

// Message is one event to be published.
type Message struct {
	Seq         int64     `db:"seq"`  // set by the database: the order of publication per key
	Lane        int16     `db:"lane"` // the same for all messages of a key
	ID          uuid.UUID `db:"id"`
	Type        string    `db:"type"`
	Topic       string    `db:"topic"`
	Key         string    `db:"key"`
	Subject     string    `db:"subject"`
	Payload     string    `db:"payload"` // JSON
	Traceparent string    `db:"traceparent"`
	Tenant      string    `db:"tenant"`     // whose it is; "" is identity.DefaultTenant, as which it is read back
	CreatedAt   time.Time `db:"created_at"` // set by the database
}

// Append stores messages in the caller's transaction: they are published, in this order per key, if and only if it
// commits. Wake the relay after the commit.
func Append(ctx context.Context, tx *sqlx.Tx, messages ...Message) error {
	if len(messages) == 0 {
		return nil
	}
	lanes, counts, texts := pack(messages)
	// The columns are unnested in the SELECT list, which makes the rows one after the other; in FROM each column would be
	// a table of its own first.
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO outbox (lane, count, messages) SELECT unnest($1::smallint[]), unnest($2::smallint[]), unnest($3::text[])`,
		lanes, counts, texts); err != nil {
		return fmt.Errorf("outbox: append %d messages: %w", len(messages), err)
	}
	return nil
}

// Insertion is Append as a part of another statement, such as a WITH query. It returns SQL that inserts the messages
// whose subject satisfies the condition, and all arguments of the statement: args, followed by those of the SQL.
func Insertion(messages []Message, condition string, args []any) (sql string, all []any) {
	n := len(messages)
	lanes, subjects, texts := make(pg.Int16s, n), make(pg.Texts, n), make(pg.Texts, n)
	for i, m := range messages {
		lanes[i], subjects[i], texts[i] = m.Lane, m.Subject, m.row()
	}
	first := len(args) + 1
	return fmt.Sprintf(`
		INSERT INTO outbox (lane, count, messages)
		SELECT lane, 1, message
		FROM unnest($%d::smallint[], $%d::text[], $%d::text[]) WITH ORDINALITY AS m (lane, subject, message, n)
		WHERE %s ORDER BY n`, first, first+1, first+2, condition), append(args, lanes, subjects, texts)
}

// Row is how messages are stored. Messages of one transaction and one lane share rows, because storing, reading and
// deleting costs as much for a row of one message as for a row of many.
type Row struct {
	Seq       int64     `db:"seq" json:"seq"` // of its first message; those of the others follow
	Lane      int16     `db:"lane" json:"lane"`
	Messages  string    `db:"messages" json:"messages"`
	CreatedAt time.Time `db:"created_at" json:"created_at"`
}

const (
	// rowMessages bounds the messages of a row. The numbers of consecutive rows are this far apart.
	rowMessages = 100
	// rowBytes ends a row: one that has this many bytes gets no further message, so that it fits into a page.
	rowBytes = 7000
)

// tenantMark begins a field that stands before the others of a message of any but the default tenant. It cannot be
// mistaken for the ID, which comes first otherwise, and in rows of the versions before there were tenants always.
const tenantMark = "tenant="

// row is what a row has of one message: its fields as netstrings (https://cr.yp.to/proto/netstrings.txt).
func (m Message) row() string {
	var text strings.Builder
	text.Grow(m.size())
	m.writeTo(&text)
	return text.String()
}

// asRow is a row of this message alone.
func (m Message) asRow() Row {
	return Row{Seq: m.Seq, Lane: m.Lane, Messages: m.row(), CreatedAt: m.CreatedAt}
}

func (m Message) writeTo(text *strings.Builder) {
	if m.foreign() {
		writeNetstring(text, tenantMark+m.Tenant)
	}
	for _, field := range [...]string{m.ID.String(), m.Type, m.Topic, m.Key, m.Subject, m.Payload, m.Traceparent} {
		writeNetstring(text, field)
	}
}

// foreign reports whether the message is of another tenant than the default one.
func (m Message) foreign() bool { return m.Tenant != "" && m.Tenant != identity.DefaultTenant }

func writeNetstring(text *strings.Builder, field string) {
	var digits [20]byte
	text.Write(strconv.AppendInt(digits[:0], int64(len(field)), 10))
	text.WriteByte(':')
	text.WriteString(field)
	text.WriteByte(',')
}

// size is an upper bound for the bytes that a message needs.
func (m Message) size() int {
	const length = len("1048576:,") // of the largest message
	size := 36 + len(m.Type) + len(m.Topic) + len(m.Key) + len(m.Subject) + len(m.Payload) + len(m.Traceparent) + 7*length
	if m.foreign() {
		size += len(tenantMark) + len(m.Tenant) + length
	}
	return size
}

// Unpack returns the messages of a row.
func (r Row) Unpack() ([]Message, error) {
	var messages []Message
	for rest := r.Messages; rest != ""; {
		m := Message{Seq: r.Seq + int64(len(messages)), Lane: r.Lane, CreatedAt: r.CreatedAt}
		var err error
		if rest, err = m.readFrom(rest); err != nil {
			return nil, fmt.Errorf("row %d: %w", r.Seq, err)
		}
		messages = append(messages, m)
	}
	return messages, nil
}

// readFrom reads what writeTo has written, and returns what comes after it.
func (m *Message) readFrom(text string) (rest string, err error) {
	id, rest, err := cutNetstring(text)
	if err != nil {
		return "", err
	}
	m.Tenant = identity.DefaultTenant
	if name, ok := strings.CutPrefix(id, tenantMark); ok {
		m.Tenant = name
		if id, rest, err = cutNetstring(rest); err != nil {
			return "", err
		}
	}
	if m.ID, err = uuid.Parse(id); err != nil {
		return "", err
	}
	for _, field := range [...]*string{&m.Type, &m.Topic, &m.Key, &m.Subject, &m.Payload, &m.Traceparent} {
		if *field, rest, err = cutNetstring(rest); err != nil {
			return "", err
		}
	}
	return rest, nil
}

var errNetstring = errors.New("not a netstring")

func cutNetstring(text string) (field, rest string, err error) {
	length, rest, ok := strings.Cut(text, ":")
	n, err := strconv.Atoi(length)
	if !ok || err != nil || n < 0 || n >= len(rest) || rest[n] != ',' {
		return "", "", errNetstring
	}
	return rest[:n], rest[n+1:], nil
}

// pack puts messages into rows. It returns the rows' columns: the lane, how many messages it has, and these.
func pack(messages []Message) (lanes, counts pg.Int16s, texts pg.Texts) {
	rows := make([]int, len(messages)) // in which a message is
	var sizes []int
	last := make(map[int16]int) // the row of a lane that takes further messages
	for i, m := range messages {
		row, ok := last[m.Lane]
		if !ok || counts[row] == rowMessages || sizes[row] >= rowBytes {
			row = len(sizes)
			last[m.Lane] = row
			lanes, counts, sizes = append(lanes, m.Lane), append(counts, 0), append(sizes, 0)
		}
		rows[i] = row
		counts[row]++
		sizes[row] += m.size()
	}
	builders := make([]strings.Builder, len(sizes))
	for i, m := range messages {
		text := &builders[rows[i]]
		if text.Len() == 0 {
			text.Grow(sizes[rows[i]])
		}
		m.writeTo(text)
	}
	texts = make(pg.Texts, len(sizes))
	for row := range texts {
		texts[row] = builders[row].String()
	}
	return lanes, counts, texts
}

// ErrFull is the error of a request for which the outbox has no room. Nothing was done.
var ErrFull = errors.New("the outbox has no room")

// Limits bounds what waits to be published, so that the disk does not fill up while the broker is unavailable.
type Limits struct {
	Messages int           `env:"OUTBOX_MAX_MESSAGES" default:"1000000" help:"how many messages may wait for the broker; beyond, new orders are refused as overloaded"`
	Age      time.Duration `env:"OUTBOX_MAX_AGE" default:"1h" help:"how long a message may wait for the broker; beyond, new orders of its lane are refused as overloaded"`
}

// Validate tells what is wrong with the limits.
func (l Limits) Validate() error {
	var errs []error
	if l.Messages < contract.Lanes {
		errs = append(errs, config.Invalid("OUTBOX_MAX_MESSAGES", "must be at least %d", contract.Lanes))
	}
	if l.Age < time.Second {
		errs = append(errs, config.Invalid("OUTBOX_MAX_AGE", "must be a duration of at least 1s, such as 1h"))
	}
	return errors.Join(errs...)
}

const (
	lookEvery = time.Second
	// lookShare bounds the time spent on looking: at most one part in lookShare.
	lookShare = 20
)

// Backlog knows the lanes for which the outbox has no room. It decides per lane, so that lanes whose partition is
// unavailable do not stop the others.
type Backlog struct {
	db     *sqlx.DB
	limits Limits
	log    *slog.Logger
	full   atomic.Uint64 // a bit for each lane
}

// NewBacklog makes a backlog; Run keeps it up to date.
func NewBacklog(db *sqlx.DB, limits Limits, log *slog.Logger, metrics prometheus.Registerer) *Backlog {
	b := &Backlog{db: db, limits: limits, log: log}
	metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "altyn_outbox_full_lanes",
		Help: "Lanes, of 64, whose new requests are refused because the outbox has no room."},
		func() float64 { return float64(bits.OnesCount64(b.full.Load())) }))
	return b
}

// Full reports whether there is no room for messages of a lane. It costs nothing; its answer is at most a few seconds
// old.
func (b *Backlog) Full(lane int16) bool { return b.full.Load()&(1<<lane) != 0 }

// Run looks at the outbox every second or less often until ctx ends, then returns nil. It survives the loss of the
// database.
func (b *Backlog) Run(ctx context.Context) error {
	var next time.Time
	once := func(ctx context.Context) (int, error) {
		begin := time.Now()
		if begin.Before(next) {
			return 0, nil
		}
		err := b.look(ctx)
		next = time.Now().Add((lookShare - 1) * time.Since(begin))
		return 0, err
	}
	return stage.Loop{Name: "looking for room in the outbox", Log: b.log, Every: lookEvery, Once: once}.Run(ctx)
}

// look counts what waits. Once the total is too much, the lanes that hold more than their share are full.
func (b *Backlog) look(ctx context.Context) error {
	var lanes []struct {
		Lane     int16 `db:"lane"`
		Messages int   `db:"messages"`
		Seconds  int64 `db:"seconds"`
	}
	if err := b.db.SelectContext(ctx, &lanes, `
		SELECT lane, sum(count) AS messages, extract(epoch FROM clock_timestamp() - min(created_at))::bigint AS seconds
		FROM (SELECT lane, count, created_at FROM outbox UNION ALL SELECT lane, count, created_at FROM outbox_waiting) o
		GROUP BY lane`); err != nil {
		return fmt.Errorf("outbox: count what waits: %w", err)
	}
	total, oldest := 0, int64(0)
	for _, l := range lanes {
		total += l.Messages
		oldest = max(oldest, l.Seconds)
	}
	share, age := b.limits.Messages/contract.Lanes, int64(b.limits.Age/time.Second)
	var full uint64
	for _, l := range lanes {
		if total >= b.limits.Messages && l.Messages >= share || l.Seconds >= age {
			full |= 1 << l.Lane
		}
	}
	switch was := b.full.Swap(full); {
	case full != 0 && was == 0:
		b.log.Warn("the outbox has no room: new requests of some lanes are refused", "lanes", bits.OnesCount64(full),
			"messages", total, "oldest_seconds", oldest)
	case full == 0 && was != 0:
		b.log.Info("the outbox has room again")
	}
	return nil
}
