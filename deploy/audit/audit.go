// Package audit checks the books of a running system against each other, to the last unit: what the whole-system tests,
// the demonstration and the benchmark end with. It reads the two databases and changes nothing.
package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
)

// Report is what the books say.
type Report struct {
	Entries, Operations, Payments, Orders int64
	// OrdersByStatus counts orders.
	OrdersByStatus map[string]int64
	// Captured is what was paid for orders and not refunded, and Deposited what came in less what went out, both in
	// minor units by currency.
	Captured, Deposited map[string]int64
}

// Check audits both databases. Orders or messages that are still under way are errors: call it when the system has come
// to rest. The error joins everything that is wrong.
func Check(ctx context.Context, orders, payments *sqlx.DB) (Report, error) {
	var report Report
	err := errors.Join(
		checkQueues(ctx, "orders", orders, "outbox", "outbox_parked"),
		checkQueues(ctx, "payments", payments, "inbox", "inbox_stops", "outbox", "outbox_parked"),
		checkLedger(ctx, payments),
		checkSaga(ctx, orders, payments, &report),
		report.count(ctx, orders, payments),
	)
	return report, err
}

// restTimeout bounds the wait for the queues to drain.
const restTimeout = time.Minute

// AtRest is Check once the queues of both services have drained; it waits at most a minute for that.
func AtRest(ctx context.Context, orders, payments *sqlx.DB) (Report, error) {
	waiting, cancel := context.WithTimeout(ctx, restTimeout)
	defer cancel()
	for {
		err := errors.Join(checkQueues(waiting, "orders", orders, "outbox"), checkQueues(waiting, "payments", payments, "inbox", "outbox"))
		var pending int64
		if err == nil {
			err = orders.GetContext(waiting, &pending, `SELECT count(*) FROM orders WHERE status IN ('pending', 'cancelling')`)
		}
		if err == nil && pending == 0 || waiting.Err() != nil {
			return Check(ctx, orders, payments)
		}
		select {
		case <-waiting.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// checkQueues expects tables to be empty.
func checkQueues(ctx context.Context, name string, db *sqlx.DB, tables ...string) error {
	var errs []error
	for _, table := range tables {
		var n int64
		if err := db.GetContext(ctx, &n, `SELECT count(*) FROM `+table); err != nil {
			return err
		}
		if n > 0 {
			errs = append(errs, fmt.Errorf("%s: %d rows are left in %s", name, n, table))
		}
	}
	return errors.Join(errs...)
}

// ledgerRules are queries that count what must not be.
var ledgerRules = []struct{ what, query string }{
	{"operations whose entries do not sum to zero", `
		SELECT count(*) FROM (
			SELECT FROM entries GROUP BY operation_id, currency HAVING sum(amount + frozen) <> 0) wrong`},
	{"entries that do not follow from the one before", `
		SELECT count(*) FROM (
			SELECT number, balance_after, frozen_after, row_number() OVER balance AS expected,
				sum(amount) OVER balance AS actual, sum(frozen) OVER balance AS frozen
			FROM entries WINDOW balance AS (PARTITION BY account_id, currency, lane ORDER BY number)) e
		WHERE number <> expected OR balance_after <> actual OR frozen_after <> frozen`},
	{"balances that are not what their entries say", `
		SELECT count(*) FROM balances b LEFT JOIN (
			SELECT account_id, currency, lane, count(*) AS n, sum(amount) AS actual, sum(frozen) AS frozen
			FROM entries GROUP BY account_id, currency, lane) e USING (account_id, currency, lane)
		WHERE (b.entries, b.actual, b.frozen) <> (coalesce(n, 0), coalesce(e.actual, 0), coalesce(e.frozen, 0))`},
	{"entries without a balance", `
		SELECT count(*) FROM (SELECT DISTINCT account_id, currency, lane FROM entries) e
		WHERE NOT EXISTS (SELECT FROM balances b WHERE (b.account_id, b.currency, b.lane) = (e.account_id, e.currency, e.lane))`},
	{"entries of operations that did not succeed", `
		SELECT count(*) FROM (SELECT DISTINCT operation_id FROM entries) e
		LEFT JOIN operations o ON o.id = e.operation_id AND o.status = 'success' WHERE o.id IS NULL`},
	{"operations that moved money without entries", `
		SELECT count(*) FROM operations o WHERE status = 'success' AND operation <> 'create_account'
			AND NOT EXISTS (SELECT FROM entries e WHERE e.operation_id = o.id)`},
	{"payments whose operation says otherwise", `
		SELECT count(*) FROM payments p LEFT JOIN operations o ON o.id = p.order_id AND o.lane = p.lane
		WHERE o.id IS NULL OR (o.status = 'success') <> (p.status = 'succeeded') OR p.captured <> CASE o.status WHEN 'success' THEN o.amount ELSE 0 END`},
	{"balances whose frozen part is not their open holds", `
		SELECT count(*) FROM balances b LEFT JOIN (
			SELECT account_id, currency, lane, sum(amount) AS held FROM holds WHERE status = 'open' GROUP BY 1, 2, 3) h
			USING (account_id, currency, lane)
		WHERE b.frozen <> coalesce(h.held, 0)`},
	{"currencies whose balances do not sum to zero", `
		SELECT count(*) FROM (SELECT FROM balances GROUP BY currency HAVING sum(actual + frozen) <> 0) wrong`},
}

func checkLedger(ctx context.Context, payments *sqlx.DB) error {
	var errs []error
	for _, rule := range ledgerRules {
		var n int64
		if err := payments.GetContext(ctx, &n, rule.query); err != nil {
			return fmt.Errorf("audit of %s: %w", rule.what, err)
		}
		if n > 0 {
			errs = append(errs, fmt.Errorf("payments: %d %s", n, rule.what))
		}
	}
	return errors.Join(errs...)
}

// sagaRow is what both services know of an order.
type sagaRow struct {
	ID       uuid.UUID `db:"id"`
	Account  uuid.UUID `db:"account_id"`
	Currency string    `db:"currency"`
	Amount   int64     `db:"amount"`
	Captured int64     `db:"captured"`
	Refunded int64     `db:"refunded"`
	Status   string    `db:"status"`
	Reason   string    `db:"reason"`
}

// orderStatus is the order's status for each of its payment's.
var orderStatus = map[string]string{
	"succeeded": "paid", "refunded": "paid", "failed": "failed", "cancelled": "cancelled", "authorized": "authorized",
}

// checkSaga goes through the orders and their payments side by side: each has exactly one counterpart, which agrees.
func checkSaga(ctx context.Context, orders, payments *sqlx.DB, report *Report) error {
	left, err := orders.QueryxContext(ctx, `
		SELECT id, account_id, currency, amount, captured, refunded, status, reason FROM orders ORDER BY id`)
	if err != nil {
		return fmt.Errorf("audit of orders: %w", err)
	}
	defer left.Close()
	right, err := payments.QueryxContext(ctx, `
		SELECT order_id AS id, account_id, currency, amount, captured, refunded, status, reason FROM payments ORDER BY order_id`)
	if err != nil {
		return fmt.Errorf("audit of payments: %w", err)
	}
	defer right.Close()

	const maxErrors = 10
	var errs []error
	report.OrdersByStatus = map[string]int64{}
	for {
		order, more, err := next(left)
		if err != nil {
			return err
		}
		payment, morePayments, err := next(right)
		if err != nil {
			return err
		}
		if !more && !morePayments {
			break
		}
		if !more || !morePayments || order.ID != payment.ID {
			errs = append(errs, fmt.Errorf("order %s (%s) and payment %s stand side by side: one has no counterpart", order.ID, order.Status, payment.ID))
			break
		}
		report.OrdersByStatus[order.Status]++
		expected := payment
		expected.Status = orderStatus[payment.Status]
		if order != expected {
			if errs = append(errs, fmt.Errorf("order %+v does not agree with its payment %+v", order, payment)); len(errs) == maxErrors {
				break
			}
		}
	}
	return errors.Join(errs...)
}

func next(rows *sqlx.Rows) (row sagaRow, ok bool, err error) {
	if !rows.Next() {
		return row, false, rows.Err()
	}
	return row, true, rows.StructScan(&row)
}

func (r *Report) count(ctx context.Context, orders, payments *sqlx.DB) error {
	for query, n := range map[string]*int64{
		`SELECT count(*) FROM entries`: &r.Entries, `SELECT count(*) FROM operations`: &r.Operations, `SELECT count(*) FROM payments`: &r.Payments,
	} {
		if err := payments.GetContext(ctx, n, query); err != nil {
			return err
		}
	}
	if err := orders.GetContext(ctx, &r.Orders, `SELECT count(*) FROM orders`); err != nil {
		return err
	}
	var err1, err2 error
	r.Captured, err1 = sums(ctx, payments, `SELECT currency, sum(captured - refunded) AS total FROM payments GROUP BY currency`)
	r.Deposited, err2 = sums(ctx, payments, `
		SELECT currency, -sum(actual) AS total FROM balances WHERE account_id = '00000000-0000-0000-0000-000000000001' GROUP BY currency`)
	return errors.Join(err1, err2)
}

func sums(ctx context.Context, db *sqlx.DB, query string) (map[string]int64, error) {
	var rows []struct {
		Currency string `db:"currency"`
		Total    int64  `db:"total"`
	}
	if err := db.SelectContext(ctx, &rows, query); err != nil {
		return nil, err
	}
	totals := make(map[string]int64, len(rows))
	for _, row := range rows {
		totals[row.Currency] = row.Total
	}
	return totals, nil
}
