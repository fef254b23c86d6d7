// Command points keeps the loyalty points of customers. It is a service in a module of its own that uses Altyn's inbox
// and outbox as they stand; docs/outbox-and-inbox.md explains it.
//
// A purchase comes over the topic "purchases" or as POST /purchases, by both ways if you like: its points are added
// once. Each new total is published on the topic "points".
package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/kafka"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

func main() {
	os.Exit(config.Program{Name: "points", About: "points keeps the loyalty points of customers.",
		Commands: []config.Command{config.NewCommand("", "", start)}}.Main())
}

// settings have defaults that fit what `make env` starts.
type settings struct {
	Postgres pg.Config
	Kafka    kafka.Config
}

func start(ctx context.Context, s settings) error {
	database := s.Postgres.Defaults("points")
	admin := database
	admin.User, admin.Password, admin.Database = "postgres", "postgres", "postgres"
	if err := pg.Provision(ctx, admin, database); err != nil {
		return err
	}
	if err := pg.Migrate(ctx, database, slog.Default(), migrations()...); err != nil {
		return err
	}
	return run(ctx, database, s.Kafka, httpserver.Server{Name: "points", Addr: "127.0.0.1:8200"})
}
