package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/api"
	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/payments/internal/rpc"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/testkit/issuer"
	"github.com/altyn-pay/altyn/testkit/routetest"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// Every route of the process is shut to those without its scope: of the API those of the tables that
// TestEveryRouteWithEveryToken goes through, of the operators' plane all but the probes and the documents.
func TestEveryRouteNeedsItsScope(t *testing.T) {
	program := standard
	var routers [2]chi.Routes
	program.Build = func(p *service.Process) error {
		err := standard.Build(p)
		routers[0], routers[1] = p.Routers()
		return err
	}
	b := setupProgram(t, program)
	from := issuer.New(t)
	b.Settings.Auth = from.Config()
	b.Start("all")
	wait.Until(t, "the keys are there", func() bool { return b.Call("GET", "/readyz", nil).Status == 200 })
	routetest.Check(t, b.URL, routers[0], from, append((*api.API)(nil).Routes(), rpc.New(nil, nil).Routes()...))
	routetest.Check(t, b.Base("/admin/"), routers[1], from, nil)
}

// rights is what an operation's command needs, and what it says: OWN is an account, NEW a fresh ID, HOLD a hold and
// WAITING an operation that waits.
var rights = map[string]struct {
	scope    identity.Scope
	fields   string
	stranger string // the reason of the refusal for whom the account is not there
}{
	"create_account": {identity.AccountsWrite, `"id": "NEW"`, "account_exists"},
	"deposit":        {identity.MoneyIn, `"account_id": "OWN", "amount": "1", "currency": "RUB"`, "account_not_found"},
	"invoice":        {identity.MoneyIn, `"wallet_id": "OWN", "amount": "1", "ticker": "RUB"`, "account_not_found"},
	"withdraw":       {identity.MoneyOut, `"account_id": "OWN", "amount": "1", "currency": "RUB"`, "account_not_found"},
	"transfer": {identity.MoneyOut,
		`"from_account_id": "OWN", "to_account_id": "OTHER", "amount": "1", "currency": "RUB"`, "account_not_found"},
	"hold":    {identity.MoneyOut, `"account_id": "OWN", "amount": "1", "currency": "RUB"`, "account_not_found"},
	"capture": {identity.MoneyOut, `"hold_id": "HELD"`, "hold_not_found"},
	"release": {identity.MoneyOut, `"hold_id": "HOLD"`, "hold_not_found"},
	"cancel":  {identity.MoneyOut, `"operation_id": "WAITING"`, "operation_not_found"},
	"balance": {identity.AccountsRead, `"account_id": "OWN"`, "account_not_found"},
}

// stock is what alice of the tenant shop has, as replacements in the fields of rights.
func (b *bundle) stock(owner ...string) *strings.Replacer {
	b.Helper()
	other := b.Post("/api/v1/accounts", `{"owner": "alice"}`, owner...).Body["id"].(string)
	account := b.Post("/api/v1/accounts", `{"owner": "alice"}`, owner...).Body["id"].(string)
	path := "/api/v1/accounts/" + account
	b.Post(path+"/deposits", `{"amount": "100", "currency": "RUB"}`, owner...)
	held := b.Post(path+"/holds", `{"amount": "10", "currency": "RUB"}`, owner...).Body["id"].(string)
	hold := b.Post(path+"/holds", `{"amount": "10", "currency": "RUB"}`, owner...).Body["id"].(string)
	waiting := b.Call("POST", path+"/withdrawals",
		`{"amount": "1000", "currency": "USDT", "on_insufficient": "wait"}`, owner...).Body["id"].(string)
	return strings.NewReplacer("OWN", account, "OTHER", other, "HELD", held, "HOLD", hold, "WAITING", waiting)
}

// attempt is an operation with somebody's token, or with none, and what must become of it.
type attempt struct {
	operation, fields, token, reason string
	code                             int // 0: it succeeds
}

// attempts are each operation of the one table with every kind of token: first all that must be refused, then those of
// who may. An operation that is new fails until it has its rights.
func attempts(t *testing.T, from *issuer.Issuer, stocks [2]*strings.Replacer) (refused, taken []attempt) {
	token := func(tenant, subject, scopes string) string { return "Bearer " + from.Token(tenant, subject, scopes) }
	for _, operation := range contract.Operations() {
		right, ok := rights[operation]
		if !ok {
			t.Errorf("nothing says who may %s: add it to rights", operation)
			continue
		}
		var without []string
		for _, scope := range identity.All() {
			if scope != right.scope {
				without = append(without, string(scope), string(scope)+".own")
			}
		}
		stranger := right.fields
		if operation == "create_account" {
			stranger = `"id": "OWN"`
		}
		stranger = stocks[0].Replace(stranger)
		add := func(token string, code int, reason string) {
			refused = append(refused, attempt{operation, stranger, token, reason, code})
		}
		add("", 401, "unauthenticated")
		add("Bearer x.y.z", 401, "unauthenticated")
		add(token("shop", "alice", strings.Join(without, " ")), 403, "insufficient_scope")
		missing := billing.Status(ledger.Reason(right.stranger))
		add(token("market", "alice", string(right.scope)), missing, right.stranger)
		add(token("shop", "bob", string(right.scope)+".own"), missing, right.stranger)
		for i, ending := range []string{"", ".own"} {
			fields := strings.ReplaceAll(stocks[i].Replace(right.fields), "NEW", uuid.NewString())
			taken = append(taken, attempt{operation, fields, token("shop", "alice", string(right.scope)+ending), "", 0})
		}
	}
	return refused, taken
}

// TestEveryCommandWithEveryToken sends each operation as a command of the broker and as an item of a batch: without a
// token, with a bad one, without the scope, as a stranger and as those who may.
func TestEveryCommandWithEveryToken(t *testing.T) {
	b, from := setupTokens(t)
	b.Start("all")
	wait.Until(t, "the keys are there", func() bool { return b.Call("GET", "/readyz", nil).Status == 200 })
	owner := []string{"Authorization", "Bearer " + from.Token("shop", "boss", issuer.Scopes)}

	refused, taken := attempts(t, from, [2]*strings.Replacer{b.stock(owner...), b.stock(owner...)})
	asked := make(map[uuid.UUID]attempt)
	for _, some := range [][]attempt{refused, taken} {
		for _, a := range some {
			id := uuid.New()
			asked[id] = a
			m := command(id, fmt.Sprintf(`"operation": %q, %s`, a.operation, a.fields))
			if a.token != "" {
				m = with(m, a.token)
			}
			b.Produce(m)
		}
		answered := make(map[uuid.UUID]bool)
		for _, r := range b.Replies(len(asked), contract.TopicReplies) {
			a := asked[*r.CommandID]
			answered[*r.CommandID] = true
			if a.code != 0 && (r.Code != a.code || r.Reason != a.reason || r.Body != nil) || a.code == 0 && r.Code >= 300 {
				t.Errorf("%+v is answered with %+v", a, r)
			}
		}
		if len(answered) != len(asked) {
			t.Errorf("%d of %d commands are answered", len(answered), len(asked))
		}
	}

	refused, taken = attempts(t, from, [2]*strings.Replacer{b.stock(owner...), b.stock(owner...)})
	for _, a := range append(refused, taken...) {
		if a.operation == "balance" {
			continue // no item of a batch
		}
		answer := b.Call("POST", paymentstest.BatchPath,
			paymentstest.BatchOf(fmt.Sprintf(`{"operation": %q, %s}`, a.operation, a.fields)), "Authorization", a.token)
		status, reason := answer.Status, answer.Body["code"]
		if status == http.StatusOK {
			item := answer.Body["items"].([]any)[0].(map[string]any)
			problem, _ := item["problem"].(map[string]any)
			if reason = problem["code"]; problem != nil {
				status = int(problem["status"].(float64))
			}
		}
		if a.code == 0 && status >= 300 || a.code != 0 && (status != a.code || reason != a.reason) {
			t.Errorf("%+v in a batch is answered with %d %v", a, answer.Status, answer.Body)
		}
	}
}

// TestEveryWordOfGoodsWithEveryToken does the same for what is said of an order's goods. Only who may of the order's
// tenant is heard.
func TestEveryWordOfGoodsWithEveryToken(t *testing.T) {
	for _, topic := range contract.Topics() {
		if contract.FromAnyone(topic) && topic != contract.TopicCommands && topic != contract.TopicInventory {
			t.Errorf("no test says who may write to %s", topic)
		}
	}
	b, from := setupTokens(t)
	b.Start("all")
	wait.Until(t, "the keys are there", func() bool { return b.Call("GET", "/readyz", nil).Status == 200 })
	owner := []string{"Authorization", "Bearer " + from.Token("shop", "boss", issuer.Scopes)}
	account := uuid.MustParse(b.Post("/api/v1/accounts", "{}", owner...).Body["id"].(string))
	b.Post("/api/v1/accounts/"+account.String()+"/deposits", `{"amount": "100", "currency": "RUB"}`, owner...)
	order := paymentstest.Order(account, "1.00")
	order.AwaitInventory = true
	event := paymentstest.Placed(order)
	event.Headers = append(event.Headers, kafka.Header{Key: "ce_tenant", Value: []byte("shop")})
	b.Produce(event)
	b.Until(1, `SELECT count(*) FROM waits WHERE id = $1`, order.OrderID)
	var without []string
	for _, scope := range identity.All() {
		if scope != identity.InventoryWrite {
			without = append(without, string(scope), string(scope)+".own")
		}
	}
	b.Produce(goods(order.OrderID, contract.InventoryFailed))
	for _, token := range []string{"x.y.z", from.Token("shop", "alice", strings.Join(without, " ")),
		from.Token("shop", "alice", "inventory:write.own")} {
		b.Produce(with(goods(order.OrderID, contract.InventoryFailed), "Bearer "+token))
	}
	const inventory = "inventory:write"
	b.Produce(with(goods(order.OrderID, contract.InventoryFailed), "Bearer "+from.Token("market", "alice", inventory)),
		with(goods(order.OrderID, contract.InventoryCompleted), "Bearer "+from.Token("shop", "alice", inventory)))
	b.Until(1, `SELECT count(*) FROM payments WHERE order_id = $1 AND status = 'succeeded'`, order.OrderID)
	b.Until(2, `SELECT count(*) FROM inventory WHERE order_id = $1`, order.OrderID)
	dead := b.Consume(contract.DeadLetter(contract.TopicInventory), func(m []kafka.Message) bool { return len(m) >= 4 })
	if len(dead) != 4 {
		t.Errorf("%d dead letters, want 4", len(dead))
	}
}
