package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/api"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/testkit/issuer"
	"github.com/altyn-pay/altyn/testkit/kafkatest"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// What is personal of an account's orders is in no table any more, once they have come to their end; what is repeated
// has no effect.
func TestErase(t *testing.T) {
	t.Parallel()
	db, broker := postgrestest.Database(t, "orders", postgres.Migrations()...), kafkatest.Broker(t)
	startPayments(t, broker)
	tokens := issuer.New(t)
	cfg := configuration(t, db, broker)
	cfg.Auth = tokens.Config()
	p := start(t, cfg)
	wait.Until(t, "the keys are there", func() bool { code, _ := p.call(t, "GET", "/readyz", ""); return code == 200 })

	const word = "kumquat"
	account := uuid.NewString()
	call := func(method, path, body, key string) (int, []byte) {
		headers := []string{"Authorization", "Bearer " + tokens.Token("shop", word, issuer.Scopes)}
		if key != "" {
			headers = append(headers, "Idempotency-Key", key)
		}
		return p.call(t, method, path, body, headers...)
	}
	type request struct{ path, body, key string }
	var keyed []request
	post := func(status int, path, body string) (o api.Order) {
		t.Helper()
		r := request{path, body, word + fmt.Sprint(len(keyed))}
		keyed = append(keyed, r)
		code, answer := call("POST", path, body, r.key)
		if err := json.Unmarshal(answer, &o); err != nil || code != status {
			t.Fatalf("POST %s %s: %d %s", path, body, code, answer)
		}
		return o
	}
	order := func(account, amount string) string {
		return fmt.Sprintf(`{"account_id": "%s", "amount": "%s", "currency": "RUB", "description": "%s d",
			"reference": "%[3]s"}`, account, amount, word)
	}
	paid := post(201, "/api/v1/orders?wait=30s", order(account, "10.00"))
	post(201, "/api/v1/orders?wait=30s", order(account, "1000.00"))
	post(202, "/api/v1/orders/"+post(201, "/api/v1/orders?wait=30s", order(account, "11.00")).ID.String()+"/cancel",
		`{"reason": "`+word+`"}`)
	post(200, "/api/v1/orders/batch", `{"orders": [`+order(account, "12.00")+`]}`)
	settled := func() {
		t.Helper()
		postgrestest.AwaitCount(t, db.Owner, 4, `SELECT count(*) FROM orders WHERE status IN ('paid', 'failed', 'cancelled')`)
		postgrestest.AwaitCount(t, db.Owner, 0, `SELECT count(*) FROM outbox`)
	}
	settled()

	erase := func(code int, words ...string) {
		t.Helper()
		var out strings.Builder
		err := service.EraseAccount(t.Context(), &out, newProgram(cfg), service.Erase{Account: uuid.MustParse(account),
			Operator: service.Operator{Token: tokens.Token("shop", "officer", "operator"), Reason: "was asked to"}})
		if exit := config.Exit(0); err != nil && !errors.As(err, &exit) || int(exit) != code {
			t.Errorf("%v, want exit code %d", err, code)
		}
		for _, word := range words {
			if !strings.Contains(out.String(), word) {
				t.Errorf("it says %s, and not %s", &out, word)
			}
		}
	}
	set := func(status string) {
		t.Helper()
		if _, err := db.Owner.Exec(`UPDATE orders SET status = $1 WHERE id = $2`, status, paid.ID); err != nil {
			t.Fatal(err)
		}
	}
	set("pending") // what is announced again must stay as it is
	erase(1, "left: 1 orders are pending or cancelling")
	if left := postgrestest.Mentions(t, db.Owner, word); !slices.Equal(left, []string{"orders"}) {
		t.Errorf("of the pending order it is left in %v", left)
	}
	set("paid")
	erase(0)
	erase(0, "0 rows were erased\n")
	for _, r := range keyed {
		if code, answer := call("POST", r.path, r.body, r.key); code != 422 ||
			!strings.Contains(string(answer), "idempotency_key_reused") {
			t.Errorf("%s %s again: %d %s", r.path, r.body, code, answer)
		}
	}
	settled()
	if left := postgrestest.Mentions(t, db.Owner, word); len(left) > 0 {
		t.Errorf("it is left in %v", left)
	}
	for _, path := range []string{"/api/v1/orders?account_id=" + account,
		"/api/v1/orders/" + paid.ID.String() + "/explain", "/api/v1/orders/" + paid.ID.String() + "/timeline"} {
		if code, answer := call("GET", path, "", ""); code != 200 {
			t.Errorf("GET %s: %d %s", path, code, answer)
		}
	}
	// It can still be cancelled.
	if code, answer := call("POST", "/api/v1/orders/"+paid.ID.String()+"/cancel", `{}`, ""); code != 202 {
		t.Errorf("%d %s", code, answer)
	}
	postgrestest.AwaitCount(t, db.Owner, 2, `SELECT count(*) FROM orders WHERE status = 'cancelled'`)
	var out strings.Builder
	if err := service.AuditBooks(t.Context(), &out, newProgram(cfg), service.Audit{Load: 100, After: -1}); err != nil {
		t.Errorf("audit: %v %s", err, &out)
	}
	postgrestest.AwaitCount(t, db.Owner, 3, `SELECT count(*) FROM admin_actions WHERE action = 'account.erased'
		AND object = $1 AND subject = 'officer' AND reason = 'was asked to'`, account)
}
