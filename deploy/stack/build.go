package stack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// programs are the packages of the services in the repository, of the issuer for development and of altyn.
var programs = []string{
	"./orders/cmd/orders", "./payments/cmd/payments", "./gateway/cmd/gateway", "./deploy/cmd/issuer", "./deploy/cmd/altyn",
}

// Root returns the root of the repository: the folder at or above the working directory that holds go.work.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.work")); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%s is not in the repository of Altyn: no folder above has a go.work", dir)
		}
	}
}

// Build compiles them into a folder, as the programs orders, payments, gateway, issuer and altyn. If nothing has
// changed, Go's build cache makes this quick; flags are those of go build. What the compiler says goes to standard
// error.
func Build(ctx context.Context, dir string, flags ...string) error {
	root, err := Root()
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	args := append([]string{"build", "-o", dir + string(filepath.Separator)}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, programs...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOWORK="+filepath.Join(root, "go.work"))
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound):
		return errors.New("build: there is no command go in PATH: install Go 1.26 or later (https://go.dev/dl)")
	case err != nil:
		return fmt.Errorf("build: %w", err)
	}
	return nil
}
