package localpostgres

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/testkit/wait"
)

func exec1(t *testing.T, db *sqlx.DB, statement string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func rows(t *testing.T, server *Server) (numbers []int) {
	t.Helper()
	if err := connect(t, server).SelectContext(t.Context(), &numbers, `SELECT n FROM kept ORDER BY n`); err != nil {
		t.Fatal(err)
	}
	return numbers
}

// The database gets the state of any moment since the backup, twice.
func TestRestoreToAMoment(t *testing.T) {
	dir := dataDir(t)
	opts := Options{DataDir: filepath.Join(dir, "first"), Archive: filepath.Join(dir, "archive")}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(dir, "backup")
	server := start(t, opts)
	insert := func(n int) (at time.Time) {
		t.Helper()
		db := connect(t, server)
		exec1(t, db, `INSERT INTO kept VALUES ($1)`, n)
		if err := db.GetContext(t.Context(), &at, `SELECT clock_timestamp()`); err != nil {
			t.Fatal(err)
		}
		return at
	}
	exec1(t, connect(t, server), `CREATE TABLE kept (n int)`)
	insert(1)
	if err := server.Backup(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	restore := func(name string, at time.Time, want ...int) {
		t.Helper()
		if err := server.Stop(Fast); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(server.DataDir); err != nil {
			t.Fatal(err)
		}
		opts.DataDir, opts.NoSync = filepath.Join(dir, name), true
		restored, err := Restore(t.Context(), backup, at, opts)
		if err != nil {
			t.Fatal(err)
		}
		server = restored
		t.Cleanup(func() { _ = restored.Stop(Immediate) })
		if got := rows(t, server); !slices.Equal(got, want) {
			t.Errorf("restored to %s it has %v, not %v", at, got, want)
		}
	}
	early := insert(2)
	insert(3)
	restore("second", early, 1, 2)
	late := insert(4)
	insert(5)
	restore("third", late, 1, 2, 4)
	insert(5)
	restore("lost", time.Time{}, 1, 2, 3)
	restore("fourth", late, 1, 2, 4)

	// It is a server like any other.
	if err := server.Stop(Kill); err != nil {
		t.Fatal(err)
	}
	server = start(t, opts)
	insert(6)
	if got := rows(t, server); !slices.Equal(got, []int{1, 2, 4, 6}) {
		t.Errorf("it has %v", got)
	}
	if _, err := Restore(t.Context(), backup, late, Options{DataDir: server.DataDir}); err == nil ||
		!strings.Contains(err.Error(), "another process runs") {
		t.Errorf("over a running server: %v", err)
	}
	if err := server.Stop(Fast); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), backup, late, opts); err == nil || !strings.Contains(err.Error(), "data in") {
		t.Errorf("over data: %v", err)
	}
}

// A commit waits for the standby, which has all of them when it is promoted.
func TestPromotedStandby(t *testing.T) {
	first := start(t, Options{})
	db := connect(t, first)
	exec1(t, db, `CREATE TABLE kept (n int)`)
	second, err := first.Standby(t.Context(), Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = second.Stop(Immediate) })
	receiver := get[int](t, second, `SELECT pid FROM pg_stat_wal_receiver`)
	if err := syscall.Kill(receiver, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	committed := make(chan error, 1)
	go func() {
		_, err := db.ExecContext(t.Context(), `INSERT INTO kept VALUES (1)`)
		committed <- err
	}()
	wait.Until(t, "the commit waits for the standby", func() bool {
		var n int
		err := db.GetContext(t.Context(), &n, `SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`)
		return err == nil && n == 1
	})
	if err := syscall.Kill(receiver, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := <-committed; err != nil {
		t.Fatal(err)
	}

	if err := first.Stop(Kill); err != nil {
		t.Fatal(err)
	}
	if err := second.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec1(t, connect(t, second), `INSERT INTO kept VALUES (2)`)
	if got := rows(t, second); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("it has %v", got)
	}
	if err := second.Stop(Fast); err != nil { // temporary data
		t.Fatal(err)
	}
	if exists(second.DataDir) {
		t.Error("the standby's data are still there")
	}
}
