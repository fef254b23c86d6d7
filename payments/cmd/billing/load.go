package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/money"
)

// loading is the flags of load.
type loading struct {
	Commands int     `flag:"commands" default:"10000" help:"how many to send"`
	Accounts int     `flag:"accounts" default:"100" help:"how many to open for them"`
	InFlight int     `flag:"in-flight" default:"500" help:"how many wait for their replies at the same time"`
	Timeout  timeout `flag:"timeout" value:"DURATION" default:"1m" help:"how long to wait for a reply"`
	Broker   connection
}

// Validate checks the numbers.
func (l loading) Validate() error {
	return errors.Join(within("--commands", l.Commands, 1, 1_000_000), within("--accounts", l.Accounts, 2, 10_000),
		within("--in-flight", l.InFlight, 1, 10_000))
}

func (t terminal) loadCommand() config.Command {
	c := config.NewCommand("load", "send many commands in parallel and check every reply and all sums", t.load)
	c.About = `It opens accounts with some roubles and sends deposits, withdrawals and transfers of random amounts, some of
which are refused for lack of money. Each command must get exactly one reply; one that is delivered twice is
recognised by its ce_id. At the end the balances that the billing core tells must be those that follow from the
replies.`
	c.Examples = []string{"", "--commands 100000 --in-flight 2000"}
	return c
}

const (
	currency, digits = "RUB", 2
	maxAmount        = 10_000 // of a command, in minor units
	maxFaults        = 10     // that are shown
)

// load is one run. It believes the replies: the balances that follow from them are those that the accounts must have.
type load struct {
	loading
	client   *client
	accounts []uuid.UUID

	mu       sync.Mutex
	balances map[uuid.UUID]int64
	refused  int     // commands, for lack of money
	faults   []error // the first ones
	faulty   int     // how many there are
}

func (t terminal) load(ctx context.Context, s loading) error {
	dialing, cancel := s.Timeout.begin(ctx)
	defer cancel()
	client, err := dial(dialing, s.Broker, t.stderr)
	if err != nil {
		return err
	}
	defer client.close()
	l := &load{loading: s, client: client, balances: make(map[uuid.UUID]int64, s.Accounts)}
	for range s.Accounts {
		l.accounts = append(l.accounts, newCommandID())
	}
	if err := l.each(ctx, s.Accounts, l.open); err != nil {
		return err
	}
	begin := time.Now()
	if err := l.each(ctx, s.Commands, l.command); err != nil {
		return err
	}
	took := time.Since(begin)
	if err := l.each(ctx, s.Accounts, l.check); err != nil {
		return err
	}
	fmt.Fprintf(t.stdout, "%d commands in %s: %.0f/s; %d were refused for lack of money.\n",
		s.Commands, took.Round(time.Millisecond), float64(s.Commands)/took.Seconds(), l.refused)
	client.mu.Lock()
	defer client.mu.Unlock()
	for _, id := range client.second {
		l.note(fmt.Errorf("command %s got a second reply, with another ce_id", id))
	}
	if client.repeated > 0 {
		fmt.Fprintf(t.stdout, "%d replies were delivered more than once, as they may be, with the same ce_id.\n",
			client.repeated)
	}
	if l.faulty > 0 {
		return fmt.Errorf("%d faults, such as\n%w", l.faulty, errors.Join(l.faults...))
	}
	fmt.Fprintln(t.stdout, "Each command got exactly one reply, and each account has what follows from the replies.")
	return nil
}

// each does something n times, in parallel; its first error ends it.
func (l *load) each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(l.InFlight)
	for i := 0; i < n && ctx.Err() == nil; i++ {
		group.Go(func() error { return do(ctx, i) })
	}
	return group.Wait()
}

// open opens an account and puts some money on it.
func (l *load) open(ctx context.Context, i int) error {
	if err := l.client.open(ctx, l.Timeout, l.accounts[i], "load"); err != nil {
		return err
	}
	return l.send(ctx, contract.Command{Operation: "deposit", AccountID: &l.accounts[i]}, maxAmount)
}

// command sends one command at random.
func (l *load) command(ctx context.Context, _ int) error {
	i := rand.IntN(len(l.accounts))
	c := contract.Command{Operation: "deposit", AccountID: &l.accounts[i]}
	switch n := rand.IntN(100); {
	case n < 30:
		c.Operation = "withdraw"
	case n < 60:
		to := (i + 1 + rand.IntN(len(l.accounts)-1)) % len(l.accounts)
		c = contract.Command{Operation: "transfer", FromAccountID: &l.accounts[i], ToAccountID: &l.accounts[to]}
	}
	return l.send(ctx, c, 1+rand.Int64N(maxAmount))
}

// send sends a command and books its reply. That there is none is an error, a wrong one is noted.
func (l *load) send(ctx context.Context, c contract.Command, minor int64) error {
	id := newCommandID()
	c.CommandID, c.Currency, c.Amount = &id, currency, money.Decimal(money.Format(minor, digits))
	ctx, cancel := l.Timeout.begin(ctx)
	defer cancel()
	reply, err := l.client.call(ctx, c)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(l.book(c, minor, reply))
	return nil
}

// book takes note of a reply, or tells what is wrong with it.
func (l *load) book(c contract.Command, minor int64, r reply) error {
	if r.Status == statusError {
		if c.Operation == "deposit" || r.Reason != "insufficient_funds" {
			return fmt.Errorf("%s was refused: %s", c.Operation, r.raw)
		}
		l.refused++
		return nil
	}
	var done contract.Operation
	if err := r.body(&done); err != nil {
		return fmt.Errorf("the reply to %s cannot be read (%w): %s", c.Operation, err, r.raw)
	}
	account := c.AccountID
	if c.FromAccountID != nil {
		account = c.FromAccountID
	}
	if r.OperationID == nil || done.ID != *r.OperationID || done.Operation != c.Operation ||
		done.CommandID != *c.CommandID || done.AccountID != *account || done.Currency != currency ||
		done.Amount != string(c.Amount) {
		return fmt.Errorf("the reply to %s of %s on %s is about something else: %s", c.Operation, c.Amount, account, r.raw)
	}
	switch c.Operation {
	case "deposit":
		l.balances[*account] += minor
	case "transfer":
		l.balances[*c.ToAccountID] += minor
		fallthrough
	case "withdraw":
		l.balances[*account] -= minor
	}
	return nil
}

// check compares what the billing core says of an account with what follows from the replies.
func (l *load) check(ctx context.Context, i int) error {
	said, err := l.client.balances(ctx, l.Timeout, l.accounts[i])
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	want := money.Format(l.balances[l.accounts[i]], digits)
	if got, frozen := said.Actual[currency], said.Frozen[currency]; got != want || frozen != money.Format(0, digits) {
		l.note(fmt.Errorf("account %s has %q and %q frozen, by the replies it must have %q and nothing frozen",
			l.accounts[i], got, frozen, want))
	}
	return nil
}

// note counts a fault, if there is one. The caller holds mu, or is the only one left.
func (l *load) note(fault error) {
	if fault == nil {
		return
	}
	if l.faulty++; len(l.faults) < maxFaults {
		l.faults = append(l.faults, fault)
	}
}
