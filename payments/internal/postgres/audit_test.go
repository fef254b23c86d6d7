package postgres

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/audit"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// Each rule finds what it is about, names it, and finds nothing in right books: in a pass over everything, among what
// has changed, and when it looks at a finding again.
func TestAuditFindsEachFault(t *testing.T) {
	postgrestest.NotOnCitus(t, "there is no audit of distributed tables")
	b := setup(t)
	accounts := b.everything()
	goods := ledger.Payment{OrderID: uuid.New(), Currency: "RUB", Amount: 1, Capture: contract.CaptureAutomatic,
		AwaitInventory: true}
	b.settle(b.request(accounts[0], goods))
	b.link() // so everything is on record
	tables := []string{"accounts", "balances", "entries", "holds", "operations", "payments", "waits", "retellings"}
	for _, table := range tables {
		b.exec(`CREATE TABLE saved_` + table + ` AS TABLE ` + table)
	}
	look := func() []audit.Finding {
		t.Helper()
		pass, err := Books.Pass(t.Context(), b.Service, 100, func(audit.Place, audit.Result) {})
		b.must(err)
		if pass.Rows < 100 {
			t.Fatalf("%d rows were looked at", pass.Rows)
		}
		return pass.Findings
	}
	if found := look(); len(found) > 0 {
		t.Fatalf("found in right books: %v", found)
	}
	const paid = `SELECT order_id FROM payments WHERE status = 'succeeded' LIMIT 1`
	const spent = `SELECT id FROM operations o WHERE operation = 'deposit' AND status = 'success'
		AND EXISTS (SELECT FROM entries e WHERE e.operation_id = o.id) LIMIT 1`
	const authorized = `SELECT order_id FROM payments WHERE status = 'authorized' LIMIT 1`
	const waiting = `SELECT id FROM waits WHERE what = 'waiting_for_funds' LIMIT 1`
	const account = `SELECT account_id FROM balances WHERE entries > 1 AND NOT ` + isSystem + ` LIMIT 1`
	tested := make(map[string]bool)
	const insert = `INSERT INTO balances (account_id, lane, currency, actual) VALUES ($1, 0, 'EUR', 1)`
	for _, fault := range []struct{ rule, which, spoil string }{
		{"entry_follows", spent, `UPDATE entries SET balance_after = balance_after + 1 WHERE operation_id = $1`},
		{"entry_follows", `SELECT e.operation_id FROM entries e JOIN entries p USING (account_id, currency, lane)
			WHERE e.number = 2 AND p.number = 1 LIMIT 1`, `DELETE FROM entries p USING entries e
			WHERE e.operation_id = $1 AND p.account_id = e.account_id AND p.number = e.number - 1`},
		{"entry_balance", `SELECT operation_id FROM entries e JOIN balances b USING (account_id, currency, lane)
			WHERE number = b.entries LIMIT 1`, `UPDATE balances b SET entries = b.entries - 1 FROM entries e
			WHERE operation_id = $1 AND ` + sameBalance("b", "e")},
		{"operation_tenant", spent, `UPDATE operations SET tenant = 'another' WHERE id = $1`},
		{"entry_operation", spent, `UPDATE operations SET status = 'error', reason = 'rejected' WHERE id = $1`},
		{"entry_operation", spent, `DELETE FROM operations WHERE id = $1`},
		{"balance_entries", account, `UPDATE balances SET actual = actual + 1 WHERE account_id = $1`},
		{"balance_entries", account, `DELETE FROM entries e USING balances b
			WHERE e.account_id = $1 AND number = b.entries AND ` + sameBalance("b", "e")},
		{"balance_entries", account, insert},
		{"balance_holds", `SELECT account_id FROM holds WHERE status = 'open' LIMIT 1`,
			`UPDATE holds SET amount = amount + 1 WHERE account_id = $1 AND status = 'open'`},
		{"balance_waits", account, `UPDATE balances SET waiting = waiting + 1 WHERE account_id = $1`},
		{"balance_account", account, `UPDATE balances SET tenant = 'another' WHERE account_id = $1`},
		{"balance_account", account, `DELETE FROM accounts WHERE id = $1`},
		{"entry_sum", spent, `UPDATE entries SET amount = amount + 1, balance_after = balance_after + 1
			WHERE operation_id = $1 AND amount > 0`},
		{"operation_entries", spent, `DELETE FROM entries WHERE operation_id = $1`},
		{"operation_payment", paid, `DELETE FROM payments WHERE order_id = $1`},
		{"operation_hold", `SELECT id FROM operations WHERE operation = 'hold' AND status = 'success' LIMIT 1`,
			`DELETE FROM holds WHERE id = $1`},
		{"operation_waits", waiting, `DELETE FROM waits WHERE id = $1`},
		{"hold_operation", authorized, `UPDATE holds SET amount = amount + 1 WHERE id = $1`},
		{"hold_operation", authorized, `DELETE FROM operations WHERE id = $1`},
		{"payment_money", paid, `UPDATE payments SET captured = captured - 1 WHERE order_id = $1`},
		{"payment_money", `SELECT order_id FROM payments WHERE status = 'refunded' LIMIT 1`,
			`UPDATE payments SET refunded = refunded - 1 WHERE order_id = $1`},
		{"payment_operation", paid, `UPDATE payments SET status = 'failed' WHERE order_id = $1`},
		{"payment_operation", paid, `DELETE FROM operations WHERE id = $1`},
		{"payment_hold", authorized, `UPDATE holds SET status = 'released' WHERE id = $1`},
		{"payment_hold", authorized, `UPDATE payments SET status = 'cancelled' WHERE order_id = $1`},
		{"payment_waits", `SELECT order_id FROM payments WHERE status = 'created' LIMIT 1`,
			`UPDATE payments SET reason = '' WHERE order_id = $1`},
		{"payment_tenant", paid, `UPDATE payments SET tenant = 'another' WHERE order_id = $1`},
		{"wait_operation", waiting, `UPDATE operations SET status = 'success', reason = '', settled_at = now()
			WHERE id = $1`},
		{"wait_operation", waiting, `UPDATE operations SET reason = '' WHERE id = $1`},
		{"retelling_payment", `SELECT order_id FROM retellings LIMIT 1`,
			`UPDATE payments SET refunded = 0 WHERE order_id = $1`},
	} {
		tested[fault.rule] = true
		var id uuid.UUID
		if err := b.Owner.Get(&id, fault.which); err != nil {
			t.Fatalf("%s: %v", fault.which, err)
		}
		b.exec(fault.spoil, id)
		named := func(f audit.Finding) bool { return f.Rule == fault.rule && f.ID == id }
		if found := look(); !slices.ContainsFunc(found, named) {
			t.Errorf("%s: after %s of %s a pass finds %v", fault.rule, fault.spoil, id, found)
		}
		if changed, err := Books.Follow(t.Context(), b.Service, 100, 0); err != nil ||
			!slices.ContainsFunc(changed.Findings, named) && fault.spoil != insert { // which changes nothing on record
			t.Errorf("%s: after %s of %s among the changes %v is found, %v", fault.rule, fault.spoil, id, changed.Findings, err)
		}
		for _, table := range tables {
			b.exec(`DELETE FROM ` + table)
			b.exec(`INSERT INTO ` + table + ` OVERRIDING SYSTEM VALUE SELECT * FROM saved_` + table)
		}
	}
	for _, rule := range AuditRules() {
		if !tested[rule] {
			t.Errorf("no fault is tested for %s", rule)
		}
	}
	if found := look(); len(found) > 0 {
		t.Errorf("found in mended books: %v", found)
	}
}
