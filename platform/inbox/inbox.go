package inbox

import (
	"cmp"
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/identity"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations creates the inbox's tables.
func Migrations() pg.Migrations { return pg.Embedded("inbox", files) }

// Message is one accepted request or event, in the queue of its account. B is the application's type for what it says.
type Message[B any] struct {
	Seq         int64         `db:"seq"` // arrival number, set by the database
	ID          uuid.UUID     `db:"id"`  // the same message has the same ID, however often it arrives
	Lane        int16         `db:"lane"`
	AccountID   uuid.UUID     `db:"account_id"`
	Kind        string        `db:"kind"`
	Body        B             `db:"payload"`
	Fingerprint uuid.NullUUID `db:"fingerprint"`
	Traceparent string        `db:"traceparent"`
	ReceivedAt  time.Time     `db:"received_at"`  // set by the database
	PublishedAt sql.NullTime  `db:"published_at"` // when the broker got it, where it came from one
	Tenant      string        `db:"-"`            // the account's; it says whose share of a batch the message is in
	Discarded   bool          `db:"-"`            // an operator has given it up; Kind and Body are still its own
	// Unknown, unless it is "", is what is stored in place of the Body: this version cannot read it, a later one may.
	Unknown string `db:"-"`
}

// Stored is a message as its row has it: the body is JSON.
type Stored = Message[string]

// Codec encodes the bodies of messages for storage, and decodes them. Only stored messages need it: one that takes
// effect at once is neither encoded nor decoded.
type Codec[B any] interface {
	// Encode returns the JSON of a message's body.
	Encode(Message[B]) (string, error)
	// Decode reads a body from its row. When it fails, the message has failed: it is tried again, and parked in the end
	// with the error as the reason. A message that fails with ErrUnknown waits for a version that knows it.
	Decode(Stored) (B, error)
}

// ErrUnknown is wrapped by the error of a Codec for a message that a newer version has accepted, and that this one does
// not know. That is no failure: the message stays at the head of its account's queue, and the others wait behind it,
// until a worker runs that knows it, which takes it up by itself.
var ErrUnknown = errors.New("not known to this version")

// JSON is the codec of bodies that encoding/json can encode and decode.
func JSON[B any]() Codec[B] { return jsonCodec[B]{} }

type jsonCodec[B any] struct{}

func (jsonCodec[B]) Encode(m Message[B]) (string, error) {
	text, err := json.Marshal(m.Body)
	return string(text), err
}

func (jsonCodec[B]) Decode(m Stored) (body B, err error) {
	if err = json.Unmarshal([]byte(m.Body), &body); err != nil {
		err = fmt.Errorf("inbox: decode message %s: %w", m.ID, err)
	}
	return body, err
}

// Inbox is the stored messages of a database.
type Inbox[B any] struct {
	// Exempt, if not nil, reports for each of some messages of stopped accounts whether it takes effect all the same,
	// because its effect does not depend on the messages before it. Set it before the inbox is used.
	Exempt func(ctx context.Context, tx *sqlx.Tx, messages []Message[B]) ([]bool, error)

	db    *sqlx.DB
	codec Codec[B]
}

// New makes an inbox.
func New[B any](db *sqlx.DB, codec Codec[B]) *Inbox[B] { return &Inbox[B]{db: db, codec: codec} }

// Store stores messages in a transaction of its own, in this order per account; it never gives them their effect. Its
// promise is that of Intake.Accept. Wake the worker afterwards.
func (x *Inbox[B]) Store(ctx context.Context, messages []Message[B]) ([]Arrival, error) {
	arrivals := make([]Arrival, len(messages))
	err := pg.UntilKnown(ctx, func() error {
		begin(arrivals)
		return x.store(ctx, messages, arrivals)
	})
	return arrivals, err
}

// store stores messages in one transaction. It sets the arrivals even if the outcome of the commit is unknown.
func (x *Inbox[B]) store(ctx context.Context, messages []Message[B], arrivals []Arrival) error {
	var seqs []int64
	err := pg.InTx(ctx, x.db, func(tx *sqlx.Tx) (err error) {
		seqs, err = x.Insert(ctx, tx, messages)
		return err
	})
	return arrived(arrivals, seqs, err)
}

// storedMessage is a message that Insert has stored.
type storedMessage struct {
	ID  uuid.UUID `db:"id"`
	Seq int64     `db:"seq"`
}

// Insert stores messages in the caller's transaction, in this order per account. It returns each message's arrival
// number, or 0 where a message with its ID is waiting already. A duplicate of a message that has taken effect is
// stored again: the handler must recognise it by its permanent record. Wake the worker after the commit.
func (x *Inbox[B]) Insert(ctx context.Context, tx sqlx.ExtContext, messages []Message[B]) ([]int64, error) {
	n := len(messages)
	ids, accounts, lanes := make(pg.UUIDs, n), make(pg.UUIDs, n), make(pg.Int16s, n)
	kinds, payloads, traces := make(pg.Texts, n), make(pg.Texts, n), make(pg.Texts, n)
	tenants, fingerprints, published := make(pg.Texts, n), make(pg.OptionalUUIDs, n), make(pg.Times, n)
	for i, m := range messages {
		ids[i], lanes[i], accounts[i] = m.ID, m.Lane, m.AccountID
		kinds[i], traces[i] = m.Kind, m.Traceparent
		fingerprints[i], published[i] = m.Fingerprint.UUID, m.PublishedAt.Time
		if m.Tenant != identity.DefaultTenant {
			tenants[i] = m.Tenant
		}
		if payloads[i] = m.Unknown; m.Unknown != "" {
			continue
		}
		var err error
		if payloads[i], err = x.codec.Encode(m); err != nil {
			return nil, fmt.Errorf("inbox: encode message %s: %w", m.ID, err)
		}
	}
	var stored []storedMessage
	if err := sqlx.SelectContext(ctx, tx, &stored, `
		INSERT INTO inbox (id, lane, account_id, kind, payload, fingerprint, traceparent, tenant, published_at)
		SELECT id, lane, account_id, kind, payload, fingerprint, traceparent, tenant, published_at
		FROM unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::text[], $5::text[], $6::uuid[], $7::text[], $8::text[],
			$9::timestamptz[]) WITH ORDINALITY
			AS m (id, lane, account_id, kind, payload, fingerprint, traceparent, tenant, published_at, n)
		ORDER BY n
		ON CONFLICT (id, lane) DO NOTHING
		RETURNING id, seq`, ids, lanes, accounts, kinds, payloads, fingerprints, traces, tenants,
		published); err != nil {
		return nil, fmt.Errorf("inbox: insert %d messages: %w", n, err)
	}
	// The arrival numbers have the order of the input. The rows have it too, but for those of different shards; those that
	// conflicted are not among them.
	slices.SortFunc(stored, func(a, b storedMessage) int { return cmp.Compare(a.Seq, b.Seq) })
	seqs := make([]int64, n)
	next := 0
	for _, row := range stored {
		for next < n && messages[next].ID != row.ID {
			next++
		}
		if next == n {
			return nil, fmt.Errorf("inbox: insert returned message %s out of order", row.ID)
		}
		seqs[next] = row.Seq
		next++
	}
	return seqs, nil
}

// columns are those of a Stored.
const columns = `seq, id, lane, account_id, kind, payload, fingerprint, traceparent, received_at, published_at`

// Find reads a stored message that has not taken effect yet.
func (x *Inbox[B]) Find(ctx context.Context, id uuid.UUID) (m Message[B], found bool, err error) {
	var row Stored
	err = x.db.GetContext(ctx, &row, `SELECT `+columns+` FROM inbox WHERE id = $1`, id)
	if errors.Is(err, sql.ErrNoRows) {
		return m, false, nil
	}
	if err != nil {
		return m, false, fmt.Errorf("inbox: find message: %w", err)
	}
	m, err = x.decode(row)
	return m, err == nil, err
}

// exempt is Exempt for rows. A row that cannot be decoded is not exempt.
func (x *Inbox[B]) exempt(ctx context.Context, tx *sqlx.Tx, rows []Stored) ([]bool, error) {
	if x.Exempt == nil {
		return make([]bool, len(rows)), nil
	}
	var messages []Message[B]
	var indexes []int
	for i, row := range rows {
		if m, err := x.decode(row); err == nil && !m.Discarded {
			messages, indexes = append(messages, m), append(indexes, i)
		}
	}
	exempt := make([]bool, len(rows))
	if len(messages) == 0 {
		return exempt, nil
	}
	are, err := x.Exempt(ctx, tx, messages)
	for n, is := range are {
		exempt[indexes[n]] = is
	}
	return exempt, err
}

// decode returns the message of a row.
func (x *Inbox[B]) decode(row Stored) (Message[B], error) {
	row, err := undiscard(row)
	if err != nil {
		return Message[B]{}, err
	}
	body, err := x.codec.Decode(row)
	if err != nil {
		return Message[B]{}, err
	}
	return Message[B]{
		Seq: row.Seq, ID: row.ID, Lane: row.Lane, AccountID: row.AccountID, Kind: row.Kind, Body: body,
		Fingerprint: row.Fingerprint, Traceparent: row.Traceparent, ReceivedAt: row.ReceivedAt,
		PublishedAt: row.PublishedAt, Discarded: row.Discarded,
	}, nil
}

// decodeAll decodes what is claimed. A message that this version does not know leaves the batch, with those that follow
// it in its account's queue, and is returned by itself.
func (x *Inbox[B]) decodeAll(c *claimed) (messages []Message[B], unknown []Stored, err error) {
	messages = make([]Message[B], 0, len(c.rows))
	var behind map[uuid.UUID]bool
	for _, row := range c.rows {
		if behind[row.AccountID] {
			continue
		}
		m, err := x.decode(row)
		switch {
		case err == nil:
			messages = append(messages, m)
		case errors.Is(err, ErrUnknown):
			if behind == nil {
				behind = make(map[uuid.UUID]bool)
			}
			behind[row.AccountID] = true
			unknown = append(unknown, row)
		default:
			return nil, nil, err
		}
	}
	if behind == nil {
		return messages, nil, nil
	}
	known := make(map[int64]bool, len(messages))
	for _, m := range messages {
		known[m.Seq] = true
	}
	c.rows = slices.DeleteFunc(c.rows, func(row Stored) bool { return !known[row.Seq] })
	c.probed = slices.DeleteFunc(c.probed, func(row Stored) bool { return behind[row.AccountID] })
	c.probes = slices.DeleteFunc(c.probes, func(s stop) bool { return behind[s.AccountID] })
	return messages, unknown, nil
}
