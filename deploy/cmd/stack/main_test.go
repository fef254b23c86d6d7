package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/altyn-pay/altyn/testkit/localkafka"

	"github.com/altyn-pay/altyn/deploy/stack"
)

// asProgram is set in a process that is not to run the tests but to be the program.
const asProgram = "STACK_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if _, ok := os.LookupEnv(asProgram); ok {
		main()
	}
	os.Exit(m.Run())
}

// bundle is a repository, as far as the program needs one, with ports of its own.
type bundle struct {
	t     *testing.T
	at    place
	env   []string
	ports map[string]string // by variable
}

func setup(t *testing.T) *bundle {
	t.Helper()
	root := filepath.Join(t.TempDir(), "a repository")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "go.work"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	b := &bundle{t: t, at: place{filepath.Join(root, ".altyn")}, ports: make(map[string]string)}
	b.env = append(os.Environ(), asProgram+"=1", "KAFKA="+string(localkafka.Embedded))
	for _, variable := range []string{"POSTGRES_PORT", "KAFKA_PORT", "ORDERS_ADDR", "PAYMENTS_ADDR", "GATEWAY_ADDR",
		"ORDERS_ADMIN_ADDR", "PAYMENTS_ADMIN_ADDR", "GATEWAY_ADMIN_ADDR"} {
		port, err := stack.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		b.ports[variable] = fmt.Sprint(port)
		value := b.ports[variable]
		if strings.HasSuffix(variable, "_ADDR") {
			value = net.JoinHostPort("127.0.0.1", value)
		}
		b.env = append(b.env, variable+"="+value)
	}
	t.Cleanup(func() {
		if out, err := b.run("clean"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		if exists(b.at.dir) {
			t.Errorf("%s is still there", b.at.dir)
		}
	})
	return b
}

// run runs the program to its end and returns all it has said.
func (b *bundle) run(args ...string) (string, error) {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Dir, cmd.Env = filepath.Dir(b.at.dir), b.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// expect runs the program and looks for texts in what it says.
func (b *bundle) expect(verb string, wants ...string) {
	b.t.Helper()
	out, err := b.run(verb)
	if err != nil {
		b.t.Fatalf("%s: %v\n%s", verb, err, out)
	}
	for _, want := range wants {
		if !strings.Contains(out, want) {
			b.t.Errorf("%s does not say %q:\n%s", verb, want, out)
		}
	}
}

// present is the state and the supervisor of the stack that runs.
func (b *bundle) present() (state, process) {
	b.t.Helper()
	s, err := b.at.readState()
	who, whoErr := b.at.holder()
	if err := errors.Join(err, whoErr); err != nil {
		b.t.Fatal(err)
	}
	if !who.alive() || !s.Ready {
		b.t.Fatalf("not running: %+v %+v", who, s)
	}
	return s, who
}

func (s state) expectGone(t *testing.T) {
	t.Helper()
	for _, p := range s.Parts {
		if p.Process.alive() {
			t.Errorf("%s is still there", p.Name)
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func kill(t *testing.T, p process) {
	t.Helper()
	if err := p.signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := p.await(t.Context(), 10*time.Second); err != nil {
		t.Fatal(err)
	}
}

func TestLifeOfAStack(t *testing.T) {
	b := setup(t)
	if err := stack.Build(t.Context(), b.at.binaries()); err != nil {
		t.Fatal(err)
	}
	b.expect("status", "nothing runs")
	b.expect("run", "the embedded Kafka broker (for development)", "PostgreSQL", "/docs/", "make demo")
	b.expect("run", "already running")
	first, _ := b.present()
	if len(first.Parts) != 6 {
		t.Errorf("parts: %+v", first.Parts)
	}
	response, err := http.Get("http://127.0.0.1:" + b.ports["GATEWAY_ADDR"] + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Error(response.Status)
	}
	b.expect("status", "payments-worker   ready", b.ports["ORDERS_ADDR"])
	b.expect("logs", "gateway ", `{"time"`)

	t.Run("after kill -9 of the supervisor", func(t *testing.T) {
		before, supervisor := b.present()
		kill(t, supervisor)
		b.expect("status", "killed")
		b.expect("run", "cleaning up")
		before.expectGone(t)
	})
	t.Run("after kill -9 of the supervisor and everything that watches it", func(t *testing.T) {
		before, supervisor := b.present()
		guards := descendants(t, supervisor.PID)
		for _, p := range before.Parts {
			delete(guards, p.PID)
		}
		// Stopped first, so that they cannot act on the supervisor's death before theirs.
		for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
			for pid, command := range guards {
				if strings.Contains(command, "guard.sh") {
					_ = syscall.Kill(pid, signal)
				}
			}
			if signal == syscall.SIGSTOP {
				kill(t, supervisor)
			}
		}
		b.expect("stop", "cleaning up")
		before.expectGone(t)
		b.expect("run", "is ready")
	})
	last, _ := b.present()
	b.expect("stop", "stopped")
	last.expectGone(t)
	b.expect("stop", "nothing runs")
}

// descendants returns the command lines of the processes below this one, by ID.
func descendants(t *testing.T, root int) map[int]string {
	t.Helper()
	output, err := exec.Command("ps", "-A", "-o", "pid=,ppid=,args=").Output()
	if err != nil {
		t.Fatal(err)
	}
	found := map[int]string{}
	below := map[int]bool{root: true}
	for again := true; again; {
		again = false
		for line := range bytes.Lines(output) {
			var pid, parent int
			if _, err := fmt.Sscan(string(line), &pid, &parent); err != nil {
				continue
			}
			if below[parent] && !below[pid] {
				below[pid], found[pid], again = true, string(line), true
			}
		}
	}
	return found
}

func TestPortTaken(t *testing.T) {
	b := setup(t)
	listener, err := net.Listen("tcp", "127.0.0.1:"+b.ports["PAYMENTS_ADDR"])
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	out, err := b.run("run")
	if err == nil {
		t.Fatal("it started")
	}
	for _, want := range []string{"port " + b.ports["PAYMENTS_ADDR"], "payments", "PAYMENTS_ADDR"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in: %s", want, out)
		}
	}
	if strings.Contains(out, "is ready") {
		t.Errorf("something was started: %s", out)
	}
}

func TestArguments(t *testing.T) {
	b := setup(t)
	for _, test := range []struct{ args, env, want string }{
		{"--help", "", "PAYMENTS_WORKERS"},
		{"", "", "PAYMENTS_WORKERS"},
		{"fly", "", `there is no command "fly"`},
		{"--version", "", "stack 0."},
		{"stop now", "", `stop: there is no argument "now"`},
		{"run --fast", "", "flag provided but not defined: -fast"},
		{"run", "PAYMENTS_WORKERS=99", `PAYMENTS_WORKERS: "99" must be 0 to 16`},
		{"run", "ORDERS_ADDR=8080", `ORDERS_ADDR: "8080" must be host:port`},
		{"run", "KAFKA_PORT=many", "KAFKA_PORT"},
		{"run", "", "the services are not built"},
		{"logs nobody", "", `no log of "nobody"`},
	} {
		t.Run(test.args+" "+test.env, func(t *testing.T) {
			b := *b
			b.env = append(slices.Clip(b.env), test.env)
			if out, _ := b.run(strings.Fields(test.args)...); !strings.Contains(out, test.want) {
				t.Errorf("%q is not in: %s", test.want, out)
			}
		})
	}
}

// sleeper is a process of nobody's stack.
func sleeper(t *testing.T) process {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return identify(cmd.Process.Pid)
}

func TestForeignProcessIsLeftAlone(t *testing.T) {
	foreign := sleeper(t)
	if !foreign.alive() {
		t.Fatalf("%+v is not alive", foreign)
	}
	// What a dead part's process ID now means.
	dead := process{PID: foreign.PID, Started: "in another time"}
	at := place{t.TempDir()}
	left := state{Verb: verbRun, Parts: []part{{Part: stack.Part{Name: "orders"}, Process: dead}, {Process: process{}}}}
	if err := at.writeState(left); err != nil {
		t.Fatal(err)
	}
	if err := at.clearLeftovers(t.Context(), func(string) {}); err != nil {
		t.Fatal(err)
	}
	if err := dead.signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if !foreign.alive() {
		t.Error("it was killed")
	}
	if exists(at.state()) {
		t.Error("the state is still there")
	}
}

func TestLeftoverIsKilled(t *testing.T) {
	left := sleeper(t)
	at := place{t.TempDir()}
	if err := at.writeState(state{Verb: verbRun, Parts: []part{{Process: left}}}); err != nil {
		t.Fatal(err)
	}
	if err := at.clearLeftovers(t.Context(), func(string) {}); err != nil {
		t.Fatal(err)
	}
	if left.alive() {
		t.Error("it is still there")
	}
}

func TestLock(t *testing.T) {
	at := place{filepath.Join(t.TempDir(), "new")}
	if who, err := at.holder(); who.alive() || err != nil {
		t.Errorf("%+v %v", who, err)
	}
	held, err := at.acquire()
	if err != nil || held == nil {
		t.Fatal(held, err)
	}
	if again, err := at.acquire(); again != nil || err != nil {
		t.Errorf("taken twice: %v %v", again, err)
	}
	if who, err := at.holder(); who != identify(os.Getpid()) || err != nil {
		t.Errorf("%+v %v", who, err)
	}
	held.Close()
	again, err := at.acquire()
	if err != nil || again == nil {
		t.Fatal(again, err)
	}
	again.Close()
}

// A state that cannot be read, as after the machine lost power, does not stand in the way.
func TestDamagedState(t *testing.T) {
	at := place{t.TempDir()}
	if err := os.WriteFile(at.state(), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := at.clearLeftovers(context.Background(), func(string) {}); err != nil {
		t.Error(err)
	}
	if exists(at.state()) {
		t.Error("it is still there")
	}
}
