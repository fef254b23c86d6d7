package postgres_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// things is a schema of one table, with two rows: (1, 0) and (2, 0).
var things = pg.Migrations{Name: "things", FS: fstest.MapFS{"00001_things.sql": {Data: []byte(`
-- +goose Up
CREATE TABLE things (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO things VALUES (1, 0), (2, 0);
`)}}}

func thingsDatabase(t *testing.T) *sqlx.DB {
	t.Helper()
	return postgrestest.Database(t, "orders", things).Service
}

func add(ctx context.Context, tx *sqlx.Tx, id, n int) error {
	_, err := tx.ExecContext(ctx, `UPDATE things SET n = n + $2 WHERE id = $1`, id, n)
	return err
}

func total(t *testing.T, db *sqlx.DB) int {
	t.Helper()
	var n int
	if err := db.GetContext(t.Context(), &n, `SELECT sum(n) FROM things`); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestInTxCommits(t *testing.T) {
	db := thingsDatabase(t)
	err := pg.InTx(t.Context(), db, func(tx *sqlx.Tx) error { return add(t.Context(), tx, 1, 5) })
	if err != nil || total(t, db) != 5 {
		t.Errorf("total %d, %v", total(t, db), err)
	}
}

func TestInTxRollsBack(t *testing.T) {
	db := thingsDatabase(t)
	refusal := errors.New("refused")
	err := pg.InTx(t.Context(), db, func(tx *sqlx.Tx) error {
		if err := add(t.Context(), tx, 1, 5); err != nil {
			return err
		}
		return refusal
	})
	if !errors.Is(err, refusal) {
		t.Errorf("got %v", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = pg.InTx(t.Context(), db, func(tx *sqlx.Tx) error {
			if err := add(t.Context(), tx, 1, 5); err != nil {
				return err
			}
			panic("bug")
		})
	}()
	// A statement's error that fn swallows must not look like success.
	err = pg.InTx(t.Context(), db, func(tx *sqlx.Tx) error {
		_ = add(t.Context(), tx, 1, 5)
		_, _ = tx.ExecContext(t.Context(), `SELECT 1/0`)
		return nil
	})
	if !errors.Is(err, pq.ErrInFailedTransaction) {
		t.Errorf("got %v", err)
	}
	if total(t, db) != 0 {
		t.Errorf("total %d", total(t, db))
	}
	if open := db.Stats().InUse; open != 0 {
		t.Errorf("%d connections are still in use", open)
	}
}

// Two transactions lock the same rows in opposite order; the server ends one of them, and its second try succeeds.
func TestInTxSurvivesDeadlock(t *testing.T) {
	db := thingsDatabase(t)
	var bothHoldOne sync.WaitGroup
	bothHoldOne.Add(2)
	calls := make(chan struct{}, 10)
	transfer := func(from, to int) error {
		first := true
		return pg.InTx(t.Context(), db, func(tx *sqlx.Tx) error {
			calls <- struct{}{}
			if err := add(t.Context(), tx, from, -1); err != nil {
				return err
			}
			if first {
				first = false
				bothHoldOne.Done()
				bothHoldOne.Wait()
			}
			return add(t.Context(), tx, to, 3)
		})
	}
	errs := make(chan error, 2)
	go func() { errs <- transfer(1, 2) }()
	go func() { errs <- transfer(2, 1) }()
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if total(t, db) != 4 {
		t.Errorf("total %d, want 4", total(t, db))
	}
	if len(calls) < 3 {
		t.Errorf("%d calls: there was no deadlock", len(calls))
	}
}

func TestInTxTriesAreBounded(t *testing.T) {
	db := thingsDatabase(t)
	for _, test := range []struct {
		code  string
		calls int
	}{{"40001", 5}, {"40P01", 5}, {"55P03", 1}, {"23505", 1}} {
		calls := 0
		err := pg.InTx(t.Context(), db, func(tx *sqlx.Tx) error {
			calls++
			_, err := tx.ExecContext(t.Context(), `DO $$ BEGIN RAISE SQLSTATE '`+test.code+`'; END $$`)
			return err
		})
		if err == nil || calls != test.calls {
			t.Errorf("%s: %d calls, want %d; %v", test.code, calls, test.calls, err)
		}
	}
}

func TestInTxAndTheEndOfItsContext(t *testing.T) {
	db := thingsDatabase(t)
	t.Run("after fn", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		err := pg.InTx(ctx, db, func(tx *sqlx.Tx) error {
			err := add(t.Context(), tx, 1, 5)
			cancel()
			return err
		})
		if err != nil || total(t, db) != 5 {
			t.Errorf("total %d, %v", total(t, db), err)
		}
	})
	t.Run("in a statement", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		err := pg.InTx(ctx, db, func(tx *sqlx.Tx) error {
			if err := add(ctx, tx, 1, 5); err != nil {
				return err
			}
			cancel()
			return add(ctx, tx, 1, 5)
		})
		if !errors.Is(err, context.Canceled) || total(t, db) != 5 {
			t.Errorf("total %d, %v", total(t, db), err)
		}
	})
	t.Run("before the transaction", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := pg.InTx(ctx, db, func(tx *sqlx.Tx) error {
			t.Error("fn was called")
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("waiting for a connection", func(t *testing.T) {
		cfg := postgrestest.Database(t, "orders", things).Config
		cfg.MaxConns = 1
		narrow, err := pg.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer narrow.Close()
		taken, err := narrow.Connx(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- pg.InTx(ctx, narrow, func(*sqlx.Tx) error { return nil }) }()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}
