package postgres_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/localpostgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

func TestDefaults(t *testing.T) {
	got := pg.Config{}.Defaults("orders")
	want := pg.Config{
		Database: "orders", User: "orders_service", Password: "orders_service",
		Owner: "orders_owner", OwnerPassword: "orders_owner", Application: "orders",
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	set := pg.Config{Database: "d", User: "u", Password: "p", Owner: "o", OwnerPassword: "q", Application: "a"}
	if got := set.Defaults("orders"); got != set {
		t.Errorf("what is set became %+v", got)
	}
}

func TestOpenRefusesConfig(t *testing.T) {
	good := pg.Config{Host: "127.0.0.1", Port: 1, SSLMode: "disable", MaxConns: 1}.Defaults("orders")
	if db, err := pg.Open(good); err != nil {
		t.Errorf("a server that is not there: %v", err) // it may come
	} else {
		db.Close()
	}
	for name, change := range map[string]func(*pg.Config){
		"host":        func(c *pg.Config) { c.Host = "" },
		"port":        func(c *pg.Config) { c.Port = 0 },
		"database":    func(c *pg.Config) { c.Database = "" },
		"user":        func(c *pg.Config) { c.User = "" },
		"sslmode":     func(c *pg.Config) { c.SSLMode = "prefer" },
		"connections": func(c *pg.Config) { c.MaxConns = 0 },
	} {
		cfg := good
		change(&cfg)
		if db, err := pg.Open(cfg); err == nil {
			db.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSessionSettings(t *testing.T) {
	db := postgrestest.Database(t, "orders")
	for setting, want := range map[string][2]string{ // of the service, of the owner
		"statement_timeout":                   {"30s", "0"},
		"lock_timeout":                        {"10s", "10s"},
		"idle_in_transaction_session_timeout": {"30s", "30s"},
		"application_name":                    {"orders", "orders"},
		"transaction_isolation":               {"read committed", "read committed"},
	} {
		var service, owner string
		if err := db.Service.GetContext(t.Context(), &service, `SELECT current_setting($1)`, setting); err != nil {
			t.Fatal(err)
		}
		if err := db.Owner.GetContext(t.Context(), &owner, `SELECT current_setting($1)`, setting); err != nil {
			t.Fatal(err)
		}
		if got := [2]string{service, owner}; got != want {
			t.Errorf("%s is %v, want %v", setting, got, want)
		}
	}
}

func TestEnvironmentChangesNothing(t *testing.T) {
	t.Setenv("PGHOST", "nowhere.invalid")
	t.Setenv("PGHOSTADDR", "192.0.2.1")
	t.Setenv("PGOPTIONS", "-c search_path=elsewhere")
	t.Setenv("PGDATABASE", "elsewhere")
	db := postgrestest.Database(t, "orders")
	var path string
	if err := db.Service.GetContext(t.Context(), &path, `SHOW search_path`); err != nil || path != `"$user", public` {
		t.Errorf("search_path is %s, %v", path, err)
	}
}

func TestWait(t *testing.T) {
	t.Run("until it is up", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := uint16(listener.Addr().(*net.TCPAddr).Port)
		listener.Close()

		admin := pg.Config{Host: "127.0.0.1", Port: port, SSLMode: "disable", Database: "postgres", User: "postgres",
			Password: "postgres", MaxConns: 1}
		db, err := pg.Open(admin)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		waited := make(chan error, 1)
		go func() { waited <- pg.Wait(t.Context(), db) }()

		server, err := localpostgres.Start(t.Context(), localpostgres.Options{Port: port, NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = server.Stop(localpostgres.Immediate) }()
		if err := <-waited; err != nil {
			t.Error(err)
		}
	})
	t.Run("until the context ends", func(t *testing.T) {
		cfg := pg.Config{Host: "127.0.0.1", Port: 1, SSLMode: "disable", MaxConns: 1}.Defaults("orders")
		db, err := pg.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err = pg.Wait(ctx, db)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("not for what waiting does not cure", func(t *testing.T) {
		cfg := postgrestest.Database(t, "orders").Config
		cfg.Password = "wrong"
		db, err := pg.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := pg.Wait(t.Context(), db); err == nil || !strings.Contains(err.Error(), "password") {
			t.Errorf("got %v", err)
		}
	})
}
