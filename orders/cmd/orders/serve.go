package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/orders/docs"
	"github.com/altyn-pay/altyn/orders/internal/api"
	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/orders/internal/status"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/platform/outbox"
	database "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/swagger"
	"github.com/altyn-pay/altyn/platform/telemetry"
	"github.com/altyn-pay/altyn/platform/watch"
)

// topicsRetry is the pause before topics are ensured again while the broker is away.
const topicsRetry = 2 * time.Second

// document is the specification of the API. Reading it changes a variable of swag's, so it is read once.
var document = sync.OnceValue(docs.SwaggerInfo.ReadDoc)

// parts is what the roles are put together from.
type parts struct {
	cfg        Config
	log        *slog.Logger
	metrics    *prometheus.Registry
	db         *sqlx.DB
	store      *postgres.Store
	currencies *money.Currencies
	changes    *watch.Hub[order.Order]
	health     *telemetry.Health
	router     chi.Router
}

// serve runs the service until ctx ends: then HTTP drains first, and the workers finish what they have begun. Neither the
// database nor the broker need be up. listening, if set, learns the address.
func serve(ctx context.Context, cfg Config, listening func(net.Addr)) (err error) {
	p := parts{cfg: cfg, log: telemetry.NewLogger(os.Stderr, cfg.Telemetry, service), metrics: telemetry.NewRegistry(service)}
	if p.currencies, err = money.LoadCurrencies(cfg.Currencies); err != nil {
		return err
	}
	if p.db, err = database.Open(cfg.Postgres.Defaults(service)); err != nil {
		return err
	}
	defer p.db.Close()
	p.store = postgres.New(p.db)
	p.changes = watch.New(p.log, p.store.Orders)
	p.health = telemetry.NewHealth(p.log)
	p.health.Add("database", func(ctx context.Context) error { return database.CheckSchema(ctx, p.db, postgres.Migrations()...) })
	p.router = httpserver.NewRouter(httpserver.Options{Logger: p.log, Registerer: p.metrics, Classify: api.Classify})

	// The workers outlive HTTP; the end of either for another reason than ctx ends both.
	group, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	serving, stopServing := context.WithCancel(failed)
	defer stopServing()
	defer context.AfterFunc(ctx, stopServing)()
	working, stopWorking := context.WithCancel(failed)
	defer stopWorking()

	wake := func() {}
	if cfg.Role != roleAPI {
		if wake, err = p.work(working, group); err != nil {
			return err
		}
	}
	if cfg.Role != roleWorker {
		if err := p.serveAPI(wake); err != nil {
			return err
		}
		group.Go(func() error { return p.changes.Run(working) })
	}
	p.router.Method("GET", "/healthz", p.health.Live())
	p.router.Method("GET", "/readyz", p.health.Ready())
	p.router.Method("GET", "/metrics", telemetry.MetricsHandler(p.metrics))
	group.Go(func() error { return p.checkSchema(serving) })
	group.Go(func() error {
		defer stopWorking()
		return httpserver.Run(serving, httpserver.Server{
			Name: service, Addr: cfg.Addr, Handler: p.router, Logger: p.log, Listening: listening})
	})
	return group.Wait()
}

// checkSchema ends the service when its database lacks a migration: better that than to fail at the first order.
func (p *parts) checkSchema(ctx context.Context) error {
	err := database.Wait(ctx, p.db)
	if err == nil {
		err = database.CheckSchema(ctx, p.db, postgres.Migrations()...)
	}
	if ctx.Err() != nil || database.IsTransient(err) { // readiness goes on asking
		return nil
	}
	return err
}

func (p *parts) serveAPI(wake func()) error {
	api.New(p.store, p.currencies, p.changes, wake, p.metrics).Mount(p.router)
	return swagger.Mount(p.router, service, document())
}

// work starts the relay and the status worker. The function it returns tells the relay that orders were committed.
func (p *parts) work(ctx context.Context, group *errgroup.Group) (wake func(), err error) {
	producer, err := kafka.NewProducer(p.cfg.Kafka, p.log, p.metrics)
	if err != nil {
		return nil, err
	}
	consumer, err := kafka.NewConsumer(p.cfg.Kafka, status.Group, []string{contract.TopicPayments}, p.log, p.metrics)
	if err != nil {
		return nil, err
	}
	relay := outbox.NewRelay(p.db, kafka.NewPublisher(producer, "/"+service), p.log, p.metrics)
	changed := func(o order.Order) { p.changes.Publish(o.ID, o) }
	worker := status.New(p.store, p.currencies, producer, changed, p.log, p.metrics)
	p.health.Add("broker", func(ctx context.Context) error { return kafka.Ping(ctx, p.cfg.Kafka) })

	workers, ctx := errgroup.WithContext(ctx)
	workers.Go(func() error { return p.ensureTopics(ctx) })
	workers.Go(func() error { return relay.Run(ctx) })
	workers.Go(func() error { return consumer.Run(ctx, worker.Handle) })
	group.Go(func() error {
		defer producer.Close()
		return workers.Wait()
	})
	return relay.Wake, nil
}

// ensureTopics creates the topics as soon as the broker is there.
func (p *parts) ensureTopics(ctx context.Context) error {
	var topics []string
	for _, topic := range []string{contract.TopicOrders, contract.TopicPayments, contract.TopicInventory} {
		topics = append(topics, topic, contract.DeadLetter(topic))
	}
	for {
		err := kafka.EnsureTopics(ctx, p.cfg.Kafka, topics...)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		if kafka.Permanent(err) {
			return fmt.Errorf("topics: %w", err)
		}
		p.log.Warn("topics not ensured", "error", err, "retry_in", topicsRetry)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(topicsRetry):
		}
	}
}
