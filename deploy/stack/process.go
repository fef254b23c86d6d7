package stack

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/altyn-pay/altyn/platform/stage"
)

// guard runs a service and kills it when this process ends.
//
//go:embed guard.sh
var guard string

const (
	// A service drains for at most 10 s after SIGTERM.
	drainTimeout = 15 * time.Second
	killTimeout  = 5 * time.Second
)

// process is one run of a service's program.
type process struct {
	program string
	cmd     *exec.Cmd
	done    chan struct{} // closed when it has ended; err is set by then
	err     error
}

// startProcess starts a program, whose output is appended to the log file. It leads a session of its own, so that
// Ctrl-C at a terminal reaches only this process, which decides what it means.
func startProcess(log, program string, env []string, args ...string) (*process, error) {
	output, err := openLog(log)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	lifeline, held, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer lifeline.Close()

	cmd := exec.Command("/bin/sh", append([]string{"-c", guard, "guard.sh", program}, args...)...)
	cmd.Stdin = lifeline
	cmd.Stdout, cmd.Stderr = output, output
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		held.Close()
		return nil, err
	}
	p := &process{program: program, cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		_, _ = held.Write([]byte("\n")) // the guard may have been killed
		held.Close()
		close(p.done)
	}()
	return p, nil
}

func (p *process) String() string { return filepath.Base(p.program) }

func (p *process) PID() int { return p.cmd.Process.Pid }

func (p *process) Done() <-chan struct{} { return p.done }

// Stop ends the process and returns when it is gone. It sends SIGTERM and then SIGKILL if that does not help in time;
// with kill, SIGKILL at once.
func (p *process) Stop(kill bool) error {
	if !kill {
		if err := p.signal(syscall.SIGTERM, drainTimeout); err == nil {
			return nil
		}
	}
	return p.signal(syscall.SIGKILL, killTimeout)
}

func (p *process) signal(signal syscall.Signal, timeout time.Duration) error {
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		return fmt.Errorf("process %d has not ended %s after %s", p.PID(), timeout, signal)
	}
}

// run runs a program to its end, or kills it at the end of ctx.
func run(ctx context.Context, log, program string, env []string, args ...string) error {
	p, err := startProcess(log, program, env, args...)
	if err != nil {
		return err
	}
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return errors.Join(ctx.Err(), p.Stop(true))
	}
}

const (
	// maxLogBytes bounds a log file. At most one older file stands beside it.
	maxLogBytes = 16 << 20
	trimEvery   = time.Second

	tailLines = 20
	tailBytes = 8 << 10
)

// openLog opens a log file for appending, so that it can be truncated while its writer goes on.
func openLog(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
}

// trimLogs bounds the log files of a folder until ctx ends.
func trimLogs(ctx context.Context, dir string) {
	for stage.Wait(ctx, trimEvery) {
		files, _ := filepath.Glob(filepath.Join(dir, "*.log"))
		for _, file := range files {
			// It is tried again in a second.
			_ = trimLog(file, maxLogBytes)
		}
	}
}

// trimLog copies a log file that has outgrown the limit to "<file>.1" and empties it. What is written in between is
// lost: that is the price of a writer that writes to its file directly.
func trimLog(path string, limit int64) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() <= limit {
		return err
	}
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Create(path + ".1")
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close(), os.Truncate(path, 0))
}

// withTail returns an error of a part with the last lines of its log, at most 20 lines and 8 KiB.
func withTail(name, log string, err error) error {
	text, readErr := os.ReadFile(log)
	lines := strings.SplitAfter(strings.TrimSuffix(string(text[max(0, len(text)-tailBytes):]), "\n"), "\n")
	if readErr != nil || len(text) == 0 {
		return fmt.Errorf("%s: %w", name, err)
	}
	return fmt.Errorf("%s: %w; %s ends:\n%s", name, err, log, strings.Join(lines[max(0, len(lines)-tailLines):], ""))
}
