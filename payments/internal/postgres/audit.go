package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/payments/internal/chain"
	"github.com/altyn-pay/altyn/platform/audit"
	"github.com/altyn-pay/altyn/platform/reconcile"
)

// Books are what is audited of payments. The chain is their record of changes: of what the settlement has written after
// a link, each row's ID is in a later link.
var Books = audit.Books{Tables: auditTables, Sifts: auditSifts, Head: lastLink, Changed: linkedIDs}

func lastLink(ctx context.Context, db sqlx.QueryerContext) (last int64, err error) {
	if err := sqlx.GetContext(ctx, db, &last, `SELECT coalesce(max(number), 0) FROM chain`); err != nil {
		return 0, fmt.Errorf("last link: %w", err)
	}
	return last, nil
}

// linkedIDs returns the IDs of the rows in the link that follows one.
func linkedIDs(ctx context.Context, db sqlx.QueryerContext, after int64) (ids []uuid.UUID, next int64, err error) {
	var links []chain.Link
	if err := sqlx.SelectContext(ctx, db, &links, `
		SELECT number, items FROM chain WHERE number > $1 ORDER BY number LIMIT 1`, after); err != nil {
		return nil, after, fmt.Errorf("read the chain: %w", err)
	}
	if len(links) == 0 {
		return nil, after, nil
	}
	seen := make(map[uuid.UUID]bool)
	// What cannot be read is for verify to tell.
	_ = chain.Items(links[0].Items, func(i chain.Item) error {
		if !seen[i.ID] {
			seen[i.ID] = true
			ids = append(ids, i.ID)
		}
		return nil
	})
	return ids, links[0].Number, nil
}

// isSystem is true for the accounts that no tenant has.
const isSystem = `account_id::text LIKE '00000000-0000-%'`

// sameBalance joins rows of the same balance.
func sameBalance(a, b string) string {
	return fmt.Sprintf("(%[1]s.account_id, %[1]s.currency, %[1]s.lane) = "+
		"(%[2]s.account_id, %[2]s.currency, %[2]s.lane)", a, b)
}

// balanceID names the balance b.
const balanceID = `b.account_id, b.currency || ' in lane ' || b.lane`

// revenue is the account of what orders have paid, otherwise what a payment p must not be beside its operation o.
const (
	revenue   = `'00000000-0000-0000-0000-000000000002'`
	otherwise = `(p.status = 'created') <> (coalesce(o.status, '') = 'created')
		OR (p.status IN ('authorized', 'succeeded', 'refunded') OR p.captured > 0) AND coalesce(o.status, '') <> 'success'
		OR p.status = 'failed' AND p.captured > 0 OR p.status IN ('succeeded', 'refunded') AND p.captured = 0
		OR p.status = 'cancelled' AND p.captured <> p.refunded`
)

// An operation that has ended is right at first sight if its rows, none of which is a hold's, agree: all of them are in
// the slice, as a row without its operation is not right. What moves the money of an earlier order is looked at with
// it. An entry is right if the one before it is there: so a balance exists if it does for the first entry, and counts
// all of them if there is none after the last one that it counts.
var auditSifts = []audit.Sift{
	{Tables: []string{"operations", "payments", "entries", "holds"}, ID: "id", Query: `
		SELECT unnest(ARRAY[coalesce(o.id, p.order_id, e.operation_id, h.id), o.order_id])
		FROM {operations} o
			FULL JOIN {payments} p ON p.order_id = o.id AND p.lane = o.lane
			FULL JOIN (
				SELECT operation_id, currency, sum(amount + frozen) AS sum,
					sum(amount) FILTER (WHERE amount > 0 AND account_id = ` + revenue + `) AS captured,
					-sum(amount) FILTER (WHERE amount < 0 AND account_id = ` + revenue + `) AS refunded
				FROM {entries} s GROUP BY 1, 2
			) e ON e.operation_id = o.id AND e.currency = o.currency
			FULL JOIN {holds} h ON h.id = o.id AND h.lane = o.lane
		WHERE (h.id IS NULL AND o.status <> 'created' AND o.operation <> 'hold' AND coalesce(o.order_id, o.id) = o.id
			AND CASE WHEN e.sum IS NULL THEN o.status <> 'success' OR o.operation IN ('create_account', 'cancel_operation')
				ELSE o.status = 'success' AND e.sum = 0 END
			AND CASE WHEN p.order_id IS NULL THEN o.order_id IS NULL ELSE p.status <> 'authorized' AND NOT (` + otherwise + `)
				AND p.captured = coalesce(e.captured, 0) AND p.refunded = coalesce(e.refunded, 0)
				AND p.account_id = o.account_id AND p.tenant = o.tenant END) IS NOT TRUE
		UNION ALL
		SELECT e.operation_id
		FROM {entries} e LEFT JOIN {entries} p ON ` + sameBalance("p", "e") + ` AND p.number + 1 = e.number
		WHERE CASE
			WHEN e.number = 1 THEN e.balance_after <> e.amount OR e.frozen_after <> e.frozen
				OR NOT EXISTS (SELECT FROM balances b WHERE ` + sameBalance("b", "e") + `)
			WHEN p.number IS NULL THEN NOT EXISTS (SELECT FROM entries x WHERE ` + sameBalance("x", "e") + `
				AND x.number = e.number - 1 AND e.balance_after = x.balance_after + e.amount
				AND e.frozen_after = x.frozen_after + e.frozen)
			ELSE e.balance_after <> p.balance_after + e.amount OR e.frozen_after <> p.frozen_after + e.frozen END
		UNION ALL
		SELECT id FROM {operations} o
		WHERE CASE WHEN (account_id, coalesce(to_account_id, account_id), tenant) IN (
			SELECT account_id, payee, tenant FROM (
				SELECT account_id, coalesce(to_account_id, account_id) AS payee, tenant FROM {operations} s
				GROUP BY 1, 2, 3 HAVING bool_or(status = 'success')
			) s WHERE CASE WHEN EXISTS (SELECT FROM accounts WHERE id = account_id AND tenant <> s.tenant) THEN true
				WHEN payee <> account_id THEN EXISTS (SELECT FROM accounts WHERE id = payee AND tenant <> s.tenant) END
		) THEN true END`},
	{Tables: []string{"waits"}, Query: `SELECT id FROM {waits} w`},
	{Tables: []string{"balances"}, Query: `
		SELECT (SELECT operation_id FROM entries e WHERE ` + sameBalance("e", "b") + ` AND e.number = b.entries + 1)
		FROM {balances} b`},
}

var auditTables = []audit.Table{
	// A batch writes the entries of an operation together, so most of them are in one slice.
	{Name: "entries", Sifted: true, Of: `operation_id = ANY($1::uuid[])`, Rules: []audit.Rule{
		{Name: "entry_follows", What: "is an entry that does not follow from the one before", Query: `
			SELECT e.operation_id, e.account_id || ' ' || e.currency || ' number ' || e.number || ' in lane ' || e.lane
			FROM {slice} e LEFT JOIN LATERAL (
				SELECT balance_after, frozen_after FROM entries p
				WHERE ` + sameBalance("p", "e") + ` AND p.number = e.number - 1
			) p ON true
			WHERE (p.balance_after IS NULL) <> (e.number = 1)
				OR e.balance_after <> coalesce(p.balance_after, 0) + e.amount
				OR e.frozen_after <> coalesce(p.frozen_after, 0) + e.frozen`},
		{Name: "entry_balance", What: "is an entry that its balance does not count", Query: `
			SELECT (SELECT operation_id FROM entries x WHERE ` + sameBalance("x", "e") + ` AND x.number = e.number),
				e.account_id || ' ' || e.currency || ' number ' || e.number || ' in lane ' || e.lane
			FROM (
				SELECT account_id, currency, lane, max(number) AS number FROM {slice} s GROUP BY 1, 2, 3
			) e LEFT JOIN balances b ON ` + sameBalance("b", "e") + `
			WHERE b.entries IS NULL OR b.entries < e.number`},
		{Name: "entry_operation", What: "is an operation that has entries and did not succeed", Query: `
			SELECT e.operation_id, '' FROM (SELECT DISTINCT operation_id FROM {slice} s) e
			WHERE NOT EXISTS (SELECT FROM operations o WHERE o.id = e.operation_id AND o.status = 'success')`},
		{Name: "entry_sum", What: "is an operation whose entries do not sum to zero", Query: `
			SELECT e.operation_id, e.currency FROM (
				SELECT operation_id, currency FROM {slice} s GROUP BY 1, 2 HAVING sum(amount + frozen) <> 0
			) e WHERE 0 <> (
				SELECT sum(amount + frozen) FROM entries a WHERE a.operation_id = e.operation_id AND a.currency = e.currency)`},
	}},
	{Name: "balances", Named: `account_id = ANY($1::uuid[])`,
		Of: `(account_id, currency, lane) IN (
			SELECT account_id, currency, lane FROM entries WHERE operation_id = ANY($1::uuid[]))`, Rules: []audit.Rule{
			{Name: "balance_entries", What: "has a balance that is not what its last entry says", Query: `
				SELECT ` + balanceID + ` FROM {slice} b LEFT JOIN LATERAL (
					SELECT balance_after, frozen_after FROM entries e WHERE ` + sameBalance("e", "b") + ` AND e.number = b.entries
				) e ON true
				WHERE (e.balance_after IS NULL) <> (b.entries = 0)
					OR b.actual <> coalesce(e.balance_after, 0) OR b.frozen <> coalesce(e.frozen_after, 0)`},
			{Name: "balance_holds", What: "has a balance whose frozen part is not its open holds", Query: `
				SELECT ` + balanceID + ` FROM {slice} b
				WHERE b.frozen <> (
					SELECT coalesce(sum(amount), 0) FROM holds h WHERE status = 'open' AND ` + sameBalance("h", "b") + `)`},
			{Name: "balance_waits", What: "has a balance that counts other than those that wait for its money", Query: `
				SELECT ` + balanceID + ` FROM {slice} b
				WHERE b.waiting <> (
					SELECT count(*) FROM waits w WHERE what = 'waiting_for_funds' AND ` + sameBalance("w", "b") + `)`},
			{Name: "balance_account", What: "has a balance and is not an account, or one of another tenant", Query: `
				SELECT ` + balanceID + ` FROM {slice} b LEFT JOIN accounts a ON a.id = b.account_id AND a.lane = b.lane
				WHERE b.entries > 0 AND b.tenant IS DISTINCT FROM a.tenant AND NOT b.` + isSystem},
		}},
	{Name: "operations", Sifted: true, Of: `id = ANY($1::uuid[])`, Rules: []audit.Rule{
		{Name: "operation_entries", What: "is an operation that succeeded in moving money and has no entries", Query: `
			SELECT o.id, o.operation::text FROM {slice} o
			WHERE o.status = 'success' AND o.operation NOT IN ('create_account', 'cancel_operation')
				AND NOT EXISTS (SELECT FROM entries e WHERE e.operation_id = o.id)`},
		{Name: "operation_tenant", What: "is an operation that moved another tenant's money", Query: `
			SELECT o.id, a.id::text FROM (
				SELECT o.id, o.tenant, o.account_id FROM {slice} o WHERE status = 'success'
				UNION ALL
				SELECT o.id, o.tenant, o.to_account_id FROM {slice} o WHERE status = 'success' AND to_account_id IS NOT NULL
			) o JOIN accounts a ON a.id = o.account_id WHERE a.tenant <> o.tenant`},
		{Name: "operation_payment", What: "is an operation of an order without a payment", Query: `
			SELECT o.id, o.order_id::text FROM {slice} o
			WHERE o.order_id IS NOT NULL
				AND NOT EXISTS (SELECT FROM payments p WHERE p.order_id = o.order_id AND p.lane = o.lane)`},
		{Name: "operation_hold", What: "is an operation that has set money aside without a hold", Query: `
			SELECT o.id, '' FROM {slice} o
			WHERE o.status = 'success' AND o.operation = 'hold'
				AND NOT EXISTS (SELECT FROM holds h WHERE h.id = o.id AND h.lane = o.lane)`},
		{Name: "operation_waits", What: "is an operation that is created and waits for nothing", Query: `
			SELECT o.id, '' FROM {slice} o
			WHERE o.status = 'created' AND NOT EXISTS (SELECT FROM waits w WHERE w.id = o.id AND w.lane = o.lane)`},
	}},
	{Name: "holds", Sifted: true, Of: `id = ANY($1::uuid[])`, Rules: []audit.Rule{
		{Name: "hold_operation", What: "is a hold that no operation has set aside", Query: `
			SELECT h.id, '' FROM {slice} h LEFT JOIN operations o ON o.id = h.id AND o.lane = h.lane
			WHERE o.status IS DISTINCT FROM 'success' OR o.account_id <> h.account_id OR o.currency <> h.currency
				OR o.amount <> h.amount`},
	}},
	{Name: "payments", Sifted: true, Of: `order_id = ANY($1::uuid[])`, Rules: []audit.Rule{
		{Name: "payment_money", What: "is a payment that took or gave back other than its order has earned", Query: `
			SELECT p.order_id, '' FROM {slice} p CROSS JOIN LATERAL (
				SELECT coalesce(sum(amount) FILTER (WHERE amount > 0), 0) AS captured,
					coalesce(-sum(amount) FILTER (WHERE amount < 0), 0) AS refunded
				FROM (
					SELECT p.order_id AS id UNION ALL
					SELECT id FROM operations WHERE order_id = p.order_id AND order_id <> id AND lane = p.lane
				) o CROSS JOIN LATERAL (
					SELECT account_id, amount FROM entries WHERE operation_id = o.id OFFSET 0
				) e
				WHERE account_id = ` + revenue + `
			) earned
			WHERE p.captured <> earned.captured OR p.refunded <> earned.refunded`},
		{Name: "payment_operation", What: "is a payment whose operation says otherwise", Query: `
			SELECT p.order_id, p.status::text FROM {slice} p LEFT JOIN operations o ON o.id = p.order_id AND o.lane = p.lane
			WHERE ` + otherwise},
		{Name: "payment_hold", What: "is authorized without an open hold of its amount, or has one without being so", Query: `
			SELECT p.order_id, p.status::text FROM {slice} p LEFT JOIN holds h ON h.id = p.order_id AND h.lane = p.lane
			WHERE (p.status = 'authorized') <> (coalesce(h.status, '') = 'open')
				OR h.account_id <> p.account_id OR h.amount <> p.amount OR h.captured <> p.captured`},
		{Name: "payment_waits", What: "is a payment that does not wait for what it says", Query: `
			SELECT p.order_id, p.status::text FROM {slice} p LEFT JOIN waits w ON w.id = p.order_id AND w.lane = p.lane
			WHERE CASE WHEN p.status = 'created' THEN p.reason ELSE '' END <> coalesce(w.what, '')`},
		{Name: "payment_tenant", What: "is a payment that took money of another tenant's account", Query: `
			SELECT p.order_id, p.tenant FROM {slice} p JOIN accounts a ON a.id = p.account_id AND a.lane = p.lane
			WHERE p.tenant <> a.tenant AND (p.captured > 0 OR p.status = 'authorized')`},
	}},
	{Name: "waits", Sifted: true, Of: `id = ANY($1::uuid[])`, Rules: []audit.Rule{
		{Name: "wait_operation", What: "waits and is no operation that is created and says so", Query: `
			SELECT w.id, w.what FROM {slice} w LEFT JOIN operations o ON o.id = w.id AND o.lane = w.lane
			WHERE o.status IS DISTINCT FROM 'created' OR o.reason <> w.what`},
	}},
	{Name: "retellings", Of: `order_id = ANY($1::uuid[])`, Rules: []audit.Rule{
		{Name: "retelling_payment", What: "is told of again and is no payment that was refunded", Query: `
			SELECT r.order_id, '' FROM {slice} r LEFT JOIN payments p ON p.order_id = r.order_id AND p.lane = r.lane
			WHERE p.refunded IS NULL OR p.refunded = 0`},
	}},
}

// AuditRules are the names of all rules, for documents and tests.
func AuditRules() (names []string) {
	for _, t := range auditTables {
		for _, rule := range t.Rules {
			names = append(names, rule.Name)
		}
	}
	slices.Sort(names)
	return names
}

// Reconciled is what orders knows of payments too. Of a currency that is not known here it knows the code alone.
func (s *Store) Reconciled() reconcile.Source {
	return reconcile.Source{DB: s.db, View: `
		SELECT order_id AS id, account_id, tenant, split_part(currency, ',', 1) AS currency, amount::bigint, captured,
			refunded, version::bigint, CASE WHEN status = 'created' THEN 'pending' WHEN status IN ('succeeded', 'refunded')
				THEN 'paid' ELSE status::text END AS status,
			CASE WHEN status IN ('created', 'failed') THEN reason ELSE '' END AS reason, updated_at
		FROM payments`}
}
