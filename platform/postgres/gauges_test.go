package postgres_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

func TestCollectorsTellOfTheDatabase(t *testing.T) {
	t.Parallel()
	db := postgrestest.Database(t, "orders")
	registry := prometheus.NewRegistry()
	registry.MustRegister(pg.Collectors(db.Service, "orders")...)
	value := func(name string) float64 {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			if family.GetName() == name {
				return family.GetMetric()[0].GetGauge().GetValue()
			}
		}
		t.Fatalf("there is no %s", name)
		return 0
	}
	if size := value("altyn_postgres_database_bytes"); size < 1<<20 {
		t.Errorf("the database has %v bytes", size)
	}
	if clock := value("altyn_postgres_clock_seconds") - float64(time.Now().Unix()); clock < -10 || clock > 10 {
		t.Errorf("the server's clock is %v s ahead", clock)
	}
	if waits := value("altyn_postgres_lock_wait_seconds"); waits != 0 {
		t.Errorf("a statement waits for %v s", waits)
	}
	for range 500 { // a scrape right after another has them all too
		value("altyn_postgres_database_bytes")
	}
	// The scrape itself asks the database meanwhile.
	if open := value("go_sql_in_use_connections"); open > 1 {
		t.Errorf("%v connections are in use", open)
	}

	// Of two transactions that take the same lock, the second one waits.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	holder, err := db.Service.BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Rollback()
	const lock = `SELECT pg_advisory_xact_lock(1)`
	if _, err := holder.Exec(lock); err != nil {
		t.Fatal(err)
	}
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		_, _ = db.Service.ExecContext(ctx, lock)
	}()
	for deadline := time.Now().Add(30 * time.Second); value("altyn_postgres_lock_wait_seconds") == 0; {
		if time.Now().After(deadline) {
			t.Fatal("no statement waits for a lock")
		}
	}
	if age := value("altyn_postgres_transaction_seconds"); age <= 0 {
		t.Errorf("the oldest transaction is open for %v s", age)
	}
	cancel()
	<-waited
}

// A server that is frozen keeps even a query that was cancelled. Scrapes go on without its gauges, and ask once.
func TestGaugesDoNotHoldUpAScrape(t *testing.T) {
	t.Parallel()
	server := &frozen{asked: make(chan struct{}, 10), until: make(chan struct{})}
	defer close(server.until)
	db := sqlx.NewDb(sql.OpenDB(server), "postgres")
	registry := prometheus.NewRegistry()
	registry.MustRegister(pg.Gauges(db, `SELECT 1`, prometheus.GaugeOpts{Name: "one", Help: "One."}))
	for range 3 {
		if families, err := registry.Gather(); err != nil || len(families) != 0 {
			t.Fatalf("a scrape got %v, %v", families, err)
		}
	}
	if n := len(server.asked); n != 1 {
		t.Errorf("the server was asked %d times at once", n)
	}
}

// frozen is a database that does not answer before until is closed, whatever the context says.
type frozen struct{ asked, until chan struct{} }

func (f *frozen) Connect(context.Context) (driver.Conn, error) {
	f.asked <- struct{}{}
	<-f.until
	return nil, errors.New("it is over")
}

func (f *frozen) Driver() driver.Driver { return nil }
