// Command orders takes orders over HTTP and keeps their status in step with their payments.
package main

// The document of the HTTP API is generated from the comments of its handlers; run go generate ./... after a change.
//
//go:generate go tool swag init --dir .,../../internal/api --output ../../docs --outputTypes go,json --parseDependencyLevel 1

//	@title			Altyn orders
//	@version		1
//	@description	Takes orders and settles their payments exactly once. Amounts are decimal strings, times are RFC 3339 in UTC, errors are
//	@description	application/problem+json (RFC 9457) with a code from a closed list.
//	@license.name	Apache-2.0
//	@BasePath		/

import (
	"context"
	"fmt"
	"os"

	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/kafka"
	database "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

const service = "orders"

const about = `orders takes orders over HTTP, publishes them to Kafka, and keeps their status in step with the payments that it
reads from there.`

// Config is all that can be set.
type Config struct {
	Addr       string `env:"ORDERS_ADDR" envDefault:":8080" help:"address of the HTTP server"`
	Role       Role   `env:"ROLE" envDefault:"all" help:"all, api (HTTP alone) or worker (relay and status worker, with health and metrics)"`
	Currencies string `env:"CURRENCIES_FILE" help:"file of further currencies, a line CODE,DIGITS each (default: none)"`
	Postgres   database.Config
	Kafka      kafka.Config
	Telemetry  telemetry.Config
}

// Defaults are those of this service's database.
func (Config) Defaults() map[string]string {
	cfg := database.Config{}.Defaults(service)
	return map[string]string{"POSTGRES_DATABASE": cfg.Database, "POSTGRES_USER": cfg.User, "POSTGRES_OWNER": cfg.Owner}
}

// Role says which parts of the service a process runs.
type Role string

const (
	roleAll    Role = "all"
	roleAPI    Role = "api"
	roleWorker Role = "worker"
)

// UnmarshalText reads a role.
func (r *Role) UnmarshalText(text []byte) error {
	switch role := Role(text); role {
	case roleAll, roleAPI, roleWorker:
		*r = role
		return nil
	}
	return fmt.Errorf("must be %s, %s or %s", roleAll, roleAPI, roleWorker)
}

func main() {
	os.Exit(config.Main(service, about,
		config.Command[Config]{Name: "serve", Help: "runs the service until SIGTERM", Run: func(ctx context.Context, cfg Config) error {
			return serve(ctx, cfg, nil)
		}},
		config.Command[Config]{Name: "migrate", Help: "brings the database's schema up to date, as its owner", Run: migrate},
	))
}

func migrate(ctx context.Context, cfg Config) error {
	logger := telemetry.NewLogger(os.Stderr, cfg.Telemetry, service)
	return database.Migrate(ctx, cfg.Postgres.Defaults(service), logger, postgres.Migrations()...)
}
