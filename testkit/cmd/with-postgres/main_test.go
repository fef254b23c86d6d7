package main

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// TestMain plays with-postgres itself when a test asks for it.
func TestMain(m *testing.M) {
	if os.Getenv("WITH_POSTGRES_TEST") != "" {
		main()
	}
	os.Exit(m.Run())
}

// withPostgres starts with-postgres around a shell script.
func withPostgres(t *testing.T, script string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "--", "sh", "-c", script)
	cmd.Env = append(os.Environ(), "WITH_POSTGRES_TEST=1")
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewReader(output)
}

func exitCodeOf(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

func TestExitCodeAndServer(t *testing.T) {
	cmd, output := withPostgres(t, `echo $`+postgrestest.Variable+`; exit 7`)
	text, err := io.ReadAll(output)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), "127.0.0.1:") {
		t.Errorf("the command sees the server %q", text)
	}
	if code := exitCodeOf(t, cmd); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
}

func TestSignalReachesTheCommand(t *testing.T) {
	cmd, output := withPostgres(t, `trap 'echo stopped; exit 9' TERM; echo ready; while :; do sleep 0.05; done`)
	if line, err := output.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(output); string(rest) != "stopped\n" {
		t.Errorf("%q, %v", rest, err)
	}
	if code := exitCodeOf(t, cmd); code != 9 {
		t.Errorf("exit code %d, want 9", code)
	}
}

func TestExitCodeOfKilledCommand(t *testing.T) {
	cmd, _ := withPostgres(t, `kill -KILL $$`)
	if code := exitCodeOf(t, cmd); code != 128+9 {
		t.Errorf("exit code %d, want 137", code)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"--"}} {
		if code, err := run(args); code != 2 || err == nil {
			t.Errorf("%v: %d, %v", args, code, err)
		}
	}
}
