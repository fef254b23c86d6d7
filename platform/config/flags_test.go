package config

import (
	"bytes"
	"errors"
	"flag"
	"strings"
	"testing"
	"time"
)

func TestParseFlags(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"--amount 5 --wait 1s --json", ""},
		{"-amount=5", ""},
		{"--amout 5", "there is no flag --amout; did you mean --amount?"},
		{"-amout=5", "there is no flag -amout; did you mean --amount?"},
		{"--colour blue", "there is no flag --colour"},
		{"--amount", "--amount needs a value"},
		{"-amount many", `-amount: "many" must be a whole number`},
		{"--amount 99999999999999999999", `--amount: "99999999999999999999" must be a whole number`},
		{"--rate x", `--rate: "x" must be a number`},
		{"--wait=soon", `--wait: "soon" must be a duration such as 250ms, 15s or 1h30m`},
		{"--json=maybe", `--json: "maybe" must be true or false`},
		{"--id x", `--id: "x" must be one of ours`},
		{"--json now", ""},
		{"---amount 1", "bad flag syntax: ---amount"},
	} {
		var output bytes.Buffer
		flags := flag.NewFlagSet("test", flag.ContinueOnError)
		flags.SetOutput(&output)
		flags.Int("amount", 0, "")
		flags.Float64("rate", 0, "")
		flags.Duration("wait", time.Second, "")
		flags.Bool("json", false, "")
		flags.Func("id", "", func(string) error { return errors.New("must be one of ours") })
		err := ParseFlags(flags, strings.Fields(test.args))
		if got := ""; test.want != got || err != nil {
			if err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("%s: got %q, want %q", test.args, got, test.want)
			}
		}
		if output.Len() > 0 {
			t.Errorf("%s: printed %s", test.args, output.String())
		}
		flags.Usage = func() { output.WriteString("the help") }
		if err := ParseFlags(flags, append(strings.Fields(test.args), "--help")); !errors.Is(err, flag.ErrHelp) || output.String() != "the help" {
			t.Errorf("%s --help: %v, %s", test.args, err, output.String())
		}
	}
}
