package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/altyn-pay/altyn/deploy/stack"
)

// readyLine is the supervisor's last line when everything is ready.
const readyLine = "ready"

// supervise is the process in the background. It runs the stack until ctx ends, which SIGTERM does. It reports on the
// start in lines to the process that started it, which may be gone by then, and on everything later to its log.
func supervise(ctx context.Context, settings Settings, at place, verb string, report *os.File) error {
	err := runStack(ctx, settings, at, verb, func(what string) { fmt.Fprintln(report, what) })
	if err != nil {
		fmt.Fprintln(report, err)
	}
	return err
}

func runStack(ctx context.Context, settings Settings, at place, verb string, progress func(string)) error {
	held, err := at.acquire()
	if err != nil {
		return err
	}
	if held == nil {
		return errors.New("the stack is being started or removed by another process")
	}
	defer held.Close()
	if err := at.clearLeftovers(ctx, progress); err != nil {
		return err
	}
	withServices := verb == verbRun
	if err := stack.CheckPorts(ctx, settings.endpoints(withServices), progress); err != nil {
		return err
	}

	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	book := &book{place: at, log: log, state: state{Verb: verb, Since: time.Now()}}
	opts := settings.options(at, withServices)
	opts.Logger, opts.Progress = log, progress
	opts.Changed = book.parts
	book.parts(nil)
	s, err := stack.Start(ctx, opts)
	if err != nil {
		if ctx.Err() != nil {
			err = errors.New("stopped while it was being started")
		}
		return errors.Join(err, os.Remove(at.state()))
	}
	book.update(func(s *state) { s.Ready = true })
	progress(readyLine)
	log.Info("ready")

	<-ctx.Done()
	log.Info("stopping")
	if err := s.Close(); err != nil {
		return fmt.Errorf("stop: %w", err) // the state stays, so that the next verb clears what was left
	}
	log.Info("stopped")
	return os.Remove(at.state())
}

// book keeps the state file.
type book struct {
	place place
	log   *slog.Logger

	mu    sync.Mutex
	state state
}

func (b *book) parts(now []stack.Part) {
	b.update(func(s *state) {
		s.Parts = make([]part, len(now))
		for i, p := range now {
			s.Parts[i] = part{Part: p, Process: identify(p.PID)}
		}
	})
}

func (b *book) update(change func(*state)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.state)
	if err := b.place.writeState(b.state); err != nil {
		b.log.Error("the state cannot be written", "error", err)
	}
}
