package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
)

// seeding is the flags of seed.
type seeding struct {
	Accounts int     `flag:"accounts" default:"4" help:"how many to open"`
	JSON     bool    `flag:"json" help:"print a JSON array instead of a table"`
	Timeout  timeout `flag:"timeout" value:"DURATION" default:"10s" help:"how long to wait for a reply"`
	Kafka    kafka.Config
}

// Validate checks the number.
func (s seeding) Validate() error { return within("--accounts", s.Accounts, 1, 1000) }

// within checks a number of a flag.
func within(flag string, n, least, most int) error {
	if n < least || n > most {
		return config.Invalid(flag, "must be %d to %d", least, most)
	}
	return nil
}

func (t terminal) seedCommand() config.Command {
	c := config.NewCommand("seed", "open accounts with money in USD, RUB, EUR and USDT", t.seed)
	c.About = "Each run opens new accounts. They are printed with their balances, as the billing core tells them."
	c.Examples = []string{"", "--accounts 10", "--accounts 1 --json | jq -r .[0].id"}
	return c
}

// seeds is what the first account gets; the second one gets twice as much, and so on.
var seeds = []struct{ currency, amount string }{
	{"USD", "1000.00"}, {"RUB", "75000.00"}, {"EUR", "900.00"}, {"USDT", "1000.000000"},
}

var owners = []string{"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy"}

// seeded is an account as it is printed.
type seeded struct {
	ID       uuid.UUID         `json:"id"`
	Owner    string            `json:"owner"`
	Balances map[string]string `json:"balances"`
}

func (t terminal) seed(ctx context.Context, s seeding) error {
	dialing, cancel := s.Timeout.begin(ctx)
	defer cancel()
	client, err := dial(dialing, s.Kafka, t.stderr)
	if err != nil {
		return err
	}
	defer client.close()
	list := make([]seeded, s.Accounts)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(32)
	for i := range list {
		group.Go(func() (err error) {
			list[i], err = client.seed(ctx, i, s.Timeout)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if s.JSON {
		return json.NewEncoder(t.stdout).Encode(list)
	}
	t.table(list)
	return nil
}

// seed opens one account and puts money on it.
func (c *client) seed(ctx context.Context, i int, timeout timeout) (seeded, error) {
	s := seeded{ID: newCommandID(), Owner: owners[i%len(owners)]}
	if round := i / len(owners); round > 0 {
		s.Owner += fmt.Sprint(round + 1)
	}
	create := contract.Command{Operation: "create_account", ID: &s.ID, Owner: s.Owner}
	if _, err := c.must(ctx, timeout, create); err != nil {
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
func (c *client) must(ctx context.Context, timeout timeout, command contract.Command) (reply, error) {
	id := newCommandID()
	command.CommandID = &id
	ctx, cancel := timeout.begin(ctx)
	defer cancel()
	r, err := c.call(ctx, command)
	if err == nil && r.Status == statusError {
		err = fmt.Errorf("%s was refused: %d %s %s", command.Operation, r.Code, r.Reason, r.Detail)
	}
	return r, err
}

func (t terminal) table(list []seeded) {
	fmt.Fprintf(t.stdout, "%-36s  %-8s", "ACCOUNT", "OWNER")
	for _, seed := range seeds {
		fmt.Fprintf(t.stdout, "  %16s", seed.currency)
	}
	fmt.Fprintln(t.stdout)
	for _, s := range list {
		fmt.Fprintf(t.stdout, "%-36s  %-8s", s.ID, s.Owner)
		for _, seed := range seeds {
			fmt.Fprintf(t.stdout, "  %16s", s.Balances[seed.currency])
		}
		fmt.Fprintln(t.stdout)
	}
	first, last := list[0].ID, list[len(list)-1].ID
	fmt.Fprintf(t.stdout, "\nTry:\n  billing deposit --account %s --amount 777 --currency RUB\n", first)
	if first != last {
		fmt.Fprintf(t.stdout, "  billing transfer --from %s --to %s --amount 111 --currency RUB\n", first, last)
	}
	fmt.Fprintf(t.stdout, "  billing balance --account %s\n", first)
}
