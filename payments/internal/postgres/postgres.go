// Package postgres holds all SQL of payments: what a settlement loads and stores, and what the API reads.
package postgres

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/actions"
	"github.com/altyn-pay/altyn/platform/audit"
	"github.com/altyn-pay/altyn/platform/currencies"
	"github.com/altyn-pay/altyn/platform/idempotency"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/inbox"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations is the schema of payments, in the order in which it is applied.
func Migrations() []pg.Migrations {
	return []pg.Migrations{
		inbox.Migrations(), outbox.Migrations(), idempotency.Migrations(), pg.Embedded("payments", files),
		currencies.Migrations(), actions.Migrations(), audit.Migrations(),
	}
}

// Archived are the tables whose old rows may be moved to the archive. What is inserted into them was looked for before,
// by a worker that alone has its lane.
var Archived = []pg.Archived{
	{Table: "operations", Final: `status <> 'created' AND settled_at < $3`},
	{Table: "entries", Final: `created_at < $3`},
	{Table: "payments", Final: `status NOT IN ('created', 'authorized') AND updated_at < $3`},
	{Table: "holds", Final: `status <> 'open' AND created_at < $3`},
}

// Store reads and writes the ledger's tables. Its methods that take no transaction commit by themselves.
type Store struct {
	db    *sqlx.DB
	inbox *inbox.Inbox[*ledger.Request]
	epoch atomic.Pointer[int64] // once it is known

	// ReadKept reads the request of a message of the kind Kept, or returns an error that wraps inbox.ErrUnknown. It is
	// set before the inbox is used; without it none of them is known.
	ReadKept func(inbox.Stored) (*ledger.Request, error)
}

// New returns a store over the service's database.
func New(db *sqlx.DB) *Store {
	s := &Store{db: db}
	s.inbox = inbox.New(db, codec{s})
	s.inbox.Exempt = strange
	return s
}

// Inbox is where requests wait to take effect.
func (s *Store) Inbox() *inbox.Inbox[*ledger.Request] { return s.inbox }

// ErrNotFound is returned where what was asked for is not there.
var ErrNotFound = errors.New("not found")

// get reads one row on behalf of a client, or returns ErrNotFound; what names the read in other errors. $1 and $2 of
// the query are what the client reaches: a tenant and, unless it is "", an owner. PostgreSQL refuses a query that
// does not name both. The query's own parameters follow.
func get[R any](ctx context.Context, s *Store, by identity.Reach, what, query string, args ...any) (R, error) {
	return getWithin[R](ctx, s, what, query, append([]any{by.Normal().Tenant, by.Owner}, args...)...)
}

// The conditions of queries of get on a row of an account's data with this alias, beside that of its tenant.
func ofOwner(row string) string {
	return fmt.Sprintf(`($2 = '' OR EXISTS (SELECT FROM accounts a
		WHERE a.id = %[1]s.account_id AND a.lane = %[1]s.lane AND a.tenant = $1 AND a.owner = $2))`, row)
}

// Who has sent a request in the inbox, and the tenant. The request that an operator has given up is a part of its row's
// payload.
const (
	inboxBy     = `coalesce(i.payload::json->'by', i.payload::json->'payload'->'by')`
	inboxTenant = `coalesce(` + inboxBy + `->>'tenant', '` + identity.DefaultTenant + `')`
)

// getWithin reads one row of something that the client is known to reach, or that belongs to nobody.
func getWithin[R any](ctx context.Context, s *Store, what, query string, args ...any) (row R, err error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	err = s.db.GetContext(ctx, &row, query, args...)
	if errors.Is(err, sql.ErrNoRows) {
		return row, ErrNotFound
	}
	if err != nil {
		return row, fmt.Errorf("%s: %w", what, err)
	}
	return row, nil
}

// listWithin reads rows of something that the client is known to reach, or that belongs to nobody.
func listWithin[R any](ctx context.Context, s *Store, what, query string, args ...any) (rows []R, err error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	if err := s.db.SelectContext(ctx, &rows, query, args...); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return rows, nil
}

// Message is a request in the inbox. Its Kind is the request's, or Repetition.
type Message = inbox.Message[*ledger.Request]

// Kinds of stored messages beside those of requests.
const (
	// Repetition stands for a command that came again while it was still waiting. Its request is that of the command.
	Repetition = "repetition"
	// Unreadable is the kind of what could be neither read nor kept as a dead letter: its payload has a field "reason".
	// It is parked, and never takes effect.
	Unreadable = "unreadable"
	// Kept is the kind of an event of the broker that the version of payments which got it did not know.
	Kept = "kept"
)

// codec knows how requests are stored. Old versions stored them the same way, and can read what this one stores.
type codec struct{ store *Store }

// original is the payload of a Repetition.
type original struct {
	ID      uuid.UUID       `json:"id"`
	Kind    string          `json:"kind"`
	Payload json.RawMessage `json:"payload"`
}

// Encode implements inbox.Codec.
func (codec) Encode(m Message) (string, error) {
	payload, err := json.Marshal(m.Body)
	if err == nil && m.Kind == Repetition {
		payload, err = json.Marshal(original{m.Body.ID, string(m.Body.Kind()), payload})
	}
	return string(payload), err
}

// Decode implements inbox.Codec.
func (c codec) Decode(m inbox.Stored) (*ledger.Request, error) {
	r := &ledger.Request{}
	if m.Kind == Repetition {
		var o original
		if err := json.Unmarshal([]byte(m.Body), &o); err != nil {
			return nil, fmt.Errorf("decode repetition %s: %w", m.ID, err)
		}
		m.ID, m.Kind, m.Body = o.ID, o.Kind, string(o.Payload)
	}
	var err error
	switch m.Kind {
	case Kept:
		if c.store == nil || c.store.ReadKept == nil {
			return nil, inbox.ErrUnknown
		}
		if r, err = c.store.ReadKept(m); err == nil {
			r.Discarded = m.Discarded
			return r, nil
		}
	case Unreadable:
		err = unreadable(m)
	default:
		if err = r.Decode(ledger.Kind(m.Kind), []byte(m.Body)); err != nil {
			err = fmt.Errorf("decode request %s: %w", m.ID, err)
		}
	}
	if errors.Is(err, ledger.ErrKind) {
		err = fmt.Errorf("%w: %w", inbox.ErrUnknown, err)
	}
	if errors.Is(err, inbox.ErrUnknown) {
		return nil, err
	}
	if err != nil {
		if !m.Discarded {
			return nil, err
		}
		// There is nothing to end: it goes without a trace but the log's.
		*r = ledger.Request{Command: ledger.Refusal{}}
	}
	r.ID, r.Lane, r.AccountID = m.ID, m.Lane, m.AccountID
	r.Fingerprint, r.Traceparent, r.Discarded = m.Fingerprint, m.Traceparent, m.Discarded
	return r, nil
}

// strange reports which messages come from clients that do not reach the account. They do not wait while it is stopped,
// since a message for an account that does not exist would not wait either.
func strange(ctx context.Context, tx *sqlx.Tx, messages []Message) ([]bool, error) {
	ids, lanes := make(pg.UUIDs, len(messages)), make(pg.Int16s, len(messages))
	for i, m := range messages {
		ids[i], lanes[i] = m.AccountID, m.Lane
	}
	var accounts []ledger.Account
	if err := tx.SelectContext(ctx, &accounts, `
		SELECT id, tenant, owner FROM accounts WHERE id = ANY($1::uuid[]) AND lane = ANY($2::smallint[])`,
		ids, lanes); err != nil {
		return nil, fmt.Errorf("look whose accounts are stopped: %w", err)
	}
	strange := make([]bool, len(messages))
	for i, m := range messages {
		at := slices.IndexFunc(accounts, func(a ledger.Account) bool { return a.ID == m.AccountID })
		strange[i] = at >= 0 && m.Body.StrangeTo(accounts[at].Tenant, accounts[at].Owner)
	}
	return strange, nil
}

// unreadable is why a message of the kind Unreadable has no effect.
func unreadable(m inbox.Stored) error {
	var record struct {
		Reason string `json:"reason"`
	}
	if err := json.Unmarshal([]byte(m.Body), &record); err != nil {
		return fmt.Errorf("decode unreadable record %s: %w", m.ID, err)
	}
	return errors.New(record.Reason)
}
