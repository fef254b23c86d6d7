package config

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"strings"
	"syscall"
)

// The exit codes beside 0.
const (
	exitFailed = 1
	exitWrong  = 2
)

// Program is a command line.
type Program struct {
	Name  string
	About string // what it is, for --help
	More  string // what --help says after the commands; may be empty
	// Commands are what it can do. A command without a name must be the only one.
	Commands []Command
	// Default is the command that runs without arguments. If it is empty, --help does.
	Default string
	// Env is the environment; nil means that of the process.
	Env map[string]string
	// Stdout and Stderr default to those of the process.
	Stdout, Stderr io.Writer
}

// Command is something that a program does. NewCommand makes one.
type Command struct {
	Name, Help string   // a command without help is not listed
	Group      string   // the heading above it in the program's help
	About      string   // what there is to know beyond Help; may be empty
	Examples   []string // arguments that it takes

	settings func() any // a new struct of settings
	run      func(ctx context.Context, settings any) error
}

// NewCommand makes a command of the function that does it. The settings are read from the flags and variables that T
// describes. run works until it is done or ctx ends, which happens at SIGINT or SIGTERM; then it returns nil.
func NewCommand[T any](name, help string, run func(ctx context.Context, settings T) error) Command {
	return Command{
		Name: name, Help: help,
		settings: func() any { return new(T) },
		run:      func(ctx context.Context, settings any) error { return run(ctx, *settings.(*T)) },
	}
}

// Variables lists the settings of the command.
func (c Command) Variables() []Variable { return variables(c.settings()) }

// Exit is an error that ends a program with an exit code and without a word, because the command has said everything.
// Any other error is printed; its exit code is that of its method ExitStatus, or 1.
type Exit int

func (e Exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// ExitStatus is the exit code.
func (e Exit) ExitStatus() int { return int(e) }

// Unseen is the error of a command that was to look for what is wrong and could not look. Its exit code is 2, where 1
// says that something is wrong.
type Unseen struct{ Err error }

func (e Unseen) Error() string { return e.Err.Error() }
func (e Unseen) Unwrap() error { return e.Err }

// ExitStatus is the exit code.
func (Unseen) ExitStatus() int { return exitWrong }

// Main is all of a main: it reads the arguments and settings, runs the command that they name and returns the exit
// code. The first SIGINT or SIGTERM ends the command's context; a second one kills the process, so that a drain that
// hangs can be cut off.
func (p Program) Main() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return p.Run(ctx, os.Args[1:])
}

// Run is Main with a context and arguments, for tests.
func (p Program) Run(ctx context.Context, args []string) int {
	if p.Stdout == nil {
		p.Stdout = os.Stdout
	}
	if p.Stderr == nil {
		p.Stderr = os.Stderr
	}
	if p.Env == nil {
		p.Env = environment()
	}
	err := p.run(ctx, args)
	if err == nil {
		return 0
	}
	if !errors.As(err, new(Exit)) {
		fmt.Fprintf(p.Stderr, "%s: %v\n", p.Name, err)
	}
	// Not ExitCode: errors of package exec have that method, and it is another program's code.
	if code := interface{ ExitStatus() int }(nil); errors.As(err, &code) {
		return code.ExitStatus()
	}
	return exitFailed
}

func (p Program) run(ctx context.Context, args []string) error {
	single := p.Commands[0].Name == ""
	name, first := p.Default, ""
	if len(args) > 0 {
		first = args[0]
	}
	switch {
	case first == "--version" || first == "-version" || first == "version" && !single:
		fmt.Fprintln(p.Stdout, p.Name, ThisBuild())
		return nil
	case single:
	case first == "help" && len(args) > 1:
		name, args = args[1], []string{"--help"}
	case first == "help" || first == "--help" || first == "-help" || first == "-h" || first == "" && name == "":
		p.help()
		return nil
	case first != "":
		name, args = first, args[1:]
	}
	i := slices.IndexFunc(p.Commands, func(c Command) bool { return c.Name == name })
	if i < 0 {
		return argumentError(fmt.Sprintf("there is no command %q; see %s --help", name, p.Name))
	}
	c := p.Commands[i]
	settings := c.settings()
	err := read(settings, p.Env, args)
	if errors.Is(err, flag.ErrHelp) {
		p.explain(c)
		return nil
	}
	if err == nil {
		err = c.run(ctx, settings)
	}
	if isArgument(err) {
		words := strings.TrimSpace(p.Name + " " + c.Name)
		err = fmt.Errorf("%w; see %s --help", err, words)
		if !single {
			err = fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return err
}

// environment returns the variables of the process.
func environment() map[string]string {
	env := make(map[string]string)
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		env[name] = value
	}
	return env
}

// argumentError is a mistake in the arguments other than a wrong value.
type argumentError string

func (e argumentError) Error() string { return string(e) }

// ExitStatus is the exit code for wrong arguments.
func (argumentError) ExitStatus() int { return exitWrong }

// isArgument tells whether an error is about the arguments, so that pointing at --help is of use.
func isArgument(err error) bool {
	wrong := (*Wrong)(nil)
	return errors.As(err, new(argumentError)) || errors.As(err, &wrong) && strings.HasPrefix(wrong.Name, "--")
}

// parseArguments takes arguments apart as package flag does, but that flags may also follow what is no flag. It returns
// the values of the flags that were given, by their names with two dashes. What is no flag goes into the field with the
// tag args. The error is the first mistake, or flag.ErrHelp.
func parseArguments(settings []setting, args []string) (given map[string]string, err error) {
	given = make(map[string]string)
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	for _, s := range settings {
		keep := func(value string) error { given[s.flag()] = value; return nil }
		switch {
		case s.Flag == "":
		case s.Value == "":
			flags.BoolFunc(s.Flag, s.Help, keep)
		default:
			flags.Func(s.Flag, s.Help, keep)
		}
	}
	var rest []string
	for len(args) > 0 {
		if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
			return nil, err
		} else if err != nil {
			return nil, argumentError(err.Error())
		}
		left := flags.Args()
		if n := len(args) - len(left); n > 0 && args[n-1] == "--" {
			rest = append(rest, left...)
			break
		}
		if args = left; len(args) > 0 {
			rest, args = append(rest, args[0]), args[1:]
		}
	}
	for _, s := range settings {
		if s.Required && given[s.flag()] == "" {
			return nil, &Wrong{Name: s.flag(), Must: "is missing"}
		}
		if s.Arguments != "" {
			s.field.Set(reflect.ValueOf(rest))
			rest = nil
		}
	}
	if len(rest) > 0 {
		return nil, argumentError(fmt.Sprintf("there is no argument %q", rest[0]))
	}
	return given, nil
}
