// Package postgres holds all SQL of payments: what a settlement loads and stores, and what the API reads.
package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/currencies"
	"github.com/altyn-pay/altyn/platform/idempotency"
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
		currencies.Migrations(),
	}
}

// Store reads and writes the ledger's tables. Its methods that take no transaction commit by themselves.
type Store struct {
	db    *sqlx.DB
	inbox *inbox.Inbox[*ledger.Request]
}

// New returns a store over the service's database.
func New(db *sqlx.DB) *Store { return &Store{db, inbox.New(db, codec{})} }

// Inbox is where requests wait to take effect.
func (s *Store) Inbox() *inbox.Inbox[*ledger.Request] { return s.inbox }

// ErrNotFound is returned where what was asked for is not there.
var ErrNotFound = errors.New("not found")

// get reads one row on behalf of a client, or returns ErrNotFound; what names the read in other errors.
func get[R any](ctx context.Context, s *Store, what, query string, args ...any) (row R, err error) {
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

// list reads rows on behalf of a client; what names the read in errors.
func list[R any](ctx context.Context, s *Store, what, query string, args ...any) (rows []R, err error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	if err := s.db.SelectContext(ctx, &rows, query, args...); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return rows, nil
}
