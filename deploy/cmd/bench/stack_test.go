package main

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/deploy/audit"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

func TestMain(m *testing.M) {
	localkafka.Child()
	os.Exit(m.Run())
}

// A database that was filled is one that the services have filled, for the audit as well as for the services:
// every workload works on it.
func TestWorkloadsOnAFilledDatabase(t *testing.T) {
	binaries := filepath.Join(t.TempDir(), "programs")
	if err := stack.Build(t.Context(), stack.BuildOptions{Dir: binaries}); err != nil {
		t.Fatal(err)
	}
	s, err := start(t.Context(), stack.Options{Binaries: binaries, Postgres: stack.Postgres{NoSync: true},
		Kafka: stack.Kafka{Kind: localkafka.Embedded}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	s.clients, s.rate = 8, openRate

	const orders, accounts = 2345, 20
	before := schemas(t, s)
	f := newFilling(orders, accounts, time.Now())
	if err := f.run(t.Context(), s.orders, s.billing); err != nil {
		t.Fatal(err)
	}
	if after := schemas(t, s); !slices.Equal(after, before) {
		t.Errorf("the schemas were\n%s\nand are\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	books, err := audit.Check(t.Context(), s.orders, s.billing)
	if err != nil {
		t.Fatal(err)
	}
	opened := int64(orders/10 + accounts)
	if want := (audit.Report{
		Orders: orders, Payments: orders, Operations: 2*opened + orders, Entries: 2*opened + 2*orders,
		OrdersByStatus: map[string]int64{"paid": orders}, Captured: map[string]int64{currency: orders * amountInMinor},
		Deposited: map[string]int64{currency: opened * fundsInMinor},
	}); !reflect.DeepEqual(books, want) {
		t.Errorf("got %+v\nwant %+v", books, want)
	}

	// What the services make of the same: an account, and an order of it.
	if err := s.open(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := runOrders(t.Context(), s, "an order", time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		db            *sqlx.DB
		table, oldest string
	}{
		{s.orders, "orders", "created_at"}, {s.orders, "order_history", "at"}, {s.billing, "accounts", "created_at"},
		{s.billing, "operations WHERE operation = 'create_account'", "seq"},
		{s.billing, "operations WHERE operation = 'deposit'", "seq"},
		{s.billing, "operations WHERE operation = 'payment'", "seq"}, {s.billing, "payments", "created_at"},
		{s.billing, "entries WHERE operation = 'payment' AND amount < 0", "created_at"},
		{s.billing, "entries WHERE operation = 'payment' AND amount > 0", "created_at"},
		{s.billing, "entries WHERE operation = 'deposit' AND amount < 0", "created_at"},
		{s.billing, "entries WHERE operation = 'deposit' AND amount > 0", "created_at"},
	} {
		if filled, real := shape(t, c.db, c.table, c.oldest),
			shape(t, c.db, c.table, c.oldest+" DESC"); !maps.Equal(filled, real) {
			t.Errorf("of %s, the filled database has\n%v, and the services make\n%v", c.table, filled, real)
		}
	}

	for what, wrong := range map[string]struct {
		db    *sqlx.DB
		query string
	}{
		"orders whose ID, time and number are not in the same order": {s.orders, `
			SELECT count(*) FROM (SELECT id < lag(id) OVER numbers OR created_at < lag(created_at) OVER numbers AS wrong
				FROM orders
				WINDOW numbers AS (ORDER BY seq) ORDER BY seq LIMIT 2345) o WHERE wrong`}, // not those of many clients at once
		"arrival numbers that were given twice": {s.billing, `SELECT count(*) - count(DISTINCT seq) FROM operations`},
	} {
		var n int
		if err := wrong.db.GetContext(t.Context(), &n, wrong.query); err != nil || n > 0 {
			t.Errorf("%d %s: %v", n, what, err)
		}
	}

	s.accounts = f.last(accounts)
	for _, w := range workloads {
		m, err := s.measure(t.Context(), w, w.name, 100*time.Millisecond)
		if err != nil {
			t.Fatalf("%s: %v", w.name, err)
		}
		if m.Operations == 0 || m.PerSecond <= 0 || m.WAL <= 0 ||
			w.goal.of == "" && (m.Latency.P50 <= 0 || m.Latency.ServiceP99 <= 0) {
			t.Errorf("%s: %+v", w.name, m)
		}
	}
	soak, err := s.soak(t.Context(), 20*soakSamples)
	if err != nil {
		t.Fatal(err)
	}
	last := soak.Samples[len(soak.Samples)-1]
	if len(soak.Samples) != soakSamples || len(last.Depths) != 3 || last.Tables["payments.balances"].Bytes == 0 ||
		last.Routines["gateway"] == 0 {
		t.Errorf("%d samples, the last: %+v", len(soak.Samples), last)
	}
	for _, name := range growing {
		if _, ok := last.Tables[name]; !ok {
			t.Errorf("there is no table %s", name)
		}
	}
	if text, err := s.audit(t.Context()); err != nil {
		t.Error(err)
	} else {
		t.Log(text)
	}
}

// schemas lists the indexes, constraints and settings of all tables.
func schemas(t *testing.T, s *site) (all []string) {
	t.Helper()
	for _, db := range []*sqlx.DB{s.orders, s.billing} {
		var lines []string
		if err := db.SelectContext(t.Context(), &lines, `
			SELECT tablename || ': ' || indexdef FROM pg_indexes WHERE schemaname = 'public'
			UNION ALL SELECT conrelid::regclass || ': ' || conname || ' ' || pg_get_constraintdef(oid)
				FROM pg_constraint WHERE conrelid <> 0
			UNION ALL SELECT relname || ': ' || coalesce(reloptions::text, '')
				FROM pg_class WHERE relnamespace = 'public'::regnamespace
			ORDER BY 1`); err != nil {
			t.Fatal(err)
		}
		all = append(all, lines...)
	}
	return all
}

// shape is the first row of a table in some order, without what differs from one to the next: for other values
// it is whether there is one.
func shape(t *testing.T, db *sqlx.DB, table, order string) map[string]any {
	t.Helper()
	var text string
	if err := db.GetContext(context.Background(), &text,
		`SELECT to_jsonb(rows) FROM (SELECT * FROM `+table+` ORDER BY `+order+` LIMIT 1) rows`); err != nil {
		t.Fatal(table, err)
	}
	var row map[string]any
	if err := json.Unmarshal([]byte(text), &row); err != nil {
		t.Fatal(err)
	}
	for column, value := range row {
		switch column {
		case "fingerprint": // only of a request with a key, and so are the accounts opened here
			if strings.HasPrefix(table, "operations") {
				delete(row, column)
				continue
			}
			row[column] = value != nil
		case "id", "order_id", "account_id", "operation_id", "event_id", "lane", "seq", "number", "balance_after", "at",
			"created_at", "updated_at",
			"settled_at":
			row[column] = value != nil
		}
	}
	return row
}
