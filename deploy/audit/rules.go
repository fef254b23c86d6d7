package audit

import (
	"context"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// rule is a query that counts what must not exist.
type rule struct{ what, query string }

// ledgerRules are about the money of any account.
var ledgerRules = []rule{
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
		WHERE NOT EXISTS (SELECT FROM balances b WHERE (b.account_id, b.currency, b.lane) = (e.account_id, e.currency,
			e.lane))`},
	{"entries of operations that did not succeed", `
		SELECT count(*) FROM (SELECT DISTINCT operation_id FROM entries) e
		LEFT JOIN operations o ON o.id = e.operation_id AND o.status = 'success' WHERE o.id IS NULL`},
	{"operations that moved money without entries", `
		SELECT count(*) FROM operations o WHERE status = 'success' AND operation NOT IN ('create_account', 'cancel_operation')
			AND NOT EXISTS (SELECT FROM entries e WHERE e.operation_id = o.id)`},
	{"balances whose frozen part is not their open holds", `
		SELECT count(*) FROM balances b LEFT JOIN (
			SELECT account_id, currency, lane, sum(amount) AS held FROM holds WHERE status = 'open' GROUP BY 1, 2, 3) h
			USING (account_id, currency, lane)
		WHERE b.frozen <> coalesce(h.held, 0)`},
	{"currencies whose balances do not sum to zero", `
		SELECT count(*) FROM (SELECT FROM balances GROUP BY currency HAVING sum(actual + frozen) <> 0) wrong`},
}

// systemAccounts are those that no tenant has.
const systemAccounts = `account_id::text LIKE '00000000-0000-%'`

// tenantRules are about whose money it is.
var tenantRules = []rule{
	{"entries on accounts that are another tenant's than their operation", `
		SELECT count(*) FROM entries e JOIN operations o ON o.id = e.operation_id
			JOIN accounts a ON a.id = e.account_id AND a.lane = e.lane
		WHERE a.tenant <> o.tenant AND NOT e.` + systemAccounts},
	{"tenants that have other sums than their operations brought", `
		SELECT count(*) FROM (
			SELECT tenant, currency, sum(actual + frozen) AS has FROM balances WHERE NOT ` + systemAccounts + ` GROUP BY 1, 2) b
		FULL JOIN (
			SELECT o.tenant, e.currency, sum(e.amount + e.frozen) AS brought
			FROM entries e JOIN operations o ON o.id = e.operation_id
			WHERE NOT e.` + systemAccounts + ` GROUP BY 1, 2) e USING (tenant, currency)
		WHERE coalesce(has, 0) <> coalesce(brought, 0)`},
	{"balances that are another tenant's than their account", `
		SELECT count(*) FROM balances b JOIN accounts a ON a.id = b.account_id AND a.lane = b.lane
		WHERE b.entries > 0 AND b.tenant <> a.tenant AND NOT b.` + systemAccounts},
	{"payments that took money of another tenant's account", `
		SELECT count(*) FROM payments p JOIN accounts a ON a.id = p.account_id AND a.lane = p.lane
		WHERE p.tenant <> a.tenant AND (p.captured > 0 OR p.status = 'authorized')`},
}

// sagaRules are about the payments of orders and what waits. A payment's hold and the operation that charges it have
// the order's ID.
var sagaRules = []rule{
	{"payments that took or gave back other than was earned by their order", `
		SELECT count(*) FROM payments p LEFT JOIN (
			SELECT coalesce(o.order_id, o.id) AS order_id, o.lane, sum(e.amount) FILTER (WHERE e.amount > 0) AS captured,
				-sum(e.amount) FILTER (WHERE e.amount < 0) AS refunded
			FROM entries e JOIN operations o ON o.id = e.operation_id AND o.lane = e.lane
			WHERE e.account_id = '00000000-0000-0000-0000-000000000002' GROUP BY 1, 2) earned USING (order_id, lane)
		WHERE (p.captured, p.refunded) <> (coalesce(earned.captured, 0), coalesce(earned.refunded, 0))`},
	{"operations of orders without a payment", `
		SELECT count(*) FROM operations o WHERE order_id IS NOT NULL
			AND NOT EXISTS (SELECT FROM payments p WHERE p.order_id = o.order_id AND p.lane = o.lane)`},
	{"payments whose operation says otherwise", `
		SELECT count(*) FROM payments p LEFT JOIN operations o ON o.id = p.order_id AND o.lane = p.lane
		WHERE (p.status = 'created') <> (coalesce(o.status, '') = 'created')
			OR (p.status = 'authorized' OR p.captured > 0) AND coalesce(o.status, '') <> 'success'`},
	{"payments that are authorized without an open hold of their amount, or have one without being so", `
		SELECT count(*) FROM payments p LEFT JOIN holds h ON h.id = p.order_id AND h.lane = p.lane
		WHERE (p.status = 'authorized') <> (coalesce(h.status, '') = 'open')
			OR (h.account_id, h.currency, h.amount) <> (p.account_id, p.currency, p.amount) OR h.captured <> p.captured`},
	{"payments that do not wait for what they say", `
		SELECT count(*) FROM payments p LEFT JOIN waits w ON w.id = p.order_id AND w.lane = p.lane
		WHERE CASE WHEN p.status = 'created' THEN p.reason ELSE '' END <> coalesce(w.what, '')`},
	{"operations that wait for nothing, and things waited for without an operation", `
		SELECT count(*) FROM (SELECT id, lane FROM operations WHERE status = 'created') o
			FULL JOIN waits w ON w.id = o.id AND w.lane = o.lane
		WHERE o.id IS NULL OR w.id IS NULL`},
	{"balances that count other than those that wait for their money", `
		SELECT count(*) FROM balances b FULL JOIN (
			SELECT account_id, currency, lane, count(*) AS n FROM waits WHERE what = 'waiting_for_funds' GROUP BY 1, 2, 3) w
			USING (account_id, currency, lane)
		WHERE coalesce(b.waiting, 0) <> coalesce(w.n, 0)`},
	{"requests that wait for money which is there", `
		SELECT count(*) FROM (
			SELECT DISTINCT ON (account_id, currency, lane) id, account_id, currency, lane
			FROM waits WHERE what = 'waiting_for_funds' ORDER BY account_id, currency, lane, seq) head
		JOIN balances b USING (account_id, currency, lane) JOIN operations o ON o.id = head.id AND o.lane = head.lane
		WHERE o.amount <= b.actual`},
	{"payments that wait for goods of which there was word", `
		SELECT count(*) FROM inventory i JOIN payments p USING (order_id, tenant) JOIN waits w ON w.id = i.order_id
		WHERE w.what = 'waiting_for_inventory'`},
	{"holds and requests that are long past their deadline", `
		SELECT (SELECT count(*) FROM holds WHERE status = 'open' AND expires_at < clock_timestamp() - interval '30 seconds')
			+ (SELECT count(*) FROM waits WHERE expires_at < clock_timestamp() - interval '30 seconds')`},
}

// historyRules are about the orders and their histories.
var historyRules = []rule{
	{"lines of histories that do not follow from the one before", `
		SELECT count(*) FROM (
			SELECT number, from_status, to_status, 1 + row_number() OVER history AS expected,
				lag(to_status, 1, 'pending') OVER history AS before
			FROM order_history WINDOW history AS (PARTITION BY order_id ORDER BY number)) h
		WHERE number <> expected OR from_status <> before OR (from_status, to_status) NOT IN (
			('pending', 'pending'), ('pending', 'authorized'), ('pending', 'paid'), ('pending', 'failed'),
				('pending', 'cancelling'),
			('authorized', 'paid'), ('authorized', 'failed'), ('authorized', 'cancelling'),
			('paid', 'paid'), ('paid', 'cancelling'),
			('cancelling', 'cancelling'), ('cancelling', 'cancelled'), ('cancelling', 'failed'))`},
	{"orders that are not where their history ends", `
		SELECT count(*) FROM orders o LEFT JOIN (
			SELECT DISTINCT ON (order_id) order_id, number, to_status FROM order_history ORDER BY order_id, number DESC) h
			ON h.order_id = o.id
		WHERE (o.version, o.status) <> (coalesce(h.number, 1), coalesce(h.to_status, 'pending'))`},
	{"orders that are cancelled without a cancellation, or have one without being so", `
		SELECT count(*) FROM (SELECT DISTINCT order_id FROM order_history WHERE to_status = 'cancelling') h
			FULL JOIN cancellations c ON c.order_id = h.order_id
		WHERE h.order_id IS NULL OR c.order_id IS NULL`},
}

// length compares an order's version with what happened: its history has a line for each state of the payment, and
// one for the request to cancel.
func length(compare string) rule {
	return rule{"orders whose history is not as long as what happened", `
		SELECT count(*) FROM orders o LEFT JOIN (
			SELECT order_id, count(*) AS n FROM order_history
			WHERE to_status = 'cancelling' AND from_status <> 'cancelling' GROUP BY 1) cancelled ON cancelled.order_id = o.id
		WHERE o.version ` + compare + ` 1 + o.payment_version + coalesce(cancelled.n, 0)`}
}

func check(ctx context.Context, name string, db *sqlx.DB, rules []rule) error {
	var errs []error
	for _, rule := range rules {
		var n int64
		if err := db.GetContext(ctx, &n, rule.query); err != nil {
			return fmt.Errorf("audit of %s: %w", rule.what, err)
		}
		if n > 0 {
			errs = append(errs, fmt.Errorf("%s: %d %s", name, n, rule.what))
		}
	}
	return errors.Join(errs...)
}
