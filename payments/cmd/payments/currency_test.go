package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/platform/telemetry"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// An order whose currency is not known here, or has other digits here, fails: nothing is taken, and its event has the amount as
// orders has it.
func TestAnOrderInAnotherCurrencyFails(t *testing.T) {
	b := setup(t, "all")
	account := b.account("1000.00")
	foreign := map[string]contract.Order{}
	for amount, currency := range map[string]string{"10.000": "RUB", "10": "RUB", "10.0": "RUB", "10.01": "XQQ", "7": "XQX", "0.000000000000000001": "RUB", "10.00": "JPY"} {
		o := order(account, amount)
		o.Currency = currency
		foreign[amount] = o
	}
	for _, change := range []func(o *contract.Order){
		func(o *contract.Order) { o.Amount, o.Capture = "20.000", contract.CaptureManual },
		func(o *contract.Order) { o.Amount, o.AwaitInventory = "21.000", true },
		func(o *contract.Order) { o.Amount, o.OnInsufficient = "22.000", contract.OnInsufficientWait },
	} {
		o := order(account, "")
		change(&o)
		foreign[o.Amount] = o
	}
	for _, o := range foreign {
		b.produce(record(o), record(o), cancelled(o, "too late"))
	}
	early := order(account, "30.000")
	b.produce(cancelled(early, "before it came"), record(early))
	begun := order(account, "40.00")
	b.place(begun, "succeeded")
	changed := begun
	changed.Amount, changed.Repeated = "40.000", true
	b.produce(record(changed), cancelled(changed, "by an orders with another file"))

	published := b.published()
	for amount, o := range foreign {
		if events := published[o.OrderID]; len(events) != 1 {
			t.Errorf("%s: %d events: %v", amount, len(events), events)
			continue
		}
		state, _, _ := strings.Cut(strings.SplitN(published[o.OrderID][0], " ", 3)[2], "\n")
		var p contract.Payment
		if err := json.Unmarshal([]byte(state), &p); err != nil {
			t.Fatal(err)
		}
		zero := "0" + strings.TrimLeft(amount, "0123456789")
		zero = strings.Map(func(r rune) rune {
			if r == '.' {
				return r
			}
			return '0'
		}, zero)
		if p.Status != "failed" || p.Reason != "currency_mismatch" || p.Amount != amount || p.Currency != o.Currency || p.CapturedAmount != zero || p.Version != 1 {
			t.Errorf("%s: %+v", amount, p)
		}
		b.expect(b.call("GET", "/api/v1/payments/"+o.OrderID.String(), nil), 200, "status", "failed", "reason", "currency_mismatch", "amount", amount, "currency", o.Currency)
		b.expect(b.call("GET", "/api/v1/operations/"+o.OrderID.String(), nil), 200, "status", "error", "reason", "currency_mismatch", "amount", amount, "currency", o.Currency)
	}
	if events := published[early.OrderID]; len(events) != 1 || !strings.Contains(events[0], `"amount":"30.000"`) || !strings.Contains(events[0], `"status":"cancelled"`) {
		t.Errorf("cancelled before it came: %v", events)
	}
	if events := published[begun.OrderID]; len(events) < 2 || !strings.Contains(events[len(events)-1], `"status":"cancelled"`) {
		t.Errorf("a payment that had begun: %v", events)
	}
	if got := b.balances(account); got != "1000.00 0.00" {
		t.Errorf("in the end: %s", got)
	}
	b.until(0, `SELECT count(*) FROM balances WHERE currency LIKE '%,%'`)
	b.until(0, `SELECT count(*) FROM waits`)
	b.until(0, `SELECT count(*) FROM holds`)
}

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
	b.coins = file("XTS,2")
	url, stop := b.start("all")
	b.url = url
	account := b.account("")
	b.post("/api/v1/accounts/"+account.String()+"/deposits", `{"amount": "1.25", "currency": "XTS"}`)
	stop()
	for lines, says := range map[string]string{"XTS,3": "XTS has 3 digits here and 2 in the database", "": "XTS is missing and used in the database"} {
		for _, role := range []service.Role{service.All, service.API, service.Worker} {
			cfg := service.Config{Role: role, Postgres: b.Config, Kafka: b.broker, Currencies: file(lines),
				Telemetry: telemetry.Config{LogLevel: slog.LevelError + 1}}
			err := b.serve(t.Context(), cfg, nil)
			var wrong *config.Wrong
			if !errors.As(err, &wrong) || !strings.Contains(err.Error(), says) || wrong.Name != "CURRENCIES_FILE" {
				t.Errorf("with %q the %s instance ended with %v, want %s", lines, role, err, says)
			}
		}
	}
	b.url, _ = b.start("all")
	b.expect(b.call("GET", "/api/v1/accounts/"+account.String()+"/balance", nil), 200, "actual_balance", map[string]any{"XTS": "1.25"})
}

// While the database is away a service starts, and does nothing until it knows that its currencies are those of the database.
func TestNothingIsServedBeforeTheCurrenciesAreKnown(t *testing.T) {
	b, proxy := proxied(t)
	if _, err := b.Owner.Exec(`INSERT INTO currencies (code, digits) VALUES ('XTS', 2); INSERT INTO balances (account_id, lane, currency)
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
		addr, ended := make(chan net.Addr, 1), make(chan error, 1)
		cfg := service.Config{Role: service.All, Postgres: b.Config, Kafka: b.broker, Currencies: file(lines),
			Telemetry: telemetry.Config{LogLevel: slog.LevelError + 1}}
		go func() { ended <- b.serve(ctx, cfg, func(a net.Addr) { addr <- a }) }()
		select {
		case a := <-addr:
			b.url = "http://" + a.String()
		case err := <-ended:
			t.Fatalf("it did not start: %v", err)
		}
		for _, path := range []string{"/api/v1/currencies", "/api/v1/accounts"} {
			if got := b.call("GET", path, nil); got.status != 503 || got.body["code"] != "unavailable" {
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
		wait.Until(t, "it serves", func() bool { return b.call("GET", "/api/v1/currencies", nil).status == 200 })
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
