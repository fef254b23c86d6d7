package postgres

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// bundle is the store over a real database.
type bundle struct {
	*testing.T
	postgrestest.DB
	*Store
	arrived int64
}

func setup(t *testing.T) *bundle {
	t.Helper()
	t.Parallel()
	db := postgrestest.Database(t, "payments", Migrations()...)
	return &bundle{T: t, DB: db, Store: New(db.Service)}
}

func (b *bundle) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// in runs do in a transaction of the service.
func (b *bundle) in(do func(tx *sqlx.Tx) error) error { return pg.InTx(b.Context(), b.Service, do) }

func (b *bundle) exec(query string, args ...any) {
	b.Helper()
	_, err := b.Owner.ExecContext(b.Context(), query, args...)
	b.must(err)
}

// count runs a query as the service, whose own sessions it sees.
func (b *bundle) count(query string, args ...any) (n int) {
	b.Helper()
	b.must(b.Service.GetContext(b.Context(), &n, query, args...))
	return n
}

// until waits for a query to count n.
func (b *bundle) until(n int, query string, args ...any) {
	b.Helper()
	postgrestest.AwaitCount(b, b.Service, n, query, args...)
}

const locked = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`

// request makes a request as it arrives.
func (b *bundle) request(account uuid.UUID, c ledger.Command) ledger.Request {
	b.arrived++
	r := ledger.Request{
		ID: uuid.New(), Seq: b.arrived, Lane: contract.Lane(account), AccountID: account, Command: c,
		ReceivedAt: time.Now().UTC().Truncate(time.Microsecond), Subject: "somebody", Key: "k",
	}
	if p, ok := c.(ledger.Payment); ok {
		r.ID = p.OrderID
	}
	return r
}

// settle gives requests their effect in one batch, and returns their operations.
func (b *bundle) settle(requests ...ledger.Request) (operations []*ledger.Operation) {
	b.Helper()
	b.must(b.in(func(tx *sqlx.Tx) error {
		book := ledger.NewBook(time.Now().UTC().Truncate(time.Microsecond), len(requests))
		if err := b.Load(b.Context(), tx, book, requests); err != nil {
			return err
		}
		operations = nil
		for _, r := range requests {
			operations = append(operations, book.Apply(r))
		}
		return b.Save(b.Context(), tx, book.Changes(), book.Entered)
	}))
	return operations
}

// message is a request as the inbox takes it.
func message(r ledger.Request) Message {
	return Message{
		ID: r.ID, Lane: r.Lane, AccountID: r.AccountID, Kind: string(r.Kind()), Body: &r,
		Fingerprint: r.Fingerprint, Traceparent: r.Traceparent,
	}
}

// accept stores requests in the inbox.
func (b *bundle) accept(requests ...ledger.Request) {
	b.Helper()
	messages := make([]Message, len(requests))
	for i, r := range requests {
		messages[i] = message(r)
	}
	_, err := b.Inbox().Store(b.Context(), messages)
	b.must(err)
}
