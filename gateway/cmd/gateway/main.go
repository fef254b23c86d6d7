// Command gateway is the one address of Altyn's HTTP API.
package main

import (
	"context"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/gateway/internal/edge"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

const about = `gateway is the one address of Altyn's HTTP API: it passes /api/v1 on to the instances of orders and
payments, and serves the documentation of both at /docs/. It keeps no state.`

func main() {
	os.Exit(config.Program{Name: "gateway", About: about, Default: "serve", Commands: []config.Command{
		config.NewCommand("serve", "serve the API", serve),
		config.NewCommand("health", "ask the gateway on this machine whether it is ready", health),
	}}.Main())
}

func health(ctx context.Context, cfg edge.Config) error {
	return httpserver.Probe(ctx, cfg.AdminAddr, cfg.HTTP.TLS.On())
}

func serve(ctx context.Context, cfg edge.Config) error {
	logger := telemetry.NewLogger(os.Stderr, cfg.Telemetry, "gateway")
	config.Announce(logger, cfg)
	cfg.HTTP.AnnounceOpenness(logger, cfg.Auth.On(), cfg.Addr, cfg.AdminAddr)
	apiTLS, adminTLS, err := cfg.HTTP.TLS.Open(logger)
	if err != nil {
		return err
	}
	registry := telemetry.NewRegistry("gateway")
	tracer, err := telemetry.NewTracer(cfg.Traces, "gateway", logger, registry)
	if err != nil {
		return err
	}
	defer tracer.Close()
	handler, err := edge.New(cfg, logger, registry, tracer)
	if err != nil {
		return err
	}
	defer handler.Close()
	// First of all, so that a gateway that says it is ready can be reached.
	api, err := httpserver.Listen(ctx, "api", cfg.HTTP.APIAddr(cfg.Auth.On(), cfg.Addr))
	if err != nil {
		return err
	}

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		handler.Watch(ctx)
		return nil
	})
	group.Go(func() error {
		return httpserver.Run(ctx, httpserver.Server{
			Name: "api", Listener: api, Handler: handler,
			TLS: apiTLS, Logger: logger, Limits: cfg.HTTP.Limits,
			// The time of the service, and as much again as the default leaves for the answer's way to the client.
			WriteTimeout: cfg.UpstreamTimeout + 25*time.Second,
		})
	})
	group.Go(func() error {
		return httpserver.Run(ctx, httpserver.Server{
			Name: "operators", Addr: httpserver.PlaneAddr(cfg.AdminAddr), Handler: handler.Admin,
			TLS: adminTLS, Logger: logger, Limits: cfg.HTTP.Limits,
		})
	})
	return group.Wait()
}
