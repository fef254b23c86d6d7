package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/altyn-pay/altyn/deploy/stack"
)

// message is a line of JSON that the supervisor reports to the process that started it.
type message struct {
	Progress string `json:"progress,omitempty"`
	Ready    bool   `json:"ready,omitempty"`
	Error    string `json:"error,omitempty"`
}

// reporter reports to the process that started the supervisor. Once that is gone, nobody needs to know.
type reporter struct {
	mu  sync.Mutex
	out *os.File
}

func (r *reporter) send(m message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = json.NewEncoder(r.out).Encode(m)
}

func (r *reporter) progress(what string) { r.send(message{Progress: what}) }

// supervise is the process in the background. It runs the stack until ctx ends, which SIGTERM does. It reports on the
// start to report, and on everything later to its log.
func supervise(ctx context.Context, settings Settings, at place, verb string, report *os.File) error {
	told := &reporter{out: report}
	err := runStack(ctx, settings, at, verb, told)
	if err != nil {
		told.send(message{Error: err.Error()})
	}
	return errors.Join(err, report.Close())
}

func runStack(ctx context.Context, settings Settings, at place, verb string, told *reporter) error {
	held, err := at.acquire()
	if err != nil {
		return err
	}
	if held == nil {
		return errors.New("the stack is being started or removed by another process")
	}
	defer held.release()
	if err := at.clearLeftovers(ctx, told.progress); err != nil {
		return err
	}
	withServices := verb == verbRun
	if err := stack.CheckPorts(ctx, settings.endpoints(withServices), told.progress); err != nil {
		return err
	}

	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	book := &book{place: at, log: log, state: state{Verb: verb, Since: time.Now()}}
	opts := settings.options(at, withServices)
	opts.Logger, opts.Progress = log, told.progress
	opts.Changed = book.parts
	book.parts(nil)
	s, err := stack.Start(ctx, opts)
	if err != nil {
		if ctx.Err() != nil {
			err = errors.New("stopped while it was being started")
		}
		return errors.Join(err, os.Remove(at.state()))
	}
	book.ready()
	told.send(message{Ready: true})
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
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state.Parts = make([]part, len(now))
	for i, p := range now {
		b.state.Parts[i] = part{Part: p, Process: identify(p.PID)}
	}
	b.write()
}

func (b *book) ready() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state.Ready = true
	b.write()
}

func (b *book) write() {
	if err := b.place.writeState(b.state); err != nil {
		b.log.Error("the state cannot be written", "error", err)
	}
}
