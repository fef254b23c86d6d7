package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/order"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Order returns one order, or ErrNotFound.
func (s *Store) Order(ctx context.Context, id uuid.UUID) (order.Order, error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	var o order.Order
	err := s.db.GetContext(ctx, &o, `SELECT `+orderColumns.String()+` FROM orders WHERE id = $1`, id)
	if errors.Is(err, sql.ErrNoRows) {
		return order.Order{}, ErrNotFound
	}
	if err != nil {
		return order.Order{}, fmt.Errorf("read order %s: %w", id, err)
	}
	return read(o), nil
}

// Newer returns, by ID, the orders that are newer than the version seen of each.
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

// Transitions returns what happened to an order since it was placed, the first transition first.
func (s *Store) Transitions(ctx context.Context, id uuid.UUID) ([]order.Transition, error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	var transitions []order.Transition
	if err := s.db.SelectContext(ctx, &transitions, `
		SELECT `+steps.String()+`
		FROM order_history WHERE order_id = $1 ORDER BY number LIMIT `+strconv.Itoa(maxTransitions), id); err != nil {
		return nil, fmt.Errorf("read the history of order %s: %w", id, err)
	}
	for i := range transitions {
		t := &transitions[i]
		t.At = t.At.UTC()
		// A transition from cancelling to cancelling is about the payment, not about the cancellation.
		if t.To == order.Cancelled || t.To == order.Cancelling && t.From != order.Cancelling {
			t.Reason, t.Note = cancelled(t.Reason, t.Note)
		}
	}
	return transitions, nil
}

// Filter chooses orders. An empty field does not restrict the choice.
type Filter struct {
	AccountID uuid.NullUUID
	Reference string
	Status    order.Status
}

// maxScanned is how many orders a page looks at when it filters by status, for which there is no index.
const maxScanned = 10_000

// FirstPage is the position before the newest order.
const FirstPage int64 = math.MaxInt64

// List returns at most limit orders before a position, the newest first, and the position where the list goes on, or 0
// at its end. Orders that are placed meanwhile come before the first page, so no order is left out or comes twice.
//
// A page that filters by status looks at 10,000 orders at most: it may hold fewer than limit, or none, without being
// the last.
func (s *Store) List(ctx context.Context, filter Filter, before int64, limit int) (
	page []order.Order, next int64, err error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	where, args := filter.indexed(before)
	var end int64
	if filter.Status != "" {
		// An index alone answers this.
		if err := s.db.GetContext(ctx, &end, `
			SELECT coalesce((
				SELECT seq FROM orders WHERE `+where+` ORDER BY seq DESC OFFSET `+strconv.Itoa(maxScanned-1)+` LIMIT 1), 0)`,
			args...); err != nil {
			return nil, 0, fmt.Errorf("list orders: %w", err)
		}
		args = append(args, end, filter.Status)
		where += fmt.Sprintf(` AND seq >= $%d AND status = $%d`, len(args)-1, len(args))
	}
	var rows []struct {
		order.Order
		Seq int64 `db:"seq"`
	}
	if err := s.db.SelectContext(ctx, &rows, `
		SELECT seq, `+orderColumns.String()+` FROM orders WHERE `+where+`
		ORDER BY seq DESC LIMIT `+strconv.Itoa(limit+1), args...); err != nil {
		return nil, 0, fmt.Errorf("list orders: %w", err)
	}
	next = end
	if len(rows) > limit {
		rows = rows[:limit]
		next = rows[limit-1].Seq
	}
	page = make([]order.Order, len(rows))
	for i, row := range rows {
		page[i] = read(row.Order)
	}
	return page, next, nil
}

// indexed is the part of the filter for which there are indexes.
func (f Filter) indexed(before int64) (where string, args []any) {
	conditions := []string{`seq < $1`}
	args = []any{before}
	if f.AccountID.Valid {
		args = append(args, f.AccountID.UUID)
		conditions = append(conditions, fmt.Sprintf(`account_id = $%d`, len(args)))
	}
	if f.Reference != "" {
		args = append(args, f.Reference)
		conditions = append(conditions, fmt.Sprintf(`reference = $%d AND reference <> ''`, len(args)))
	}
	return strings.Join(conditions, ` AND `), args
}
