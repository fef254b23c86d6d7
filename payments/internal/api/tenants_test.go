package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/testkit/issuer"
	"github.com/altyn-pay/altyn/testkit/wait"
)

const everything = "accounts:read accounts:write money:in money:out payments:read payments:write"

// own are the same scopes, restricted to the subject.
var own = strings.ReplaceAll(everything+" ", " ", ".own ")

// shop is what the tenant shop has: an account of alice, with money, a hold, an order and something that waits.
type shop struct {
	*bundle
	tokens                       *issuer.Issuer
	account                      string
	hold, waiting, order, queued string // queued is set by queue
}

func openShop(t *testing.T) *shop { return openShopOf(t, setup(t)) }

func openShopOf(t *testing.T, b *bundle, roles ...service.Role) *shop {
	tokens := issuer.New(t)
	s := &shop{bundle: b, tokens: tokens, account: uuid.NewString()}
	s.Settings.Auth = tokens.Config()
	if len(roles) == 0 {
		roles = []service.Role{service.All}
	}
	for _, role := range roles {
		s.Start(role)
	}
	wait.Until(t, "the keys are there", func() bool { return s.Call("GET", "/readyz", nil).Status == 200 })
	owner := []string{"Authorization", s.by("shop", "boss", everything)}
	s.Post("/api/v1/accounts", map[string]any{"id": s.account, "owner": "alice", "reference": "r"}, owner...)
	path := "/api/v1/accounts/" + s.account
	s.Post(path+"/deposits", `{"amount": "100", "currency": "RUB"}`, owner...)
	s.hold = s.Post(path+"/holds", `{"amount": "10", "currency": "RUB"}`, owner...).Body["id"].(string)
	s.waiting = s.Call("POST", path+"/withdrawals",
		`{"amount": "1000", "currency": "USDT", "on_insufficient": "wait"}`, owner...).Body["id"].(string)
	order := paymentstest.Order(uuid.MustParse(s.account), "10.00")
	order.Capture = contract.CaptureManual
	s.Produce(ofTenant(paymentstest.Placed(order), "shop"))
	s.order = order.OrderID.String()
	s.Until(1, `SELECT count(*) FROM payments WHERE order_id = $1 AND status = 'authorized'`, s.order)
	return s
}

// queue gives alice another account in the same lane, which is stopped, with a deposit that is still in the inbox.
func (s *shop) queue() {
	s.Helper()
	owner := []string{"Authorization", s.by("shop", "boss", everything)}
	stopped := inLaneOf(s.account)
	s.Post("/api/v1/accounts", map[string]any{"id": stopped, "owner": "alice", "reference": "r"}, owner...)
	s.stop(stopped)
	s.queued = s.Call("POST", "/api/v1/accounts/"+stopped.String()+"/deposits?wait=0s",
		`{"amount": "1", "currency": "RUB"}`, owner...).Body["id"].(string)
}

// inLaneOf returns a new ID in the lane of an account.
func inLaneOf(account string) uuid.UUID {
	for {
		if id := uuid.New(); contract.Lane(id) == contract.Lane(uuid.MustParse(account)) {
			return id
		}
	}
}

// stop stops an account by a message that is parked, whose ID is the account's.
func (s *shop) stop(account uuid.UUID) {
	s.Helper()
	if _, err := s.Owner.ExecContext(s.Context(), `
		WITH m AS (
			INSERT INTO inbox (id, lane, account_id, kind, payload, stopped) VALUES ($1, $2, $1, 'deposit', '{}', true)
		)
		INSERT INTO inbox_stops (account_id, lane, message_id, attempts, reason) VALUES ($1, $2, $1, 8, 'test')`,
		account, contract.Lane(account)); err != nil {
		s.Fatal(err)
	}
}

func (s *shop) by(tenant, subject, scopes string) string {
	return "Bearer " + s.tokens.Token(tenant, subject, scopes)
}

func ofTenant(m kafka.Message, tenant string) kafka.Message {
	m.Headers = append(m.Headers, kafka.Header{Key: "ce_tenant", Value: []byte(tenant)})
	return m
}

// calls are all that name something: ACCOUNT, HOLD, OPERATION, QUEUED or ORDER.
var calls = []struct{ method, path, body string }{
	{"GET", "/api/v1/accounts/ACCOUNT", ""}, {"GET", "/api/v1/accounts/ACCOUNT/balance", ""},
	{"GET", "/api/v1/accounts/ACCOUNT/balance?at=2030-01-01T00:00:00Z", ""},
	{"GET", "/api/v1/accounts/ACCOUNT/entries", ""}, {"GET", "/api/v1/accounts/ACCOUNT/operations", ""},
	{"GET", "/api/v1/holds/HOLD", ""}, {"GET", "/api/v1/operations/OPERATION", ""},
	{"GET", "/api/v1/operations/OPERATION/explain", ""}, {"GET", "/api/v1/operations/HOLD/explain", ""},
	{"GET", "/api/v1/payments/ORDER/explain", ""},
	{"GET", "/api/v1/operations/OPERATION?wait=50ms", ""}, {"GET", "/api/v1/operations/HOLD", ""},
	{"GET", "/api/v1/operations/QUEUED", ""}, {"GET", "/api/v1/operations/QUEUED?wait=50ms", ""},
	{"GET", "/api/v1/payments/ORDER", ""}, {"GET", "/api/v1/payments/ORDER?wait=50ms", ""},
	{"POST", "/api/v1/accounts/ACCOUNT/deposits", `{"amount": "1", "currency": "RUB"}`},
	{"POST", "/api/v1/accounts/ACCOUNT/deposits", `{"amount": "1", "currency": "EUR"}`},
	{"POST", "/api/v1/accounts/ACCOUNT/withdrawals", `{"amount": "1", "currency": "RUB"}`},
	{"POST", "/api/v1/accounts/ACCOUNT/withdrawals", `{"amount": "1", "currency": "USDT", "on_insufficient": "wait"}`},
	{"POST", "/api/v1/accounts/ACCOUNT/holds", `{"amount": "1", "currency": "RUB"}`},
	{"POST", "/api/v1/transfers",
		`{"from_account_id": "ACCOUNT", "to_account_id": "ACCOUNT", "amount": "1", "currency": "RUB"}`},
	{"POST", "/api/v1/holds/HOLD/capture", `{"amount": "1"}`}, {"POST", "/api/v1/holds/HOLD/release", "{}"},
	{"POST", "/api/v1/operations/OPERATION/cancel", "{}"}, {"POST", "/api/v1/operations/QUEUED/cancel", "{}"},
	{"POST", "/api/v1/payments/ORDER/confirm", `{"amount": "1"}`}, {"POST", "/api/v1/payments/ORDER/refund", "{}"},
	{"POST", "/api/v1/payments/ORDER/reject", "{}"},
}

// shape is an answer without what differs from request to request.
func shape(a paymentstest.Answer) string {
	for _, name := range []string{"operation_id", "instance", "request_id"} {
		delete(a.Body, name)
	}
	text, _ := json.Marshal(a.Body)
	return a.Header.Get("WWW-Authenticate") + string(text)
}

// names puts what the shop has in the place of the names in calls.
func (s *shop) names() *strings.Replacer {
	return strings.NewReplacer("ACCOUNT", s.account, "HOLD", s.hold, "OPERATION", s.waiting, "QUEUED", s.queued,
		"ORDER", s.order)
}

// isNotThere shows that strangers are answered as if nothing of the shop were there.
func (s *shop) isNotThere(t *testing.T) {
	t.Helper()
	there := s.names()
	none := uuid.NewString()
	nowhere := strings.NewReplacer("ACCOUNT", none, "HOLD", none, "OPERATION", none, "QUEUED", none, "ORDER", none)
	strangers := map[string]string{
		"another tenant": s.by("market", "boss", everything), "the default tenant": s.by("default", "boss", everything),
		"another owner": s.by("shop", "bob", own), "the owner's namesake": s.by("market", "alice", own),
	}
	before := s.state()
	for who, token := range strangers {
		for _, call := range calls {
			ask := func(names *strings.Replacer) paymentstest.Answer {
				var body any
				if call.method == "POST" {
					body = names.Replace(call.body)
				}
				return s.Call(call.method, names.Replace(call.path), body, "Authorization", token)
			}
			got, want := ask(there), ask(nowhere)
			if got.Status != 404 || want.Status != 404 || shape(got) != shape(want) {
				t.Errorf("%s %s by %s: %d %v\nwhere nothing is: %d %v", call.method, call.path, who,
					got.Status, got.Body, want.Status, want.Body)
			}
		}
		for _, list := range []string{"", "?owner=alice", "?reference=r"} {
			if a := s.Call("GET", "/api/v1/accounts"+list, nil, "Authorization", token); len(a.Body["items"].([]any)) > 0 {
				t.Errorf("%s lists %v", who, a.Body)
			}
		}
	}
	if after := s.state(); after != before {
		t.Errorf("strangers have changed %s\nto %s", before, after)
	}
}

func TestWhatIsAnothersIsNotThere(t *testing.T) {
	s := openShop(t)
	s.queue()
	s.isNotThere(t)
	there := s.names()
	for _, token := range []string{s.by("shop", "boss", everything), s.by("shop", "alice", own)} {
		for _, call := range calls {
			if call.method != "GET" {
				continue
			}
			if a := s.Call("GET", there.Replace(call.path), nil, "Authorization", token); a.Status != 200 {
				t.Errorf("%s by who may: %d %v", call.path, a.Status, a.Body)
			}
		}
		for _, list := range []string{"", "?owner=alice", "?reference=r"} {
			if a := s.Call("GET", "/api/v1/accounts"+list, nil, "Authorization", token); len(a.Body["items"].([]any)) != 2 {
				t.Errorf("%s lists %v", list, a.Body)
			}
		}
	}
	alice := []string{"Authorization", s.by("shop", "alice", own)}
	s.Post("/api/v1/accounts/"+s.account+"/deposits", `{"amount": "1", "currency": "EUR"}`, alice...)
	s.Post("/api/v1/holds/"+s.hold+"/capture", `{"amount": "1"}`, alice...)
	s.Expect(s.Call("POST", "/api/v1/operations/"+s.waiting+"/cancel", "{}", alice...), 200)
	s.Expect(s.Call("POST", "/api/v1/payments/"+s.order+"/confirm", "{}", alice...), 200, "status", "succeeded")
}

// A wait ends when the token expires, be there something or not.
func TestWaitsEndWithTheToken(t *testing.T) {
	s := openShop(t)
	expires := time.Now().Add(3 * time.Second).Truncate(time.Second)
	token := "Bearer " + s.tokens.Mint(issuer.Claims{"tenant": "shop", "scope": everything, "exp": expires.Unix()}, nil,
		s.tokens.Key())
	var all sync.WaitGroup
	for _, call := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/api/v1/operations/" + s.waiting, "", 200}, {"GET", "/api/v1/operations/" + uuid.NewString(), "", 404},
		{"POST", "/api/v1/accounts/" + s.account + "/withdrawals",
			`{"amount": "1000", "currency": "USDT", "on_insufficient": "wait"}`, 202},
	} {
		all.Go(func() {
			var body any
			if call.body != "" {
				body = call.body
			}
			a := s.Call(call.method, call.path+"?wait=30s", body, "Authorization", token)
			if now := time.Now(); a.Status != call.status || now.Before(expires) || now.After(expires.Add(20*time.Second)) {
				t.Errorf("%s %s: %d %v at %s, the token expired at %s", call.method, call.path, a.Status, a.Body, now, expires)
			}
		})
	}
	all.Wait()
}

// An account whose queue stands still does not have strangers wait: over HTTP, in a batch or by a message of the broker
// they are answered as if it were not there, whoever settles.
func TestAStoppedAccountIsNotThere(t *testing.T) {
	for _, roles := range [][]service.Role{{service.All}, {service.API, service.Worker}} {
		t.Run(fmt.Sprint(roles), func(t *testing.T) {
			s := openShopOf(t, setup(t), roles...)
			s.queue()
			account := uuid.MustParse(s.account)
			s.stop(account)
			path, body := "/api/v1/accounts/"+s.account+"/deposits?wait=0s", `{"amount": "1", "currency": "RUB"}`
			s.Expect(s.Call("POST", path, body, "Authorization", s.by("shop", "boss", everything)), 202)
			s.isNotThere(t)
			market := s.by("market", "boss", everything)
			taken := s.Call("POST", "/api/v1/accounts", `{"id": "`+s.account+`"}`, "Authorization", market)
			s.Expect(taken, 422, "code", "account_exists")
			operation := `"operation": "deposit", "account_id": "` + s.account + `", "amount": "1", "currency": "RUB"`
			batch := s.Call("POST", "/api/v1/operations/batch", `{"operations": [{`+operation+`}]}`, "Authorization", market)
			if text := fmt.Sprint(batch.Body); batch.Status != 200 || !strings.Contains(text, "account_not_found") {
				t.Errorf("in a batch: %d %s", batch.Status, text)
			}
			order := paymentstest.Order(account, "1.00")
			s.Produce(ofTenant(paymentstest.Placed(order), "market"))
			s.Until(1, `SELECT count(*) FROM payments WHERE order_id = $1 AND reason = 'account_not_found'`, order.OrderID)
			s.Until(1, `SELECT count(*) FROM inbox WHERE account_id = $1 AND id <> $1`, account)
		})
	}
}

// state is what its tenant sees of the shop.
func (s *shop) state() string {
	var all []any
	for _, path := range []string{"", "/balance", "/entries", "/operations"} {
		a := s.Call("GET", "/api/v1/accounts/"+s.account+path, nil, "Authorization", s.by("shop", "boss", everything))
		all = append(all, a.Status, a.Body)
	}
	var rows []string
	if err := s.Owner.SelectContext(s.Context(), &rows, `
		SELECT concat_ws(' ', currency, actual, frozen, entries, waiting, tenant)
		FROM balances WHERE account_id = $1 ORDER BY 1`, s.account); err != nil {
		s.Fatal(err)
	}
	text, _ := json.Marshal(append(all, rows))
	return string(text)
}

func TestKeysAndAccountsOfTenants(t *testing.T) {
	s := openShop(t)
	seen := make(map[string]string)
	for who, token := range map[string]string{
		"shop": s.by("shop", "boss", everything), "market": s.by("market", "boss", everything),
		"default": s.by("default", "boss", everything), "alice": s.by("shop", "alice", own), "bob": s.by("shop", "bob", own),
	} {
		headers := []string{"Authorization", token, "Idempotency-Key", "same"}
		opened := s.Post("/api/v1/accounts", "{}", headers...)
		id := opened.Body["id"].(string)
		if other, ok := seen[id]; ok {
			t.Errorf("%s and %s share account %s", who, other, id)
		}
		seen[id] = who
		again := s.Call("POST", "/api/v1/accounts", "{}", headers...)
		s.Expect(again, 201, "id", id)
		if again.Header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("%s: not replayed", who)
		}
		batch := `{"operations": [{"operation": "deposit", "account_id": "` + id + `", "amount": "1", "currency": "RUB"}]}`
		for _, replayed := range []string{"", "true"} {
			a := s.Call("POST", paymentstest.BatchPath, batch, headers...)
			item := a.Body["items"].([]any)[0].(map[string]any)
			if item["operation"] == nil || a.Header.Get("Idempotent-Replayed") != replayed {
				t.Errorf("%s: a batch %v, replayed %q", who, a.Body, a.Header.Get("Idempotent-Replayed"))
			}
		}
		taken := s.Call("POST", "/api/v1/accounts", `{"id": "`+s.account+`"}`, "Authorization", token)
		s.Expect(taken, 422, "code", "account_exists")
	}
	alice := s.by("shop", "alice", own)
	s.Expect(s.Post("/api/v1/accounts", "{}", "Authorization", alice), 201, "owner", "alice")
	other := s.Call("POST", "/api/v1/accounts", `{"owner": "bob"}`, "Authorization", alice)
	s.Expect(other, 403, "code", "insufficient_scope", "detail", "the token lacks the scope accounts:write")
}

func TestEachItemOfABatchNeedsItsScope(t *testing.T) {
	s := openShop(t)
	fields := `"account_id": "` + s.account + `", "amount": "1", "currency": "RUB"}`
	batch := paymentstest.BatchOf(`{"operation": "deposit", `+fields, `{"operation": "withdraw", `+fields,
		`{"operation": "invoice", `+fields, `{"operation": "create_account"}`)
	a := s.Call("POST", paymentstest.BatchPath, batch, "Authorization", s.by("shop", "boss", "money:in"))
	for i, want := range []string{
		"", "the token lacks the scope money:out", "", "the token lacks the scope accounts:write",
	} {
		item := a.Body["items"].([]any)[i].(map[string]any)
		problem, _ := item["problem"].(map[string]any)
		if detail, _ := problem["detail"].(string); detail != want || want != "" && problem["status"] != float64(403) {
			t.Errorf("item %d: %v", i, item)
		}
	}
	s.Expect(s.Call("POST", paymentstest.BatchPath, batch, "Authorization", s.by("shop", "boss", "accounts:read")), 403)
}

// An order's account must be of the order's tenant, and of its owner where it has one; the payment is the order's
// tenant's.
func TestOrdersOfTenants(t *testing.T) {
	s := openShop(t)
	for _, test := range []struct{ tenant, owner, status string }{
		{"shop", "", "succeeded"}, {"shop", "alice", "succeeded"}, {"shop", "bob", "failed"}, {"market", "", "failed"},
		{"default", "", "failed"}, {"market", "alice", "failed"},
	} {
		order := paymentstest.Order(uuid.MustParse(s.account), "1.00")
		order.Owner = test.owner
		event := ofTenant(paymentstest.Placed(order), test.tenant)
		s.Produce(event, event)
		s.Until(1, `SELECT count(*) FROM payments WHERE order_id = $1 AND status = $2 AND tenant = $3`,
			order.OrderID, test.status, test.tenant)
		for _, tenant := range []string{"shop", "market", "default"} {
			want := map[bool]int{true: 200, false: 404}[tenant == test.tenant]
			path := "/api/v1/payments/" + order.OrderID.String()
			s.Expect(s.Call("GET", path, nil, "Authorization", s.by(tenant, "boss", everything)), want)
			s.Expect(s.Call("GET", "/api/v1/operations/"+order.OrderID.String(), nil,
				"Authorization", s.by(tenant, "boss", everything)), want)
			if test.owner == "bob" || tenant != "shop" { // what others ask of her account is not hers
				want = 404
			}
			s.Expect(s.Call("GET", path, nil, "Authorization", s.by(tenant, "alice", own)), want)
			s.Expect(s.Call("GET", "/api/v1/operations/"+order.OrderID.String(), nil,
				"Authorization", s.by(tenant, "alice", own)), want)
		}
	}
}

// Who has asked for something, with which key and why, is kept of every request. It is told those who may read what is
// not their own; who may not learns it of his own requests alone, in every answer there is.
func TestWhoHasAsked(t *testing.T) {
	s := openShop(t)
	const clerk, secret = "clerk-7", "secret-"
	boss, alice := []string{"Authorization", s.by("shop", "boss", everything)},
		[]string{"Authorization", s.by("shop", "alice", own)}
	as := func(subject, scopes, key string) []string {
		return []string{"Authorization", s.by("shop", subject, scopes), "Idempotency-Key", key}
	}
	account, money := "/api/v1/accounts/"+s.account, `{"amount": "2", "currency": "RUB"}`
	kept := make(map[string]string) // of each operation who has asked for it, and with which key
	id := func(a paymentstest.Answer, who string) string {
		t.Helper()
		if a.Status >= 300 {
			t.Fatalf("%s: %d %v", who, a.Status, a.Body)
		}
		id := a.Body["id"].(string)
		kept[id] = who
		return id
	}
	deposit := as(clerk, "money:in", secret+"in")
	deposited := id(s.Post(account+"/deposits", money, deposit...), clerk+" "+secret+"in")
	id(s.Post(account+"/withdrawals", money, as(clerk, "money:out", secret+"out")...), clerk+" "+secret+"out")
	mine := id(s.Post(account+"/holds", money, as("alice", own, "mine")...), "alice mine")
	id(s.Post("/api/v1/holds/"+mine+"/release", nil, as(clerk, "money:out", secret+"release")...),
		clerk+" "+secret+"release")
	kept[s.hold], kept[s.waiting], kept[s.order] = "boss ", "boss ", " "
	s.Expect(s.Call("POST", "/api/v1/operations/"+s.waiting+"/cancel", `{"reason": "no longer needed"}`,
		as(clerk, "money:out", secret+"cancel")...), 200)
	step := "/api/v1/payments/" + s.order
	s.Expect(s.Call("POST", step+"/confirm", nil, as(clerk, "payments:write", secret+"confirm")...), 200)
	s.Expect(s.Call("POST", step+"/refund", `{"reason": "damaged"}`, as(clerk, "payments:write", secret+"refund")...), 200)
	item := `"operation": "deposit", "account_id": "` + s.account + `", "amount": "1", "currency": "RUB"}`
	batch := s.Call("POST", paymentstest.BatchPath, paymentstest.BatchOf(`{`+item,
		`{"command_id": "`+uuid.NewString()+`", `+item), as(clerk, "money:in", secret+"batch")...)
	for i, key := range []string{secret + "batch", ""} {
		op := batch.Body["items"].([]any)[i].(map[string]any)["operation"].(map[string]any)
		kept[op["id"].(string)] = clerk + " " + key
	}
	var rows []string
	if err := s.Owner.SelectContext(s.Context(), &rows, `
		SELECT concat_ws(' ', operation, subject, key, note) FROM operations
		WHERE operation <> 'payment' ORDER BY 1`); err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"cancel_operation clerk-7 secret-cancel no longer needed", "capture clerk-7 secret-confirm ", "create_account boss  ",
		"deposit boss  ", "deposit clerk-7  ", "deposit clerk-7 secret-batch ", "deposit clerk-7 secret-in ",
		"hold alice mine ", "hold boss  ", "refund clerk-7 secret-refund damaged", "release clerk-7 secret-release ",
		"withdraw boss  no longer needed", "withdraw clerk-7 secret-out ",
	}, "\n")
	if got := strings.Join(rows, "\n"); got != want {
		t.Errorf("kept is\n%s\nwant\n%s", got, want)
	}
	for op, who := range kept {
		a := s.Call("GET", "/api/v1/operations/"+op, nil, boss...)
		subject, _ := a.Body["subject"].(string)
		key, _ := a.Body["idempotency_key"].(string)
		if got := subject + " " + key; got != who {
			t.Errorf("%v is told to be of %q, want %q", a.Body, got, who)
		}
	}
	tells := func(headers []string, path string) string {
		a := s.Call("GET", path, nil, headers...)
		if a.Status != 200 {
			t.Errorf("%s: %d %v", path, a.Status, a.Body)
		}
		return fmt.Sprint(a.Body)
	}
	for path, text := range map[string]string{
		"/api/v1/operations/" + deposited + "/explain": "The deposit of 2.00 RUB was accepted, by clerk-7, key secret-in.",
		"/api/v1/operations/" + s.waiting + "/explain": "Its cancellation was accepted, by clerk-7, key secret-cancel. " +
			`Note: "no longer needed".`,
		step + "/explain":    "The refund of 10.00 RUB was accepted, by clerk-7, key secret-refund.",
		"/api/v1/operations": clerk, account + "/operations": secret,
	} {
		if got := tells(boss, path); !strings.Contains(got, text) {
			t.Errorf("%s tells the boss %s, without %q", path, got, text)
		}
	}
	paths := []string{"/api/v1/operations", account + "/operations", account + "/entries", step, step + "/explain"}
	for op := range kept {
		paths = append(paths, "/api/v1/operations/"+op, "/api/v1/operations/"+op+"/explain")
	}
	for _, path := range paths {
		if got := tells(alice, path); strings.Contains(got, clerk) || strings.Contains(got, "boss") ||
			strings.Contains(got, secret) {
			t.Errorf("%s tells alice %s", path, got)
		}
	}
	if list, _ := s.export("/api/v1/operations", "text/csv", alice...); strings.Contains(list, clerk) ||
		strings.Contains(list, secret) || !strings.Contains(list, "alice,mine") {
		t.Errorf("the list tells alice %s", list)
	}
	s.Expect(s.Call("GET", "/api/v1/operations/"+mine, nil, alice...), 200, "subject", "alice", "idempotency_key", "mine")
	// Who repeats a request learns nothing of who has sent it first, whatever he may write.
	s.Expect(s.Post(account+"/deposits", money, deposit...), 201, "subject", clerk, "idempotency_key", secret+"in")
	other := s.Post(account+"/deposits", money, as("clerk-8", "money:in", secret+"in")...)
	s.Expect(other, 201, "id", deposited, "subject", nil, "idempotency_key", nil)
}
