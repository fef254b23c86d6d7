package system

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/testkit/localkafka"
)

const (
	tenantSteps    = 200
	tenantAccounts = 3
)

// things are what all tenants have made, by kind. Each of them can guess all of it.
type things struct {
	mu  sync.Mutex
	ids map[string]map[string][]uuid.UUID // by kind and tenant
}

func (g *things) add(kind, tenant string, id uuid.UUID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ids[kind] == nil {
		g.ids[kind] = map[string][]uuid.UUID{}
	}
	g.ids[kind][tenant] = append(g.ids[kind][tenant], id)
}

// foreign returns something of another tenant.
func (g *things) foreign(kind, tenant string, random *rand.Rand) (uuid.UUID, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []uuid.UUID
	for of, ids := range g.ids[kind] {
		if of != tenant {
			all = append(all, ids...)
		}
	}
	if len(all) == 0 {
		return uuid.UUID{}, false
	}
	return all[random.IntN(len(all))], true
}

// guesses are all that a tenant tries with another's ID. OWN is an account of its own.
var guesses = []struct{ kind, method, path, body string }{
	{"account", "GET", "/api/v1/accounts/ID", ""}, {"account", "GET", "/api/v1/accounts/ID/balance", ""},
	{"account", "GET", "/api/v1/accounts/ID/entries", ""}, {"account", "GET", "/api/v1/accounts/ID/operations", ""},
	{"account", "POST", "/api/v1/accounts/ID/deposits", `{"amount":"1","currency":"RUB"}`},
	{"account", "POST", "/api/v1/accounts/ID/withdrawals", `{"amount":"1","currency":"RUB"}`},
	{"account", "POST", "/api/v1/accounts/ID/holds", `{"amount":"1","currency":"RUB"}`},
	{"account", "POST", "/api/v1/transfers",
		`{"from_account_id":"ID","to_account_id":"OWN","amount":"1","currency":"RUB"}`},
	{"account", "POST", "/api/v1/transfers",
		`{"from_account_id":"OWN","to_account_id":"ID","amount":"1","currency":"RUB"}`},
	{"account", "POST", "/api/v1/orders?wait=30s", `{"account_id":"ID","amount":"1","currency":"RUB"}`},
	{"hold", "GET", "/api/v1/holds/ID", ""}, {"hold", "POST", "/api/v1/holds/ID/capture", `{"amount":"1"}`},
	{"hold", "POST", "/api/v1/holds/ID/release", "{}"}, {"hold", "GET", "/api/v1/operations/ID", ""},
	{"hold", "POST", "/api/v1/operations/ID/cancel", "{}"},
	{"order", "GET", "/api/v1/orders/ID", ""}, {"order", "GET", "/api/v1/orders/ID/timeline", ""},
	{"order", "GET", "/api/v1/orders/ID/stream", ""}, {"order", "POST", "/api/v1/orders/ID/cancel", "{}"},
	{"order", "GET", "/api/v1/payments/ID", ""}, {"order", "POST", "/api/v1/payments/ID/confirm", "{}"},
	{"order", "POST", "/api/v1/payments/ID/reject", "{}"}, {"order", "POST", "/api/v1/payments/ID/refund", "{}"},
}

// account is one of a tenant and what it should have, in whole roubles.
type account struct {
	id             uuid.UUID
	actual, frozen int
}

// hold is an open hold on an account.
type hold struct {
	id     uuid.UUID
	on     *account
	amount int
}

// tenant is one with everything that it has, and the model of it.
type tenant struct {
	name     string
	client   *load.Client
	random   *rand.Rand
	all      *things
	accounts []*account
	holds    []hold
	orders   []uuid.UUID
	guessed  int
}

// Three tenants use the same keys, owners and references, and guess each other's IDs: each has what it would have if it
// were alone, sees nothing else, and gets the answers for what is not there, in the time for what is not there.
func TestTenantsAreAlone(t *testing.T) {
	services := append(stack.Instances(1, 1, 0), stack.Service{Name: stack.Issuer, Program: stack.Issuer})
	b := setup(t, localkafka.Embedded, services)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	all := &things{ids: map[string]map[string][]uuid.UUID{}}
	var tenants []*tenant
	for i, name := range []string{"shop", "market", "default"} {
		token, err := b.Token(t.Context(), "alice", name, load.Scopes()...)
		if err != nil {
			t.Fatal(err)
		}
		tenants = append(tenants, &tenant{name: name, client: b.client.As(token), all: all,
			random: rand.New(rand.NewPCG(seed, uint64(i)))})
	}
	var group errgroup.Group
	for _, one := range tenants {
		group.Go(one.run)
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, one := range tenants {
		if err := one.check(); err != nil {
			t.Error(err)
		}
		if one.guessed < tenantSteps/10 {
			t.Errorf("%s has guessed only %d times", one.name, one.guessed)
		}
	}
	if _, err := b.books(); err != nil {
		t.Errorf("the books are wrong: %v", err)
	}
	checkTimes(t, tenants[0], tenants[1].accounts[0].id)
}

func (n *tenant) run() error {
	for i := range tenantAccounts {
		var opened struct{ ID uuid.UUID }
		body := map[string]string{"owner": "alice", "reference": "r"}
		if err := n.client.Call("POST", "/api/v1/accounts", fmt.Sprintf("open-%d", i), body, &opened); err != nil {
			return fmt.Errorf("%s opens an account: %w", n.name, err)
		}
		n.accounts = append(n.accounts, &account{id: opened.ID})
		n.all.add("account", n.name, opened.ID)
	}
	for i := range tenantSteps {
		key := fmt.Sprintf("step-%d", i)
		step := n.act
		if n.random.IntN(2) == 0 {
			step = n.guess
		}
		if err := step(key); err != nil {
			return fmt.Errorf("%s, %s: %w", n.name, key, err)
		}
	}
	return nil
}

// act does something with what is the tenant's own. The model knows whether it succeeds.
func (n *tenant) act(key string) error {
	on, to := n.accounts[n.random.IntN(tenantAccounts)], n.accounts[n.random.IntN(tenantAccounts)]
	sum := 1 + n.random.IntN(60)
	body := amount(fmt.Sprint(sum))
	path := "/api/v1/accounts/" + on.id.String()
	covered := on.actual >= sum
	var made struct{ ID uuid.UUID }
	switch kind := n.random.IntN(6); {
	case kind == 0:
		on.actual += sum
		return n.client.Call("POST", path+"/deposits?wait=30s", key, body, nil)
	case kind == 1:
		err := n.client.Call("POST", path+"/withdrawals?wait=30s", key, body, nil)
		return on.take(err, sum, covered)
	case kind == 2 && on != to:
		body := amount(fmt.Sprint(sum), "from_account_id", on.id.String(), "to_account_id", to.id.String())
		err := on.take(n.client.Call("POST", "/api/v1/transfers?wait=30s", key, body, nil), sum, covered)
		if covered {
			to.actual += sum
		}
		return err
	case kind == 3:
		err := on.take(n.client.Call("POST", path+"/holds?wait=30s", key, body, &made), sum, covered)
		if err == nil && covered {
			on.frozen += sum
			n.holds = append(n.holds, hold{made.ID, on, sum})
			n.all.add("hold", n.name, made.ID)
		}
		return err
	case kind == 4 && len(n.holds) > 0:
		h := n.holds[0]
		n.holds = n.holds[1:]
		h.on.actual += h.amount
		h.on.frozen -= h.amount
		return n.client.Call("POST", "/api/v1/holds/"+h.id.String()+"/release?wait=30s", key, []byte("{}"), nil)
	}
	var order load.Order
	if err := n.client.Call("POST", load.OrdersPath+"?wait=30s", key,
		amount(fmt.Sprint(sum), "account_id", on.id.String(), "reference", "r"), &order); err != nil {
		return err
	}
	n.orders = append(n.orders, order.ID)
	n.all.add("order", n.name, order.ID)
	if paid := order.Status == "paid"; paid != covered {
		return fmt.Errorf("an order of %d on %+v is %s %s", sum, on, order.Status, order.Reason)
	}
	if covered {
		on.actual -= sum
	}
	return nil
}

// take takes money of an account where it has enough; else the answer must be that it has not.
func (a *account) take(err error, sum int, covered bool) error {
	if covered {
		a.actual -= sum
		return err
	}
	var answer *load.StatusError
	if !errors.As(err, &answer) || answer.Code() != "insufficient_funds" {
		return fmt.Errorf("%d of %+v: %w, want insufficient_funds", sum, a, err)
	}
	return nil
}

// guess tries something with another tenant's ID, and the same with one that nobody has.
func (n *tenant) guess(key string) error {
	g := guesses[n.random.IntN(len(guesses))]
	id, ok := n.all.foreign(g.kind, n.name, n.random)
	if !ok {
		return nil
	}
	n.guessed++
	there, absent := n.try(g.method, g.path, g.body, key, id), n.try(g.method, g.path, g.body, key+"-absent", uuid.New())
	if there != absent || there == "" {
		return fmt.Errorf("%s %s %s of another: %q, of nobody: %q", g.method, g.path, g.body, there, absent)
	}
	return nil
}

// try returns what a call comes to: the status and code of its refusal, or what became of its order. "" is a success.
func (n *tenant) try(method, path, body, key string, id uuid.UUID) string {
	fill := strings.NewReplacer("ID", id.String(), "OWN", n.accounts[0].id.String())
	var order load.Order
	var sent any
	if method == "GET" {
		key = ""
	} else {
		sent = []byte(fill.Replace(body))
	}
	err := n.client.Call(method, fill.Replace(path), key, sent, &order)
	var answer *load.StatusError
	switch {
	case errors.As(err, &answer):
		return fmt.Sprint(answer.Status, answer.Code())
	case err != nil:
		return ""
	case order.Status == "failed":
		n.orders = append(n.orders, order.ID)
		return order.Status + order.Reason
	}
	return ""
}

// check expects the tenant to have and to see what the model says, and nothing else.
func (n *tenant) check() error {
	var own []uuid.UUID
	for _, a := range n.accounts {
		own = append(own, a.id)
		var got contract.Balances
		if err := n.client.Call("GET", "/api/v1/accounts/"+a.id.String()+"/balance", "", nil, &got); err != nil {
			return err
		}
		has := func(m map[string]string) string { return cmp.Or(m["RUB"], "0.00") }
		if want := fmt.Sprintf("%d.00 %d.00", a.actual, a.frozen); has(got.Actual)+" "+has(got.Frozen) != want {
			return fmt.Errorf("an account of %s has %+v, want %s", n.name, got, want)
		}
	}
	for path, want := range map[string][]uuid.UUID{
		"/api/v1/accounts?limit=100": own, "/api/v1/accounts?limit=100&owner=alice": own,
		"/api/v1/accounts?limit=100&reference=r": own, load.OrdersPath + "?limit=100": n.orders,
	} {
		var seen []uuid.UUID
		for cursor := ""; ; {
			var page struct {
				Items      []struct{ ID uuid.UUID }
				NextCursor string `json:"next_cursor"`
			}
			if err := n.client.Call("GET", path+cursor, "", nil, &page); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			for _, item := range page.Items {
				seen = append(seen, item.ID)
			}
			if page.NextCursor == "" {
				break
			}
			cursor = "&cursor=" + page.NextCursor
		}
		byText := func(a, b uuid.UUID) int { return strings.Compare(a.String(), b.String()) }
		slices.SortFunc(seen, byText)
		want = slices.SortedFunc(slices.Values(want), byText)
		if !slices.Equal(seen, want) {
			return fmt.Errorf("%s sees %d by %s, want %d", n.name, len(seen), path, len(want))
		}
	}
	return nil
}

// checkTimes expects the median time of an answer about another's account to be that about one that is not there,
// within a quarter. They are asked by turns. What else the machine does may be in the way once, but not each time.
func checkTimes(t *testing.T, n *tenant, id uuid.UUID) {
	t.Helper()
	const pairs, tries = 150, 5
	for _, call := range []struct{ method, path, body string }{
		{"GET", "/api/v1/accounts/ID/balance", ""},
		{"POST", "/api/v1/accounts/ID/withdrawals?wait=30s", `{"amount":"1","currency":"RUB"}`},
	} {
		var ratios []float64
		alike := false
		for len(ratios) < tries && !alike {
			var times [2][]time.Duration
			for range pairs {
				for i, of := range []uuid.UUID{id, uuid.New()} {
					begin := time.Now()
					got := n.try(call.method, call.path, call.body, uuid.NewString(), of)
					if times[i] = append(times[i], time.Since(begin)); got != "404account_not_found" {
						t.Fatalf("%s: the answer is %q", call.path, got)
					}
				}
			}
			for _, some := range times {
				slices.Sort(some)
			}
			ratio := float64(times[0][pairs/2]) / float64(times[1][pairs/2])
			ratios = append(ratios, ratio)
			alike = ratio > 0.8 && ratio < 1.25
		}
		t.Logf("%s %s: another's to nobody's %.2f", call.method, call.path, ratios)
		if !alike {
			t.Errorf("%s %s tells by its time whose the account is: %.2f", call.method, call.path, ratios)
		}
	}
}
