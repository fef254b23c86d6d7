package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/order"
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

// maxScanned is how many orders a page looks at when it filters by something for which there is no index.
const maxScanned = 10_000

// FirstPage is the position before the newest order.
const FirstPage int64 = math.MaxInt64

// List returns at most limit of the orders in reach before a position, the newest first, and the position where the
// list goes on, or 0 at its end. Orders that are placed meanwhile come before the first page, so no order is left out
// or comes twice.
//
// A page looks at 10,000 orders at most where no index has just those that are wanted: by status; by account or
// reference where the reach is restricted to an owner; in the default tenant where there are others. It may hold fewer
// than limit then, or none, without being the last.
func (s *Store) List(ctx context.Context, by identity.Reach, filter Filter, before int64, limit int) (
	page []order.Order, next int64, err error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	by = by.Normal()
	indexed, scanned := filter.conditions(by)
	newest := newestOf(by)
	where, args := indexed.and(newest.before, []any{before})
	var end int64
	if len(scanned) > 0 {
		if err := s.db.GetContext(ctx, &end, `SELECT `+filter.end(by, newest, where), args...); err != nil {
			return nil, 0, fmt.Errorf("list orders: %w", err)
		}
		where, args = append(scanned, condition{newest.from, end}).and(where, args)
	}
	var rows []struct {
		order.Order
		Seq int64 `db:"seq"`
	}
	if err := s.db.SelectContext(ctx, &rows, `
		SELECT seq, `+orderColumns.String()+` FROM orders WHERE `+where+`
		ORDER BY `+newest.order+` LIMIT `+strconv.Itoa(limit+1), args...); err != nil {
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

// newestFirst is SQL for a list's order, and for what comes before a position and from one on.
type newestFirst struct{ order, before, from string }

// newestOf returns how the indexes for who asks are ordered.
func newestOf(by identity.Reach) newestFirst {
	if by.IsZero() {
		return newestFirst{`seq DESC`, `seq < $1`, `seq >= %s`}
	}
	return newestFirst{`-seq`, `-seq > -$1::bigint`, `-seq <= -%s::bigint`}
}

// condition is one of a list's rows: SQL with a place for its value.
type condition struct {
	text  string
	value any
}

type conditions []condition

// and adds the conditions to a query's.
func (c conditions) and(where string, args []any) (string, []any) {
	for _, condition := range c {
		args = append(args, condition.value)
		where += ` AND ` + fmt.Sprintf(condition.text, "$"+strconv.Itoa(len(args)))
	}
	return where, args
}

// conditions are those that an index answers in the order of seq, and those for which rows are looked at. Each of the
// indexes for tenants has the rows of one tenant together.
func (f Filter) conditions(by identity.Reach) (indexed, scanned conditions) {
	tenant := condition{`tenant = %s`, by.Tenant}
	rest := &indexed
	switch {
	case by.Owner != "":
		indexed = conditions{tenant, {`subject = %s AND subject <> ''`, by.Owner}}
		rest = &scanned
	case by.Tenant != identity.DefaultTenant:
		tenant.text += ` AND tenant <> '` + identity.DefaultTenant + `'`
		indexed = conditions{tenant}
	default:
		scanned = conditions{tenant}
	}
	if f.AccountID.Valid {
		*rest = append(*rest, condition{`account_id = %s`, f.AccountID.UUID})
	}
	if f.Reference != "" {
		*rest = append(*rest, condition{`reference = %s AND reference <> ''`, f.Reference})
	}
	if f.Status != "" {
		scanned = append(scanned, condition{`status = %s`, f.Status})
	}
	return indexed, scanned
}

// end is SQL for the seq of the last order at which a page looks; 0 where it looks at all. An index alone answers it.
func (f Filter) end(by identity.Reach, newest newestFirst, where string) string {
	end := `coalesce((SELECT seq FROM orders WHERE ` + where + `
		ORDER BY ` + newest.order + ` OFFSET ` + strconv.Itoa(maxScanned-1) + ` LIMIT 1), 0)`
	if by.IsZero() && f.Status == "" { // every order that the index finds is wanted, unless there are tenants
		return `CASE WHEN (SELECT tenant FROM orders WHERE tenant <> '` + identity.DefaultTenant + `'
			ORDER BY tenant LIMIT 1) IS NULL THEN 0 ELSE ` + end + ` END`
	}
	return end
}
