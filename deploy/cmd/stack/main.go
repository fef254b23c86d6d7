// Command stack runs the whole of Altyn on this machine without containers. `make start` and the other verbs call it.
package main

import (
	"context"
	"os"

	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

const (
	about = `stack runs the whole of Altyn on this machine without containers: PostgreSQL, Kafka and the services, in ` +
		`the background.`

	more = `The verbs of make (make help) call these commands. Variables decide what runs, in the environment or behind the
verb of make (make start PAYMENTS_WORKERS=2 KAFKA=embedded). Those that are not listed here reach the services as they
are. Without GOMAXPROCS, orders and the gateway use half of the cores.`
)

const (
	verbRun       = "run"
	verbEnv       = "env"
	verbSupervise = "supervise" // the process in the background
)

func main() {
	localkafka.Child() // this program is also the embedded broker
	os.Exit(program().Main())
}

type (
	plain    struct{ Settings }
	building struct {
		NoCache bool `flag:"no-cache" help:"compile every package anew"`
		Settings
	}
	logging struct {
		Follow bool     `flag:"f" help:"go on with what comes"`
		Find   string   `flag:"find" value:"TEXT" help:"only lines with this text, such as an ID, of the whole logs"`
		Lines  int      `flag:"n" default:"50" help:"lines of each log"`
		Parts  []string `args:"PART…"`
		Settings
	}
	supervising struct {
		Verb []string `args:"VERB"`
		Settings
	}
)

func program() config.Program {
	return config.Program{Name: "stack", About: about, More: more, Commands: []config.Command{
		verb("build", "build the services", func(ctx context.Context, c *client, s building) error {
			if s.NoCache {
				return c.build(ctx, "-a")
			}
			return c.build(ctx)
		}),
		verb(verbRun, "start what is built, and wait until everything is ready",
			func(ctx context.Context, c *client, _ plain) error {
				return c.run(ctx, verbRun)
			}),
		verb(verbEnv, "start only PostgreSQL and Kafka, with migrated databases, for services that are started by hand",
			func(ctx context.Context, c *client, _ plain) error { return c.run(ctx, verbEnv) }),
		verb("status", "show how each part is doing", func(ctx context.Context, c *client, _ plain) error {
			return c.status(ctx)
		}),
		verb("logs", "print the ends of the logs, merged by time", func(ctx context.Context, c *client, s logging) error {
			return c.logs(ctx, s)
		}),
		verb("stop", "stop everything; the data stay", func(ctx context.Context, c *client, _ plain) error {
			return c.stop(ctx)
		}),
		verb("clean", "stop everything and delete the data, logs and programs",
			func(ctx context.Context, c *client, _ plain) error {
				return c.clean(ctx)
			}),
		config.NewCommand(verbSupervise, "", func(ctx context.Context, s supervising) error {
			at, err := findPlace()
			if err != nil {
				return err
			}
			return supervise(ctx, s.Settings, at, s.Verb[0], os.NewFile(3, "report"))
		}),
	}}
}

// verb makes a command that people type. It reports bad settings of the services at once, which would otherwise end
// up in their logs.
func verb[T any](name, help string, do func(context.Context, *client, T) error) config.Command {
	return config.NewCommand(name, help, func(ctx context.Context, given T) error {
		if _, err := config.LoadFrom[service.Config](stack.Shared()); err != nil {
			return err
		}
		at, err := findPlace()
		if err != nil {
			return err
		}
		return do(ctx, &client{at: at, out: os.Stdout}, given)
	})
}
