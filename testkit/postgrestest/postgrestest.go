// Package postgrestest gives each test a database of its own, with the schema of a service, in some tens of
// milliseconds: a clone of a template that is migrated once. The server is real. It is the one that the environment
// variable ALTYN_TEST_POSTGRES names, so that the packages of `make test` share one; where it names none, the first
// test of a process starts one, as a child that ends with the process.
package postgrestest

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/internal/program"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// Variable names a server for tests as host:port; its superuser is postgres with the password postgres.
const Variable = "ALTYN_TEST_POSTGRES"

// CitusVariable names a coordinator of Citus, for packages with CitusMain, as a URL with a superuser and a database
// that has the extension and knows the nodes: postgres://postgres@127.0.0.1:5432/postgres. Nodes take the same
// superuser.
const CitusVariable = "ALTYN_CITUS"

const databaseTimeout = time.Minute

// DB is a test's own database.
type DB struct {
	Config  pg.Config
	Service *sqlx.DB // under the service's role: what the code under test gets
	Owner   *sqlx.DB // under the owner's role: for what a test does behind the service's back
}

// Database makes a database for the named service with these migrations applied, and deletes it when the test is over.
// The test fails, and is not skipped, when there is no server.
func Database(t testing.TB, service string, sets ...pg.Migrations) DB {
	t.Helper()
	db, drop, err := Open(t.Context(), service, sets...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := drop(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// Open is Database where there is no testing.TB, as in an example: the caller drops the database.
func Open(ctx context.Context, service string, sets ...pg.Migrations) (db DB, drop func() error, err error) {
	admin, err := administrator()
	if err != nil {
		return db, nil, fmt.Errorf("no PostgreSQL server for tests (%s may name one as host:port): %w", Variable, err)
	}
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	server := admin.server
	db.Config = pg.Config{Host: server.Host, Port: server.Port, SSLMode: server.SSLMode, MaxConns: 16}.Defaults(service)
	if err := admin.createDatabase(ctx, &db.Config, service, sets); err != nil {
		return db, nil, fmt.Errorf("make a test database: %w", err)
	}
	drop = func() error {
		for _, pool := range []*sqlx.DB{db.Service, db.Owner} {
			if pool != nil {
				pool.Close()
			}
		}
		// Not the caller's context, which may have ended by now.
		ctx, cancel := context.WithTimeout(context.Background(), databaseTimeout)
		defer cancel()
		name := pq.QuoteIdentifier(db.Config.Database)
		if err := admin.close(ctx, db.Config.Database); err != nil {
			return fmt.Errorf("delete the test database: %w", err)
		}
		if err := admin.everywhere(ctx, `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
			return fmt.Errorf("delete the test database: %w", err)
		}
		return nil
	}
	if db.Service, err = pg.Open(db.Config); err == nil {
		db.Owner, err = pg.OpenOwner(db.Config)
	}
	if err != nil {
		return db, nil, errors.Join(err, drop())
	}
	return db, drop, nil
}

// SetClock has the sessions that begin from now on read a clock that is ahead of the server's.
func (db DB) SetClock(t testing.TB, ahead time.Duration) {
	t.Helper()
	for _, statement := range []string{
		fmt.Sprintf(`CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$
			SELECT pg_catalog.clock_timestamp() + interval '%d seconds' $$`, int(ahead.Seconds())),
		`ALTER DATABASE ` + pq.QuoteIdentifier(db.Config.Database) + ` SET search_path = public, pg_catalog`,
	} {
		if _, err := db.Owner.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}

// AwaitCount waits until a query counts n.
func AwaitCount(t testing.TB, db *sqlx.DB, n int, query string, args ...any) {
	t.Helper()
	wait.NoError(t, func() error {
		var got int
		if err := db.GetContext(t.Context(), &got, query, args...); err != nil {
			t.Fatal(err)
		}
		if got != n {
			return fmt.Errorf("%s: %d, want %d", query, got, n)
		}
		return nil
	})
}

// Main is the TestMain of a package that uses Database: it runs the tests, then stops the server that they started.
// (Without it the server ends too, a moment after the process.)
func Main(m *testing.M) {
	code := m.Run()
	if started != nil {
		if err := started.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// CitusMain is Main for a package whose tests also hold on Citus: where CitusVariable is set, its databases are there,
// and their tables are distributed.
func CitusMain(m *testing.M) {
	if citus = os.Getenv(CitusVariable); citus == "" {
		fmt.Fprintf(os.Stderr, "%s names no coordinator: these tests do not cover Citus\n", CitusVariable)
	}
	Main(m)
}

// NotOnCitus skips a test, loudly, where the databases are on Citus.
func NotOnCitus(t testing.TB, why string) {
	t.Helper()
	if citus != "" {
		t.Skip("NOT RUN on Citus: " + why)
	}
}

// citus is the URL of the coordinator that this process's databases are made on; "" for a server without Citus.
var citus string

// admin is the superuser's pool.
type admin struct {
	*sqlx.DB
	server pg.Config
	nodes  []admin // of Citus, beside the coordinator
}

// everywhere runs a statement on the server and on the nodes of Citus.
func (a admin) everywhere(ctx context.Context, statement string) error {
	for _, node := range append([]admin{a}, a.nodes...) {
		if _, err := node.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// started is the child that runs this process's own server; nil if there is none.
var started *program.Program

// address returns the server's address, and starts one if Variable names none.
func address() (string, error) {
	if address := os.Getenv(Variable); address != "" {
		return address, nil
	}
	server, err := program.Start("with-postgres", "sh", "-c", "echo $"+Variable+" && exec cat")
	if err != nil {
		return "", err
	}
	line, err := bufio.NewReader(server.Stdout).ReadString('\n')
	if err != nil {
		return "", errors.Join(errors.New("the server did not start, see above"), server.Stop())
	}
	started = server
	return strings.TrimSpace(line), nil
}

// administrator connects to the server, once for all tests of the process.
var administrator = sync.OnceValues(func() (admin, error) {
	if citus != "" {
		return coordinator(citus)
	}
	address, err := address()
	if err != nil {
		return admin{}, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return admin{}, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return admin{}, err
	}
	cfg := pg.Config{
		Host: host, Port: uint16(number), SSLMode: "disable",
		Database: "postgres", User: "postgres", Password: "postgres", MaxConns: 4, Application: "postgrestest",
	}
	db, err := pg.Open(cfg)
	return admin{DB: db, server: cfg}, err
})

// createDatabase makes a clone of the template and puts its name into cfg.
func (a admin) createDatabase(ctx context.Context, cfg *pg.Config, service string, sets []pg.Migrations) error {
	sum, err := checksum(sets)
	if err != nil {
		return err
	}
	cfg.Database = "template_" + service + "_" + sum
	if err := a.ensureTemplate(ctx, *cfg, sets); err != nil {
		return fmt.Errorf("template %s: %w", cfg.Database, err)
	}
	template := cfg.Database
	cfg.Database = service + "_" + rand.Text()[:10]
	name, user := pq.QuoteIdentifier(cfg.Database), pq.QuoteIdentifier(cfg.User)
	for _, statement := range []string{
		// Without fsync, copying the files takes a fifth of the time that the default strategy takes.
		`CREATE DATABASE ` + name + ` TEMPLATE ` + pq.QuoteIdentifier(template) + ` STRATEGY FILE_COPY OWNER ` +
			pq.QuoteIdentifier(cfg.Owner),
		// A clone has the template's tables and their rights, but not the database's own rights.
		`REVOKE ALL ON DATABASE ` + name + ` FROM PUBLIC`,
		`GRANT CONNECT ON DATABASE ` + name + ` TO ` + user,
	} {
		if err := a.everywhere(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// ensureTemplate makes the template unless it is there. Only a complete one is marked as a template, and only one test
// process at a time makes it.
func (a admin) ensureTemplate(ctx context.Context, cfg pg.Config, sets []pg.Migrations) error {
	const complete = `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1 AND datistemplate)`
	var done bool
	if err := a.GetContext(ctx, &done, complete, cfg.Database); err != nil || done {
		return err
	}
	conn, err := a.Connx(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, `SET lock_timeout = 0`); err != nil { // ctx bounds the wait
		return err
	}
	if _, err := conn.ExecContext(ctx, `SELECT pg_advisory_lock(hashtext($1))`, cfg.Database); err != nil {
		return err
	}
	defer func() {
		// The connection goes back to the pool, and must not take the lock with it.
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock(hashtext($1))`, cfg.Database)
	}()
	if err := conn.GetContext(ctx, &done, complete, cfg.Database); err != nil || done {
		return err
	}
	name := pq.QuoteIdentifier(cfg.Database)
	if err := a.everywhere(ctx, `DROP DATABASE IF EXISTS `+name+` WITH (FORCE)`); err != nil {
		return err
	}
	if err := pg.Provision(ctx, a.server, cfg); err != nil {
		return err
	}
	if err := a.join(ctx, cfg); err != nil {
		return err
	}
	if err := pg.Migrate(ctx, cfg, slog.New(slog.DiscardHandler), sets...); err != nil {
		return err
	}
	if len(a.nodes) > 0 {
		if err := pg.Distribute(ctx, cfg, citusShards, func(int, int, string) {}); err != nil {
			return err
		}
		if err := a.close(ctx, cfg.Database); err != nil { // a template has no connections
			return err
		}
	}
	_, err = conn.ExecContext(ctx, `ALTER DATABASE `+name+` IS_TEMPLATE true`)
	return err
}

// checksum tells sets of migrations apart by their names and files.
func checksum(sets []pg.Migrations) (string, error) {
	sum := sha256.New()
	for _, set := range sets {
		fmt.Fprintf(sum, "set %q\n", set.Name)
		err := fs.WalkDir(set.FS, ".", func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			text, err := fs.ReadFile(set.FS, name)
			fmt.Fprintf(sum, "file %q\n%s", name, text)
			return err
		})
		if err != nil {
			return "", fmt.Errorf("migrations %s: %w", set.Name, err)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:6]), nil
}
