package localpostgres

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jmoiron/sqlx"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// TestMain also plays the process that starts a server and is killed: see startInOtherProcess.
func TestMain(m *testing.M) {
	if dir, ok := os.LookupEnv("LOCALPOSTGRES_TEST_DATA"); ok {
		server, err := Start(context.Background(), Options{DataDir: dir, NoSync: true})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(server.PID(), server.DataDir)
		select {} // until it is killed
	}
	os.Exit(m.Run())
}

func start(t *testing.T, opts Options) *Server {
	t.Helper()
	opts.NoSync = true
	opts.Progress = func(what string) { t.Log(what) }
	server, err := Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(Immediate); err != nil {
			t.Error(err)
		}
	})
	return server
}

// dataDir is a folder that also another user can reach, unlike t.TempDir.
func dataDir(t *testing.T) string {
	t.Helper()
	user, err := serverAccount()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(user.tempDir(false), "localpostgres-test-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "data")
}

func connect(t *testing.T, server *Server) *sqlx.DB {
	t.Helper()
	db, err := pg.Open(server.Admin())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func get[T any](t *testing.T, server *Server, query string) T {
	t.Helper()
	var value T
	if err := connect(t, server).GetContext(t.Context(), &value, query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

// alive counts no zombies: whoever adopts the children of a killed process may take its time to ask for their end.
func alive(pid int) bool {
	state, _ := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return len(state) > 0 && state[0] != 'Z'
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func TestTemporaryServer(t *testing.T) {
	server := start(t, Options{Settings: map[string]string{"max_connections": "77"}})
	if got := get[string](t, server, `SHOW server_version`); !strings.HasPrefix(server.Version, got) &&
		!strings.HasPrefix(got, server.Version) {
		t.Errorf("version %s, the server says %s", server.Version, got)
	}
	if got := get[string](t, server, `SHOW max_connections`); got != "77" {
		t.Errorf("max_connections is %s", got)
	}
	if got := get[string](t, server, `SHOW fsync`); got != "off" {
		t.Errorf("fsync is %s", got)
	}
	if err := server.Stop(Fast); err != nil {
		t.Fatal(err)
	}
	if alive(server.PID()) {
		t.Errorf("process %d is still there", server.PID())
	}
	if exists(server.DataDir) {
		t.Errorf("folder %s is still there", server.DataDir)
	}
	if err := server.Stop(Fast); err != nil {
		t.Errorf("stopping a second time: %v", err)
	}
}

func TestServersSideBySide(t *testing.T) {
	first, second := start(t, Options{}), start(t, Options{})
	if first.Port == second.Port || first.DataDir == second.DataDir {
		t.Errorf("they share %d %s", first.Port, first.DataDir)
	}
	for _, server := range []*Server{first, second} {
		if got := get[string](t, server, `SHOW data_directory`); got != filepath.Join(server.DataDir, "pgdata") {
			t.Errorf("data_directory is %s", got)
		}
	}
}

func TestDurableUnlessToldOtherwise(t *testing.T) {
	settings := serverSettings(5432, Options{})
	for _, name := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
		if value, ok := settings[name]; ok {
			t.Errorf("%s is set to %s", name, value)
		}
	}
}

func TestDataSurviveEachStop(t *testing.T) {
	server := start(t, Options{DataDir: dataDir(t)})
	if _, err := connect(t, server).ExecContext(t.Context(), `CREATE TABLE kept (n int)`); err != nil {
		t.Fatal(err)
	}
	modes := []StopMode{Fast, Immediate, Kill}
	for i, mode := range modes {
		if _, err := connect(t, server).ExecContext(t.Context(), `INSERT INTO kept VALUES ($1)`, i); err != nil {
			t.Fatal(err)
		}
		if err := server.Stop(mode); err != nil {
			t.Fatal(err)
		}
		if alive(server.PID()) {
			t.Errorf("process %d is still there", server.PID())
		}
		server = start(t, Options{DataDir: server.DataDir, Port: server.Port})
		if got := get[int](t, server, `SELECT count(*) FROM kept`); got != i+1 {
			t.Fatalf("%d rows after stop %d", got, mode)
		}
	}
}

func TestDoneWhenTheServerDies(t *testing.T) {
	server := start(t, Options{})
	if err := syscall.Kill(server.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-server.Done()
	if exists(server.DataDir) {
		t.Errorf("folder %s is still there", server.DataDir)
	}
}

func TestStopOfAFrozenServer(t *testing.T) {
	for _, mode := range []StopMode{Fast, Immediate} {
		server := start(t, Options{})
		if err := syscall.Kill(server.PID(), syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if err := server.Stop(mode); err != nil {
			t.Error(err)
		}
		if alive(server.PID()) {
			t.Errorf("process %d is still there", server.PID())
		}
	}
}

func TestErrors(t *testing.T) {
	running := start(t, Options{DataDir: dataDir(t)})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()

	foreign := dataDir(t)
	if err := os.MkdirAll(filepath.Join(foreign, "pgdata"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(foreign, "pgdata", "PG_VERSION"), []byte("14\n"), 0o644); err != nil {
		t.Fatal(err)
	}

	tests := []struct {
		name string
		opts Options
		want string
	}{
		{"data in use", Options{DataDir: running.DataDir}, "another process runs a server on the data in"},
		{"port in use", Options{Port: uint16(listener.Addr().(*net.TCPAddr).Port)}, "is not free"},
		{"data of another version", Options{DataDir: foreign, Kind: Embedded}, "the data were made by PostgreSQL 14"},
		{"data of another version", Options{DataDir: foreign}, "the data were made by PostgreSQL 14"},
		{"setting", Options{Settings: map[string]string{"shared_buffers": "many"}},
			`invalid value for parameter "shared_buffers"`},
		{"kind", Options{Kind: "docker"}, "neither embedded nor installed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server, err := Start(t.Context(), test.opts)
			if err == nil {
				_ = server.Stop(Immediate)
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, want %q in it", err, test.want)
			}
		})
	}
}

func TestRemove(t *testing.T) {
	dir := dataDir(t)
	if err := Remove(t.Context(), dir); err != nil {
		t.Errorf("nothing to remove: %v", err)
	}
	server := start(t, Options{DataDir: dir})
	if err := Remove(t.Context(), dir); err == nil {
		t.Error("the data of a running server were removed")
	}
	if err := server.Stop(Fast); err != nil {
		t.Fatal(err)
	}
	if err := Remove(t.Context(), dir); err != nil {
		t.Error(err)
	}
	if exists(dir) {
		t.Errorf("folder %s is still there", dir)
	}
}

// startInOtherProcess has another process start a server; the caller kills that process.
func startInOtherProcess(t *testing.T, dir string) (parent *os.Process, pid int, data string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "LOCALPOSTGRES_TEST_DATA="+dir)
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { killProcess(t, cmd.Process) })
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(line, &pid, &data); err != nil {
		t.Fatalf("the other process says %q", line)
	}
	return cmd.Process, pid, data
}

// killProcess is kill -9, and waits for the death.
func killProcess(t *testing.T, process *os.Process) {
	t.Helper()
	if err := process.Kill(); errors.Is(err, os.ErrProcessDone) {
		return
	} else if err != nil {
		t.Fatal(err)
	}
	if _, err := process.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestKilledProcessLeavesNothing(t *testing.T) {
	parent, pid, data := startInOtherProcess(t, "")
	guardPID := parentOf(t, pid)
	killProcess(t, parent)
	wait.Until(t, "the server ends", func() bool { return !alive(pid) })
	wait.Until(t, "its guard ends", func() bool { return !alive(guardPID) })
	wait.Until(t, "its data go", func() bool { return !exists(data) })
}

func TestStartAfterAKilledProcess(t *testing.T) {
	parent, pid, data := startInOtherProcess(t, dataDir(t))
	killProcess(t, parent)
	start(t, Options{DataDir: data})
	if alive(pid) {
		t.Error("two servers on the same data")
	}
}

func TestStartAfterGuardWasKilledToo(t *testing.T) {
	parent, pid, data := startInOtherProcess(t, dataDir(t))
	if err := syscall.Kill(parentOf(t, pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	killProcess(t, parent)
	start(t, Options{DataDir: data})
	if alive(pid) {
		t.Error("two servers on the same data")
	}
}

func parentOf(t *testing.T, pid int) int {
	t.Helper()
	output, err := exec.Command("ps", "-o", "ppid=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		t.Fatal(err)
	}
	var parent int
	if _, err := fmt.Sscan(string(output), &parent); err != nil {
		t.Fatalf("ps says %q", output)
	}
	return parent
}
