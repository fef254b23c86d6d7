package config

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
)

// Command is something a program does. The first command of a program is what it does without arguments.
type Command[T any] struct {
	Name, Help string
	// Run works until it is done or ctx ends, which happens at SIGINT or SIGTERM. It returns nil when it was ended so.
	Run func(ctx context.Context, cfg T) error
}

// Main is all of a main: it reads the arguments and the configuration, runs the command they name and returns the exit
// code: 0 done, 1 the command failed, 2 wrong arguments or settings (its error is a *Wrong). about is what --help says the
// program is.
//
// The first SIGINT or SIGTERM ends ctx; a second one kills the process, so that a drain that hangs can be cut off.
//
//	func main() {
//		os.Exit(config.Main("orders", about, config.Command[Config]{Name: "serve", Help: "…", Run: serve}))
//	}
func Main[T any](program, about string, commands ...Command[T]) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return run(ctx, os.Args[1:], os.Stdout, os.Stderr, program, about, commands)
}

func run[T any](ctx context.Context, args []string, stdout, stderr io.Writer, program, about string, commands []Command[T]) int {
	command := commands[0]
	switch {
	case len(args) == 1 && (args[0] == "--help" || args[0] == "-h" || args[0] == "help"):
		help(stdout, program, about, commands)
		return 0
	case len(args) == 1 && (args[0] == "--version" || args[0] == "-version" || args[0] == "version"):
		fmt.Fprintln(stdout, program, ThisBuild())
		return 0
	case len(args) > 1:
		fmt.Fprintf(stderr, "%s: unknown argument %q; see %s --help\n", program, args[1], program)
		return 2
	case len(args) == 1:
		found := false
		names := []string{"--help", "--version"}
		for _, c := range commands {
			names = append(names, c.Name)
			if found = c.Name == args[0]; found {
				command = c
				break
			}
		}
		if !found {
			fmt.Fprintf(stderr, "%s: unknown argument %q%s; see %s --help\n", program, args[0], DidYouMean(args[0], names), program)
			return 2
		}
	}

	cfg, err := Load[T]()
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", program, err)
		return 2
	}
	if err := command.Run(ctx, cfg); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", program, err)
		if errors.As(err, new(*Wrong)) {
			return 2
		}
		return 1
	}
	return 0
}

func help[T any](w io.Writer, program, about string, commands []Command[T]) {
	fmt.Fprintf(w, "%s\n\nUsage: %s [command]\n\nCommands:\n", about, program)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, c := range commands {
		text := c.Help
		if i == 0 {
			text += " (the default)"
		}
		fmt.Fprintf(table, "  %s\t%s\n", c.Name, text)
	}
	table.Flush()
	fmt.Fprintf(w, "\n%s --version tells what was built.\n\nEnvironment variables and their defaults:\n", program)
	Usage(w, Variables[T]())
}
