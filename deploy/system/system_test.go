// Package system tests the whole of Altyn as its users meet it: separate processes, a real PostgreSQL with durable
// settings, a real broker, everything through the gateway.
package system

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/deploy/audit"
	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/kafka"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/localkafka"
	"github.com/altyn-pay/altyn/testkit/localpostgres"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// binaries are the services, built once for all tests.
var binaries string

func TestMain(m *testing.M) {
	localkafka.Child()
	os.Exit(func() int {
		var err error
		if binaries, err = os.MkdirTemp("", "altyn-system-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(binaries)
		if err := stack.Build(context.Background(), binaries); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// onEachBroker runs a test on the embedded broker, and on Apache Kafka where that can run.
func onEachBroker(t *testing.T, test func(t *testing.T, kind localkafka.Kind)) {
	t.Run("embedded", func(t *testing.T) { test(t, localkafka.Embedded) })
	t.Run("apache", func(t *testing.T) {
		if err := localkafka.ApacheAvailable(t.Context()); err != nil {
			t.Skipf("NOT RUN on Apache Kafka, which needs Java 17 and Maven: %v", err)
		}
		test(t, localkafka.Apache)
	})
}

// bundle is a running stack.
type bundle struct {
	*testing.T
	*stack.Stack
	client           *load.Client
	orders, payments *sqlx.DB // as their owners, for audits
	kind             localkafka.Kind
}

func setup(t *testing.T, kind localkafka.Kind, services []stack.Service) *bundle {
	t.Helper()
	return setupOn(t, stack.Kafka{Kind: kind}, services)
}

func setupOn(t *testing.T, broker stack.Kafka, services []stack.Service) *bundle {
	t.Helper()
	return setupOf(t, binaries, broker, services)
}

// setupOf is setupOn with the programs of a folder.
func setupOf(t *testing.T, programs string, broker stack.Kafka, services []stack.Service) *bundle {
	t.Helper()
	s, err := stack.Start(t.Context(), stack.Options{Binaries: programs, Kafka: broker, Services: services})
	if err != nil {
		t.Fatal(err)
	}
	b := adopt(t, s, s.Close, broker.Kind)
	if slices.ContainsFunc(services, func(s stack.Service) bool { return s.Program == stack.Issuer }) {
		token, err := b.Token(t.Context(), "somebody", identity.DefaultTenant, load.Scopes()...)
		if err != nil {
			t.Fatal(err)
		}
		b.client = b.client.As(token)
	}
	return b
}

// adopt makes the bundle of a stack, which ends with the test.
func adopt(t *testing.T, s *stack.Stack, end func() error, kind localkafka.Kind) *bundle {
	t.Helper()
	b := &bundle{T: t, Stack: s, client: load.New(s.URL("gateway")), kind: kind}
	t.Cleanup(func() {
		b.client.Close()
		if t.Failed() {
			b.logs()
		}
		if err := end(); err != nil {
			t.Error(err)
		}
	})
	b.orders, b.payments = b.database("orders"), b.database("payments")
	return b
}

// logs shows the end of every part's log.
func (b *bundle) logs() {
	for _, part := range b.Parts() {
		if text, err := os.ReadFile(part.Log); err == nil {
			b.Logf("%s:\n%s", filepath.Base(part.Log), text[max(0, len(text)-4000):])
		}
	}
}

func (b *bundle) database(service string) *sqlx.DB {
	b.Helper()
	cfg, err := b.Database(service)
	if err != nil {
		b.Fatal(err)
	}
	db, err := pg.OpenOwner(cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	return db
}

// books audits the books once everything has come to rest, and then compares the ledger with its chain.
func (b *bundle) books(options ...audit.Option) (audit.Report, error) {
	b.Helper()
	report, err := b.atRest(options...)
	if err != nil {
		return report, err
	}
	return report, b.verify()
}

// services are the programs that audit their own books.
func (b *bundle) services() audit.Services { return audit.Of(b.Stack) }

// verify runs payments verify.
func (b *bundle) verify() error {
	if output, err := b.Command(b.Context(), stack.Payments, "verify").CombinedOutput(); err != nil {
		return fmt.Errorf("payments verify: %w: %s", err, output)
	}
	return nil
}

// atRest audits the books once everything has come to rest. On the embedded broker a consumer that is killed in
// the moment in which it joins its group stays a member, with its share of the partitions, until the group is
// balanced anew: kfake v0.0.0 gives no session timeout to a member that its answer did not reach. Apache Kafka
// does, so there nobody helps.
func (b *bundle) atRest(options ...audit.Option) (audit.Report, error) {
	b.Helper()
	report, err := audit.AtRest(b.Context(), b.orders, b.payments, b.services(), options...)
	if err == nil || b.kind != localkafka.Embedded {
		return report, err
	}
	b.Logf("the groups are balanced anew: %v", err)
	for _, service := range []string{"payments", "orders"} {
		if err := b.Restart(service); err != nil {
			return report, err
		}
	}
	return audit.AtRest(b.Context(), b.orders, b.payments, b.services(), options...)
}

// audit expects the books to be right once everything has come to rest, and so many orders in each status.
func (b *bundle) audit(want map[string]int64) audit.Report {
	b.Helper()
	report, err := b.books()
	if err != nil {
		b.Fatalf("the books are wrong: %v", err)
	}
	if !maps.Equal(report.OrdersByStatus, want) {
		b.Errorf("orders by status %v, want %v", report.OrdersByStatus, want)
	}
	return report
}

func (b *bundle) accounts(n int, amount string) []uuid.UUID {
	b.Helper()
	accounts, err := b.client.Accounts(b.Context(), n, 16, amount, "RUB")
	if err != nil {
		b.Fatal(err)
	}
	return accounts
}

func (b *bundle) place(account uuid.UUID, amount, query string) load.Order {
	b.Helper()
	var order load.Order
	if err := b.client.Call("POST", "/api/v1/orders"+query, "",
		load.NewOrder{AccountID: account, Amount: amount, Currency: "RUB"}, &order); err != nil {
		b.Fatal(err)
	}
	return order
}

func TestAnOrderIsPaidThroughTheGateway(t *testing.T) {
	onEachBroker(t, func(t *testing.T, kind localkafka.Kind) {
		b := setup(t, kind, stack.Instances(1, 1, 1))
		account := b.accounts(1, "100.00")[0]
		if order := b.place(account, "60.00", "?wait=20s"); order.Status != "paid" {
			t.Errorf("an order that is covered: %+v", order)
		}
		if order := b.place(account, "60.00", "?wait=20s"); order.Status != "failed" || order.Reason != "insufficient_funds" {
			t.Errorf("an order that is not covered: %+v", order)
		}
		if order := b.place(uuid.New(), "1.00", "?wait=20s"); order.Status != "failed" ||
			order.Reason != "account_not_found" {
			t.Errorf("an order of nobody: %+v", order)
		}
		var balance contract.Balances
		if err := b.client.Call("GET", "/api/v1/accounts/"+account.String()+"/balance", "", nil, &balance); err != nil ||
			balance.Actual["RUB"] != "40.00" {
			t.Errorf("balance %+v, %v", balance, err)
		}

		// 200 orders at once on an account with money for 100.
		rush := b.accounts(1, "100.00")[0]
		if err := load.Each(t.Context(), 200, 200, func(int) error {
			return b.client.Call("POST", "/api/v1/orders", "", load.NewOrder{AccountID: rush, Amount: "1.00", Currency: "RUB"},
				nil)
		}); err != nil {
			t.Fatal(err)
		}
		b.audit(map[string]int64{"paid": 101, "failed": 102})
		if err := b.client.Call("GET", "/api/v1/accounts/"+rush.String()+"/balance", "", nil, &balance); err != nil ||
			balance.Actual["RUB"] != "0.00" {
			t.Errorf("balance after the rush %+v, %v", balance, err)
		}
	})
}

// Every message on every topic comes twice, long after its first time too.
func TestEveryMessageTwice(t *testing.T) {
	onEachBroker(t, func(t *testing.T, kind localkafka.Kind) {
		b := setup(t, kind, stack.Instances(1, 2, 0))
		b.duplicate(contract.TopicOrders, contract.TopicPayments)
		accounts := b.accounts(20, "10.00")
		const orders = 400 // 20 for each account, which has money for 10
		if err := load.Each(t.Context(), orders, 32, func(i int) error {
			return b.client.Call("POST", "/api/v1/orders", "",
				load.NewOrder{AccountID: accounts[i%20], Amount: "1.00", Currency: "RUB"}, nil)
		}); err != nil {
			t.Fatal(err)
		}
		b.audit(map[string]int64{"paid": orders / 2, "failed": orders / 2})
		b.duplicated(contract.TopicOrders, 2*orders)
		b.duplicated(contract.TopicPayments, 2*orders)
		b.audit(map[string]int64{"paid": orders / 2, "failed": orders / 2})
	})
}

const duplicateHeader = "x-duplicate"

// duplicate publishes every message of the topics once more, until the test ends.
func (b *bundle) duplicate(topics ...string) {
	b.Helper()
	cfg, err := b.KafkaConfig()
	if err != nil {
		b.Fatal(err)
	}
	discard, metrics := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	producer, err := kafka.NewProducer(cfg, discard, metrics)
	if err != nil {
		b.Fatal(err)
	}
	consumer, err := kafka.NewConsumer(cfg, "duplicator", topics, discard, metrics)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group errgroup.Group
	group.Go(func() error {
		return consumer.Run(ctx, func(ctx context.Context, messages []kafka.Message) error {
			var again []kafka.Message
			for _, m := range messages {
				if m.Header(duplicateHeader) == "" {
					m.Headers = append(slices.Clone(m.Headers), kafka.Header{Key: duplicateHeader, Value: []byte("1")})
					again = append(again, m)
				}
			}
			for _, err := range producer.Produce(ctx, again) {
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
	b.Cleanup(func() {
		cancel()
		if err := group.Wait(); err != nil {
			b.Error(err)
		}
		producer.Close()
	})
}

// duplicated waits until the consumers of a topic have been through so many messages.
func (b *bundle) duplicated(topic string, atLeast int) {
	b.Helper()
	cfg, err := b.KafkaConfig()
	if err != nil {
		b.Fatal(err)
	}
	consumer, err := kafka.NewConsumer(cfg, "counter-"+topic, []string{topic}, slog.New(slog.DiscardHandler),
		prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	seen := 0
	if err := consumer.Run(ctx, func(_ context.Context, messages []kafka.Message) error {
		if seen += len(messages); seen >= atLeast {
			cancel()
		}
		return nil
	}); err != nil || seen < atLeast {
		b.Fatalf("%d messages on %s, want %d (%v)", seen, topic, atLeast, err)
	}
}

// Services are killed, PostgreSQL is stopped in immediate mode and the broker is killed in the middle of a load, while
// two payments instances run: every accepted order becomes final, exactly once, and the sums are right.
func TestCrashes(t *testing.T) {
	onEachBroker(t, func(t *testing.T, kind localkafka.Kind) {
		b := setup(t, kind, stack.Instances(1, 2, 0))
		const clients, funded = 20, 150
		accounts := b.accounts(clients, fmt.Sprintf("%d.00", funded))

		var placed atomic.Int64
		faults, over := context.WithCancel(t.Context())
		defer over()
		var group errgroup.Group
		for worker := range 16 {
			group.Go(func() error {
				for i := worker; faults.Err() == nil; i += 16 {
					order := load.NewOrder{AccountID: accounts[i%clients], Amount: "1.00", Currency: "RUB"}
					if err := b.client.Retry(t.Context(), "/api/v1/orders", uuid.NewString(), order, nil); err != nil {
						return err
					}
					placed.Add(1)
				}
				return nil
			})
		}
		for round, fault := range []func() error{
			func() error { return b.crash("payments") },
			func() error { return b.crash("orders") },
			func() error { return b.crash("payments-2") },
			func() error {
				if err := b.StopPostgres(localpostgres.Immediate); err != nil {
					return err
				}
				return b.Restart(stack.PostgresName)
			},
			func() error { return b.crash("kafka") },
			func() error { return b.crash("gateway") },
			func() error { return b.crash("payments", "orders", "payments-2") },
			func() error { return b.Restart("payments") }, // in order: SIGTERM
			func() error { return b.Restart("orders") },
		} {
			b.progress(&placed, 60)
			if err := fault(); err != nil {
				t.Fatalf("fault %d: %v", round, err)
			}
		}
		b.progress(&placed, 60)
		over()
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		if err := b.WaitReady(t.Context(), "orders", "payments", "payments-2", "gateway"); err != nil {
			t.Fatal(err)
		}
		// Each account pays for as many orders as it has money for.
		perAccount := map[uuid.UUID]int64{}
		report, err := b.books()
		if err != nil {
			t.Fatalf("the books are wrong: %v", err)
		}
		var rows []struct {
			Account uuid.UUID `db:"account_id"`
			Placed  int64     `db:"placed"`
			Paid    int64     `db:"paid"`
		}
		if err := b.orders.Select(&rows, `SELECT account_id, count(*) AS placed,
			count(*) FILTER (WHERE status = 'paid') AS paid FROM orders GROUP BY 1`); err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			perAccount[row.Account] = row.Placed
			if row.Paid != min(row.Placed, funded) {
				t.Errorf("account %s: %d of %d orders are paid, of %d that it has money for", row.Account, row.Paid, row.Placed,
					funded)
			}
		}
		if report.Orders != placed.Load() {
			t.Errorf("%d orders are stored, %d were accepted", report.Orders, placed.Load())
		}
		t.Logf("%d orders, %v", report.Orders, report.OrdersByStatus)
	})
}

// crash kills parts at the same moment and starts them again.
func (b *bundle) crash(names ...string) error {
	var group errgroup.Group
	for _, name := range names {
		group.Go(func() error { return b.Kill(name) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, name := range names {
		group.Go(func() error { return b.Restart(name) })
	}
	return group.Wait()
}

// progress waits until more orders are accepted: the system works again.
func (b *bundle) progress(placed *atomic.Int64, more int64) {
	b.Helper()
	target := placed.Load() + more
	wait.Until(b, fmt.Sprintf("%d more orders are accepted", more), func() bool { return placed.Load() >= target })
}

// Bad input through the gateway is told where it is bad, and never a fault of the server.
func TestBadInputThroughTheGateway(t *testing.T) {
	b := setup(t, localkafka.Embedded, stack.Instances(1, 1, 0))
	account := b.accounts(1, "1.00")[0]
	for body, field := range map[string]string{
		`{"account_id":"%s","amount":"1.001","currency":"RUB"}`:                "amount",
		`{"account_id":"%s","amount":"1e1","currency":"RUB"}`:                  "amount",
		`{"account_id":"%s","amount":"1.00","currency":"QQQ"}`:                 "currency",
		`{"account_id":"%s","amount":"1.00","currency":"RUB","colour":"red"}`:  "colour",
		`{"account_id":"x%s","amount":"1.00","currency":"RUB"}`:                "account_id",
		`{"account_id":"%s","amount":"99999999999999999999","currency":"RUB"}`: "amount",
		`{"account_id":"%s","amount":"1.00","currency":"RUB","description":"` + strings.Repeat("x", 1001) +
			`"}`: "description",
		`{"account_id":"%s","amount":"1.00","currency":"RUB"`: "",
		`null%.0s`: "",
	} {
		err := b.client.Call("POST", "/api/v1/orders", "", fmt.Appendf(nil, body, account), nil)
		status, ok := errors.AsType[*load.StatusError](err)
		if !ok || status.Status != 400 || !strings.Contains(status.Body, field) {
			t.Errorf("%s: %v", body, err)
		}
	}
	b.audit(map[string]int64{})
}
