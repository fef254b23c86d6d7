// Command orders takes orders over HTTP and keeps their status in step with their payments.
package main

// The document of the HTTP API is generated from the comments of its handlers; run go generate ./... after a change.
//
//go:generate go tool swag init --quiet --dir .,../../internal/api,../../../platform/operators --output ../../docs --outputTypes json --parseDependencyLevel 1 --requiredByDefault
//go:generate go run ../../../deploy/cmd/specification document ../../docs
//go:generate go test ../../internal/api -run ^TestDocumentSaysWhatTheRoutesNeed$ -update

//	@title			Altyn orders
//	@version		1
//	@description	Takes orders and settles their payments exactly once. Amounts are decimal strings, times are RFC 3339
//	@description	in UTC, errors are application/problem+json (RFC 9457) with a code from a closed list.
//	@license.name	Apache-2.0
//	@license.url	https://www.apache.org/licenses/LICENSE-2.0
//	@BasePath		/
//
//	@tag.name		orders
//	@tag.description	place orders, follow them, cancel them
//	@tag.name		operators
//	@tag.description	on the operators' plane, which has an address of its own; the gateway does not serve it

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/orders/docs"
	"github.com/altyn-pay/altyn/orders/internal/api"
	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/placing"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/orders/internal/status"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/kafka/inspect"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/platform/operators"
	"github.com/altyn-pay/altyn/platform/outbox"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/platform/swagger"
	"github.com/altyn-pay/altyn/platform/watch"
)

const (
	name  = "orders"
	about = `orders takes orders over HTTP, publishes them to Kafka, and keeps their status in step with the payments that
it reads from there. It waits until its database is migrated.`
)

// Config is all that can be set.
type Config struct {
	Addr      string        `env:"ORDERS_ADDR" default:":8080" help:"address of the HTTP server of orders"`
	AdminAddr string        `env:"ORDERS_ADMIN_ADDR" default:":8180" help:"address of the operators' plane of orders: /metrics, /admin, profiles"`
	HealAfter time.Duration `env:"ORDERS_HEAL_AFTER" default:"1m" help:"how long an order may be pending or cancelling without a reason before it is announced again"`
	service.Config
}

// Validate checks the address and the time.
func (c Config) Validate() error {
	var wrong error
	if c.HealAfter < time.Second || c.HealAfter > maxHealAfter {
		wrong = config.Invalid("ORDERS_HEAL_AFTER", "must be from 1s to %s", maxHealAfter)
	}
	return errors.Join(c.HTTP.CheckAddrs(c.Auth.On(),
		map[string]string{"ORDERS_ADDR": c.Addr, "ORDERS_ADMIN_ADDR": c.AdminAddr}), wrong)
}

const maxHealAfter = 24 * time.Hour

func newProgram(cfg Config) service.Program {
	return service.Program{
		Name: name, Addr: cfg.Addr, AdminAddr: cfg.AdminAddr, Config: cfg.Config,
		Migrations: postgres.Migrations(), Amounts: []string{"orders"},
		Books: postgres.Books, Topics: topics, Reads: reads, Classify: api.Classify,
		Restored: restored, Erasure: erasure, Archived: postgres.Archived,
		Acknowledged: postgres.Acknowledged,
		Build:        func(p *service.Process) error { return build(p, cfg.HealAfter) },
	}
}

// restored brings back the orders that were placed or cancelled after the moment whose state the database has got.
func restored(ctx context.Context, r service.Restoring) error {
	currencies, err := money.LoadCurrencies(r.Program.Config.Currencies)
	if err != nil {
		return err
	}
	backlog, err := inspect.OpenBacklog(ctx, r.Program.Config.Kafka, contract.RestoredGroup, contract.TopicOrders)
	if err != nil {
		return err
	}
	defer backlog.Close()
	if err := backlog.Seek(ctx, r.From); err != nil {
		return err
	}
	recovery := placing.Recovery{Store: postgres.New(r.Owner), Currencies: currencies}
	err = backlog.Handle(ctx, recovery.Handle)
	for _, text := range recovery.LeftOut {
		fmt.Fprintln(r.Out, "left out:", text)
	}
	fmt.Fprintf(r.Out, "%d orders and %d cancellations were brought back from what the broker has\n", recovery.Orders,
		recovery.Cancellations)
	return err
}

func main() {
	p := service.New(name, about, newProgram)
	p.Commands = append(p.Commands, undoneCommand())
	os.Exit(p.Main())
}

// reads are the topics that are consumed.
var reads = []string{contract.TopicPayments}

// topics are those that orders reads or writes, with their dead letters.
var topics = []string{
	contract.TopicOrders, contract.TopicPayments, contract.DeadLetter(contract.TopicPayments),
}

// build puts together what the process's role asks for.
func build(p *service.Process, healAfter time.Duration) error {
	store := postgres.New(p.DB)
	changes := watch.New(p.Log, func(o order.Order) int64 { return o.Version }, store.Newer)
	changed := func(o order.Order) { changes.Publish(o.ID, o) }
	var producer *kafka.Producer
	if p.Config.Role != service.API {
		var err error
		if producer, err = kafka.NewProducer(p.Config.Kafka, p.Log, p.Metrics); err != nil {
			return err
		}
	}
	// Operators redrive events in every role.
	worker := status.New(store, p.Currencies, producer, changed, p.Log, p.Metrics)
	worker.Now = p.Clock.Now
	wake := func() {}
	if p.Config.Role != service.API {
		relay, err := work(p, producer, worker, store, healAfter)
		if err != nil {
			return err
		}
		wake = relay.Wake
	}
	p.MountAdmin(operators.NewAPI(p.DB, p.Log, outbox.NewParked(p.DB, wake), worker).
		Reconciling(store.Reconciled(), status.Announcing(store, p.Currencies, wake)).Routes()...)
	pages, err := swagger.Routes(name, docs.Document, operators.Serves, p.Tokens.Login)
	if err != nil {
		return err
	}
	p.MountAdmin(pages...)
	if p.Config.Role == service.Worker {
		return nil
	}
	feed := watch.Listen(p.Config.Postgres.Defaults(name), postgres.Changes, p.Log)
	p.Go(func(ctx context.Context) error { return changes.Run(ctx, feed) })
	backlog := outbox.NewBacklog(p.DB, p.Config.Outbox, p.Log, p.Metrics)
	p.Go(backlog.Run)
	orders := placing.New(store, p.Currencies, changed, wake, backlog.Full, p.Tracer, p.Log, p.Metrics)
	orders.Now = p.Clock.Now
	p.Mount(api.New(orders, store, p.Currencies, changes, p.Metrics).Routes()...)
	pages, err = swagger.Routes(name, docs.Document, func(path string) bool { return !operators.Serves(path) },
		p.Tokens.Login)
	p.Mount(pages...)
	return err
}

// work adds the relay, which it returns, the status worker and the healer.
func work(p *service.Process, producer *kafka.Producer, worker *status.Worker, store *postgres.Store,
	healAfter time.Duration) (*outbox.Relay, error) {
	cfg := p.Config.Kafka
	consumer, err := kafka.NewConsumer(cfg, status.Group, reads, p.Log, p.Metrics)
	if err != nil {
		return nil, err
	}
	relay := outbox.NewRelay(p.DB, kafka.NewPublisher(producer, "/"+name).Traced(p.Tracer), p.Log, p.Metrics)
	healer := status.NewHealer(store, p.Currencies, healAfter, relay.Wake, p.Log, p.Metrics)
	p.Health.Show("kafka", func(ctx context.Context) error { return kafka.Ping(ctx, cfg) })
	p.Go(func(ctx context.Context) error {
		defer producer.Close()
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error { return kafka.KeepTopics(ctx, cfg, p.Log, topics...) })
		group.Go(func() error { return relay.Run(ctx) })
		group.Go(func() error { return consumer.Run(ctx, kafka.Traced(p.Tracer, worker.Handle)) })
		group.Go(func() error { return worker.TakeUp(ctx) })
		group.Go(func() error { return healer.Run(ctx) })
		return group.Wait()
	})
	return relay, nil
}
