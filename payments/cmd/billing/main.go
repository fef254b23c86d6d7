// Command billing is a client of the billing core, to play with and to try it out. It speaks to the broker only, as
// any outside system would: it knows the contract and nothing of the service. Each command becomes one message on the
// topic billing.commands; its reply is picked out of billing.replies, read from its present end on, so that any
// number of clients may run at once.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/altyn-pay/altyn/platform/config"
)

// Exit codes. A script must be able to tell what was refused from what nobody knows.
const (
	exitDone    = 0
	exitRefused = 1 // an error reply, or a check that failed
	exitUsage   = 2 // also of a bad environment
	exitUnknown = 3 // the broker is not there, or there was no reply in time
)

const about = `billing is a client of Altyn's billing core. It speaks to the broker only, as any outside system would:
a command is one message on the topic billing.commands, its reply one message on billing.replies.`

const more = `The first steps (make start brings the stack up):

  $ billing create-account --owner alice      the reply's body has the account's id; call it A
  $ billing create-account --owner bob        and B
  $ billing deposit --account A --amount 777 --currency RUB
  $ billing transfer --from A --to B --amount 111 --currency RUB
  $ billing balance --account A               666.00

A command that is sent again with the same --command-id takes effect once and gets the same reply again.

Exit codes: 0 done, 1 refused (or a check failed), 2 wrong arguments, 3 not known: no broker, or no reply in time.`

func main() { os.Exit(program(os.Stdout, os.Stderr).Main()) }

func program(stdout, stderr io.Writer) config.Program {
	t := terminal{stdout, stderr}
	commands := operations(t)
	for _, c := range []config.Command{t.seedCommand(), t.loadCommand(), t.inventoryCommand()} {
		c.Group = "To play"
		commands = append(commands, c)
	}
	return config.Program{Name: "billing", About: about, More: more, Commands: commands, Stdout: stdout, Stderr: stderr}
}

// terminal is where the commands print.
type terminal struct{ stdout, stderr io.Writer }

// maxTimeout bounds how long a reply is waited for.
const maxTimeout = time.Hour

// timeout is how long a reply is waited for, as a flag.
type timeout time.Duration

// UnmarshalText reads a duration within the bounds.
func (t *timeout) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil || d <= 0 || d > maxTimeout {
		return fmt.Errorf("must be a duration of more than 0 and at most %s, such as 10s", maxTimeout)
	}
	*t = timeout(d)
	return nil
}

// begin starts the wait.
func (t timeout) begin(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, time.Duration(t), fmt.Errorf("within %s", time.Duration(t)))
}
