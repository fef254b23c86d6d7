package postgres

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/audit"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/reconcile"
)

// Books are what is audited of orders. The history is their record of changes, by its time in microseconds.
var Books = audit.Books{Tables: auditTables, Sifts: auditSifts, Head: historyHead, Changed: changedOrders}

const (
	// A line of the history is stored so long after its time at most, or it is left to the next pass: transactions are
	// shorter, and clocks differ by less.
	latest = 2 * time.Minute
	// historyWindow is how much of the history is looked at once.
	historyWindow = 10 * time.Second
)

func historyHead(ctx context.Context, db sqlx.QueryerContext) (head int64, err error) {
	if err := sqlx.GetContext(ctx, db, &head, `
		SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $1`, latest.Microseconds()); err != nil {
		return 0, fmt.Errorf("end of the history: %w", err)
	}
	return head, nil
}

// changedOrders returns the orders with lines in the next part of the history.
func changedOrders(ctx context.Context, db sqlx.QueryerContext, after int64) (
	ids []uuid.UUID, next int64, err error) {
	head, err := historyHead(ctx, db)
	if err != nil {
		return nil, after, err
	}
	if head < after { // the clock was set back
		after = head
	}
	next = min(head, after+historyWindow.Microseconds())
	if err := sqlx.SelectContext(ctx, db, &ids, `
		SELECT DISTINCT order_id FROM order_history
		WHERE at > timestamptz 'epoch' + $1 * interval '1 microsecond'
			AND at <= timestamptz 'epoch' + $2 * interval '1 microsecond'`, after, next); err != nil {
		return nil, after, fmt.Errorf("read the history: %w", err)
	}
	if len(ids) == 0 && next == head {
		next = after
	}
	return ids, next, nil
}

// amountsWrong are those of an order o that do not fit its status.
const amountsWrong = `CASE o.status WHEN 'paid' THEN o.captured = 0 WHEN 'cancelled' THEN o.captured <> o.refunded
	WHEN 'cancelling' THEN false ELSE o.captured > 0 END`

// An order is right at first sight if it is pending, or if one line of history tells what became of it. Its rows are
// all in the slice, as a row without its order is not right.
var auditSifts = []audit.Sift{
	{Tables: []string{"orders", "order_history", "cancellations"}, ID: "id", Query: `
		SELECT coalesce(o.id, h.order_id, c.order_id)
		FROM {orders} o
			FULL JOIN {order_history} h ON h.order_id = o.id
			FULL JOIN {cancellations} c ON c.order_id = o.id
		WHERE (c.order_id IS NULL AND NOT (` + amountsWrong + `)
			AND CASE WHEN h.number IS NULL THEN o.version = 1 AND o.status = 'pending'
				ELSE o.version = 2 AND o.payment_version > 0 AND h.number = 2 AND h.from_status = 'pending'
					AND h.to_status = o.status AND o.status <> 'cancelling' END) IS NOT TRUE`},
}

var auditTables = []audit.Table{
	{Name: "orders", Sifted: true, Of: `id = ANY($1::uuid[])`, Rules: []audit.Rule{
		{Name: "order_history", What: "is an order that is not where its history ends", Query: `
			SELECT o.id, o.status::text FROM {slice} o LEFT JOIN LATERAL (
				SELECT number, to_status FROM order_history WHERE order_id = o.id ORDER BY number DESC LIMIT 1
			) h ON true
			WHERE o.version <> coalesce(h.number, 1) OR o.status <> coalesce(h.to_status, 'pending')`},
		// An event that the broker has lost has no line: what follows it tells of it too.
		{Name: "order_version", What: "is an order with a longer history than its payment and its cancellation have", Query: `
			SELECT o.id, o.status::text FROM {slice} o
			WHERE o.version > 1 + o.payment_version + (
				SELECT count(*) FROM order_history
				WHERE order_id = o.id AND to_status = 'cancelling' AND from_status <> 'cancelling')`},
		{Name: "order_cancellation", What: "is cancelled without a cancellation, or has one without being so", Query: `
			SELECT o.id, o.status::text FROM {slice} o
			WHERE EXISTS (SELECT FROM order_history WHERE order_id = o.id AND to_status = 'cancelling')
				<> EXISTS (SELECT FROM cancellations WHERE order_id = o.id)`},
		{Name: "order_amounts", What: "is an order whose amounts do not fit its status", Query: `
			SELECT o.id, o.status::text FROM {slice} o
			WHERE ` + amountsWrong},
	}},
	{Name: "order_history", Sifted: true, Of: `order_id = ANY($1::uuid[])`, Rules: []audit.Rule{
		{Name: "history_follows", What: "has a line in its history that does not follow from the one before", Query: `
			SELECT h.order_id, 'number ' || h.number FROM {slice} h
				LEFT JOIN order_history p ON p.order_id = h.order_id AND p.number = h.number - 1
			WHERE (p.number IS NULL) <> (h.number = 2) OR h.from_status <> coalesce(p.to_status, 'pending')`},
		{Name: "history_order", What: "has a history and is no order", Query: `
			SELECT h.order_id, 'number ' || h.number FROM {slice} h
			WHERE NOT EXISTS (SELECT FROM orders WHERE id = h.order_id)`},
	}},
	{Name: "cancellations", Sifted: true, Of: `order_id = ANY($1::uuid[])`, Rules: []audit.Rule{
		{Name: "cancellation_order", What: "has a cancellation and is no order", Query: `
			SELECT c.order_id, '' FROM {slice} c WHERE NOT EXISTS (SELECT FROM orders WHERE id = c.order_id)`},
	}},
	{Name: "unsettled", Of: `order_id = ANY($1::uuid[])`, Rules: []audit.Rule{
		{Name: "unsettled_order", What: "is waited for and is no order", Query: `
			SELECT u.order_id, '' FROM {slice} u WHERE NOT EXISTS (SELECT FROM orders WHERE id = u.order_id)`},
	}},
}

// Reconciled is what payments knows of orders too.
func (s *Store) Reconciled() reconcile.Source {
	return reconcile.Source{DB: s.db, View: `
		SELECT id, account_id, tenant, currency, amount::bigint, captured, refunded,
			payment_version % ` + strconv.Itoa(contract.Epoch) + ` AS version, status::text,
			CASE WHEN status IN ('pending', 'failed') THEN reason::text ELSE '' END AS reason, updated_at
		FROM orders`}
}
