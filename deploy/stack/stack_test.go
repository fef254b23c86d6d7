package stack

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/localkafka"
	"github.com/altyn-pay/altyn/testkit/localpostgres"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// binaries is where TestMain builds the services, or has found them built.
var binaries = os.Getenv(binariesVariable)

const binariesVariable = "STACK_TEST_BINARIES"

// victim is set in a process that plays the owner of a stack and is killed: see TestNothingOutlivesItsOwner.
const victim = "STACK_TEST_VICTIM"

func TestMain(m *testing.M) {
	localkafka.Child()
	if dir, ok := os.LookupEnv(victim); ok {
		playVictim(dir)
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	if binaries != "" {
		return m.Run()
	}
	var err error
	if binaries, err = os.MkdirTemp("", "altyn-programs-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(binaries)
	if err := Build(context.Background(), binaries); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func options(services ...Service) Options {
	return Options{
		Binaries: binaries,
		Postgres: Postgres{NoSync: true},
		Kafka:    Kafka{Kind: localkafka.Embedded},
		Services: services,
	}
}

// start returns a stack that ends with the test.
func start(t *testing.T, opts Options) *Stack {
	t.Helper()
	opts.Progress = func(what string) { t.Log(what) }
	s, err := Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func get(t *testing.T, url string) (int, error) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	return response.StatusCode, nil
}

func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func TestWhole(t *testing.T) {
	s := start(t, options(Instances(1, 2, 1)...))
	for _, name := range []string{"gateway", "orders", "payments", "payments-2", "payments-worker"} {
		if code, err := get(t, s.URL(name)+"/readyz"); code != http.StatusOK {
			t.Errorf("%s: %d %v", name, code, err)
		}
		if !exists(s.LogFile(name)) {
			t.Errorf("%s has no log", name)
		}
	}
	// The gateway finds both services, the worker serves no API.
	for url, want := range map[string]int{
		s.URL("gateway") + "/api/v1/orders":             http.StatusOK,
		s.URL("gateway") + "/api/v1/currencies":         http.StatusOK,
		s.URL("payments-worker") + "/api/v1/currencies": http.StatusNotFound,
	} {
		if code, err := get(t, url); code != want {
			t.Errorf("%s: %d %v, want %d", url, code, err, want)
		}
	}
	for _, service := range []string{Orders, Payments} {
		cfg, err := s.Database(service)
		if err != nil {
			t.Fatal(err)
		}
		db, err := pg.OpenOwner(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		var tables int
		if err := db.GetContext(t.Context(), &tables,
			`SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`); err != nil || tables == 0 {
			t.Errorf("%s: %d tables, %v", service, tables, err)
		}
	}

	t.Run("a part that crashes comes back", func(t *testing.T) {
		for _, name := range []string{"payments", KafkaName, PostgresName} {
			before := s.Part(name)
			if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			wait.Until(t, name+" is started again", func() bool { return s.Part(name).Restarts == before.Restarts+1 })
			if now := s.Part(name); now.URL != before.URL || now.PID == before.PID {
				t.Errorf("%s was %+v and is %+v", name, before, now)
			}
			if err := s.WaitReady(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("a part that is killed on purpose stays down", func(t *testing.T) {
		for _, name := range []string{"payments-2", "gateway", KafkaName, PostgresName} {
			part := s.Part(name)
			if err := s.Kill(name); err != nil {
				t.Fatal(err)
			}
			if alive(part.PID) || s.Part(name).PID != 0 || Ready(t.Context(), part) == nil {
				t.Errorf("%s is still there", name)
			}
			if err := s.Restart(name); err != nil {
				t.Fatal(err)
			}
			if err := s.WaitReady(t.Context(), name); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("stop in order", func(t *testing.T) {
		if err := s.Restart("orders"); err != nil { // stops it first
			t.Fatal(err)
		}
		if err := s.StopPostgres(localpostgres.Immediate); err != nil {
			t.Fatal(err)
		}
		if err := s.Restart(PostgresName); err != nil {
			t.Fatal(err)
		}
		if err := s.WaitReady(t.Context()); err != nil {
			t.Error(err)
		}
		log, err := os.ReadFile(s.LogFile("orders"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(log), "drained") {
			t.Errorf("orders was not stopped in order:\n%s", log)
		}
	})

	parts := s.Parts()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for _, part := range parts {
		if alive(part.PID) {
			t.Errorf("%s is still there", part.Name)
		}
	}
	if exists(s.dir) {
		t.Errorf("%s is still there", s.dir)
	}
}

func TestDataOutliveTheStack(t *testing.T) {
	opts := options()
	opts.Dir = filepath.Join(t.TempDir(), "a folder")
	for want := range 2 {
		s := start(t, opts)
		cfg, err := s.Database(Orders)
		if err != nil {
			t.Fatal(err)
		}
		db, err := pg.OpenOwner(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		var rows int
		if _, err := db.ExecContext(t.Context(), `CREATE TABLE IF NOT EXISTS kept (n int)`); err != nil {
			t.Fatal(err)
		}
		if err := db.GetContext(t.Context(), &rows, `SELECT count(*) FROM kept`); err != nil || rows != want {
			t.Errorf("%d rows at start %d: %v", rows, want, err)
		}
		if _, err := db.ExecContext(t.Context(), `INSERT INTO kept VALUES (1)`); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := localpostgres.Folder(filepath.Join(opts.Dir, dataFolder, PostgresName))
	if err != nil {
		t.Fatal(err)
	}
	if err := Remove(t.Context(), opts.Dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(opts.Dir)
	if err != nil || len(entries) > 0 || exists(kept) {
		t.Errorf("left behind: %v, %s: %v; %v", entries, kept, exists(kept), err)
	}
}

func TestStartThatFails(t *testing.T) {
	opts := options(Instances(1, 1, 0)...)
	opts.Dir = t.TempDir()
	for i := range opts.Services {
		if service := &opts.Services[i]; service.Name == Orders {
			service.Env = []string{"LOG_LEVEL=loud"}
		}
	}
	began := time.Now()
	s, err := Start(t.Context(), opts)
	if err == nil {
		s.Close()
		t.Fatal("it started")
	}
	// The error has the end of the log of the part that failed, and comes before the gateway,
	// which waits for it, gives up.
	for _, want := range []string{"orders: it ended before it was ready", "orders.log", "LOG_LEVEL"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if took := time.Since(began); took > readyTimeout {
		t.Errorf("it took %s", took)
	}
	if err := Remove(t.Context(), opts.Dir); err != nil { // which would fail beside a server
		t.Error(err)
	}
}

func TestBadOptions(t *testing.T) {
	for want, services := range map[string][]Service{
		`"billing" is no service`:          {{Name: "billing", Program: "billing"}},
		`bad name "../x"`:                  {{Name: "../x", Program: Orders}},
		"two parts are named orders":       append(Instances(1, 0, 0), Service{Name: "orders", Program: Orders}),
		"two parts are named " + KafkaName: {{Name: KafkaName, Program: Orders}},
	} {
		s, err := Start(t.Context(), options(services...))
		if err == nil {
			s.Close()
			t.Errorf("started; want %s", want)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %s", err, want)
		}
	}
}

func TestEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Start(ctx, options(Service{Name: Orders, Program: Orders}))
	if err != nil {
		t.Fatal(err)
	}
	parts := s.Parts()
	cancel()
	wait.Until(t, "all parts end", func() bool {
		for _, part := range parts {
			if alive(part.PID) {
				return false
			}
		}
		return !exists(s.dir)
	})
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// playVictim runs a stack and tells its parts until it is killed.
func playVictim(dir string) {
	opts := options(Instances(1, 1, 0)...)
	opts.Dir = dir
	s, err := Start(context.Background(), opts)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(s.Parts())
	select {}
}

func TestNothingOutlivesItsOwner(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	owner := exec.Command(self)
	owner.Env = append(os.Environ(), victim+"="+dir, binariesVariable+"="+binaries)
	owner.Stderr = os.Stderr
	output, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	line, readErr := bufio.NewReader(output).ReadBytes('\n')
	if err := owner.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = owner.Wait()
	var parts []Part
	if err := errors.Join(readErr, json.Unmarshal(line, &parts)); err != nil {
		t.Fatal(err)
	}
	if len(parts) != 5 {
		t.Errorf("%d parts", len(parts))
	}
	for _, part := range parts {
		wait.Until(t, part.Name+" ends", func() bool { return !alive(part.PID) })
	}
	if err := Remove(t.Context(), dir); err != nil {
		t.Error(err)
	}
}
