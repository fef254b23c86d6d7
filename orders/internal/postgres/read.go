package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Order returns one order, or ErrNotFound where it is not there or not in reach.
func (s *Store) Order(ctx context.Context, by identity.Reach, id uuid.UUID) (order.Order, error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	var o order.Order
	err := s.db.GetContext(ctx, &o, `
		SELECT `+orderColumns.String()+` FROM orders WHERE id = $1 AND tenant = $2 AND $3 IN ('', subject)`,
		id, by.Normal().Tenant, by.Owner)
	if errors.Is(err, sql.ErrNoRows) {
		return order.Order{}, ErrNotFound
	}
	if err != nil {
		return order.Order{}, fmt.Errorf("read order %s: %w", id, err)
	}
	return read(o), nil
}

// Newer returns, by ID, the orders that are newer than the version seen of each, whosever they are: an order's tenant
// and subject never change, and who waits for it has read it before.
func (s *Store) Newer(ctx context.Context, ids []uuid.UUID, seen []int64) (map[uuid.UUID]order.Order, error) {
	var rows []order.Order
	if err := s.db.SelectContext(ctx, &rows, `
		SELECT `+orderColumns.String()+` FROM unnest($1::uuid[], $2::bigint[]) AS seen (order_id, seen_version)
		JOIN orders ON id = order_id
		WHERE version > seen_version`, pg.UUIDs(ids), pg.Int64s(seen)); err != nil {
		return nil, fmt.Errorf("read what is new of %d orders: %w", len(ids), err)
	}
	return byID(rows), nil
}

// maxTransitions is more than an order can have, since payments bounds the versions of a payment.
const maxTransitions = 2000

// Transitions returns what happened since it was placed to an order that was read, the first transition first.
func (s *Store) Transitions(ctx context.Context, of order.Order) ([]order.Transition, error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	var transitions []order.Transition
	if err := s.db.SelectContext(ctx, &transitions, `
		SELECT `+steps.String()+`
		FROM order_history WHERE order_id = $1 ORDER BY number LIMIT `+strconv.Itoa(maxTransitions), of.ID); err != nil {
		return nil, fmt.Errorf("read the history of order %s: %w", of.ID, err)
	}
	for i := range transitions {
		t := &transitions[i]
		t.At = t.At.UTC()
		// A transition from cancelling to cancelling is about the payment, not about the cancellation.
		if t.Reason == contract.ReasonRestored {
			continue
		}
		if t.To == order.Cancelled || t.To == order.Cancelling && t.From != order.Cancelling {
			t.Reason, t.Note = cancelled(t.Reason, t.Note)
		}
	}
	return transitions, nil
}

// Acknowledged has a line for each order and each cancellation that was accepted since a time.
const Acknowledged = `
	SELECT format('order %s account %s, %s %s, tenant %s', id, account_id, amount, currency, tenant)
	FROM orders WHERE created_at >= $1
	UNION ALL
	SELECT format('cancellation of order %s', order_id) FROM cancellations WHERE at >= $1`

// Undone is a step that an order has taken because payments was restored, and that contradicts what was said before.
type Undone struct {
	order.Transition
	Tenant    string    `db:"tenant"`
	AccountID uuid.UUID `db:"account_id"`
	Currency  string    `db:"currency"`
	Amount    int64     `db:"amount"`
}

// Undone calls each with what was undone since a time, the oldest first.
func (s *Store) Undone(ctx context.Context, since time.Time, each func(Undone) error) error {
	rows, err := s.db.QueryxContext(ctx, `
		SELECT h.*, o.tenant, o.account_id, o.currency, o.amount FROM (
			SELECT `+steps.String()+` FROM order_history WHERE at >= $1 AND reason = '`+contract.ReasonRestored+`'
		) h JOIN orders o ON o.id = h.order_id ORDER BY h.at, h.order_id, h.number`, since)
	if err != nil {
		return fmt.Errorf("read what was undone: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var u Undone
		if err := rows.StructScan(&u); err != nil {
			return fmt.Errorf("read what was undone: %w", err)
		}
		if !u.Undoes() {
			continue
		}
		if err := each(u); err != nil {
			return err
		}
	}
	return rows.Err()
}
