package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/altyn-pay/altyn/deploy/stack"
)

const (
	stopTimeout   = 160 * time.Second // longer than stack.Close takes
	removeTimeout = time.Minute
)

// client runs the verbs, in the foreground.
type client struct {
	at  place
	out io.Writer
}

func (c *client) say(format string, args ...any) { fmt.Fprintf(c.out, format+"\n", args...) }

func (c *client) build(ctx context.Context, flags ...string) error {
	began := time.Now()
	c.say("building the services …")
	if err := stack.Build(ctx, c.at.binaries(), flags...); err != nil {
		return err
	}
	c.say("  built (%s)", time.Since(began).Round(100*time.Millisecond))
	return nil
}

// run starts the supervisor with the verb run or env, and returns when the stack is ready.
func (c *client) run(ctx context.Context, verb string) error {
	who, err := c.at.holder()
	if err != nil {
		return err
	}
	if who.alive() {
		return c.alreadyRunning(verb)
	}
	c.say("starting …")
	if err := c.launch(ctx, verb); err != nil {
		return err
	}
	return c.welcome()
}

func (c *client) alreadyRunning(verb string) error {
	s, err := c.at.readState()
	switch {
	case err != nil:
		return err
	case !s.Ready:
		return errors.New("the stack is being started or removed by another process")
	case verb == verbRun && s.Verb == verbEnv:
		return errors.New("PostgreSQL and Kafka run alone (make env): make rerun starts everything")
	}
	c.say("already running since %s; make rerun starts what was built since, and applies other settings",
		s.Since.Format(time.DateTime))
	return c.welcome()
}

// launch starts the supervisor in the background: like containers of docker compose up --detach, it outlives this
// process and the terminal.
func (c *client) launch(ctx context.Context, verb string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(c.at.log()), 0o755); err != nil {
		return err
	}
	log, err := os.OpenFile(c.at.log(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	reports, report, err := os.Pipe()
	if err != nil {
		return err
	}
	defer reports.Close()
	cmd := exec.Command(self, verbSupervise, verb)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{report} // descriptor 3
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	report.Close()
	if err != nil {
		return err
	}
	// Ctrl-C ends the start.
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })()
	lines := bufio.NewScanner(reports)
	for lines.Scan() {
		if lines.Text() == readyLine {
			return cmd.Process.Release()
		}
		c.say("  %s", lines.Text())
	}
	_ = cmd.Wait() // it has said why, or was killed
	if ctx.Err() != nil {
		return errors.New("interrupted; everything is stopped")
	}
	return fmt.Errorf("nothing runs now. What can be set instead: %s --help. The supervisor's log: %s", self, c.at.log())
}

// welcome says what runs, where, and what can be done next.
func (c *client) welcome() error {
	s, err := c.at.readState()
	if err != nil {
		return err
	}
	c.say("")
	table := tabwriter.NewWriter(c.out, 0, 0, 3, ' ', 0)
	for _, p := range s.Parts {
		switch p.Name {
		case stack.PostgresName, stack.KafkaName:
			fmt.Fprintf(table, "  %s\t%s\t%s\n", p.Name, p.Addr(), p.About)
		case stack.Issuer:
			fmt.Fprintf(table, "  %s\t%s\ttokens, for development: make token\n", p.Name, p.URL)
		case stack.Gateway, stack.Orders, stack.Payments:
			fmt.Fprintf(table, "  %s\t%s\tdocumentation: %s/docs/\n", p.Name, p.URL, p.URL)
		default:
			fmt.Fprintf(table, "  %s\t%s\t\n", p.Name, p.URL)
		}
	}
	table.Flush()
	c.say("")
	if s.Verb == verbEnv {
		c.say("Services find both without any setting: go run ./orders/cmd/orders. Then: make status, make logs, make stop.")
	} else {
		c.say("Next: make demo, make status, make logs, make stop (the data stay), make clean (deletes them).")
	}
	return nil
}

// stop ends the stack, and whatever a killed one left behind.
func (c *client) stop(ctx context.Context) error {
	if _, err := os.Stat(c.at.dir); errors.Is(err, fs.ErrNotExist) {
		c.say("nothing runs")
		return nil
	}
	held, err := c.take(ctx)
	if err != nil {
		return err
	}
	held.Close()
	return nil
}

// clean is stop, and deletes everything too.
func (c *client) clean(ctx context.Context) error {
	held, err := c.take(ctx)
	if err != nil {
		return err
	}
	defer held.Close()
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	err = errors.Join(
		stack.Remove(ctx, c.at.dir),
		os.RemoveAll(c.at.binaries()),
		os.RemoveAll(c.at.state()), os.RemoveAll(c.at.state()+".new"),
		os.RemoveAll(c.at.lock()),
	)
	if err != nil {
		return err
	}
	if err := os.Remove(c.at.dir); err != nil { // it is not ours alone
		c.say("kept %s, in which there is something else", c.at.dir)
	}
	c.say("deleted the programs, logs and data")
	return nil
}

// take ends whatever runs and returns the lock, so that nothing else is started meanwhile.
func (c *client) take(ctx context.Context) (*os.File, error) {
	who, err := c.at.holder()
	if err != nil {
		return nil, err
	}
	running := who.alive()
	if running {
		c.say("stopping …")
		if err := who.signal(syscall.SIGTERM); err != nil {
			return nil, err
		}
		if err := who.end(ctx, stopTimeout); err != nil {
			return nil, err
		}
	}
	held, err := c.at.acquire()
	if err != nil {
		return nil, err
	}
	if held == nil {
		return nil, errors.New("the stack is being started or removed by another process")
	}
	if err := c.at.clearLeftovers(ctx, func(what string) { c.say("%s", what) }); err != nil {
		held.Close()
		return nil, err
	}
	if running {
		c.say("stopped")
	} else {
		c.say("nothing runs")
	}
	return held, nil
}

// status shows how each part is doing.
func (c *client) status(ctx context.Context) error {
	who, err := c.at.holder()
	if err != nil {
		return err
	}
	s, err := c.at.readState()
	if err != nil {
		return err
	}
	switch {
	case !who.alive() && s.Verb == "":
		c.say("nothing runs: make start brings everything up")
		return nil
	case !who.alive():
		c.say("the supervisor was killed: make start cleans up and brings everything up, make stop cleans up")
		return nil
	case !s.Ready:
		c.say("being started")
	}
	ready := make([]error, len(s.Parts))
	var probes sync.WaitGroup
	for i, p := range s.Parts {
		probes.Go(func() { ready[i] = stack.Ready(ctx, p.Part) })
	}
	probes.Wait()
	table := tabwriter.NewWriter(c.out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "PART\tSTATE\tADDRESS\tPROCESS\tUP\tRESTARTS")
	for i, p := range s.Parts {
		condition, up := "ready", time.Since(p.Since).Round(time.Second).String()
		switch {
		case !p.Process.alive():
			condition, up = "down", "-"
		case ready[i] != nil:
			condition = "not ready"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\t%d\n", p.Name, condition, p.Addr(), p.PID, up, p.Restarts)
	}
	return table.Flush()
}
