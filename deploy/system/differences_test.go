package system

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/testkit/localkafka"
	"github.com/altyn-pay/altyn/testkit/wait"
)

var differencesTime = flag.Duration("differences.time", 0,
	"for how long the books are audited and reconciled under load, three times over at least")

// look runs a command that looks at the books, and returns its exit code and what it says.
func (b *bundle) look(program string, args ...string) (code int, output string) {
	b.Helper()
	text, err := b.Command(b.Context(), program, args...).CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode(), string(text)
	}
	if err != nil {
		b.Fatal(err)
	}
	return 0, string(text)
}

// The audits and the reconciliation find nothing wrong while orders of all kinds are placed, cancelled and refunded,
// and afterwards each of 100 differences that somebody has made in the databases. What an event was lost of is healed.
func TestEachDifferenceIsFound(t *testing.T) {
	services := stack.Instances(1, 1, 1)
	for i := range services { // nothing heals by itself, and the audits in the background never rest
		services[i].Env = append(slices.Clone(services[i].Env), "ORDERS_HEAL_AFTER=24h", "PAYMENTS_HEAL_AFTER=24h",
			"AUDIT_EVERY=1s", "AUDIT_LOAD=100")
	}
	b := setup(t, localkafka.Embedded, services)
	const clients, fewest = 20, 400
	accounts := b.accounts(clients, "100000.00")
	var placed atomic.Int64
	var over atomic.Bool
	var group errgroup.Group
	for worker := range 8 {
		group.Go(func() error {
			for i := worker; !over.Load() || placed.Load() < fewest; i += 8 {
				if err := b.story(i, accounts[i%clients]); err != nil {
					return fmt.Errorf("order %d: %w", i, err)
				}
				placed.Add(1)
			}
			return nil
		})
	}
	begin := time.Now()
	for round := 0; round < 3 || time.Since(begin) < *differencesTime; round++ {
		for _, command := range [][]string{
			{"payments", "audit", "--load", "100"}, {"orders", "audit", "--load", "100"},
			{"payments", "audit", "--load", "100", "--after", "0"}, {"altyn", "reconcile", "--in-flight", "5s"},
		} {
			if code, output := b.look(command[0], command[1:]...); code != 0 {
				t.Errorf("%v under load: %d %s", command, code, output)
			}
		}
	}
	over.Store(true)
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.books(); err != nil {
		t.Fatalf("the books are wrong: %v", err)
	}
	for name, db := range map[string]*sqlx.DB{"orders": b.orders, "payments": b.payments} {
		var n, passes int
		if err := db.QueryRow(`SELECT (SELECT count(*) FROM audit_findings), (SELECT count(*) FROM audit
			WHERE ended_at IS NOT NULL)`).Scan(&n, &passes); err != nil || n > 0 || passes == 0 {
			t.Errorf("the audit of %s in the background: %d findings, %d passes, %v", name, n, passes, err)
		}
	}
	t.Logf("%d orders were placed in %s", placed.Load(), time.Since(begin).Round(time.Millisecond))

	// What has changed within the last second would be taken for under way.
	wait.NoError(b.T, func() error {
		for table, db := range map[string]*sqlx.DB{"orders": b.orders, "payments": b.payments} {
			var quiet bool
			err := db.Get(&quiet, `SELECT max(updated_at) < clock_timestamp() - interval '1s' FROM `+table)
			if err != nil || !quiet {
				return errors.Join(fmt.Errorf("%s have changed within a second", table), err)
			}
		}
		return nil
	})
	made := b.differ(100)
	_, ofPayments := b.look("payments", "audit", "--load", "100")
	_, ofOrders := b.look("orders", "audit", "--load", "100")
	code, between := b.look("altyn", "reconcile", "--in-flight", "1s")
	if code != 1 {
		t.Errorf("altyn reconcile exits with %d: %s", code, between)
	}
	lost := 0
	for _, d := range made {
		if !strings.Contains(ofPayments+ofOrders+between, d.id.String()) {
			t.Errorf("not found: %s of %s", d.what, d.id)
		}
		if d.healable {
			lost++
			if !strings.Contains(between, "wrong: "+d.id.String()) {
				t.Errorf("not found by altyn reconcile: %s of %s", d.what, d.id)
			}
		}
	}
	_, healed := b.look("altyn", "reconcile", "--in-flight", "1s", "--heal")
	_, between = b.look("altyn", "reconcile", "--in-flight", "1s")
	_, ofOrders = b.look("orders", "audit", "--load", "100")
	for _, d := range made {
		if !d.healable {
			continue
		}
		if !strings.Contains(healed, "healed: "+d.id.String()) ||
			strings.Contains(between+ofOrders, d.id.String()) {
			t.Errorf("not healed: %s of %s", d.what, d.id)
		}
	}
	t.Logf("%d differences were made, %d of them by lost events", len(made), lost)
	if t.Failed() {
		t.Logf("%s\n%s\n%s\n%s", ofPayments, ofOrders, between, healed)
	}
}

// difference is what somebody has made wrong.
type difference struct {
	what     string
	id       uuid.UUID // that must be named
	healable bool      // it is as if an event had been lost
}

// differ makes n differences in the databases, each in an order, or the balances of an account, of its own.
func (b *bundle) differ(n int) (made []difference) {
	b.Helper()
	var orders []uuid.UUID
	if err := b.orders.Select(&orders, `
		SELECT id FROM orders WHERE status = 'paid' AND refunded = 0 ORDER BY id`); err != nil {
		b.Fatal(err)
	}
	var refunded []uuid.UUID
	if err := b.orders.Select(&refunded, `
		SELECT id FROM orders WHERE status = 'paid' AND refunded > 0 ORDER BY id`); err != nil {
		b.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	take := func(from *[]uuid.UUID) uuid.UUID {
		if len(*from) == 0 {
			b.Fatal("there are too few orders")
		}
		i := random.IntN(len(*from))
		id := (*from)[i]
		*from = slices.Delete(*from, i, i+1)
		return id
	}
	of := func(table string) string { // deletes the rows of an order
		return `DELETE FROM ` + table + ` WHERE ` + map[string]string{"orders": "id", "order_history": "order_id",
			"payments": "order_id", "operations": "id", "entries": "operation_id"}[table] + ` = $1`
	}
	kinds := []struct {
		difference
		from       *[]uuid.UUID
		db         *sqlx.DB
		statements []string
	}{
		{difference{what: "a lost event", healable: true}, &orders, b.orders, []string{of("order_history"),
			`UPDATE orders SET status = 'pending', captured = 0, version = 1, payment_version = 0 WHERE id = $1`}},
		{difference{what: "an order restored from yesterday", healable: true}, &refunded, b.orders, []string{
			`DELETE FROM order_history h WHERE order_id = $1 AND number = (SELECT version FROM orders WHERE id = order_id)`,
			`UPDATE orders SET refunded = 0, version = version - 1, payment_version = payment_version - 1 WHERE id = $1`}},
		{difference{what: "a lost order", healable: true}, nil, b.orders, []string{`
			INSERT INTO orders (id, account_id, amount, currency, description, reference, capture, await_inventory,
				on_insufficient, status, version, fingerprint, created_at, updated_at)
			SELECT $1, account_id, amount, currency, '', '', 'automatic', false, 'reject', 'pending', 1, gen_random_uuid(),
				now() - interval '1 hour', now() - interval '1 hour' FROM orders LIMIT 1`}},
		{difference{what: "a payment restored from yesterday"}, &refunded, b.payments, []string{
			`UPDATE payments SET refunded = 0, version = version - 1 WHERE order_id = $1`}},
		{difference{what: "the status of an order edited"}, &orders, b.orders, []string{
			`UPDATE orders SET status = 'failed', captured = 0 WHERE id = $1`}},
		{difference{what: "the amount of an order edited"}, &orders, b.orders, []string{
			`UPDATE orders SET amount = amount + 1 WHERE id = $1`}},
		{difference{what: "an order deleted"}, &orders, b.orders, []string{of("orders")}},
		{difference{what: "a history deleted"}, &orders, b.orders, []string{of("order_history")}},
		{difference{what: "a payment deleted"}, &orders, b.payments, []string{of("payments")}},
		{difference{what: "an operation deleted"}, &orders, b.payments, []string{of("operations")}},
		{difference{what: "entries deleted"}, &orders, b.payments, []string{of("entries")}},
		{difference{what: "an entry edited"}, &orders, b.payments, []string{
			`UPDATE entries SET amount = amount - 1 WHERE operation_id = $1 AND amount < 0`}},
		{difference{what: "a balance edited"}, nil, b.payments, []string{
			`UPDATE balances SET actual = actual + 1 WHERE account_id = $1`}},
	}
	accounts := map[uuid.UUID]bool{}
	for len(made) < n {
		kind := kinds[len(made)%len(kinds)]
		var id uuid.UUID
		switch {
		case kind.from != nil:
			id = take(kind.from)
		case kind.db == b.orders:
			id = uuid.Must(uuid.NewV7())
		default:
			if err := b.payments.Get(&id, `SELECT account_id FROM balances WHERE entries > 1
				AND account_id::text NOT LIKE '00000000-0000-%' ORDER BY md5(account_id::text) OFFSET $1 LIMIT 1`,
				len(accounts)); err != nil {
				b.Fatal(err)
			}
			accounts[id] = true
		}
		for _, statement := range kind.statements {
			result, err := kind.db.Exec(statement, id)
			if err != nil {
				b.Fatalf("%s: %v", statement, err)
			}
			if rows, err := result.RowsAffected(); err != nil || rows == 0 {
				b.Fatalf("%s of %s changes nothing, %v", statement, id, err)
			}
		}
		kind.id = id
		made = append(made, kind.difference)
	}
	return made
}
