package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/platform/telemetry"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// A service whose currencies are not those of its database does not start.
func TestOtherDigitsThanStored(t *testing.T) {
	b := setup(t)
	file := func(lines string) string {
		path := filepath.Join(t.TempDir(), "currencies")
		if err := os.WriteFile(path, []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	b.Settings.Currencies = file("XTS,2")
	url, stop := b.Start("all")
	b.URL = url
	account := b.Account("")
	b.Post("/api/v1/accounts/"+account.String()+"/deposits", `{"amount": "1.25", "currency": "XTS"}`)
	stop()
	for lines, says := range map[string]string{"XTS,3": "XTS has 3 digits here and 2 in the database",
		"": "XTS is missing and used in the database"} {
		for _, role := range []service.Role{service.All, service.API, service.Worker} {
			cfg := service.Config{Role: role, Postgres: b.Settings.Postgres, Kafka: b.broker, Currencies: file(lines),
				Telemetry: telemetry.Config{LogLevel: slog.LevelError + 1}}
			err := b.Serve(t.Context(), cfg, nil)
			var wrong *config.Wrong
			if !errors.As(err, &wrong) || !strings.Contains(err.Error(), says) || wrong.Name != "CURRENCIES_FILE" {
				t.Errorf("with %q the %s instance ended with %v, want %s", lines, role, err, says)
			}
		}
	}
	b.URL, _ = b.Start("all")
	b.Expect(b.Call("GET", "/api/v1/accounts/"+account.String()+"/balance", nil), 200, "actual_balance",
		map[string]any{"XTS": "1.25"})
}

// While the database is away a service starts, and does nothing until it knows that its currencies are those of the
// database.
func TestNothingIsServedBeforeTheCurrenciesAreKnown(t *testing.T) {
	b := setup(t)
	proxy := b.Through()
	if _, err := b.Owner.Exec(`INSERT INTO currencies (code, digits) VALUES ('XTS', 2);
		INSERT INTO balances (account_id, lane, currency)
		VALUES (gen_random_uuid(), 0, 'XTS')`); err != nil {
		t.Fatal(err)
	}
	file := func(lines string) string {
		path := filepath.Join(t.TempDir(), "currencies")
		if err := os.WriteFile(path, []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for lines, fits := range map[string]bool{"XTS,3": false, "XTS,2": true} {
		proxy.Away(true)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		addr, ended := make(chan service.Addresses, 1), make(chan error, 1)
		cfg := service.Config{Role: service.All, Postgres: b.Settings.Postgres, Kafka: b.broker, Currencies: file(lines),
			Telemetry: telemetry.Config{LogLevel: slog.LevelError + 1}}
		go func() { ended <- b.Serve(ctx, cfg, func(a service.Addresses) { addr <- a }) }()
		select {
		case a := <-addr:
			b.URL = "http://" + a.API.String()
		case err := <-ended:
			t.Fatalf("it did not start: %v", err)
		}
		for _, path := range []string{"/api/v1/currencies", "/api/v1/accounts"} {
			if got := b.Call("GET", path, nil); got.Status != 503 || got.Body["code"] != "unavailable" {
				t.Errorf("%s without a database: %v", path, got)
			}
		}
		proxy.Away(false)
		if !fits {
			var wrong *config.Wrong
			if err := <-ended; !errors.As(err, &wrong) {
				t.Errorf("with %q it ended with %v", lines, err)
			}
			continue
		}
		wait.Until(t, "it serves", func() bool { return b.Call("GET", "/api/v1/currencies", nil).Status == 200 })
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
