package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// What was moved to the archive is read, repeated, refunded, verified and audited as before.
func TestArchive(t *testing.T) {
	b := setup(t, service.All)
	account, other := b.Account("100.00"), b.Account("")
	path := "/api/v1/accounts/" + account.String()
	const key = "Idempotency-Key"
	deposit := b.Post(path+"/deposits", `{"amount": "5", "currency": "RUB", "reference": "r"}`, key, "deposit")
	b.Post("/api/v1/transfers", fmt.Sprintf(`{"from_account_id": "%s", "to_account_id": "%s", "amount": "1",
		"currency": "RUB"}`, account, other))
	b.Call("POST", path+"/withdrawals", `{"amount": "1000", "currency": "RUB"}`, key, "failed")
	captured := b.Post(path+"/holds", `{"amount": "3", "currency": "RUB"}`).Body["id"].(string)
	b.Post("/api/v1/holds/"+captured+"/capture", `{}`)
	open := b.Post(path+"/holds", `{"amount": "4", "currency": "RUB"}`).Body["id"].(string)
	paid, failed := paymentstest.Order(account, "6.00"), paymentstest.Order(account, "1000.00")
	b.Place(paid, contract.PaymentSucceeded)
	b.Place(failed, contract.PaymentFailed)
	held := b.Held(account, "7.00")

	reads := []string{path, path + "/balance", path + "/entries", path + "/operations", path + "/holds",
		"/api/v1/accounts/" + other.String() + "/operations", "/api/v1/operations?reference=r", "/api/v1/operations",
		"/api/v1/operations?order_id=" + paid.OrderID.String(), "/api/v1/payments?account_id=" + account.String(),
		"/api/v1/operations/" + deposit.Body["id"].(string), "/api/v1/operations/" + captured + "/explain",
		"/api/v1/holds/" + captured, "/api/v1/payments/" + paid.OrderID.String(), "/api/v1/operations?limit=3"}
	answers := func() (all []any) {
		t.Helper()
		for _, read := range reads {
			got := b.Call("GET", read, nil)
			if got.Status != http.StatusOK {
				t.Errorf("GET %s: %d %v", read, got.Status, got.Body)
			}
			all = append(all, got.Body)
		}
		return all
	}
	move := func() {
		t.Helper()
		if _, err := pg.Archive(t.Context(), b.Owner, postgres.Archived, pg.Archiving{
			Before: time.Now().Add(time.Hour), Load: 100, Progress: func(string, int64, int64) {}}); err != nil {
			t.Fatal(err)
		}
		// The archive has more pages then.
		if _, err := b.Owner.Exec(`VACUUM operations, entries, payments, holds`); err != nil {
			t.Fatal(err)
		}
	}
	before := answers()
	move()
	b.Until(0, `SELECT (SELECT count(*) FROM ONLY entries) + (SELECT count(*) FROM ONLY operations)`)
	b.Until(2, `SELECT (SELECT count(*) FROM ONLY payments) + (SELECT count(*) FROM ONLY holds WHERE order_id IS NULL)`)
	for i, after := range answers() {
		if !reflect.DeepEqual(after, before[i]) {
			t.Errorf("GET %s was\n%v\nand is\n%v", reads[i], before[i], after)
		}
	}
	b.right(0)

	// What comes again has no effect, and what goes on does.
	rows := `SELECT count(*) FROM operations`
	var had int
	if err := b.Owner.Get(&had, rows); err != nil {
		t.Fatal(err)
	}
	again := b.Call("POST", path+"/deposits", `{"amount": "5", "currency": "RUB", "reference": "r"}`, key, "deposit")
	if again.Status != http.StatusCreated || again.Body["id"] != deposit.Body["id"] ||
		again.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("the deposit again: %d %v", again.Status, again.Body)
	}
	b.Expect(b.Call("POST", path+"/deposits", `{"amount": "6", "currency": "RUB", "reference": "r"}`, key, "deposit"), 422,
		"code", "idempotency_key_reused")
	b.Expect(b.Call("POST", path+"/withdrawals", `{"amount": "1000", "currency": "RUB"}`, key, "failed"), 422,
		"code", "insufficient_funds")
	b.Place(paid, contract.PaymentSucceeded)
	b.Until(had, rows)
	b.Expect(b.Step(paid, "refund", `{"amount": "2"}`), 200, "status", contract.PaymentRefunded, "refunded_amount", "2.00")
	b.Expect(b.Step(held, "confirm", `{}`), 200, "status", contract.PaymentSucceeded)
	b.Post("/api/v1/holds/"+open+"/release", `{}`)
	b.Expect(b.Call("POST", "/api/v1/holds/"+captured+"/capture", `{}`), 422, "code", "hold_not_open")
	b.right(0)
	before = answers()
	move()
	for i, after := range answers() {
		if !reflect.DeepEqual(after, before[i]) {
			t.Errorf("GET %s was\n%v\nand is\n%v", reads[i], before[i], after)
		}
	}
	b.right(0)

	// What is final the service cannot change there, either; and what its owner changes shows.
	for _, statement := range []string{`UPDATE operations SET note = 'x'`, `DELETE FROM entries`,
		`DELETE FROM archive.entries`, `UPDATE holds SET status = 'open', captured = 0`} {
		if _, err := b.Service.Exec(statement); pq.As(err, pqerror.InsufficientPrivilege) == nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
	if _, err := b.Owner.Exec(`UPDATE archive.entries SET amount = amount + 1 WHERE account_id = $1 AND number = 1`,
		account); err != nil {
		t.Fatal(err)
	}
	b.right(1)
}

// right expects this exit code of verify and audit, once all that the settlement has written is linked.
func (b *bundle) right(code int) {
	b.Helper()
	wait.NoError(b, func() error {
		for name, look := range map[string]func(out io.Writer) error{
			"verify": func(out io.Writer) error {
				return verify(b.Context(), out, Verify{Database: b.database()})
			},
			"audit": func(out io.Writer) error {
				return service.AuditBooks(b.Context(), out, program(Config{Config: b.Settings}),
					service.Audit{Load: 100, After: -1})
			},
		} {
			var out strings.Builder
			exit := config.Exit(0)
			if err := look(&out); err != nil && !errors.As(err, &exit) || int(exit) != code {
				return fmt.Errorf("%s: %v, want exit code %d: %s", name, err, code, &out)
			}
		}
		return nil
	})
}

// Rows are moved while they are written, read, refunded and repeated.
func TestRowsAreMovedWhileTheyAreUsed(t *testing.T) {
	b := setup(t, service.All, service.Worker)
	accounts := []uuid.UUID{b.Account("100.00"), b.Account("100.00"), b.Account("100.00")}
	moving, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		var err error
		for err == nil && moving.Err() == nil {
			_, err = pg.Archive(context.WithoutCancel(moving), b.Owner, postgres.Archived, pg.Archiving{
				Before: time.Now().Add(time.Hour), Load: 100, Progress: func(string, int64, int64) {}})
		}
		done <- err
	}()
	const rounds = 20
	for i := range rounds {
		for _, account := range accounts {
			o := paymentstest.Order(account, "2.00")
			b.Place(o, contract.PaymentSucceeded)
			key := fmt.Sprint(account, i)
			for range 2 {
				b.Expect(b.Step(o, "refund", `{"amount": "1"}`, "Idempotency-Key", key), 200, "refunded_amount", "1.00")
			}
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, account := range accounts {
		if got := b.Balance(account); got != "80.00" {
			t.Errorf("account %s has %s", account, got)
		}
	}
	b.Until(2*rounds*len(accounts)+2*len(accounts), `SELECT count(*) FROM operations`)
	b.right(0)
}
