package postgres

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/order"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Filter chooses orders. Empty fields do not restrict the choice.
type Filter struct {
	AccountID uuid.NullUUID
	Reference string
	Status    order.Status
}

// maxScanned is how many orders one page of a list looks at when it filters by status, which is in no index.
const maxScanned = 10_000

// FirstPage is the position before the newest order.
const FirstPage int64 = math.MaxInt64

// List returns at most limit orders, the newest first, from those before a position, and the position from which the
// list goes on, or 0 when it has come to its end. Orders that are placed meanwhile are before the first page, so no
// order is left out or comes twice.
//
// A page looks at no more than 10,000 orders: where hardly any has the status asked for, it may hold fewer than limit,
// or none, and yet not be the last.
func (s *Store) List(ctx context.Context, filter Filter, before int64, limit int) (page []order.Order, next int64, err error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	where, args := filter.indexed(before)
	var end int64
	if filter.Status != "" {
		// The window is found in the index alone.
		if err := s.db.GetContext(ctx, &end, `
			SELECT coalesce((SELECT seq FROM orders WHERE `+where+` ORDER BY seq DESC OFFSET `+strconv.Itoa(maxScanned-1)+` LIMIT 1), 0)`,
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
		SELECT seq, `+orderColumns+` FROM orders WHERE `+where+` ORDER BY seq DESC LIMIT `+strconv.Itoa(limit+1), args...); err != nil {
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

// indexed is the part of the filter that an index answers.
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
