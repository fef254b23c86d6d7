package postgres

import (
	"context"
	"embed"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	"github.com/prometheus/client_golang/prometheus"
)

// Migrations is one numbered set of goose migrations: files such as 00001_accounts.sql at the root of FS. A package
// that keeps tables of its own (the outbox, the inbox, a service) brings its own set. Applied versions are recorded
// in the table "<Name>_migrations", so sets number their files independently. The first file need not be number 1: it
// is what all files up to its number have made together, for a database that has none of them.
//
// The service's role can read and write (SELECT, INSERT, UPDATE, DELETE) every table that a migration creates. A
// migration that takes some of this away finds the role's name in current_setting('altyn.service_role').
type Migrations struct {
	Name string
	FS   fs.FS
}

// Embedded returns the set of files that a package has embedded as migrations/*.sql.
func Embedded(name string, files embed.FS) Migrations {
	sub, err := fs.Sub(files, "migrations")
	if err != nil {
		panic(err) // the folder is compiled in
	}
	return Migrations{Name: name, FS: sub}
}

func (m Migrations) table() string { return m.Name + "_migrations" }

// Bounds of a migration run: waiting for the server, and for another process that is migrating.
const (
	migrateWait        = time.Minute
	migrateLockSeconds = 600
)

// Migrate brings the database up to date as its owner: it waits up to a minute for the server, then applies the
// pending migrations of each set in the order given, each in a transaction of its own (unless its file says NO
// TRANSACTION). It logs every migration that it applies and is silent when there is none. Concurrent callers take
// turns. After an error, the migrations before the failed one stay applied, and calling again goes on from there.
func Migrate(ctx context.Context, cfg Config, logger *slog.Logger, sets ...Migrations) error {
	db, err := OpenOwner(cfg)
	if err != nil {
		return err
	}
	defer db.Close()

	waitCtx, cancel := context.WithTimeout(ctx, migrateWait)
	defer cancel()
	if err := Wait(waitCtx, db); err != nil {
		return err
	}
	if err := grantToService(ctx, db, cfg.User); err != nil {
		return err
	}
	for _, set := range sets {
		if err := set.up(ctx, db, logger); err != nil {
			return fmt.Errorf("postgres: migrate %s: %w", set.Name, err)
		}
	}
	return nil
}

// grantToService makes every table and sequence that the owner creates from now on usable by the service's role.
func grantToService(ctx context.Context, db *sqlx.DB, user string) error {
	role := pq.QuoteIdentifier(user)
	err := InTx(ctx, db, func(tx *sqlx.Tx) error {
		// Two at once would fail ("tuple concurrently updated"); the lock ends with the transaction.
		_, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock(hashtext('altyn default privileges'))`)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `
			ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO `+role+`;
			ALTER DEFAULT PRIVILEGES GRANT USAGE, SELECT ON SEQUENCES TO `+role)
		return err
	})
	if err != nil {
		return fmt.Errorf("postgres: grant rights to %s: %w", user, err)
	}
	return nil
}

func (m Migrations) up(ctx context.Context, db *sqlx.DB, logger *slog.Logger) error {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, migrateLockSeconds))
	if err != nil {
		return err
	}
	provider, err := m.provider(db, goose.WithSessionLocker(locker))
	if err != nil {
		return err
	}
	version, err := provider.GetDBVersion(ctx)
	if err != nil {
		return err
	}
	if first := provider.ListSources()[0].Version; 0 < version && version < first {
		return fmt.Errorf("the database has version %d of this schema, and this program upgrades from version %d on: "+
			"first upgrade it to version %d, by the migrate command of an earlier version of the program",
			version, first, first)
	}
	results, err := provider.Up(ctx)
	if partial, ok := errors.AsType[*goose.PartialError](err); ok {
		results = partial.Applied
		err = fmt.Errorf("%s: %w", path.Base(partial.Failed.Source.Path), partial.Err)
	}
	for _, result := range results {
		logger.InfoContext(ctx, "migration applied", "set", m.Name, "file", path.Base(result.Source.Path),
			"duration_ms", result.Duration.Milliseconds())
	}
	return err
}

func (m Migrations) provider(db *sqlx.DB, options ...goose.ProviderOption) (*goose.Provider, error) {
	return goose.NewProvider(goose.DialectPostgres, db.DB, m.FS, append(options,
		goose.WithTableName(m.table()),
		goose.WithDisableGlobalRegistry(true),
	)...)
}

// Version is the number of the newest file: the oldest schema that this program can serve.
func (m Migrations) Version() (newest int64) {
	files, _ := fs.Glob(m.FS, "*.sql") // the pattern is valid
	for _, file := range files {
		version, err := goose.NumericComponent(file)
		if err != nil {
			panic(err) // the files are compiled in
		}
		newest = max(newest, version)
	}
	return newest
}

// Served says which schemas a program can serve: "payments 23, inbox 3". Each is the oldest one; any newer one will do
// too, unless its database says that the program is too old (SchemaError).
func Served(sets ...Migrations) string {
	texts := make([]string, len(sets))
	for i, set := range sets {
		texts[i] = fmt.Sprintf("%s %d", set.Name, set.Version())
	}
	return strings.Join(texts, ", ")
}

// ServedGauge tells the metrics what Served says.
func ServedGauge(sets ...Migrations) prometheus.Collector {
	gauge := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "altyn_schema_version", Help: "The oldest schema that the program can serve, by set of migrations."},
		[]string{"set"})
	for _, set := range sets {
		gauge.WithLabelValues(set.Name).Set(float64(set.Version()))
	}
	return gauge
}

// SchemaError says that a program and its database do not fit: the database lacks a migration, or a migration that took
// something away has said which programs are too old from then on. Either may pass: once the database is migrated, or
// the program is replaced.
type SchemaError struct {
	Set      string
	Database int64 // the newest migration that was applied
	Program  int64 // the newest one that the program knows
	Oldest   int64 // the one that a program must know
}

func (e *SchemaError) Error() string {
	if e.Database < e.Program {
		return fmt.Sprintf("postgres: the schema is behind: "+
			"set %s is at version %d and this program needs %d; run its migrate command", e.Set, e.Database, e.Program)
	}
	return fmt.Sprintf("postgres: this program is too old for the schema: "+
		"it knows set %s up to version %d, and must know %d; run a newer one", e.Set, e.Program, e.Oldest)
}

// CheckSchema returns a SchemaError when the program cannot serve the database. A database may be ahead of the program,
// because during an upgrade and after going back the old program runs on the new schema. A migration that takes away
// what an old program needs says so in a comment, which counts from its commit on:
//
//	COMMENT ON TABLE payments_migrations IS 'programs from 24';
func CheckSchema(ctx context.Context, db *sqlx.DB, sets ...Migrations) error {
	for _, set := range sets {
		table := pq.QuoteIdentifier(set.table())
		var is struct {
			Version int64 `db:"version"`
			Oldest  int64 `db:"oldest"`
		}
		err := db.GetContext(ctx, &is, `
			SELECT coalesce(max(version_id), 0) AS version,
				coalesce(substring(obj_description(`+pq.QuoteLiteral(table)+`::regclass, 'pg_class')
					FROM '^programs from ([0-9]+)$')::bigint, 0) AS oldest
			FROM `+table+` WHERE is_applied`)
		if err != nil && pq.As(err, pqerror.UndefinedTable) == nil {
			return fmt.Errorf("postgres: read the version of the schema: %w", err)
		}
		if known := set.Version(); is.Version < known || is.Oldest > known {
			return &SchemaError{Set: set.Name, Database: is.Version, Program: known, Oldest: is.Oldest}
		}
	}
	return nil
}

//go:embed provision.sql
var provisionSQL string

// Provision creates the roles and the database that cfg names, as the superuser that admin describes (by User,
// Password and a Database that exists). What exists already stays; only the roles' passwords are set again. Concurrent
// callers take turns.
func Provision(ctx context.Context, admin, cfg Config) error {
	db, err := Open(admin)
	if err != nil {
		return err
	}
	defer db.Close()
	// One connection holds the lock and runs all statements: CREATE DATABASE cannot be part of a transaction.
	conn, err := db.Connx(ctx)
	if err != nil {
		return fmt.Errorf("postgres: provision %s: %w", cfg.Database, err)
	}
	defer conn.Close()

	if _, err := conn.ExecContext(ctx, `SELECT pg_advisory_lock(hashtext('altyn provision'))`); err != nil {
		return fmt.Errorf("postgres: provision %s: %w", cfg.Database, err)
	}
	// What psql does with the variables of provision.sql.
	variables := strings.NewReplacer(
		`:"database"`, pq.QuoteIdentifier(cfg.Database),
		`:"owner"`, pq.QuoteIdentifier(cfg.Owner),
		`:"user"`, pq.QuoteIdentifier(cfg.User),
		`:'owner_password'`, pq.QuoteLiteral(cfg.OwnerPassword),
		`:'password'`, pq.QuoteLiteral(cfg.Password),
	)
	for statement := range strings.SplitSeq(provisionSQL, ";\n") {
		_, err := conn.ExecContext(ctx, variables.Replace(statement))
		if err != nil && pq.As(err, pqerror.DuplicateObject, pqerror.DuplicateDatabase) == nil {
			return fmt.Errorf("postgres: provision %s: %w", cfg.Database, err)
		}
	}
	return nil
}
