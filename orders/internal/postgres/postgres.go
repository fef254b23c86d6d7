// Package postgres holds all SQL of orders: placing and cancelling them with their events, applying what payments tells
// of them, and what the API reads.
package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/currencies"
	"github.com/altyn-pay/altyn/platform/idempotency"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations is the schema of orders, in the order in which it is applied.
func Migrations() []pg.Migrations {
	return []pg.Migrations{outbox.Migrations(), idempotency.Migrations(), pg.Embedded("orders", files), currencies.Migrations()}
}

// ErrNotFound is returned for an order that is not there.
var ErrNotFound = errors.New("order not found")

// Store reads and writes the tables of orders.
type Store struct {
	db *sqlx.DB
}

// New returns a store over the service's database.
func New(db *sqlx.DB) *Store { return &Store{db} }

const orderColumns = `id, account_id, amount, currency, description, reference, capture, await_inventory, on_insufficient,
	expires_at, status, reason, note, captured, refunded, version, payment_version, fingerprint, created_at, updated_at`

// Order returns one order, or ErrNotFound.
func (s *Store) Order(ctx context.Context, id uuid.UUID) (order.Order, error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	var o order.Order
	err := s.db.GetContext(ctx, &o, `SELECT `+orderColumns+` FROM orders WHERE id = $1`, id)
	if errors.Is(err, sql.ErrNoRows) {
		return order.Order{}, ErrNotFound
	}
	if err != nil {
		return order.Order{}, fmt.Errorf("read order %s: %w", id, err)
	}
	return read(o), nil
}

// Newer returns, by ID, those of the orders whose version is above the one that was seen of each.
func (s *Store) Newer(ctx context.Context, ids []uuid.UUID, seen []int64) (map[uuid.UUID]order.Order, error) {
	var rows []order.Order
	if err := s.db.SelectContext(ctx, &rows, `
		SELECT `+orderColumns+` FROM unnest($1::uuid[], $2::bigint[]) AS seen (order_id, seen_version) JOIN orders ON id = order_id
		WHERE version > seen_version`, pg.UUIDs(ids), pg.Int64s(seen)); err != nil {
		return nil, fmt.Errorf("read what is new of %d orders: %w", len(ids), err)
	}
	return byID(rows), nil
}

// maxTransitions is more than an order can have: payments bounds how many versions a payment has.
const maxTransitions = 2000

// Transitions returns what happened to an order since it was placed, the first transition first.
func (s *Store) Transitions(ctx context.Context, id uuid.UUID) ([]order.Transition, error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	var transitions []order.Transition
	if err := s.db.SelectContext(ctx, &transitions, `
		SELECT order_id, number, at, from_status, to_status, reason, note, event_id
		FROM order_history WHERE order_id = $1 ORDER BY number LIMIT `+strconv.Itoa(maxTransitions), id); err != nil {
		return nil, fmt.Errorf("read the history of order %s: %w", id, err)
	}
	for i := range transitions {
		t := &transitions[i]
		t.At = t.At.UTC()
		// A line that leaves an order cancelling says what has become of its payment.
		if t.To == order.Cancelled || t.To == order.Cancelling && t.From != order.Cancelling {
			t.Reason, t.Note = cancelled(t.Reason, t.Note)
		}
	}
	return transitions, nil
}

func selectOrders(ctx context.Context, db sqlx.QueryerContext, query string, ids []uuid.UUID) (map[uuid.UUID]order.Order, error) {
	var rows []order.Order
	if err := sqlx.SelectContext(ctx, db, &rows, query, pg.UUIDs(ids)); err != nil {
		return nil, fmt.Errorf("read %d orders: %w", len(ids), err)
	}
	return byID(rows), nil
}

func byID(rows []order.Order) map[uuid.UUID]order.Order {
	orders := make(map[uuid.UUID]order.Order, len(rows))
	for _, o := range rows {
		orders[o.ID] = read(o)
	}
	return orders
}

// cancelled are the reason and the note of what is being cancelled or is cancelled, of the version before too.
func cancelled(reason, note string) (string, string) {
	return contract.ReasonCancelled, contract.NoteOf(reason, note)
}

// read makes an order of its row: its times independent of the session's time zone, and a note of what the version before has
// kept as a reason.
func read(o order.Order) order.Order {
	if o.Status == order.Cancelling || o.Status == order.Cancelled {
		o.Reason, o.Note = cancelled(o.Reason, o.Note)
	}
	o.CreatedAt, o.UpdatedAt = o.CreatedAt.UTC(), o.UpdatedAt.UTC()
	if o.ExpiresAt != nil {
		at := o.ExpiresAt.UTC()
		o.ExpiresAt = &at
	}
	return o
}

// message is an event as the outbox takes it.
func message(e order.Event, traceparent string) outbox.Message {
	return outbox.Message{
		Lane: contract.Lane(e.AccountID), ID: e.ID, Type: e.Type, Topic: contract.TopicOrders, Key: e.AccountID.String(),
		Subject: e.OrderID.String(), Payload: e.Payload, Traceparent: traceparent,
	}
}

// Announce stores events of orders in the caller's transaction. Wake the relay after the commit.
func (s *Store) Announce(ctx context.Context, tx *sqlx.Tx, events ...order.Event) error {
	messages := make([]outbox.Message, len(events))
	for i, e := range events {
		messages[i] = message(e, "")
	}
	return outbox.Append(ctx, tx, messages...)
}

// exec runs a statement that must change exactly n rows: anything else is a broken promise, and rolls back.
func exec(ctx context.Context, tx *sqlx.Tx, what string, n int, query string, args ...any) error {
	result, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	changed, err := result.RowsAffected()
	if err == nil && changed != int64(n) {
		err = fmt.Errorf("%d rows changed instead of %d", changed, n)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func texts(n int) pg.Texts    { return make(pg.Texts, n) }
func bigints(n int) pg.Int64s { return make(pg.Int64s, n) }
