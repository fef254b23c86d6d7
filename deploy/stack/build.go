package stack

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
	"strings"
	"time"
)

// programs are the packages of the services in the repository.
var programs = []string{"./orders/cmd/orders", "./payments/cmd/payments", "./gateway/cmd/gateway"}

// BuildOptions of Build.
type BuildOptions struct {
	// Dir receives the programs orders, payments and gateway. It is made if it does not exist.
	Dir string
	// NoCache compiles every package anew.
	NoCache bool
	// Progress is told now and then how far the build is; nil for silence.
	Progress func(string)
}

const progressEvery = 5 * time.Second

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

// Build compiles the services. If nothing has changed, Go's build cache makes this quick.
func Build(ctx context.Context, opts BuildOptions) error {
	root, err := Root()
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	args := []string{"build", "-v", "-o", dir + string(filepath.Separator)}
	if opts.NoCache {
		args = append(args, "-a")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, programs...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOWORK="+filepath.Join(root, "go.work"))
	output, written := io.Pipe()
	cmd.Stdout, cmd.Stderr = written, written
	if err := cmd.Start(); errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		return errors.New("build: there is no command go in PATH: install Go 1.26 or later (https://go.dev/dl)")
	} else if err != nil {
		return fmt.Errorf("build: %w", err)
	}
	complaints := make(chan string)
	go func() { complaints <- follow(output, opts.Progress) }()
	err = cmd.Wait()
	written.Close()
	said := <-complaints
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("build: %w\n%s%s", err, said, hint(said))
	}
	return nil
}

// follow reads the output of go build -v, reports progress, and returns the rest: the compiler's complaints.
func follow(output io.Reader, progress func(string)) string {
	if progress == nil {
		progress = func(string) {}
	}
	var complaints strings.Builder
	var compiled, fetched int
	told := time.Now()
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "go: downloading "):
			fetched++
		case isImportPath(line):
			compiled++
		default:
			complaints.WriteString(line + "\n")
		}
		if time.Since(told) > progressEvery {
			told = time.Now()
			progress(fmt.Sprintf("… modules fetched: %d, packages compiled: %d", fetched, compiled))
		}
	}
	_, _ = io.Copy(io.Discard, output) // after a line that is too long
	return complaints.String()
}

// isImportPath tells the packages that go build -v names as it compiles them from other output.
func isImportPath(line string) bool { return line != "" && !strings.ContainsAny(line, " \t:#") }

// hint says what to do when modules could not be fetched.
func hint(output string) string {
	for _, sign := range []string{"dial tcp", "no such host", "module lookup disabled", "cannot find module providing",
		"proxyconnect"} {
		if strings.Contains(output, sign) {
			return "Go modules are missing in this machine's cache and could not be fetched. Connect to the network once, " +
				"set GOPROXY to a\n" +
				"mirror that can be reached (go env -w GOPROXY=…), or copy the module cache (go env GOMODCACHE) of a machine " +
				"that has them.\n"
		}
	}
	return ""
}
