package postgres_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

var discard = slog.New(slog.DiscardHandler)

// set makes migrations 1, 2, … of these statements.
func set(name string, statements ...string) pg.Migrations {
	files := fstest.MapFS{}
	for i, statement := range statements {
		file := "0000" + string(rune('1'+i)) + "_step.sql"
		files[file] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + statement + "\n")}
	}
	return pg.Migrations{Name: name, FS: files}
}

func TestMigrate(t *testing.T) {
	db := postgrestest.Database(t, "orders")
	// The second set needs the first one's table, and a version counts in its own set only.
	first := set("first", `CREATE TABLE a (n int PRIMARY KEY);`, `ALTER TABLE a ADD m int;`)
	second := set("second", `CREATE TABLE b (n int REFERENCES a);`)

	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	if err := pg.Migrate(t.Context(), db.Config, logger, first, second); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(log.String(), "migration applied"); got != 3 {
		t.Errorf("%d migrations are logged:\n%s", got, log.String())
	}
	log.Reset()
	if err := pg.Migrate(t.Context(), db.Config, logger, first, second); err != nil {
		t.Fatal(err)
	}
	if log.Len() != 0 {
		t.Errorf("nothing to do, yet it says:\n%s", log.String())
	}
	if err := pg.CheckSchema(t.Context(), db.Service, first, second); err != nil {
		t.Error(err)
	}
}

func TestMigrateConcurrently(t *testing.T) {
	db := postgrestest.Database(t, "orders")
	sets := []pg.Migrations{set("first", `CREATE TABLE a (n int);`), set("second", `CREATE TABLE b (n int);`)}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := pg.Migrate(t.Context(), db.Config, discard, sets...); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestMigrateGoesOnAfterAFailure(t *testing.T) {
	db := postgrestest.Database(t, "orders")
	broken := set("things", `CREATE TABLE a (n int);`, `CREATE TABLE b (n int); SELECT 1/0;`)
	err := pg.Migrate(t.Context(), db.Config, discard, broken)
	if err == nil || !strings.Contains(err.Error(), "00002_step.sql") ||
		!strings.Contains(err.Error(), "division by zero") {
		t.Errorf("got %v", err)
	}
	whole := set("things", `CREATE TABLE a (n int);`, `CREATE TABLE b (n int);`)
	if err := pg.Migrate(t.Context(), db.Config, discard, whole); err != nil {
		t.Errorf("the failed migration left something: %v", err)
	}
}

// A first file that is not number 1 makes what those up to its number have made: where all of them were applied it has
// nothing to do, where none was it does all, and in between it is refused.
func TestMigrateByAMergedFile(t *testing.T) {
	merged := pg.Migrations{Name: "things", FS: fstest.MapFS{
		"00003_things.sql": {Data: []byte("-- +goose Up\nCREATE TABLE a (n int, m int, o int);\n")},
		"00004_more.sql":   {Data: []byte("-- +goose Up\nALTER TABLE a ADD p int;\n")},
	}}
	files := []string{`CREATE TABLE a (n int);`, `ALTER TABLE a ADD m int;`, `ALTER TABLE a ADD o int;`}
	for had, want := range []string{1: "migrate things: the database has version 1 of this schema",
		2: "first upgrade it to version 3", 3: ""} {
		var before []pg.Migrations
		if had > 0 {
			before = append(before, set("things", files[:had]...))
		}
		db := postgrestest.Database(t, "orders", before...)
		err := pg.Migrate(t.Context(), db.Config, discard, merged)
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("with %d of the files: %v", had, err)
			}
			continue
		}
		if err == nil {
			_, err = db.Service.Exec(`INSERT INTO a (n, m, o, p) VALUES (1, 2, 3, 4)`)
		}
		if err != nil {
			t.Errorf("with %d of the files: %v", had, err)
		}
	}
}

func TestRightsOfTheService(t *testing.T) {
	db := postgrestest.Database(t, "orders", set("things",
		`CREATE TABLE things (id bigint GENERATED ALWAYS AS IDENTITY, n int);
		 CREATE SEQUENCE numbers;`,
		`CREATE TABLE entries (n int);
-- +goose StatementBegin
DO $$ BEGIN
	EXECUTE format('REVOKE UPDATE, DELETE ON entries FROM %I', current_setting('altyn.service_role'));
END $$;
-- +goose StatementEnd`))
	for statement, allowed := range map[string]bool{
		`INSERT INTO things (n) VALUES (1)`:   true,
		`UPDATE things SET n = 2`:             true,
		`DELETE FROM things`:                  true,
		`SELECT nextval('numbers')`:           true,
		`INSERT INTO entries VALUES (1)`:      true,
		`SELECT * FROM entries`:               true,
		`UPDATE entries SET n = 2`:            false,
		`DELETE FROM entries`:                 false,
		`TRUNCATE things`:                     false,
		`DROP TABLE things`:                   false,
		`ALTER TABLE things ADD m int`:        false,
		`CREATE TABLE mine (n int)`:           false,
		`CREATE TEMPORARY TABLE mine (n int)`: false,
		`CREATE SCHEMA mine`:                  false,
	} {
		_, err := db.Service.ExecContext(t.Context(), statement)
		if allowed != (err == nil) {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

func TestCheckSchema(t *testing.T) {
	db := postgrestest.Database(t, "orders", set("things", `SELECT 1;`, `SELECT 2;`),
		set("contracted", `SELECT 1;`, `SELECT 2;`, `COMMENT ON TABLE contracted_migrations IS 'programs from 2';`))
	tests := []struct {
		name string
		set  pg.Migrations
		want string // part of the error
	}{
		{"the same", set("things", `SELECT 1;`, `SELECT 2;`), ""},
		{"the database is ahead", set("things", `SELECT 1;`), ""},
		{"the database is behind", set("things", `SELECT 1;`, `SELECT 2;`, `SELECT 3;`),
			"set things is at version 2 and this program needs 3"},
		{"never migrated", set("others", `SELECT 1;`), "set others is at version 0 and this program needs 1"},
		{"the program is older than it may be", set("contracted", `SELECT 1;`),
			"it knows set contracted up to version 1, and must know 2"},
		{"as old as it may be", set("contracted", `SELECT 1;`, `SELECT 2;`), ""},
	}
	for _, test := range tests {
		err := pg.CheckSchema(t.Context(), db.Service, test.set)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.want != "" && (!errors.As(err, new(*pg.SchemaError)) || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: got %v", test.name, err)
		}
	}
}

// administrator is how the superuser of the server for tests connects.
func administrator(cfg pg.Config) pg.Config {
	cfg.Database, cfg.User, cfg.Password = "postgres", "postgres", "postgres"
	return cfg
}

func TestProvision(t *testing.T) {
	admin := administrator(postgrestest.Database(t, "orders").Config)
	cfg := admin
	cfg.User, cfg.Password, cfg.Database, cfg.Owner, cfg.OwnerPassword, cfg.Application = "", "", "", "", "", ""
	cfg = cfg.Defaults("provision test") // a name that needs quotes
	cfg.Password = `it's a "secret";` + "\n" + `\`
	t.Cleanup(func() { unprovision(t, admin, cfg) })

	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if err := pg.Provision(t.Context(), admin, cfg); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	check := func() {
		t.Helper()
		if err := pg.Migrate(t.Context(), cfg, discard, set("things", `CREATE TABLE a (n int);`)); err != nil {
			t.Fatal(err)
		}
		db, err := pg.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.ExecContext(t.Context(), `INSERT INTO a VALUES (1)`); err != nil {
			t.Error(err)
		}
	}
	check()
	cfg.Password, cfg.OwnerPassword = "another", "and another"
	if err := pg.Provision(t.Context(), admin, cfg); err != nil {
		t.Fatal(err)
	}
	check()

	stranger := postgrestest.Database(t, "payments").Config
	stranger.Database = cfg.Database
	db, err := pg.Open(stranger)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.PingContext(t.Context()); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("another service enters the database: %v", err)
	}
}

// psql takes the same file, with the same names as variables.
func TestProvisionByPsql(t *testing.T) {
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("no psql on this machine")
	}
	admin := administrator(postgrestest.Database(t, "orders").Config)
	cfg := admin
	cfg.User, cfg.Password, cfg.Database, cfg.Owner, cfg.OwnerPassword, cfg.Application = "", "", "", "", "", ""
	cfg = cfg.Defaults("psqltest")
	t.Cleanup(func() { unprovision(t, admin, cfg) })

	args := []string{"--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--file", "provision.sql"}
	for name, value := range map[string]string{
		"database": cfg.Database, "owner": cfg.Owner, "owner_password": cfg.OwnerPassword, "user": cfg.User,
		"password": cfg.Password,
	} {
		args = append(args, "--set", name+"="+value)
	}
	args = append(args, "host="+admin.Host+" port="+strings.TrimPrefix(admin.Address(), admin.Host+":")+
		" user=postgres password=postgres dbname=postgres")
	if output, err := exec.CommandContext(t.Context(), psql, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if err := pg.Migrate(t.Context(), cfg, discard, set("things", `CREATE TABLE a (n int);`)); err != nil {
		t.Error(err)
	}
}

func unprovision(t *testing.T, admin, cfg pg.Config) {
	t.Helper()
	db, err := pg.Open(admin)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{
		`DROP DATABASE IF EXISTS "` + cfg.Database + `" WITH (FORCE)`,
		`DROP ROLE IF EXISTS "` + cfg.Owner + `", "` + cfg.User + `"`,
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Error(err)
		}
	}
}
