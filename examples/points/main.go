// Command points keeps the loyalty points of customers. It is a service in a module of its own that uses Altyn's inbox
// and outbox as they stand; docs/outbox-and-inbox.md explains it.
//
// A purchase comes over the topic "purchases" or as POST /purchases, by both ways if you like: its points are added
// once. Each new total is published on the topic "points".
package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/altyn-pay/altyn/platform/kafka"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := start(ctx); err != nil {
		slog.Error("ended", "error", err)
		os.Exit(1)
	}
}

// start runs the service on what `make env` has started.
func start(ctx context.Context) error {
	database := pg.Config{Host: "127.0.0.1", Port: 54320, SSLMode: "disable", MaxConns: 8}
	admin := database
	admin.User, admin.Password, admin.Database = "postgres", "postgres", "postgres"
	database = database.Defaults("points")
	if err := pg.Provision(ctx, admin, database); err != nil {
		return err
	}
	if err := pg.Migrate(ctx, database, slog.Default(), migrations()...); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:8200")
	if err != nil {
		return err
	}
	broker := kafka.Config{
		Brokers: []string{"127.0.0.1:9092"}, Partitions: 4, ReplicationFactor: 1, Retention: 30 * 24 * time.Hour,
	}
	return run(ctx, database, broker, listener)
}
