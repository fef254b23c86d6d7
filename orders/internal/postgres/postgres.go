// Package postgres holds all SQL of orders. It decides nothing: packages placing and status load, decide and store.
package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/platform/actions"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/currencies"
	"github.com/altyn-pay/altyn/platform/idempotency"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations returns the schema of orders, in the order in which it is applied.
func Migrations() []pg.Migrations {
	return []pg.Migrations{
		outbox.Migrations(), idempotency.Migrations(), pg.Embedded("orders", files), currencies.Migrations(),
		actions.Migrations(),
	}
}

// ErrNotFound is returned for an order that is not there.
var ErrNotFound = errors.New("order not found")

// Store reads and writes the tables of orders.
type Store struct {
	db *sqlx.DB
}

// New returns a store over the service's database.
func New(db *sqlx.DB) *Store { return &Store{db} }

// InTx runs fn in one transaction; see pg.InTx of the platform.
func (s *Store) InTx(ctx context.Context, fn func(tx *sqlx.Tx) error) error {
	return pg.InTx(ctx, s.db, fn)
}

var orderColumns = pg.ColumnsOf[order.Order]()

func selectOrders(ctx context.Context, db sqlx.QueryerContext, query string, ids []uuid.UUID) (
	map[uuid.UUID]order.Order, error) {
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

// cancelled returns the reason and the note of a cancellation. Earlier versions stored the note as the reason.
func cancelled(reason, note string) (string, string) {
	return contract.ReasonCancelled, contract.NoteOf(reason, note)
}

// read completes an order that was read: its times are in UTC, whatever the session's time zone, and what earlier
// versions stored as the reason of a cancellation is its note.
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

// message is an event in the form of the outbox.
func message(e order.Event) outbox.Message {
	return outbox.Message{
		Lane: contract.Lane(e.AccountID), ID: e.ID, Type: e.Type, Topic: contract.TopicOrders, Key: e.AccountID.String(),
		Subject: e.OrderID.String(), Payload: e.Payload, Traceparent: e.Traceparent, Tenant: e.Tenant,
	}
}

// Announce stores events of orders in the caller's transaction. Wake the relay after the commit.
func (s *Store) Announce(ctx context.Context, tx *sqlx.Tx, events ...order.Event) error {
	messages := make([]outbox.Message, len(events))
	for i, e := range events {
		messages[i] = message(e)
	}
	return outbox.Append(ctx, tx, messages...)
}
