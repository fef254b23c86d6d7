// Command payments is the billing core of Altyn: accounts and their money over HTTP, and the payment of orders over Kafka.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/telemetry"

	store "github.com/altyn-pay/altyn/payments/internal/postgres"
)

const about = `payments is the billing core of Altyn: accounts in several currencies over HTTP, and the payment of orders,
which it receives and answers over Kafka. Its database must be migrated first.`

const service = "payments"

// Config are the settings of the service.
type Config struct {
	Addr       string `env:"PAYMENTS_ADDR" envDefault:":8081" help:"address of the HTTP API"`
	Role       Role   `env:"ROLE" envDefault:"all" help:"api (HTTP), worker (settlement, inbox and outbox) or all"`
	Currencies string `env:"CURRENCIES_FILE" help:"file of additional currencies, a line CODE,DIGITS each; the same for orders and payments"`
	Postgres   postgres.Config
	Kafka      kafka.Config
	Telemetry  telemetry.Config
}

// Role says which part of the service a process is.
type Role string

// UnmarshalText accepts the known roles.
func (r *Role) UnmarshalText(text []byte) error {
	switch *r = Role(text); *r {
	case "all", "api", "worker":
		return nil
	}
	return errors.New("must be all, api or worker")
}

func (r Role) api() bool    { return r != "worker" }
func (r Role) worker() bool { return r != "api" }

func main() {
	os.Exit(config.Main(service, about,
		config.Command[Config]{Name: "serve", Help: "serve HTTP and settle", Run: serve},
		config.Command[Config]{Name: "migrate", Help: "create or update the tables, as the database's owner", Run: migrate},
		config.Command[Config]{Name: "health", Help: "ask the service on this machine whether it is ready", Run: health},
	))
}

func health(ctx context.Context, cfg Config) error { return httpserver.Probe(ctx, cfg.Addr) }

func migrate(ctx context.Context, cfg Config) error {
	log := telemetry.NewLogger(os.Stderr, cfg.Telemetry, service)
	if err := postgres.Migrate(ctx, cfg.Postgres.Defaults(service), log, store.Migrations()...); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}
