package main

import (
	"context"
	"net"
	"os"
	"sync"

	"github.com/go-chi/chi/v5"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/swagger"
	"github.com/altyn-pay/altyn/platform/telemetry"

	"github.com/altyn-pay/altyn/payments/docs"
	"github.com/altyn-pay/altyn/payments/internal/api"
	store "github.com/altyn-pay/altyn/payments/internal/postgres"
)

// serve runs the service until ctx ends. HTTP is drained first, while the pipeline still settles what the requests in
// flight wait for; then the pipeline finishes its batches.
func serve(ctx context.Context, cfg Config) error { return run(ctx, cfg, nil) }

// run is serve; listening, if not nil, learns the bound address.
func run(ctx context.Context, cfg Config, listening func(net.Addr)) error {
	log := telemetry.NewLogger(os.Stderr, cfg.Telemetry, service)
	registry := telemetry.NewRegistry(service)
	currencies, err := money.LoadCurrencies(cfg.Currencies)
	if err != nil {
		return err
	}
	db, err := postgres.Open(cfg.Postgres.Defaults(service))
	if err != nil {
		return err
	}
	defer db.Close()
	if err := postgres.Wait(ctx, db); err != nil {
		return err
	}
	if err := postgres.CheckSchema(ctx, db, store.Migrations()...); err != nil {
		return err
	}
	ledger := store.New(db)

	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, working := errgroup.WithContext(working)

	router := httpserver.NewRouter(httpserver.Options{Logger: log, Registerer: registry, Classify: api.Classify})
	health := telemetry.NewHealth(log)
	health.Add("postgres", db.PingContext)
	health.Add("kafka", func(ctx context.Context) error { return kafka.Ping(ctx, cfg.Kafka) })
	router.Method("GET", "/healthz", health.Live())
	router.Method("GET", "/readyz", health.Ready())
	router.Method("GET", "/metrics", telemetry.MetricsHandler(registry))

	var p *pipeline
	door := api.NewDoor(ledger, log, func() { p.wake() })
	if cfg.Role.worker() {
		if p, err = newPipeline(cfg, db, ledger, currencies, door, log, registry); err != nil {
			return err
		}
		group.Go(func() error { return p.run(working) })
	}
	if cfg.Role.api() {
		group.Go(func() error { return door.Run(working) })
		if err := pages(router, api.New(ledger, door, currencies)); err != nil {
			return err
		}
	}
	group.Go(func() error {
		defer stop()
		// A part that fails ends the process.
		serving, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(working, cancel)()
		return httpserver.Run(serving, httpserver.Server{Name: "api", Addr: cfg.Addr, Handler: router, Logger: log, Listening: listening})
	})
	return group.Wait()
}

// document is the specification. swag's ReadDoc changes what it reads, so it is called once.
var document = sync.OnceValue(docs.SwaggerInfo.ReadDoc)

// pages serves the API and its documentation.
func pages(router chi.Router, a *api.API) error {
	a.Routes(router)
	return swagger.Mount(router, service, document())
}
