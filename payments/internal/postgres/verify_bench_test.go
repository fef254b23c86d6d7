package postgres

import (
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/altyn-pay/altyn/platform/audit"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// BenchmarkVerify compares a ledger of 100,000 entries, or as many as ALTYN_VERIFY_ENTRIES says, with its chain:
//
//	ALTYN_VERIFY_ENTRIES=10000000 go run ./testkit/cmd/with-postgres -- \
//		go test ./payments/internal/postgres -run '^$' -bench Verify -benchtime 1x -timeout 1h
func BenchmarkVerify(b *testing.B) {
	db := ledgerOf(b)
	begin := time.Now()
	store := New(db.Service)
	n, err := store.Seal(b.Context(), nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%d rows were sealed in %s", n, time.Since(begin).Round(time.Millisecond))
	var memory runtime.MemStats
	for b.Loop() {
		result, err := store.Verify(b.Context(), Verifying{Sealings: 1})
		if err != nil || len(result.Differences) > 0 {
			b.Fatalf("%+v, %v", result.Differences, err)
		}
		b.ReportMetric(float64(result.Rows), "rows")
	}
	runtime.ReadMemStats(&memory)
	b.ReportMetric(float64(memory.Sys)/(1<<20), "MiB")
}

// BenchmarkAudit audits such a ledger, in one session at full load.
func BenchmarkAudit(b *testing.B) {
	db := ledgerOf(b)
	for b.Loop() {
		result, err := Books.Pass(b.Context(), db.Service, 100, func(audit.Place, audit.Result) {})
		if err != nil || len(result.Findings) > 0 {
			b.Fatalf("%v, %v", result.Findings, err)
		}
		b.ReportMetric(float64(result.Rows), "rows")
	}
}

// ledgerOf returns the database of such a ledger.
func ledgerOf(b *testing.B) postgrestest.DB {
	b.Helper()
	const perAccount = 100
	entries := 100_000
	if text := os.Getenv("ALTYN_VERIFY_ENTRIES"); text != "" {
		var err error
		if entries, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	db := postgrestest.Database(b, "payments", Migrations()...)
	begin := time.Now()
	for _, statement := range filling {
		if _, err := db.Owner.ExecContext(b.Context(), statement.query, statement.args(entries/perAccount)...); err != nil {
			b.Fatal(err)
		}
	}
	b.Logf("filled in %s", time.Since(begin).Round(time.Millisecond))
	return db
}

// filling makes accounts, each of which has one deposit and 49 payments in RUB.
var filling = []struct {
	query string
	args  func(accounts int) []any
}{
	{`ALTER TABLE entries DROP CONSTRAINT entries_pkey`, nothing},
	{`DROP INDEX operations_known, entries_operation`, nothing},
	{`ALTER TABLE payments DROP CONSTRAINT payments_pkey`, nothing},
	{`INSERT INTO accounts (id, lane, created_at)
		SELECT gen_random_uuid(), n % 64, now() FROM generate_series(1, $1) n`, accountsOnly},
	{`INSERT INTO operations (id, lane, seq, operation, account_id, order_id, currency, amount, status,
			created_at, settled_at)
		SELECT id, lane, row_number() OVER (), CASE n WHEN 0 THEN 'deposit' ELSE 'payment' END, account,
			CASE WHEN n > 0 THEN id END, 'RUB', CASE n WHEN 0 THEN 4900 ELSE 100 END, 'success', now(), now()
		FROM (SELECT gen_random_uuid() AS id, a.lane, a.id AS account, n
			FROM generate_series(0, 49) n, accounts a OFFSET 0) o`, nothing},
	{`INSERT INTO payments (order_id, lane, account_id, currency, amount, capture, status, captured, refunded, version,
			created_at, updated_at)
		SELECT id, lane, account_id, 'RUB', 100, 'automatic', 'succeeded', 100, 0, 1, now(), now()
		FROM operations WHERE operation = 'payment'`, nothing},
	// Both entries of an operation lie together, as a batch writes them.
	{`INSERT INTO entries (account_id, lane, currency, number, operation_id, operation, amount, frozen, balance_after,
			frozen_after, created_at)
		SELECT account, lane, 'RUB', row_number() OVER own, id, operation, change, 0, sum(change) OVER own, 0, settled_at
		FROM (
			SELECT id, lane, seq, operation, settled_at, account_id AS account,
				CASE operation WHEN 'deposit' THEN amount ELSE -amount END AS change FROM operations
			UNION ALL
			SELECT id, lane, seq, operation, settled_at, CASE operation
				WHEN 'deposit' THEN '00000000-0000-0000-0000-000000000001'::uuid
				ELSE '00000000-0000-0000-0000-000000000002'::uuid END,
				CASE operation WHEN 'deposit' THEN -amount ELSE amount END FROM operations
		) o WINDOW own AS (PARTITION BY account, lane ORDER BY seq) ORDER BY seq`, nothing},
	{`ALTER TABLE entries ADD PRIMARY KEY (account_id, currency, number, lane)`, nothing},
	{`CREATE INDEX entries_operation ON entries (operation_id)`, nothing},
	{`ALTER TABLE payments ADD PRIMARY KEY (order_id, lane)`, nothing},
	{`INSERT INTO balances (account_id, lane, currency, actual, entries)
		SELECT DISTINCT ON (account_id, currency, lane) account_id, lane, currency, balance_after, number
		FROM entries ORDER BY account_id, currency, lane, number DESC`, nothing},
	{`VACUUM ANALYZE`, nothing},
}

func nothing(int) []any { return nil }

func accountsOnly(accounts int) []any { return []any{accounts} }
