package audit

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// A step is done by one process, in which one free connection is enough for it. What a process that died has taken,
// another one does later; what it took longer for than it may, it leaves to the one that has taken it meanwhile.
func TestProcessesTakeTurns(t *testing.T) {
	t.Parallel()
	db := postgrestest.Database(t, "audit", Migrations())
	db.Service.SetMaxOpenConns(1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	during := func() {}
	books := Books{
		Tables: []Table{{Name: "audit_findings", Of: "id = ANY($1::uuid[])"}},
		Head:   func(context.Context, sqlx.QueryerContext) (int64, error) { return 7, nil },
		Changed: func(_ context.Context, _ sqlx.QueryerContext, after int64) ([]uuid.UUID, int64, error) {
			during()
			return nil, after, nil
		},
	}
	place := func() (s state) {
		t.Helper()
		if err := db.Owner.Get(&s, `
			SELECT table_name, page, beside, after, began_at, ended_at, current_at, next_at::text, clock_timestamp() AS now,
				next_at <= clock_timestamp() AS due FROM audit`); err != nil {
			t.Fatal(err)
		}
		return s
	}
	step := func() state {
		t.Helper()
		w := NewWorker(db.Service, books, Config{Every: time.Hour, Load: 100}, slog.New(slog.DiscardHandler),
			prometheus.NewRegistry())
		if _, err := w.runOnce(ctx); err != nil {
			t.Fatal(err)
		}
		return place()
	}

	// It is taken by a process that may be dead by now.
	db.Owner.MustExec(`UPDATE audit SET next_at = clock_timestamp() + interval '1 hour'`)
	if s := step(); s.Began.Valid {
		t.Errorf("a step that another process has taken was done: %+v", s)
	}
	db.Owner.MustExec(`UPDATE audit SET next_at = clock_timestamp()`)
	during = func() {
		if s := place(); s.Due {
			t.Errorf("while a step is done, another process could take it: %+v", s)
		}
	}
	if s := step(); !s.Ended.Valid || s.After != 7 {
		t.Errorf("the step was not done: %+v", s)
	}

	// Another process takes the step from the one that is at it, and comes further.
	db.Owner.MustExec(`UPDATE audit SET next_at = clock_timestamp()`)
	during = func() {
		db.Owner.MustExec(`UPDATE audit SET after = 9, next_at = clock_timestamp() + interval '1 hour'`)
	}
	if s := step(); s.After != 9 || s.Due {
		t.Errorf("a process that was late has undone what another one did: %+v", s)
	}
}
