package postgres_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// prepared counts the statements that a session keeps prepared; its own text has no parameter and so is none of them.
func prepared(t *testing.T, conn *sqlx.Conn) (n int) {
	t.Helper()
	if err := conn.GetContext(t.Context(), &n, `SELECT count(*) FROM pg_prepared_statements`); err != nil {
		t.Fatal(err)
	}
	return n
}

func session(t *testing.T, db *sqlx.DB) *sqlx.Conn {
	t.Helper()
	conn, err := db.Connx(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestStatementsArePreparedOnce(t *testing.T) {
	conn := session(t, thingsDatabase(t))
	for i := range 3 {
		var n int
		if err := conn.GetContext(t.Context(), &n, `SELECT n + $1 FROM things WHERE id = $2`, i, 1); err != nil || n != i {
			t.Fatalf("%d, %v; wanted %d", n, err, i)
		}
		if _, err := conn.ExecContext(t.Context(), `UPDATE things SET n = 0 WHERE id = $1`, 1); err != nil {
			t.Fatal(err)
		}
	}
	if n := prepared(t, conn); n != 2 {
		t.Errorf("%d statements are prepared; wanted 2", n)
	}
}

func TestPreparedStatementsAreBounded(t *testing.T) {
	conn := session(t, thingsDatabase(t))
	for i := range 400 {
		var n int
		if err := conn.GetContext(t.Context(), &n, fmt.Sprintf(`SELECT %d + $1::int`, i), 1); err != nil || n != i+1 {
			t.Fatalf("%d, %v; wanted %d", n, err, i+1)
		}
	}
	if n := prepared(t, conn); n != 256 {
		t.Errorf("%d statements are prepared; wanted 256", n)
	}
}

// A statement that fails must not be taken for a bad session, nor spoil the next use.
func TestStatementFails(t *testing.T) {
	conn := session(t, thingsDatabase(t))
	const divide = `SELECT 6 / $1::int`
	for _, by := range []int{0, 2, 0, 3} {
		var n int
		err := conn.GetContext(t.Context(), &n, divide, by)
		if by == 0 && (err == nil || pg.IsTransient(err)) {
			t.Errorf("divided by zero: %v", err)
		}
		if by > 0 && (err != nil || n != 6/by) {
			t.Errorf("6 / %d = %d, %v", by, n, err)
		}
	}
	if _, err := conn.ExecContext(t.Context(), `UPDATE nothings SET n = $1`, 1); err == nil {
		t.Error("a table that is not there was updated")
	}
}

// A migration may alter a table under a running service.
func TestStatementOutlivesAlteredTable(t *testing.T) {
	databases := postgrestest.Database(t, "orders", things)
	db := databases.Service
	db.SetMaxOpenConns(1) // the same session throughout
	read := func(tx *sqlx.Tx) error {
		var rows []struct{ ID, N int64 }
		err := tx.SelectContext(t.Context(), &rows, `SELECT * FROM things WHERE id >= $1`, 1)
		if err == nil && len(rows) != 2 {
			err = errors.New("not two rows")
		}
		return err
	}
	if err := pg.InTx(t.Context(), db, read); err != nil {
		t.Fatal(err)
	}
	if _, err := databases.Owner.ExecContext(t.Context(), `ALTER TABLE things ALTER n TYPE bigint`); err != nil {
		t.Fatal(err)
	}
	if err := pg.InTx(t.Context(), db, read); err != nil {
		t.Errorf("after the table was altered: %v", err)
	}
}
