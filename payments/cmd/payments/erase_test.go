package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/testkit/issuer"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// What is personal of an account is in no table any more, once all has come to its end; the books, their chain and what
// others have are as they were, and what is repeated has no effect.
func TestErase(t *testing.T) {
	b := setup(t)
	tokens := issuer.New(t)
	b.Settings.Auth = tokens.Config()
	b.Start(service.All)
	wait.Until(t, "the keys are there", func() bool { return b.Call("GET", "/readyz", nil).Status == 200 })

	const word = "kumquat"
	account, other := uuid.New(), uuid.New()
	path := "/api/v1/accounts/" + account.String()
	text := fmt.Sprintf(`"reference": "%[1]s r", "description": "%[1]s d"`, word)
	type request struct{ path, body, key string }
	var keyed []request
	token := func(subject, scopes string) string { return "Bearer " + tokens.Token("shop", subject, scopes) }
	call := func(method, path, body, key string) paymentstest.Answer {
		t.Helper()
		headers := []string{"Authorization", token(word, issuer.Scopes)}
		if key != "" {
			headers = append(headers, "Idempotency-Key", key)
		}
		if body == "" {
			return b.Call(method, path, nil, headers...)
		}
		return b.Call(method, path, body, headers...)
	}
	post := func(status int, path, body string) map[string]any {
		t.Helper()
		r := request{path, body, word + fmt.Sprint(len(keyed))}
		keyed = append(keyed, r)
		got := call("POST", r.path, r.body, r.key)
		if got.Status != status {
			t.Fatalf("POST %s %s: %d %v", path, body, got.Status, got.Body)
		}
		return got.Body
	}
	post(201, "/api/v1/accounts", fmt.Sprintf(`{"id": "%s", "owner": "%s", "reference": "%[2]s"}`, account, word))
	b.Post("/api/v1/accounts", fmt.Sprintf(`{"id": "%s", "owner": "pear"}`, other), "Authorization",
		token("boss", issuer.Scopes))
	b.Post("/api/v1/accounts/"+other.String()+"/deposits", `{"amount": "5", "currency": "RUB"}`, "Authorization",
		token("boss", issuer.Scopes))
	b.Post("/api/v1/transfers", fmt.Sprintf(`{"from_account_id": "%s", "to_account_id": "%s", "amount": "1",
		"currency": "RUB", "description": "for %s"}`, other, account, word), "Authorization", token("boss", issuer.Scopes))
	deposit := post(201, path+"/deposits", `{"amount": "100", "currency": "RUB", `+text+`}`)["id"].(string)
	post(201, path+"/withdrawals", `{"amount": "1", "currency": "RUB", `+text+`}`)
	post(422, path+"/withdrawals", `{"amount": "1000", "currency": "RUB", `+text+`}`)
	post(201, "/api/v1/transfers", fmt.Sprintf(`{"from_account_id": "%s", "to_account_id": "%s", "amount": "1",
		"currency": "RUB", %s}`, account, other, text))
	hold := post(201, path+"/holds", `{"amount": "10", "currency": "RUB", `+text+`}`)["id"].(string)
	post(201, "/api/v1/holds/"+hold+"/capture", `{"amount": "4"}`)
	post(200, paymentstest.BatchPath, paymentstest.BatchOf(fmt.Sprintf(
		`{"operation": "deposit", "account_id": "%s", "amount": "2", "currency": "RUB", %s}`, account, text)))
	waiting := post(202, path+"/withdrawals",
		`{"amount": "7", "currency": "USDT", "on_insufficient": "wait", `+text+`}`)["id"].(string)
	command := paymentstest.Command(account, fmt.Sprintf(`{"command_id": "%s", "operation": "deposit", "account_id": "%s",
		"amount": "3", "currency": "RUB", %s}`, uuid.New(), account, text),
		kafka.Header{Key: "authorization", Value: []byte(token(word, issuer.Scopes))})
	b.Produce(command)
	b.Replies(1, contract.TopicReplies)
	var placed []kafka.Message
	for _, steps := range [][2]string{{"confirm", "refund"}, {"reject"}, {"", "cancel"}} {
		o := paymentstest.Order(account, "5.00")
		o.Capture, o.Description, o.Reference, o.Owner = contract.CaptureManual, word, word, word
		shop := func(m kafka.Message) kafka.Message {
			m.Headers = append(m.Headers, kafka.Header{Key: "ce_tenant", Value: []byte("shop")})
			return m
		}
		placed = append(placed, shop(paymentstest.Placed(o)))
		b.Produce(placed[len(placed)-1])
		b.Until(1, `SELECT count(*) FROM payments WHERE order_id = $1 AND status = 'authorized'`, o.OrderID)
		for _, step := range steps {
			switch step {
			case "":
			case "cancel":
				b.Produce(shop(paymentstest.Cancelled(o, word)))
				b.Until(1, `SELECT count(*) FROM payments WHERE order_id = $1 AND status = 'cancelled'`, o.OrderID)
			default:
				post(200, "/api/v1/payments/"+o.OrderID.String()+"/"+step, map[bool]string{
					true: `{}`, false: `{"reason": "` + word + `"}`}[step == "confirm"])
			}
		}
	}
	b.Until(0, `SELECT count(*) FROM outbox`)

	erase := func(code int, words ...string) {
		t.Helper()
		var out strings.Builder
		err := service.EraseAccount(t.Context(), &out, program(Config{Config: b.Settings}), service.Erase{Account: account,
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
	erase(1, "left: 1 operations wait for money or goods")
	if left := postgrestest.Mentions(t, b.Owner, word); !slices.Equal(left, []string{"operations", "waits"}) {
		t.Errorf("before what waits has ended, it is left in %v", left)
	}
	if got := call("POST", "/api/v1/operations/"+waiting+"/cancel", `{"reason": "`+word+`"}`, ""); got.Status != 200 {
		t.Fatalf("%d %v", got.Status, got.Body)
	}
	b.Until(0, `SELECT count(*) FROM outbox`)
	books := b.Call("GET", path, nil, "Authorization", token("boss", issuer.Scopes)).Body["balances"]
	erase(0)
	erase(0, "0 rows were erased\n")

	// Nothing comes back by what is delivered again, and nothing is done twice.
	b.Produce(append(placed, command)...)
	if reply := b.Replies(2, contract.TopicReplies)[1]; reply.Reason != "idempotency_key_reused" {
		t.Errorf("the command that came again is answered %+v", reply)
	}
	for _, r := range keyed {
		if got := call("POST", r.path, r.body, r.key); got.Status != 422 || got.Body["code"] != "idempotency_key_reused" {
			t.Errorf("%s %s again: %d %v", r.path, r.body, got.Status, got.Body)
		}
	}
	b.Until(0, `SELECT count(*) FROM outbox`)
	if left := postgrestest.Mentions(t, b.Owner, word); len(left) > 0 {
		t.Errorf("it is left in %v", left)
	}
	if others := postgrestest.Mentions(t, b.Owner, "pear"); !slices.Contains(others, "accounts") {
		t.Errorf("the other account's owner is in %v", others)
	}
	got := call("GET", path, "", "")
	if got.Body["owner"] != "" || fmt.Sprint(got.Body["balances"]) != fmt.Sprint(books) {
		t.Errorf("of %v there is %v", books, got.Body)
	}
	for _, path := range []string{path + "/entries", path + "/operations", "/api/v1/operations/" + deposit,
		"/api/v1/operations/" + waiting + "/explain", "/api/v1/payments?account_id=" + account.String()} {
		if got := call("GET", path, "", ""); got.Status != 200 {
			t.Errorf("GET %s: %d %v", path, got.Status, got.Body)
		}
	}
	if got := b.Call("GET", path, nil, "Authorization", token(word, "accounts:read.own")); got.Status != 404 {
		t.Errorf("who owned it reads it: %d", got.Status)
	}
	var out strings.Builder
	if err := verify(t.Context(), &out, Verify{Database: b.database()}); err != nil {
		t.Errorf("verify: %v %s", err, &out)
	}
	if err := service.AuditBooks(t.Context(), &out, program(Config{Config: b.Settings}),
		service.Audit{Load: 100, After: -1}); err != nil {
		t.Errorf("audit: %v %s", err, &out)
	}
	b.Until(3, `SELECT count(*) FROM admin_actions WHERE action = 'account.erased' AND object = $1
		AND subject = 'officer' AND reason = 'was asked to'`, account.String())
}
