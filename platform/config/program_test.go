package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"
)

// flags are settings from flags, variables and arguments.
type flags struct {
	shared
	Amount   int           `flag:"amount" env:"AMOUNT" default:"3" help:"how much"`
	Rate     float64       `flag:"rate"`
	Wait     time.Duration `flag:"wait" default:"1s" help:"how long to wait"`
	JSON     bool          `flag:"json" help:"print JSON"`
	Key      int           `flag:"key" secret:"true"`
	Color    color         `flag:"color" value:"NAME"`
	Parts    []string      `args:"PART…"`
	Database struct {
		Port int `env:"DATABASE_PORT" default:"54320" help:"its port"`
	}
}

type shared struct {
	ID string `flag:"id" value:"ID" required:"true" help:"the thing"`
}

func (f flags) Validate() error {
	if f.Amount > 100 {
		return Invalid("--amount", "must be at most 100")
	}
	return nil
}

type color string

func (c *color) UnmarshalText(text []byte) error {
	if *c = color(text); *c != "red" {
		return errors.New("must be red")
	}
	return nil
}

// coded is an error with an exit code of its own.
type coded struct{ error }

func (coded) ExitStatus() int { return 3 }

func TestProgram(t *testing.T) {
	var ran string
	command := func(name string, err error) Command {
		return NewCommand(name, "does "+name, func(_ context.Context, cfg settings) error {
			ran = name + cfg.Addr
			return err
		})
	}
	show := NewCommand("show", "shows things", func(_ context.Context, f flags) error {
		ran = fmt.Sprintf("%s %d %g %s %v %s %s", f.ID, f.Amount, f.Rate, f.Wait, f.JSON, f.Color, f.Parts)
		return nil
	})
	show.Examples = []string{"--id 7"}
	show.About = "It shows them."
	commands := []Command{
		command("serve", nil), command("migrate", errors.New("no database")), show, command("quiet", Exit(1)),
		command("check", fmt.Errorf("start: %w", &Wrong{Name: "FILE", Value: "f", Must: "must be there"})),
		command("build", exec.Command("sh", "-c", "exit 7").Run()),
		command("ask", coded{errors.New("nobody knows")}), command("late", Invalid("--part", "must be one")),
	}
	none := func(text string) string { return "show: " + text + "; see orders show --help\n" }
	for _, test := range []struct {
		args, env           string
		code                int
		ran, stdout, stderr string
	}{
		{args: "", ran: "serve:8080"},
		{args: "serve", ran: "serve:8080"},
		{args: "migrate", code: 1, ran: "migrate:8080", stderr: "orders: no database\n"},
		{args: "quiet", code: 1, ran: "quiet:8080", stderr: ""},
		{args: "check", code: 2, ran: "check:8080", stderr: `FILE: "f" must be there`},
		{args: "build", code: 1, ran: "build:8080", stderr: "orders: exit status 7\n"},
		{args: "ask", code: 3, ran: "ask:8080", stderr: "orders: nobody knows\n"},
		{args: "late", code: 2, ran: "late:8080", stderr: "late: --part must be one; see orders late --help\n"},
		{args: "migrat", code: 2, stderr: `orders: there is no command "migrat"; see orders --help`},
		{args: "--hlep", code: 2, stderr: `there is no command "--hlep"`},
		{args: "serve now", code: 2, stderr: `serve: there is no argument "now"`},
		{args: "", env: "DATABASE_PORT=many", code: 2,
			stderr: `orders: bad configuration: DATABASE_PORT: "many" must be a whole number`},
		{args: "show --id 7", env: "DATABASE_PORT=many", code: 2, stderr: "DATABASE_PORT"},
		{args: "show --id 7", ran: "7 3 0 1s false  []"},
		{args: "show --id 7", env: "AMOUNT=9", ran: "7 9 0 1s false  []"},
		{args: "show -id=7 a --amount 5 --rate 0.5 --wait 2m --json b --color red -- --c", env: "AMOUNT=9",
			ran: "7 5 0.5 2m0s true red [a b --c]"},
		{args: "show --id 7 --json=false", ran: "7 3 0 1s false  []"},
		{args: "show", code: 2, stderr: none("--id is missing")},
		{args: "show --id=", code: 2, stderr: none("--id is missing")},
		{args: "show --amout 5", code: 2, stderr: none("flag provided but not defined: -amout")},
		{args: "show ---amount 1", code: 2, stderr: none("bad flag syntax: ---amount")},
		{args: "show --id 7 --amount", code: 2, stderr: none("flag needs an argument: -amount")},
		{args: "show --id 7 -amount many", code: 2, stderr: none(`--amount: "many" must be a whole number`)},
		{args: "show --id 7 --amount 99999999999999999999", code: 2,
			stderr: none(`--amount: "99999999999999999999" must be a whole number`)},
		{args: "show --id 7 --rate x", code: 2, stderr: none(`--rate: "x" must be a number`)},
		{args: "show --id 7 --wait=soon", code: 2,
			stderr: none(`--wait: "soon" must be a duration such as 250ms, 15s or 1h30m`)},
		{args: "show --id 7 --json=maybe", code: 2, stderr: none(`--json: "maybe" must be true or false`)},
		{args: "show --id 7 --color blue", code: 2, stderr: none(`--color: "blue" must be red`)},
		{args: "show --id 7 --color=", code: 2, stderr: none(`--color must be red`)},
		{args: "show --id 7 --key s3cret", code: 2, stderr: none(`--key: "(hidden)" must be a whole number`)},
		{args: "show --id 7 --amount 101", code: 2, stderr: none(`--amount: "101" must be at most 100`)},
		{args: "--version", stdout: "orders 0."},
		{args: "version", stdout: "orders 0."},
		{args: "--help", stdout: "  serve    does serve (the default)\n"},
		{args: "--help", stdout: "DATABASE_NAME"},
		{args: "help", stdout: "DATABASE_NAME"},
		{args: "serve --help", stdout: "DATABASE_NAME"},
		{args: "show -h", stdout: showHelp},
		{args: "help show", stdout: showHelp},
	} {
		t.Run(test.args+test.env, func(t *testing.T) {
			ran = ""
			var stdout, stderr bytes.Buffer
			name, value, _ := strings.Cut(test.env, "=")
			program := Program{Name: "orders", About: "Takes orders.", Default: "serve", Commands: commands,
				Env: map[string]string{name: value}, Stdout: &stdout, Stderr: &stderr}
			code := program.Run(t.Context(), strings.Fields(test.args))
			if code != test.code || ran != test.ran || !strings.Contains(stdout.String(), test.stdout) ||
				!strings.Contains(stderr.String(), test.stderr) || (test.stderr == "") != (stderr.Len() == 0) {
				t.Errorf("code %d, ran %q, stdout %q, stderr %q", code, ran, stdout.String(), stderr.String())
			}
		})
	}
}

const showHelp = `orders show: shows things

Usage: orders show --id ID [flags] [PART…]

It shows them.

Flags:
  --id ID          the thing
  --amount NUMBER  how much (AMOUNT) (default 3)
  --rate NUMBER    
  --wait DURATION  how long to wait (default 1s)
  --json           print JSON
  --key NUMBER     
  --color NAME     

Environment variables and their defaults:
  DATABASE_PORT  54320  its port

Examples:
  $ orders show --id 7
`

// A program without commands takes its flags as they are, and one without a default shows its help.
func TestProgramsOfOneKind(t *testing.T) {
	var got flags
	var stdout, stderr bytes.Buffer
	one := Program{Name: "bench", About: "Measures.", Stdout: &stdout, Stderr: &stderr,
		Env:      map[string]string{"AMOUNT": "4"},
		Commands: []Command{NewCommand("", "", func(_ context.Context, f flags) error { got = f; return nil })}}
	if code := one.Run(t.Context(), []string{"-id", "7", "help"}); code != 0 || got.Amount != 4 ||
		!reflect.DeepEqual(got.Parts, []string{"help"}) {
		t.Errorf("code %d, %+v, %s", code, got, stderr.String())
	}
	if code := one.Run(t.Context(), []string{"--amount", "5"}); code != 2 ||
		stderr.String() != "bench: --id is missing; see bench --help\n" {
		t.Errorf("code %d, %s", code, stderr.String())
	}
	if code := one.Run(t.Context(), []string{"--help"}); code != 0 ||
		!strings.HasPrefix(stdout.String(), "Measures.\n\nUsage: bench --id ID [flags]") {
		t.Errorf("code %d, %s", code, stdout.String())
	}
	stdout.Reset()
	none := Program{Name: "billing", Stdout: &stdout, Stderr: &stderr, Commands: []Command{
		NewCommand("pay", "pays", func(context.Context, flags) error { return nil }),
		NewCommand("hidden", "", func(context.Context, flags) error { return nil }),
	}}
	if code := none.Run(t.Context(), nil); code != 0 || !strings.Contains(stdout.String(), "  pay  pays\n") ||
		strings.Contains(stdout.String(), "hidden") {
		t.Errorf("code %d, %s", code, stdout.String())
	}
}
