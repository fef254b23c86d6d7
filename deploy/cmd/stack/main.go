// Command stack runs the whole of Altyn on this machine without containers; `make start` and the other verbs are built on it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

const about = `stack runs the whole of Altyn on this machine without containers: PostgreSQL, Kafka and the services, in the
background.

Usage: stack <verb>

  start              build the services and run
  build [--no-cache] build the services (--no-cache: every package anew)
  run                start what is built, and wait until everything is ready
  env                start only PostgreSQL and Kafka, with migrated databases, for services that are started by hand
  status             show how each part is doing
  logs [-f] [-n LINES] [PART…]
                     print the ends of the logs (-f: go on with what comes)
  stop               stop everything; the data stay
  clean              stop everything and delete the data, logs and programs

The verbs of make (make help) call these. What runs is decided by variables, in the environment or behind the verb of make
(make start PAYMENTS_WORKERS=2 KAFKA=embedded); those that are not listed here reach the services as they are.
Without GOMAXPROCS, a service uses half of the cores.
`

// verbs are those that people type.
var verbs = []string{"start", "build", verbRun, verbEnv, "status", "logs", "stop", "clean"}

const (
	verbRun       = "run"
	verbEnv       = "env"
	verbSupervise = "supervise" // the process in the background
)

func main() {
	localkafka.Child() // this program is also the embedded broker
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "error:", err)
	if errors.As(err, new(usageError)) {
		os.Exit(2)
	}
	os.Exit(1)
}

type usageError struct{ error }

func usage(format string, args ...any) error {
	return usageError{fmt.Errorf(format+"; see stack --help", args...)}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 || args[0] == "--help" || args[0] == "-h" || args[0] == "help" {
		fmt.Fprint(out, about+"\n")
		config.Usage(out, config.Variables[Settings]())
		return nil
	}
	if args[0] == "--version" || args[0] == "version" {
		fmt.Fprintln(out, "stack", config.ThisBuild())
		return nil
	}
	settings, err := config.Load[Settings]()
	if err != nil {
		return usageError{err}
	}
	at, err := findPlace()
	if err != nil {
		return err
	}
	// What the services would refuse is told at once, instead of in their logs.
	if _, err := config.LoadFrom[service.Config](stack.Shared()); err != nil {
		return usageError{err}
	}
	if args[0] != verbSupervise {
		for _, m := range config.NearMisses(os.Environ(), append(config.Variables[Settings](), config.Variables[service.Config]()...)) {
			fmt.Fprintf(os.Stderr, "warning: nothing reads the variable %s; did you mean %s?\n", m.Name, m.Near)
		}
	}
	c := &client{settings: settings, at: at, out: out}
	verb, args := args[0], args[1:]
	flags := flag.NewFlagSet(verb, flag.ContinueOnError)
	var noCache, follow bool
	var lines int
	switch verb {
	case "build":
		flags.BoolVar(&noCache, "no-cache", false, "")
	case "logs":
		flags.BoolVar(&follow, "f", false, "")
		flags.IntVar(&lines, "n", 50, "")
	}
	if err := config.ParseFlags(flags, args); err != nil {
		return usage("%s: %w", verb, err)
	}
	if takes := verb == "logs" || verb == verbSupervise; flags.NArg() > 0 && !takes {
		return usage("%s takes no %q", verb, flags.Arg(0))
	}

	switch verb {
	case "start":
		if err := c.build(ctx, false); err != nil {
			return err
		}
		return c.run(ctx, verbRun)
	case "build":
		return c.build(ctx, noCache)
	case verbRun, verbEnv:
		return c.run(ctx, verb)
	case "stop":
		return c.stop(ctx)
	case "clean":
		return c.clean(ctx)
	case "status":
		return c.status(ctx)
	case "logs":
		return c.logs(ctx, flags.Args(), lines, follow)
	case verbSupervise:
		return supervise(ctx, settings, at, flags.Arg(0), os.NewFile(3, "report"))
	default:
		return usage("there is no verb %q%s", verb, config.DidYouMean(verb, verbs))
	}
}
