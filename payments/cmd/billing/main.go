// Command billing is a client of the billing core, to play with and to try it out. It speaks to the broker only, as any
// outside system would: it knows the contract and nothing of the service. Each command becomes one message on the topic
// billing.commands; its reply is picked out of billing.replies, read from its present end on, so that any number of clients
// may run at once.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// Exit codes. A script must be able to tell what was refused from what nobody knows.
const (
	exitDone    = 0
	exitRefused = 1 // an error reply, or a check that failed
	exitUsage   = 2
	exitUnknown = 3 // the broker is not there, or there was no reply in time
)

const about = `billing is a client of Altyn's billing core. It speaks to the broker only, as any outside system would: a command is one
message on the topic billing.commands, its reply one message on billing.replies.

Usage: billing <command> [flags]

`

const more = `
billing <command> --help explains a command and shows examples, billing --version tells what was built, and
billing completion <shell> completes commands and flags in bash, zsh or fish.

The first steps (make start brings the stack up):

  $ billing create-account --owner alice      the reply's body has the account's id; call it A
  $ billing create-account --owner bob        and B
  $ billing deposit --account A --amount 777 --currency RUB
  $ billing transfer --from A --to B --amount 111 --currency RUB
  $ billing balance --account A               666.00

A command that is sent again with the same --command-id takes effect once and gets the same reply again.

Exit codes: 0 done, 1 refused (or a check failed), 2 wrong arguments, 3 not known: no broker, or no reply in time.

Environment variables and their defaults:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills
	p := program{stdout: os.Stdout, stderr: os.Stderr, config: config.Load[kafka.Config]}
	code := p.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// program is where the commands run.
type program struct {
	stdout, stderr io.Writer
	config         func() (kafka.Config, error)
}

// subcommand is one of the commands of this program.
type subcommand struct {
	name     string
	summary  string
	usage    string // the flags that matter, for the usage line
	about    string // what there is to know beyond the summary; may be empty
	examples []string
	// define declares the flags and returns what to do once they are read.
	define func(flags *flag.FlagSet) func(ctx context.Context, p *program, cfg kafka.Config) error
}

// subcommands are all commands by their groups.
func subcommands() []group {
	return []group{{"Accounts and money", operations()}, {"To play", []subcommand{seedCommand, loadCommand, inventoryCommand}}}
}

type group struct {
	title    string
	commands []subcommand
}

// usageError is a mistake in the arguments or the environment.
type usageError struct{ error }

func wrong(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errRefused ends a command whose error reply has been printed.
var errRefused = errors.New("refused")

func (p *program) run(ctx context.Context, args []string) int {
	err := p.dispatch(ctx, args)
	var mistaken usageError
	var unknown unknownError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errRefused):
		return exitRefused
	}
	fmt.Fprintln(p.stderr, "billing:", err)
	switch {
	case errors.As(err, &mistaken):
		return exitUsage
	case errors.As(err, &unknown):
		return exitUnknown
	}
	return exitRefused
}

func (p *program) dispatch(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "help" {
		args = append(slices.Clone(args[1:]), "--help")
	}
	if len(args) == 0 || isHelp(args[0]) {
		p.help()
		return nil
	}
	switch args[0] {
	case "--version", "-version", "version":
		fmt.Fprintln(p.stdout, "billing", config.ThisBuild())
		return nil
	case "completion":
		return p.completion(args[1:])
	}
	names := []string{"completion", "--help", "--version"}
	for _, g := range subcommands() {
		for _, c := range g.commands {
			if names = append(names, c.name); c.name == args[0] {
				return p.command(ctx, c, args[1:])
			}
		}
	}
	return wrong("there is no command %q%s; billing --help lists them", args[0], config.DidYouMean(args[0], names))
}

func isHelp(arg string) bool { return arg == "--help" || arg == "-help" || arg == "-h" }

func (p *program) command(ctx context.Context, c subcommand, args []string) error {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	do := c.define(flags)
	switch err := config.ParseFlags(flags, args); {
	case errors.Is(err, flag.ErrHelp):
		p.explain(c, flags)
		return nil
	case err != nil:
		return wrong("%s: %w; see billing %s --help", c.name, err, c.name)
	case flags.NArg() > 0:
		return wrong("%s: %q is no flag; see billing %s --help", c.name, flags.Arg(0), c.name)
	}
	cfg, err := p.config()
	if err != nil {
		return usageError{err}
	}
	for _, m := range config.NearMisses(os.Environ(), config.Variables[kafka.Config]()) {
		fmt.Fprintf(p.stderr, "warning: nothing reads the variable %s; did you mean %s?\n", m.Name, m.Near)
	}
	err = do(ctx, p, cfg)
	if mistaken := (usageError{}); errors.As(err, &mistaken) {
		return wrong("%s: %w; see billing %s --help", c.name, mistaken.error, c.name)
	}
	return err
}

func (p *program) help() {
	fmt.Fprint(p.stdout, about)
	table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	for i, g := range subcommands() {
		if i > 0 {
			fmt.Fprintln(table)
		}
		fmt.Fprintf(table, "%s:\n", g.title)
		for _, c := range g.commands {
			fmt.Fprintf(table, "  %s\t%s\n", c.name, c.summary)
		}
	}
	table.Flush()
	fmt.Fprint(p.stdout, more)
	config.Usage(p.stdout, slices.DeleteFunc(config.Variables[kafka.Config](), func(v config.Variable) bool {
		return slices.Contains([]string{"KAFKA_PARTITIONS", "KAFKA_REPLICATION_FACTOR", "KAFKA_MIN_INSYNC_REPLICAS", "KAFKA_RETENTION"}, v.Name) // of new topics
	}))
}

// explain prints the help of one command.
func (p *program) explain(c subcommand, flags *flag.FlagSet) {
	fmt.Fprintf(p.stdout, "billing %s: %s\n\nUsage: billing %s %s\n\n", c.name, c.summary, c.name, strings.TrimSpace(c.usage+" [flags]"))
	if c.about != "" {
		fmt.Fprintf(p.stdout, "%s\n\n", c.about)
	}
	fmt.Fprintln(p.stdout, "Flags:")
	table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	flags.VisitAll(func(f *flag.Flag) {
		value, help := flag.UnquoteUsage(f)
		help = strings.TrimPrefix(help, value+" ")
		if f.DefValue != "" && f.DefValue != "false" {
			help += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(table, "  --%s %s\t%s\n", f.Name, value, help)
	})
	table.Flush()
	fmt.Fprintln(p.stdout, "\nExamples:")
	for _, example := range c.examples {
		fmt.Fprintln(p.stdout, "  $ billing", strings.TrimSpace(c.name+" "+example))
	}
}

// within bounds a wait for the broker.
func within(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, timeout, fmt.Errorf("within %s", timeout))
}
