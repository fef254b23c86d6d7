package postgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"strconv"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/inbox"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// maxSteps is how many operations of an order's payment are explained.
const maxSteps = 100

// Steps reads the operations of an order's payment beside the one that pays it, in their order: captures, releases and
// refunds. more tells that there are further ones. The caller has read the payment for who asks.
func (s *Store) Steps(ctx context.Context, by identity.Reach, order uuid.UUID) (
	steps []ledger.Operation, more bool, err error) {
	rows, err := listWithin[operationRow](ctx, s, "read the steps of a payment", `
		SELECT `+operationColumns+` FROM operations o
		WHERE order_id = $3 AND order_id <> id AND tenant = $1 AND `+ofOwner("o")+`
		ORDER BY seq LIMIT `+strconv.Itoa(maxSteps+1), by.Normal().Tenant, by.Owner, order)
	if more = len(rows) > maxSteps; more {
		rows = rows[:maxSteps]
	}
	for _, row := range rows {
		steps = append(steps, row.operation())
	}
	return steps, more, err
}

// EntryOf finds the entry that an operation has made of an account's balance, or returns ErrNotFound. The caller has
// read the account for who asks.
func (s *Store) EntryOf(ctx context.Context, account Account, op *ledger.Operation) (Entry, error) {
	e, err := getWithin[Entry](ctx, s, "find an entry", `
		SELECT `+statementColumns+` FROM entries e
		WHERE operation_id = $1 AND account_id = $2 AND currency = $3 AND lane = $4 ORDER BY number LIMIT 1`,
		op.ID, account.ID, op.Currency, account.lane())
	e.CreatedAt = e.CreatedAt.UTC()
	return e, err
}

// Place is where something stands that waits.
type Place struct {
	What      ledger.Reason `db:"what"` // ledger.WaitingForFunds or WaitingForInventory
	Currency  string        `db:"currency"`
	ExpiresAt sql.NullTime  `db:"expires_at"`
	Behind    int           `db:"behind"` // how many are before it in the queue for money, at most 1,000
	First     uuid.NullUUID `db:"first"`  // of those
	Actual    int64         `db:"actual"` // what the account has free
}

// PlaceOf reads where an operation of an account waits, or returns ErrNotFound where it does not. The caller has read
// the operation for who asks.
func (s *Store) PlaceOf(ctx context.Context, account, operation uuid.UUID) (Place, error) {
	const queue = `FROM waits b WHERE b.account_id = w.account_id AND b.currency = w.currency AND b.lane = w.lane
		AND w.what = 'waiting_for_funds' AND b.what = 'waiting_for_funds' AND b.seq < w.seq ORDER BY b.seq`
	return getWithin[Place](ctx, s, "find what waits", `
		SELECT what, currency, expires_at, (SELECT count(*) FROM (SELECT `+queue+` LIMIT 1000) b) AS behind,
			(SELECT b.id `+queue+` LIMIT 1) AS first,
			coalesce((SELECT actual FROM balances a
				WHERE a.account_id = w.account_id AND a.currency = w.currency AND a.lane = w.lane), 0) AS actual
		FROM waits w WHERE id = $1 AND lane = $2`, operation, contract.Lane(account))
}

// Standing reads where an account's queue stands; see inbox.Inbox. The caller has read the account, or what is about
// it, for who asks.
func (s *Store) Standing(ctx context.Context, account uuid.UUID, ids ...uuid.UUID) (
	*inbox.Stop, []inbox.Stored, error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	return s.inbox.Standing(ctx, account, contract.Lane(account), ids...)
}

// About tells which order a stored message is about, or uuid.Nil.
func About(m inbox.Stored) uuid.UUID {
	if m.Kind == Kept {
		var record struct{ Headers []kafka.Header }
		_ = json.Unmarshal([]byte(m.Body), &record) // as payments wrote it
		id, _ := contract.ParseID(kafka.EventOf(kafka.Message{Headers: record.Headers}).Subject)
		return id
	}
	r, err := codec{}.Decode(m)
	if err != nil {
		return uuid.Nil
	}
	if r.Kind() == ledger.KindPayment {
		return r.ID
	}
	return r.References().Order
}

// Undelivered finds the events of an order's payment that are not published; see outbox.FindUndelivered. The caller has
// read the payment for who asks.
func (s *Store) Undelivered(ctx context.Context, account, order uuid.UUID) ([]outbox.Undelivered, bool, error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	return outbox.FindUndelivered(ctx, s.db, contract.Lane(account), contract.TopicPayments, account.String(),
		order.String())
}
