package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/deploy/stack"
)

// state is what the supervisor writes down for the other verbs. The file exists while a stack runs, and after its
// supervisor was killed.
type state struct {
	Verb  string    `json:"verb"` // run or env
	Ready bool      `json:"ready"`
	Since time.Time `json:"since"`
	Parts []part    `json:"parts"`
}

type part struct {
	stack.Part
	Process process `json:"process"`
}

func (p place) readState() (state, error) {
	var s state
	content, err := os.ReadFile(p.state())
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(content, &s); err != nil {
		return s, fmt.Errorf("%s: %w", p.state(), err)
	}
	return s, nil
}

// writeState replaces the file atomically, so that a reader sees the old state or the new one.
func (p place) writeState(s state) error {
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(p.state()+".new", content, 0o644); err != nil {
		return err
	}
	return os.Rename(p.state()+".new", p.state())
}

// acquire takes the lock, which the supervisor holds as long as it lives, and stop and clean too, until the file is
// closed. It writes down who holds it. If another process has it, it returns nil.
func (p place) acquire() (*os.File, error) {
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(p.lock(), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, file.Close()
	}
	if err == nil {
		err = errors.Join(file.Truncate(0), json.NewEncoder(file).Encode(identify(os.Getpid())))
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", p.lock(), err)
	}
	return file, nil
}

// holder returns the process that took the lock last. If it is alive, the stack runs.
func (p place) holder() (process, error) {
	var who process
	content, err := os.ReadFile(p.lock())
	if errors.Is(err, fs.ErrNotExist) {
		return who, nil
	}
	if err != nil {
		return who, err
	}
	_ = json.Unmarshal(content, &who) // fails for a moment while the lock is being taken
	return who, nil
}

// clearLeftovers ends what a killed supervisor left behind: its parts notice its death themselves, and are killed if
// they do not. The caller holds the lock, so nobody else's parts are in the file.
func (p place) clearLeftovers(ctx context.Context, progress func(string)) error {
	s, err := p.readState()
	if errors.As(err, new(*json.SyntaxError)) { // the machine went down before it was on disk, and all processes with it
		return os.Remove(p.state())
	}
	if err != nil || s.Verb == "" {
		return err
	}
	progress("cleaning up after a stack whose supervisor was killed")
	var group errgroup.Group
	for _, left := range s.Parts {
		group.Go(func() error {
			if err := left.Process.end(ctx, leftoverGrace); err != nil {
				return fmt.Errorf("%s, left behind: %w", left.Name, err)
			}
			left.Process.awaitReaped(ctx)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return os.Remove(p.state())
}
