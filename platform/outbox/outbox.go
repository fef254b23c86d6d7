package outbox

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/identity"
	pg "github.com/altyn-pay/altyn/platform/postgres"
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

// Insertion is Append as a part of another statement, such as a WITH query. It returns SQL that inserts those messages
// for whose subject the condition holds, and the arguments of the whole statement: args, and after them those that the
// SQL needs.
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
