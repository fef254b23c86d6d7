package outbox

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/identity"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

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
