package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/service"
)

// Undone is the settings of the command undone.
type Undone struct {
	Since service.Moment `flag:"since" value:"TIME" help:"when payments was restored, as in 2026-01-02T15:04:05Z (default: ever)"`
	service.Database
}

func undoneCommand() config.Command {
	c := config.NewCommand("undone", "list the orders of which payments, since it was restored, knows less than was said",
		func(ctx context.Context, s Undone) error { return undone(ctx, os.Stdout, s) })
	c.About = `Each line is a step of an order away from what its client was told, which a later step may have brought
back: its ID, when it has changed, what it was and what it became, the account, the amount in minor units, and the
tenant.`
	c.Examples = []string{"--since 2026-01-02T15:04:05Z"}
	return c
}

func undone(ctx context.Context, out io.Writer, s Undone) error {
	cfg, err := s.Database.Service(name)
	if err != nil {
		return err
	}
	db, err := pg.Open(cfg)
	if err != nil {
		return err
	}
	defer db.Close()
	n := 0
	if err := postgres.New(db).Undone(ctx, s.Since.Time, func(u postgres.Undone) error {
		n++
		_, err := fmt.Fprintf(out, "%s %s %s -> %s account %s, %d %s, tenant %s\n", u.OrderID, contract.Time(u.At), u.From,
			u.To, u.AccountID, u.Amount, u.Currency, u.Tenant)
		return err
	}); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%d were undone\n", n)
	return err
}
