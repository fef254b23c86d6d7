package postgrestest

import (
	"fmt"
	"testing"

	"github.com/lib/pq"

	"github.com/altyn-pay/altyn/testkit/wait"
)

// Sessions are a service's sessions in the database.
type Sessions struct {
	db   DB
	pids pq.Int64Array
}

// Blocked locks all tables of a test's database while run runs. run's argument returns once every connection that the
// service may open waits for a table. Blocked returns those sessions.
func Blocked(t testing.TB, db DB, run func(blocked func())) *Sessions {
	t.Helper()
	s := &Sessions{db: db}
	tx, err := db.Owner.BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.Exec(`
		DO $$ DECLARE name text; BEGIN
			FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
				EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', name);
			END LOOP;
		END $$`); err != nil {
		t.Fatal(err)
	}
	run(func() {
		t.Helper()
		wait.NoError(t, func() error {
			s.pids = nil
			if err := db.Owner.Select(&s.pids, `
				SELECT DISTINCT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database
				WHERE NOT l.granted AND d.datname = current_database()`); err != nil {
				t.Fatal(err)
			}
			if len(s.pids) < db.Config.MaxConns {
				return fmt.Errorf("%d sessions of %d are blocked", len(s.pids), db.Config.MaxConns)
			}
			return nil
		})
	})
	return s
}

// Survived fails the test unless all of the sessions still exist.
func (s *Sessions) Survived(t testing.TB) {
	t.Helper()
	var left int
	if err := s.db.Owner.Get(&left, `SELECT count(*) FROM pg_stat_activity WHERE pid = ANY($1)`, s.pids); err != nil {
		t.Fatal(err)
	}
	if left != len(s.pids) {
		t.Errorf("of %d sessions %d are left", len(s.pids), left)
	}
}
