package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
)

// loading is the flags of load.
type loading struct {
	Commands int     `flag:"commands" default:"10000" help:"how many to send"`
	Accounts int     `flag:"accounts" default:"100" help:"how many to open for them"`
	InFlight int     `flag:"in-flight" default:"500" help:"how many wait for their replies at the same time"`
	Currency string  `flag:"currency" value:"CODE" default:"RUB" help:"the currency"`
	Timeout  timeout `flag:"timeout" value:"DURATION" default:"1m" help:"how long to wait for a reply"`
	Kafka    kafka.Config
}

// Validate checks the numbers.
func (l loading) Validate() error {
	return errors.Join(within("--commands", l.Commands, 1, 1_000_000), within("--accounts", l.Accounts, 2, 10_000),
		within("--in-flight", l.InFlight, 1, 10_000))
}

func (t terminal) loadCommand() config.Command {
	c := config.NewCommand("load", "send many commands in parallel and check every reply and all sums", t.load)
	c.About = `It opens accounts with some money and sends deposits, withdrawals, transfers, holds, captures and releases
of random amounts, some of which are refused for lack of money. Each command must get exactly one reply; one that is
delivered twice is recognised by its ce_id. At the end the balances that the billing core tells must be those that
follow from the replies.`
	c.Examples = []string{"", "--commands 100000 --in-flight 2000", "--accounts 2 --commands 5000 --currency USDT"}
	return c
}

// load is one run.
type load struct {
	loading
	terminal
	client *client
	books  *books

	mu        sync.Mutex
	latencies []time.Duration
	faults    []error // the first ones
	faulty    int     // how many there are
}

func (t terminal) load(ctx context.Context, s loading) error {
	currencies, err := money.LoadCurrencies("")
	if err != nil {
		return err
	}
	currency, ok := currencies.Lookup(s.Currency)
	if !ok {
		return config.Invalid("--currency", "must be a code such as RUB")
	}
	dialing, cancel := s.Timeout.begin(ctx)
	defer cancel()
	client, err := dial(dialing, s.Kafka, t.stderr)
	if err != nil {
		return err
	}
	defer client.close()
	l := &load{loading: s, terminal: t, client: client, books: newBooks(currency, s.Accounts),
		latencies: make([]time.Duration, 0, s.Commands)}
	if err := l.each(ctx, "accounts", s.Accounts, l.open); err != nil {
		return err
	}
	begin := time.Now()
	if err := l.each(ctx, "commands", s.Commands, l.command); err != nil {
		return err
	}
	took := time.Since(begin)
	if err := l.each(ctx, "balances", s.Accounts, l.check); err != nil {
		return err
	}
	l.report(took)
	return l.verdict()
}

// each does something n times, in parallel; its first error ends it.
func (l *load) each(ctx context.Context, what string, n int, do func(ctx context.Context, i int) error) error {
	progress := newProgress(l.stderr, what, n)
	defer progress.close()
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(n, l.InFlight) {
		group.Go(func() error {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := do(ctx, i); err != nil {
					return err
				}
				progress.add()
			}
			return nil
		})
	}
	return group.Wait()
}

// open opens an account and puts some money on it.
func (l *load) open(ctx context.Context, i int) error {
	account := l.books.accounts[i]
	create := contract.Command{Operation: "create_account", ID: &account, Owner: "load"}
	if _, err := l.client.must(ctx, l.Timeout, create); err != nil {
		return err
	}
	first := l.books.entry("deposit", account, maxAmount)
	id := newCommandID()
	first.CommandID = &id
	return l.answer(ctx, first)
}

// command sends one command at random.
func (l *load) command(ctx context.Context, _ int) error {
	e := l.books.next()
	id := newCommandID()
	e.CommandID = &id
	begin := time.Now()
	if err := l.answer(ctx, e); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latencies = append(l.latencies, time.Since(begin))
	return nil
}

// answer sends a command and books its reply. That there is none is an error, a wrong one is noted.
func (l *load) answer(ctx context.Context, e entry) error {
	ctx, cancel := l.Timeout.begin(ctx)
	defer cancel()
	reply, err := l.client.call(ctx, e.Command)
	if err != nil {
		return err
	}
	l.note(l.books.book(e, reply))
	return nil
}

// check compares what the billing core says of an account with the books.
func (l *load) check(ctx context.Context, i int) error {
	account := l.books.accounts[i]
	reply, err := l.client.must(ctx, l.Timeout, contract.Command{Operation: "balance", AccountID: &account})
	if err != nil {
		return err
	}
	var said contract.Balances
	if err := reply.body(&said); err != nil {
		return err
	}
	l.note(l.books.compare(account, said))
	return nil
}

// maxFaults bounds how many faults are shown.
const maxFaults = 10

func (l *load) note(fault error) {
	if fault == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.faulty++; len(l.faults) < maxFaults {
		l.faults = append(l.faults, fault)
	}
}

// report prints what happened.
func (l *load) report(took time.Duration) {
	slices.Sort(l.latencies)
	quantile := func(percent int) time.Duration {
		return l.latencies[(len(l.latencies)-1)*percent/100].Round(100 * time.Microsecond)
	}
	fmt.Fprintf(l.stdout, "%d commands in %s: %.0f/s, %d in flight; from sent to answered p50 %s, p99 %s\n\n", l.Commands,
		took.Round(time.Millisecond), float64(l.Commands)/took.Seconds(), l.InFlight, quantile(50), quantile(99))
	table := tabwriter.NewWriter(l.stdout, 0, 0, 2, ' ', 0)
	for _, o := range slices.SortedFunc(maps.Keys(l.books.outcomes), func(a, b outcome) int {
		return strings.Compare(a.operation+"\xff"+b.result, b.operation+"\xff"+a.result) // success before the reasons
	}) {
		fmt.Fprintf(table, "  %s\t%s\t%7d\n", o.operation, o.result, l.books.outcomes[o])
	}
	table.Flush()
	sum, format := l.books.sum(), l.books.currency.Format
	fmt.Fprintf(l.stdout,
		"\nBy the replies the %d accounts have %s %s and %s frozen: %s deposited less %s withdrawn or captured.\n",
		l.Accounts, format(sum.actual), l.Currency, format(sum.frozen), format(l.books.in), format(l.books.out))
}

// verdict is an error unless everything is as it must be.
func (l *load) verdict() error {
	l.client.mu.Lock()
	defer l.client.mu.Unlock()
	for _, id := range l.client.second {
		l.note(fmt.Errorf("command %s got a second reply, with another ce_id", id))
	}
	if sum := l.books.sum(); sum.actual+sum.frozen != l.books.in-l.books.out {
		l.note(errors.New("the sums of the replies do not agree with each other"))
	}
	if l.client.repeated > 0 {
		fmt.Fprintf(l.stdout, "%d replies were delivered more than once, as they may be, with the same ce_id.\n",
			l.client.repeated)
	}
	if l.faulty > 0 {
		return fmt.Errorf("%d faults, such as\n%w", l.faulty, errors.Join(l.faults...))
	}
	fmt.Fprintf(l.stdout, "Each command got exactly one reply, and each account has what follows from the replies.\n")
	return nil
}
