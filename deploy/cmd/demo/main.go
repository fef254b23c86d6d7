// Command demo shows Altyn at work: on a running stack it opens accounts, funds them, places orders through the
// gateway, some of which lack money, and checks the books to the last unit.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/deploy/audit"
	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/identity/bearer"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

func main() {
	p := config.Program{Name: "demo", About: about, Commands: []config.Command{config.NewCommand("", "", run)}}
	os.Exit(p.Main())
}

const about = `demo opens accounts on a running stack, funds them, places orders of 1.00 RUB through the gateway, for a
fifth of which there is no money, waits until all are final and checks the books in both databases.`

// settings of a run.
type settings struct {
	Gateway  string `flag:"gateway" value:"URL" default:"http://127.0.0.1:8000" help:"address of the gateway"`
	Accounts int    `flag:"accounts" default:"100" help:"accounts to open"`
	Orders   int    `flag:"orders" default:"3000" help:"orders to place"`
	Clients  int    `flag:"clients" default:"32" help:"orders placed at the same time"`
	Token    bearer.Credential
	Postgres pg.Config
}

// Validate checks the numbers.
func (s settings) Validate() error {
	switch {
	case s.Accounts < 1:
		return config.Invalid("--accounts", "must be at least 1")
	case s.Orders < s.Accounts:
		return config.Invalid("--orders", "must be at least as many as the accounts")
	case s.Clients < 1 || s.Clients > 256:
		return config.Invalid("--clients", "must be 1 to 256")
	}
	return nil
}

func run(ctx context.Context, s settings) error {
	token, err := s.Token.Read()
	if err != nil {
		return err
	}
	client := load.New(s.Gateway).As(token)
	defer client.Close()

	each := s.Orders / s.Accounts
	funded := each * 4 / 5
	fmt.Printf("Opening %d accounts with %d.00 RUB each, for %d orders of 1.00 RUB.\n", s.Accounts, funded, each)
	accounts, err := client.Accounts(ctx, s.Accounts, s.Clients, fmt.Sprintf("%d.00", max(funded, 1)), "RUB")
	if err != nil {
		if refused := (*load.StatusError)(nil); errors.As(err, &refused) && refused.Status == http.StatusUnauthorized {
			return fmt.Errorf("%w (the stack wants a token: make demo ALTYN_TOKEN=$(make token))", err)
		}
		return fmt.Errorf("%w (is the stack running? make start)", err)
	}
	orders, err := place(ctx, client, s.Clients, accounts, each*len(accounts))
	if err != nil {
		return err
	}
	if err := load.Each(ctx, len(orders), s.Clients, func(i int) error {
		for !orders[i].Final() {
			if err := client.Get(ctx, load.OrdersPath+"/"+orders[i].ID.String()+"?wait=30s", &orders[i]); err != nil {
				return fmt.Errorf("wait for order %s: %w", orders[i].ID, err)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	report(orders)
	return check(ctx, s.Postgres)
}

// place places n orders of the accounts in turn.
func place(ctx context.Context, client *load.Client, clients int, accounts []uuid.UUID, n int) ([]load.Order, error) {
	began, orders := time.Now(), make([]load.Order, n)
	err := load.Each(ctx, n, clients, func(i int) (err error) {
		order := load.NewOrder{AccountID: accounts[i%len(accounts)], Amount: "1.00", Currency: "RUB"}
		if orders[i], err = client.Place(ctx, uuid.NewString(), order); err != nil {
			return fmt.Errorf("place an order: %w", err)
		}
		return nil
	})
	if err == nil {
		fmt.Printf("Placed %d orders, %.0f a second.\n", n, float64(n)/time.Since(began).Seconds())
	}
	return orders, err
}

func report(orders []load.Order) {
	statuses := map[string]int{}
	latencies := make([]time.Duration, len(orders))
	for i, order := range orders {
		name := order.Status
		if order.Reason != "" {
			name += " (" + order.Reason + ")"
		}
		statuses[name]++
		latencies[i] = order.UpdatedAt.Sub(order.CreatedAt)
	}
	slices.Sort(latencies)
	quantile := func(q float64) time.Duration { return load.Quantile(latencies, q).Round(100 * time.Microsecond) }
	for _, name := range slices.Sorted(maps.Keys(statuses)) {
		fmt.Printf("%6d %s\n", statuses[name], name)
	}
	fmt.Printf("From accepted to final: p50 %s, p99 %s\n", quantile(0.5), quantile(0.99))
}

// check audits both databases.
func check(ctx context.Context, cfg pg.Config) error {
	orders, err := pg.OpenOwner(cfg.Defaults("orders"))
	if err != nil {
		return err
	}
	defer orders.Close()
	payments, err := pg.OpenOwner(cfg.Defaults("payments"))
	if err != nil {
		return err
	}
	defer payments.Close()
	services, err := audit.Built(ctx, cfg)
	if err != nil {
		return err
	}
	books, err := audit.AtRest(ctx, orders, payments, services)
	if err != nil {
		return fmt.Errorf("the books are wrong:\n%w", err)
	}
	fmt.Printf("The books are right: %d orders and their payments agree; the entries of %d operations sum to zero and "+
		"add up to\n"+
		"every balance, to the last unit.\n", books.Orders, books.Operations)
	return nil
}
