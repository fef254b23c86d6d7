package audit

import (
	"context"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/contract"
)

// rule is a query that counts what must not exist.
type rule struct{ what, query string }

// restRules are about what must have happened by the time at which nothing moves by itself any more. What must be so at
// any time the services audit by themselves.
var restRules = []rule{
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

// ownVersion is the payment's own version of which an order knows, without the epoch.
var ownVersion = fmt.Sprintf("(payment_version %% %d)", contract.Epoch)

// historyRules are about histories of which no event was lost: they have a line for each state of the payment, and one
// for the request to cancel. They say nothing of orders whose payment was restored (contract.Epoch).
var historyRules = []rule{
	{"orders whose history is not as long as what happened", `
		SELECT count(*) FROM orders o LEFT JOIN (
			SELECT order_id, count(*) AS n FROM order_history
			WHERE to_status = 'cancelling' AND from_status <> 'cancelling' GROUP BY 1) cancelled ON cancelled.order_id = o.id
		WHERE o.payment_version = ` + ownVersion + ` AND o.version <> 1 + o.payment_version + coalesce(cancelled.n, 0)`},
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
