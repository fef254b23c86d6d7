// Package program runs the testkit's own programs for a test process, so that what they are made of is no concern of
// the module under test: they are built in the testkit's module.
package program

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// Program is a child process that ends when its standard input does, and so with this process, however that ends.
type Program struct {
	Stdin  io.WriteCloser
	Stdout io.ReadCloser

	command *exec.Cmd
}

// Start builds and runs testkit/cmd/NAME. What it says on standard error goes to this process's.
func Start(name string, args ...string) (*Program, error) {
	_, source, _, _ := runtime.Caller(0)
	testkit := filepath.Join(filepath.Dir(source), "..", "..")
	if !filepath.IsAbs(source) {
		return nil, errors.New("the testkit's folder is unknown in a program that was built with -trimpath")
	}
	command := exec.Command("go", append([]string{"-C", testkit, "run", "./cmd/" + name}, args...)...)
	command.Stderr = os.Stderr
	p := &Program{command: command}
	var err error
	if p.Stdin, err = command.StdinPipe(); err != nil {
		return nil, err
	}
	if p.Stdout, err = command.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// Stop ends the program and returns when it has ended.
func (p *Program) Stop() error {
	p.Stdin.Close()
	if err := p.command.Wait(); err != nil {
		return fmt.Errorf("%s: %w", p.command, err)
	}
	return nil
}
