package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
)

const maxSeeded = 1000

var seedCommand = subcommand{
	name:    "seed",
	summary: "open accounts with money in USD, RUB, EUR and USDT",
	about:   "Each run opens new accounts. They are printed with their balances, as the billing core tells them.",
	examples: []string{
		"", "--accounts 10", "--accounts 1 --json | jq -r .[0].id",
	},
	define: func(flags *flag.FlagSet) func(context.Context, *program, kafka.Config) error {
		accounts := flags.Int("accounts", 4, "`NUMBER` how many to open")
		raw := flags.Bool("json", false, "print a JSON array instead of a table")
		timeout := timeoutFlag(flags, 10*time.Second)
		return func(ctx context.Context, p *program, cfg kafka.Config) error {
			if *accounts < 1 || *accounts > maxSeeded {
				return wrong("--accounts must be 1 to %d", maxSeeded)
			}
			if err := checkTimeout(*timeout); err != nil {
				return err
			}
			return p.seed(ctx, cfg, *accounts, *timeout, *raw)
		}
	},
}

// seeds is what the first account gets; the second one gets twice as much, and so on.
var seeds = []struct{ currency, amount string }{{"USD", "1000.00"}, {"RUB", "75000.00"}, {"EUR", "900.00"}, {"USDT", "1000.000000"}}

var owners = []string{"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy"}

// seeded is an account as it is printed.
type seeded struct {
	ID       uuid.UUID         `json:"id"`
	Owner    string            `json:"owner"`
	Balances map[string]string `json:"balances"`
}

func (p *program) seed(ctx context.Context, cfg kafka.Config, n int, timeout time.Duration, raw bool) error {
	dialing, cancel := within(ctx, timeout)
	defer cancel()
	client, err := dial(dialing, cfg, p.stderr)
	if err != nil {
		return err
	}
	defer client.close()
	list := make([]seeded, n)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(32)
	for i := range list {
		group.Go(func() (err error) {
			list[i], err = client.seed(ctx, i, timeout)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if raw {
		return json.NewEncoder(p.stdout).Encode(list)
	}
	p.table(list)
	return nil
}

// seed opens one account and puts money on it.
func (c *client) seed(ctx context.Context, i int, timeout time.Duration) (seeded, error) {
	s := seeded{ID: newCommandID(), Owner: owners[i%len(owners)]}
	if round := i / len(owners); round > 0 {
		s.Owner += fmt.Sprint(round + 1)
	}
	if _, err := c.must(ctx, timeout, contract.Command{Operation: "create_account", ID: &s.ID, Owner: s.Owner}); err != nil {
		return s, err
	}
	currencies, err := money.LoadCurrencies("")
	if err != nil {
		return s, err
	}
	for _, seed := range seeds {
		currency, _ := currencies.Lookup(seed.currency)
		minor, err := currency.Parse(seed.amount)
		if err != nil {
			return s, err
		}
		if _, err := c.must(ctx, timeout, contract.Command{Operation: "deposit", AccountID: &s.ID, Currency: seed.currency,
			Amount: decimal(currency, minor*int64(i+1))}); err != nil {
			return s, err
		}
	}
	reply, err := c.must(ctx, timeout, contract.Command{Operation: "balance", AccountID: &s.ID})
	if err != nil {
		return s, err
	}
	var balances contract.Balances
	err = reply.body(&balances)
	s.Balances = balances.Actual
	return s, err
}

// must sends a command under a fresh ID; an error reply is an error.
func (c *client) must(ctx context.Context, timeout time.Duration, command contract.Command) (reply, error) {
	id := newCommandID()
	command.CommandID = &id
	ctx, cancel := within(ctx, timeout)
	defer cancel()
	r, err := c.call(ctx, command)
	if err == nil && r.Status == statusError {
		err = fmt.Errorf("%s was refused: %d %s %s", command.Operation, r.Code, r.Reason, r.Detail)
	}
	return r, err
}

func (p *program) table(list []seeded) {
	fmt.Fprintf(p.stdout, "%-36s  %-8s", "ACCOUNT", "OWNER")
	for _, seed := range seeds {
		fmt.Fprintf(p.stdout, "  %16s", seed.currency)
	}
	fmt.Fprintln(p.stdout)
	for _, s := range list {
		fmt.Fprintf(p.stdout, "%-36s  %-8s", s.ID, s.Owner)
		for _, seed := range seeds {
			fmt.Fprintf(p.stdout, "  %16s", s.Balances[seed.currency])
		}
		fmt.Fprintln(p.stdout)
	}
	first, last := list[0].ID, list[len(list)-1].ID
	fmt.Fprintf(p.stdout, "\nTry:\n  billing deposit --account %s --amount 777 --currency RUB\n", first)
	if first != last {
		fmt.Fprintf(p.stdout, "  billing transfer --from %s --to %s --amount 111 --currency RUB\n", first, last)
	}
	fmt.Fprintf(p.stdout, "  billing balance --account %s\n", first)
}
