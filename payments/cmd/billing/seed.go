package main

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"

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
	Timeout  timeout `flag:"timeout" value:"DURATION" default:"10s" help:"how long to wait for a reply"`
	Broker   connection
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
	c.Examples = []string{"", "--accounts 10"}
	return c
}

// seeds are what the first account gets; the second one gets twice as much, and so on.
var seeds = []struct {
	currency string
	units    int
}{{"USD", 1000}, {"RUB", 75000}, {"EUR", 900}, {"USDT", 1000}}

var owners = []string{"alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy"}

func (t terminal) seed(ctx context.Context, s seeding) error {
	dialing, cancel := s.Timeout.begin(ctx)
	defer cancel()
	client, err := dial(dialing, s.Broker, t.stderr)
	if err != nil {
		return err
	}
	defer client.close()
	lines := make([]string, s.Accounts)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(32)
	for i := range lines {
		group.Go(func() (err error) {
			lines[i], err = client.seed(ctx, i, s.Timeout)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	table := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "ACCOUNT\tOWNER\t")
	for _, seed := range seeds {
		fmt.Fprint(table, seed.currency, "\t")
	}
	fmt.Fprintln(table)
	for _, line := range lines {
		fmt.Fprintln(table, line)
	}
	return table.Flush()
}

// seed opens one account, puts money on it and returns its line of the table.
func (c *client) seed(ctx context.Context, i int, timeout timeout) (line string, err error) {
	account, owner := newCommandID(), owners[i%len(owners)]
	if round := i / len(owners); round > 0 {
		owner += fmt.Sprint(round + 1)
	}
	if err := c.open(ctx, timeout, account, owner); err != nil {
		return "", err
	}
	for _, seed := range seeds {
		if _, err := c.must(ctx, timeout, contract.Command{Operation: "deposit", AccountID: &account,
			Currency: seed.currency, Amount: money.Decimal(fmt.Sprint(seed.units * (i + 1)))}); err != nil {
			return "", err
		}
	}
	balances, err := c.balances(ctx, timeout, account)
	line = fmt.Sprint(account, "\t", owner, "\t")
	for _, seed := range seeds {
		line += balances.Actual[seed.currency] + "\t"
	}
	return line, err
}

// open opens an account.
func (c *client) open(ctx context.Context, timeout timeout, account uuid.UUID, owner string) error {
	_, err := c.must(ctx, timeout, contract.Command{Operation: "create_account", ID: &account, Owner: owner})
	return err
}

// balances asks what an account has.
func (c *client) balances(ctx context.Context, timeout timeout, account uuid.UUID) (b contract.Balances, err error) {
	reply, err := c.must(ctx, timeout, contract.Command{Operation: "balance", AccountID: &account})
	if err == nil {
		err = reply.body(&b)
	}
	return b, err
}

// inventory is what the inventory system says of an order's goods, as flags.
type inventory struct {
	Order   id      `flag:"order" value:"ID" required:"true" help:"the order"`
	Status  string  `flag:"status" value:"STATUS" required:"true" help:"COMPLETED or FAILED"`
	Timeout timeout `flag:"timeout" value:"DURATION" default:"10s" help:"how long to wait for the broker"`
	Broker  connection
}

// Validate refuses what the inventory system does not say.
func (i inventory) Validate() error {
	if i.Status != contract.InventoryCompleted && i.Status != contract.InventoryFailed {
		return config.Invalid("--status", "must be %s or %s", contract.InventoryCompleted, contract.InventoryFailed)
	}
	return nil
}

// inventoryCommand plays the inventory system, which tells on a topic of its own what became of an order's goods.
func (t terminal) inventoryCommand() config.Command {
	c := config.NewCommand("inventory", "say what became of an order's goods, as the inventory system does", t.tell)
	c.About = `It writes one message on the topic inventory, which has no reply: the order's status tells what came of it.
COMPLETED lets the payment of an order that was placed with await_inventory go on, FAILED fails the order with
out_of_stock.`
	c.Examples = []string{"--order " + exampleHold + " --status COMPLETED", "--order " + exampleHold + " --status FAILED"}
	return c
}

// tell publishes a message of the inventory system.
func (t terminal) tell(ctx context.Context, i inventory) error {
	ctx, cancel := i.Timeout.begin(ctx)
	defer cancel()
	message := contract.Inventory{IdempotentKey: newCommandID(), OrderID: uuid.UUID(i.Order), Status: i.Status}
	value, err := json.Marshal(message)
	if err != nil {
		return err
	}
	s, err := newSender(i.Broker, t.stderr)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.deliver(ctx, kafka.Message{
		Topic: contract.TopicInventory, Key: []byte(message.OrderID.String()), Value: value})
}
