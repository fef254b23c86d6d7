package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
)

const (
	maxCommands = 1_000_000
	maxAccounts = 10_000
	maxInFlight = 10_000
)

// settings are the flags of load.
type settings struct {
	commands, accounts, inFlight int
	currency                     string
	timeout                      time.Duration
}

var loadCommand = subcommand{
	name:    "load",
	summary: "send many commands in parallel and check every reply and all sums",
	about: `It opens accounts with some money and sends deposits, withdrawals, transfers, holds, captures and releases of random
amounts, some of which are refused for lack of money. Each command must get exactly one reply; one that is delivered twice is
recognised by its ce_id. At the end the balances that the billing core tells must be those that follow from the replies.`,
	examples: []string{"", "--commands 100000 --in-flight 2000", "--accounts 2 --commands 5000 --currency USDT"},
	define: func(flags *flag.FlagSet) func(context.Context, *program, kafka.Config) error {
		var s settings
		flags.IntVar(&s.commands, "commands", 10_000, "`NUMBER` how many to send")
		flags.IntVar(&s.accounts, "accounts", 100, "`NUMBER` how many to open for them")
		flags.IntVar(&s.inFlight, "in-flight", 500, "`NUMBER` how many wait for their replies at the same time")
		flags.StringVar(&s.currency, "currency", "RUB", "`CODE` the currency")
		timeout := timeoutFlag(flags, time.Minute)
		return func(ctx context.Context, p *program, cfg kafka.Config) error {
			if s.timeout = *timeout; s.commands < 1 || s.commands > maxCommands || s.accounts < 2 || s.accounts > maxAccounts ||
				s.inFlight < 1 || s.inFlight > maxInFlight {
				return wrong("--commands must be 1 to %d, --accounts 2 to %d, --in-flight 1 to %d", maxCommands, maxAccounts, maxInFlight)
			}
			if err := checkTimeout(s.timeout); err != nil {
				return err
			}
			currencies, err := money.LoadCurrencies("")
			if err != nil {
				return err
			}
			currency, ok := currencies.Lookup(s.currency)
			if !ok {
				return wrong("--currency must be a code such as RUB")
			}
			return p.load(ctx, cfg, s, currency)
		}
	},
}

// load is one run.
type load struct {
	settings
	program *program
	client  *client
	books   *books

	mu        sync.Mutex
	latencies []time.Duration
	faults    []error // the first ones
	faulty    int     // how many there are
}

func (p *program) load(ctx context.Context, cfg kafka.Config, s settings, currency money.Currency) error {
	dialing, cancel := within(ctx, s.timeout)
	defer cancel()
	client, err := dial(dialing, cfg, p.stderr)
	if err != nil {
		return err
	}
	defer client.close()
	l := &load{settings: s, program: p, client: client, books: newBooks(currency, s.accounts), latencies: make([]time.Duration, 0, s.commands)}
	if err := l.each(ctx, "accounts", s.accounts, l.open); err != nil {
		return err
	}
	begin := time.Now()
	if err := l.each(ctx, "commands", s.commands, l.command); err != nil {
		return err
	}
	took := time.Since(begin)
	if err := l.each(ctx, "balances", s.accounts, l.check); err != nil {
		return err
	}
	l.report(took)
	return l.verdict()
}

// each does something n times, in parallel; its first error ends it.
func (l *load) each(ctx context.Context, what string, n int, do func(ctx context.Context, i int) error) error {
	progress := newProgress(l.program.stderr, what, n)
	defer progress.close()
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(n, l.inFlight) {
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
	if _, err := l.client.must(ctx, l.timeout, contract.Command{Operation: "create_account", ID: &account, Owner: "load"}); err != nil {
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
	ctx, cancel := within(ctx, l.timeout)
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
	reply, err := l.client.must(ctx, l.timeout, contract.Command{Operation: "balance", AccountID: &account})
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
	fmt.Fprintf(l.program.stdout, "%d commands in %s: %.0f/s, %d in flight; from sent to answered p50 %s, p99 %s\n\n", l.commands,
		took.Round(time.Millisecond), float64(l.commands)/took.Seconds(), l.inFlight, quantile(50), quantile(99))
	table := tabwriter.NewWriter(l.program.stdout, 0, 0, 2, ' ', 0)
	for _, o := range slices.SortedFunc(maps.Keys(l.books.outcomes), func(a, b outcome) int {
		return strings.Compare(a.operation+"\xff"+b.result, b.operation+"\xff"+a.result) // success before the reasons
	}) {
		fmt.Fprintf(table, "  %s\t%s\t%7d\n", o.operation, o.result, l.books.outcomes[o])
	}
	table.Flush()
	sum, format := l.books.sum(), l.books.currency.Format
	fmt.Fprintf(l.program.stdout, "\nBy the replies the %d accounts have %s %s and %s frozen: %s deposited less %s withdrawn or captured.\n",
		l.accounts, format(sum.actual), l.currency, format(sum.frozen), format(l.books.in), format(l.books.out))
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
		fmt.Fprintf(l.program.stdout, "%d replies were delivered more than once, as they may be, with the same ce_id.\n", l.client.repeated)
	}
	if l.faulty > 0 {
		return fmt.Errorf("%d faults, such as\n%w", l.faulty, errors.Join(l.faults...))
	}
	fmt.Fprintf(l.program.stdout, "Each command got exactly one reply, and each account has what follows from the replies.\n")
	return nil
}
