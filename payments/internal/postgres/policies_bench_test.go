package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// policies let the service's role see what belongs to the tenant of its setting. Where a row has no tenant, its
// account does.
var policies = map[string]string{
	"accounts": ofTheSetting, "balances": ofTheSetting, "operations": ofTheSetting, "payments": ofTheSetting,
	"holds": ofItsAccount("holds"), "entries": ofItsAccount("entries"),
}

const ofTheSetting = `tenant = current_setting('altyn.tenant', true)`

func ofItsAccount(table string) string {
	return fmt.Sprintf(`EXISTS (SELECT FROM accounts a WHERE a.id = %[1]s.account_id AND a.lane = %[1]s.lane)`, table)
}

const (
	inSession     = `SELECT set_config('altyn.tenant', $1, false)`
	inTransaction = `SELECT set_config('altyn.tenant', $1, true)`
)

// BenchmarkPolicies compares the reads for clients with and without row-level security, in pairs. For each read it
// reports the time without, and the medians of the ratios to it: with policies whose setting is there (policy), with
// one more statement that makes it (set), and with a transaction of its own (tx); of the payment also with a
// statement that makes it by itself (inside). See docs/decisions/row-level-security.md:
//
//	go test ./payments/internal/postgres -run '^$' -bench Policies -benchtime 60x
func BenchmarkPolicies(b *testing.B) {
	shop := identity.Reach{Tenant: "shop"}
	plain, guarded := filled(b), filled(b)
	for table, condition := range policies {
		guard(b, guarded, table, condition)
	}
	for _, read := range []struct {
		name string
		ids  string // of what is read
		do   func(s *Store, id uuid.UUID) (rows int, err error)
	}{
		{"account", `SELECT id FROM accounts`, func(s *Store, id uuid.UUID) (int, error) {
			a, err := s.Account(b.Context(), shop, id)
			return len(a.Balances), err
		}},
		{"accounts", `SELECT id FROM accounts`, func(s *Store, _ uuid.UUID) (int, error) {
			list, _, err := s.Accounts(b.Context(), shop, AccountFilter{}, pg.NewestFirst, 50)
			return len(list), err
		}},
		{"operation", `SELECT id FROM operations`, func(s *Store, id uuid.UUID) (int, error) {
			_, err := s.Operation(b.Context(), shop, id)
			return 1, err
		}},
		{"operations", `SELECT id FROM accounts`, func(s *Store, id uuid.UUID) (int, error) {
			list, _, err := s.Operations(b.Context(), shop, OperationFilter{AccountID: uuid.NullUUID{UUID: id, Valid: true}},
				pg.NewestFirst, 50)
			return len(list), err
		}},
		{"payment", `SELECT order_id FROM payments`, func(s *Store, id uuid.UUID) (int, error) {
			_, err := s.Payment(b.Context(), shop, id)
			return 1, err
		}},
		{"hold", `SELECT id FROM holds`, func(s *Store, id uuid.UUID) (int, error) {
			_, err := s.Hold(b.Context(), shop, id)
			return 1, err
		}},
		{"entries", `SELECT id FROM accounts`, func(s *Store, id uuid.UUID) (int, error) {
			account := Account{Account: ledger.Account{ID: id}}
			span, err := s.Span(b.Context(), account, nil, nil, nil)
			if err != nil {
				return 0, err
			}
			list, err := s.Entries(b.Context(), account, span, 50)
			return len(list), err
		}},
	} {
		b.Run(read.name, func(b *testing.B) {
			comparePolicies(b, plain, guarded, read.ids, read.do, read.name == "payment")
		})
	}
}

// BenchmarkPoliciesOfAll compares settling 300 payments in a batch with and without row-level security that lets the
// service's role see all.
func BenchmarkPoliciesOfAll(b *testing.B) {
	plain, guarded := filled(b), filled(b)
	for table := range policies {
		guard(b, guarded, table, `true`)
	}
	var times [2][]float64
	settle := func(db postgrestest.DB) float64 {
		const batch = 300
		var ids []uuid.UUID
		if err := db.Owner.SelectContext(b.Context(), &ids,
			`SELECT id FROM accounts ORDER BY id LIMIT $1`, batch); err != nil {
			b.Fatal(err)
		}
		requests := make([]ledger.Request, batch)
		for i, account := range ids {
			id := uuid.New()
			requests[i] = ledger.Request{
				ID: id, Seq: int64(i), Lane: contract.Lane(account), AccountID: account, ReceivedAt: time.Now(),
				By: identity.Reach{Tenant: "shop"}, Command: ledger.Payment{
					OrderID: id, Currency: "RUB", Amount: 1, Capture: contract.CaptureAutomatic,
				},
			}
		}
		s, began := New(db.Service), time.Now()
		if err := pg.InTx(b.Context(), db.Service, func(tx *sqlx.Tx) error {
			book := ledger.NewBook(time.Now().UTC().Truncate(time.Microsecond), batch)
			if err := s.Load(b.Context(), tx, book, requests); err != nil {
				return err
			}
			for _, request := range requests {
				if op := book.Apply(request); op.Status != ledger.Success {
					return fmt.Errorf("%+v", op)
				}
			}
			return s.Save(b.Context(), tx, book.Changes(), book.Entered)
		}); err != nil {
			b.Fatal(err)
		}
		return float64(time.Since(began).Microseconds()) / batch
	}
	for round := 0; b.Loop(); round++ {
		var took [2]float64
		for i := range took {
			i = (i + round) % 2
			took[i] = settle([]postgrestest.DB{plain, guarded}[i])
		}
		times[0], times[1] = append(times[0], took[0]), append(times[1], took[1]/took[0])
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(times[0]), "µs/payment")
	b.ReportMetric(median(times[1]), "policy")
}

func comparePolicies(b *testing.B, plain, guarded postgrestest.DB, ids string,
	read func(s *Store, id uuid.UUID) (int, error), payment bool) {
	const clients, reads = 4, 50 // of one variant at a time: enough to keep both sides busy
	type variant struct {
		name   string
		ids    []uuid.UUID
		stores [clients]*Store
		before []string
		after  string
		read   func(s *Store, id uuid.UUID) (int, error)
	}
	variants := []variant{{name: "plain"}, {name: "policy"}, {name: "set", before: []string{inSession}},
		{name: "tx", before: []string{`BEGIN`, inTransaction}, after: `COMMIT`}}
	if payment {
		variants = append(variants, variant{name: "inside", read: func(s *Store, id uuid.UUID) (int, error) {
			_, err := get[ledger.OrderPayment](b.Context(), s, identity.Reach{Tenant: "shop"}, "read payment", `
				SELECT `+paymentColumns+` FROM payments p WHERE (`+inTransaction+`) IS NOT NULL AND
					order_id = $3 AND tenant = $1 AND `+ofOwner("p"), id)
			return 1, err
		}})
	}
	for i := range variants {
		v, db := &variants[i], guarded
		if i == 0 {
			db = plain
		}
		if err := db.Owner.SelectContext(b.Context(), &v.ids, ids+` ORDER BY random() LIMIT 1000`); err != nil {
			b.Fatal(err)
		}
		if v.read == nil {
			v.read = read
		}
		for client := range v.stores {
			cfg := db.Config
			cfg.MaxConns = 1 // so the setting is that of the read's session
			pool, err := pg.Open(cfg)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { pool.Close() })
			v.stores[client] = New(pool)
			if v.name == "policy" {
				exec(b, pool, inSession, "shop")
			}
		}
	}
	work := func(v *variant, s *Store, from int) error {
		for i := range reads {
			for _, statement := range v.before {
				var args []any
				if statement != `BEGIN` {
					args = []any{"shop"}
				}
				if _, err := s.db.ExecContext(b.Context(), statement, args...); err != nil {
					return err
				}
			}
			if n, err := v.read(s, v.ids[(from+i)%len(v.ids)]); n == 0 || err != nil {
				return fmt.Errorf("%s: %d rows, %w", v.name, n, err)
			}
			if v.after != "" {
				if _, err := s.db.ExecContext(b.Context(), v.after); err != nil {
					return err
				}
			}
		}
		return nil
	}
	measure := func(v *variant, round int) time.Duration {
		began := time.Now()
		var group errgroup.Group
		for client, s := range v.stores {
			group.Go(func() error { return work(v, s, (round*clients+client)*reads) })
		}
		if err := group.Wait(); err != nil {
			b.Fatal(err)
		}
		return time.Since(began)
	}
	for i := range variants { // the statements are prepared
		measure(&variants[i], 0)
	}
	times := make([][]float64, len(variants))
	for round := 0; b.Loop(); round++ {
		took := make([]float64, len(variants))
		for i := range variants { // another one is the first each time
			i = (i + round) % len(variants)
			took[i] = float64(measure(&variants[i], round).Microseconds()) / (clients * reads)
		}
		times[0] = append(times[0], took[0])
		for i := 1; i < len(variants); i++ {
			times[i] = append(times[i], took[i]/took[0])
		}
	}
	b.ReportMetric(0, "ns/op")
	for i, unit := range []string{"µs/read", "policy", "set", "tx", "inside"}[:len(variants)] {
		b.ReportMetric(median(times[i]), unit)
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

func guard(b *testing.B, db postgrestest.DB, table, condition string) {
	b.Helper()
	exec(b, db.Owner, fmt.Sprintf(`ALTER TABLE %[1]s ENABLE ROW LEVEL SECURITY; CREATE POLICY reach ON %[1]s TO %[2]s
		USING (%[3]s)`, table, db.Config.User, condition))
}

// filled is a ledger of 100,000 entries, all of which are a shop's.
func filled(b *testing.B) postgrestest.DB {
	b.Helper()
	db := postgrestest.Database(b, "payments", Migrations()...)
	accounts, lanes := make(pg.UUIDs, 1000), make(pg.Int64s, 1000)
	for i := range accounts {
		accounts[i] = uuid.New()
		lanes[i] = int64(contract.Lane(accounts[i]))
	}
	exec(b, db.Owner, `INSERT INTO accounts (id, lane, tenant, owner, created_at)
		SELECT id, lane, 'shop', 'alice', now() FROM unnest($1::uuid[], $2::bigint[]) AS a (id, lane)`, accounts, lanes)
	for _, statement := range filling {
		if !strings.Contains(statement.query, "INSERT INTO accounts") {
			exec(b, db.Owner, statement.query, statement.args(0)...)
		}
	}
	for _, statement := range []string{
		`CREATE INDEX operations_account ON operations (account_id, seq)`,
		`ALTER TABLE payments ADD PRIMARY KEY (order_id, lane)`,
		`INSERT INTO holds (id, lane, account_id, currency, amount, captured, status, expires_at, created_at)
			SELECT gen_random_uuid(), lane, id, 'RUB', 1, 0, 'open', now(), now() FROM accounts`,
		`UPDATE balances SET tenant = 'shop', actual = 1000000`, `UPDATE operations SET tenant = 'shop'`,
		`UPDATE payments SET tenant = 'shop'`,
		`VACUUM ANALYZE accounts`, `VACUUM ANALYZE balances`, `VACUUM ANALYZE operations`, `VACUUM ANALYZE payments`,
		`VACUUM ANALYZE holds`,
	} {
		exec(b, db.Owner, statement)
	}
	return db
}

func exec(b *testing.B, db *sqlx.DB, query string, args ...any) {
	b.Helper()
	if _, err := db.ExecContext(context.Background(), query, args...); err != nil {
		b.Fatalf("%s: %v", query, err)
	}
}
