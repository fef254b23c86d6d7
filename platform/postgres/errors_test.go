package postgres_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/localpostgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

func TestKindsOfErrors(t *testing.T) {
	code := func(code string) error { return fmt.Errorf("wrapped: %w", &pq.Error{Code: pqerror.Code(code)}) }
	tests := []struct {
		err                    error
		unavailable, transient bool
	}{
		{nil, false, false},
		{errors.New("other"), false, false},
		{fmt.Errorf("wrapped: %w", driver.ErrBadConn), true, true},
		{io.ErrUnexpectedEOF, true, true},
		{code("08006"), true, true},  // connection failure
		{code("57P01"), true, true},  // admin shutdown
		{code("57P02"), true, true},  // crash shutdown
		{code("57P03"), true, true},  // the database system is starting up
		{code("53300"), true, true},  // too many connections
		{code("53100"), true, true},  // disk full
		{code("25006"), true, true},  // read-only after a failover
		{code("40001"), false, true}, // serialization failure
		{code("40P01"), false, true}, // deadlock
		{code("55P03"), false, true}, // lock not available
		{code("57014"), false, true}, // statement timeout
		{context.DeadlineExceeded, false, true},
		{context.Canceled, false, false},
		{code("23505"), false, false}, // unique violation
		{code("42601"), false, false}, // syntax error
		{code("28P01"), false, false}, // wrong password
	}
	for _, test := range tests {
		if got := pg.IsUnavailable(test.err); got != test.unavailable {
			t.Errorf("IsUnavailable(%v) is %v", test.err, got)
		}
		if got := pg.IsTransient(test.err); got != test.transient {
			t.Errorf("IsTransient(%v) is %v", test.err, got)
		}
	}
}

// What the driver really returns when a server goes away, at every point of a transaction.
func TestServerGoesAway(t *testing.T) {
	for _, mode := range []localpostgres.StopMode{localpostgres.Fast, localpostgres.Immediate, localpostgres.Kill} {
		t.Run(fmt.Sprint(mode), func(t *testing.T) {
			server, err := localpostgres.Start(t.Context(), localpostgres.Options{NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = server.Stop(localpostgres.Immediate) }()
			db, err := pg.Open(server.Admin())
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			unavailable := func(when string, err error) {
				t.Helper()
				if !pg.IsUnavailable(err) {
					t.Errorf("%s: %v (%T)", when, err, err)
				}
			}

			tx, err := db.BeginTxx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			idle, err := db.BeginTxx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			running := make(chan error, 1)
			go func() {
				_, err := tx.ExecContext(t.Context(), `SELECT pg_sleep(60), 'the one'`)
				running <- err
			}()
			untilActive(t, db, `%the one%`)
			if err := server.Stop(mode); err != nil {
				t.Fatal(err)
			}
			unavailable("a statement under way", <-running)
			unavailable("commit", idle.Commit())
			unavailable("connecting", db.PingContext(t.Context()))
			unavailable("InTx", pg.InTx(t.Context(), db, func(*sqlx.Tx) error { return nil }))
		})
	}
}

// untilActive waits until a statement like this runs.
func untilActive(t *testing.T, db *sqlx.DB, statement string) {
	t.Helper()
	postgrestest.AwaitCount(t, db, 1, `SELECT count(*)
		FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1 AND pid <> pg_backend_pid()`, statement)
}

func TestTerminatedAndRefusedConnections(t *testing.T) {
	test := postgrestest.Database(t, "orders", things)
	err := pg.InTx(t.Context(), test.Service, func(tx *sqlx.Tx) error {
		var pid int
		if err := tx.GetContext(t.Context(), &pid, `SELECT pg_backend_pid()`); err != nil {
			return err
		}
		if _, err := test.Service.ExecContext(t.Context(), `SELECT pg_terminate_backend($1, 10000)`, pid); err != nil {
			t.Fatal(err)
		}
		return add(t.Context(), tx, 1, 1)
	})
	if !pg.IsUnavailable(err) {
		t.Errorf("terminated: %v", err)
	}

	if _, err := test.Owner.ExecContext(t.Context(),
		`ALTER DATABASE `+pq.QuoteIdentifier(test.Config.Database)+` CONNECTION LIMIT 1`); err != nil {
		t.Fatal(err)
	}
	second, err := pg.Open(test.Config)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := second.PingContext(t.Context()); !pg.IsUnavailable(err) {
		t.Errorf("too many connections: %v", err)
	}
}

func TestLockTimeoutIsTransient(t *testing.T) {
	db := thingsDatabase(t)
	err := pg.InTx(t.Context(), db, func(tx *sqlx.Tx) error {
		if err := add(t.Context(), tx, 1, 1); err != nil {
			return err
		}
		return pg.InTx(t.Context(), db, func(other *sqlx.Tx) error {
			if _, err := other.ExecContext(t.Context(), `SET LOCAL lock_timeout = '10ms'`); err != nil {
				return err
			}
			return add(t.Context(), other, 1, 1)
		})
	})
	if !pg.IsTransient(err) || pg.IsUnavailable(err) {
		t.Errorf("got %v", err)
	}
}
