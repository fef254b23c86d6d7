// Command with-postgres runs another command with a PostgreSQL server for tests, which the environment variable
// ALTYN_TEST_POSTGRES names to it, and ends with that command's exit code:
//
//	go run ./testkit/cmd/with-postgres -- go test ./...
//
// The server does without fsync. It and its data are gone afterwards, however the command or this program ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/altyn-pay/altyn/testkit/localpostgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

const startTimeout = 10 * time.Minute // fetching the server's programs may be part of it

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "with-postgres:", err)
	}
	os.Exit(code)
}

// run returns the exit code: the command's, 128 + the signal that ended it (as a shell does), or 1 with an error.
func run(args []string) (code int, err error) {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return 2, errors.New("usage: with-postgres [--] COMMAND [ARGUMENT…]")
	}
	// A signal ends the start; later it is the command's, and this program ends with that.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()

	server, err := localpostgres.Start(ctx, localpostgres.Options{
		NoSync:   true,
		Progress: func(what string) { fmt.Fprintln(os.Stderr, what) },
		Settings: map[string]string{
			"max_connections": "400",   // for many packages at once
			"max_wal_size":    "256MB", // it takes memory
		},
	})
	if err != nil {
		return 1, err
	}
	defer func() {
		if stopErr := server.Stop(localpostgres.Immediate); stopErr != nil {
			code, err = max(code, 1), errors.Join(err, stopErr)
		}
	}()
	address := server.Admin().Address()
	fmt.Fprintf(os.Stderr, "%s on %s\n", server, address)

	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = os.Stdin
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), postgrestest.Variable+"="+address)
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case received := <-signals:
			_ = cmd.Process.Signal(received) // it may just have ended
		case err := <-ended:
			return exitCode(err)
		}
	}
}

func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case !errors.As(err, &exit):
		return 1, err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return exit.ExitCode(), nil
}
