package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/api"
	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/identity/bearer"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/issuer"
	"github.com/altyn-pay/altyn/testkit/outboxtest"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// client is who asks: somebody of a tenant, with the scopes of orders, restricted to what is his or not.
type client struct {
	tenant, subject string
	own             bool
}

func (c client) String() string { return fmt.Sprintf("%s %s %t", c.tenant, c.subject, c.own) }

// reaches reports whether the client may see what another one has placed.
func (c client) reaches(other client) bool {
	return c.tenant == other.tenant && (!c.own || c.subject == other.subject)
}

// keys are equal for clients who share their keys.
func (c client) keys() client {
	if !c.own {
		c.subject = ""
	}
	return c
}

// told takes a client's word for who he is.
func told(r *http.Request) (identity.Identity, error) {
	var c client
	if _, err := fmt.Sscan(r.Header.Get("Authorization"), &c.tenant, &c.subject, &c.own); err != nil {
		return identity.Identity{}, err
	}
	scopes := identity.ParseScopes("orders:read", "orders:write")
	if c.own {
		scopes = identity.ParseScopes("orders:read.own", "orders:write.own")
	}
	return identity.Identity{Tenant: c.tenant, Subject: c.subject, Scopes: scopes}, nil
}

// as is a call by a client.
func (b bundle) as(t testing.TB, c client, method, path, body string, headers ...string) answer {
	t.Helper()
	return b.call(t, method, path, body, append(headers, "Authorization", c.String())...)
}

func setupTenants(t testing.TB) bundle {
	t.Helper()
	db := postgrestest.Database(t, "orders", postgres.Migrations()...)
	b := overFor(t, db.Service, told)
	b.db = db
	return b
}

var (
	alice = client{"shop", "alice", true}
	clerk = client{"shop", "clerk", false}
)

// others are those who must not see what alice has placed.
var others = []client{{"shop", "bob", true}, {"shop", "Alice", true}, {"kiosk", "alice", true},
	{"kiosk", "clerk", false}, {"default", "alice", true}, {"default", "clerk", false}, {"Shop", "clerk", false}}

// What is another's is answered exactly as what is not there, by each route, and stays as it is. Nor does the time of
// the answer tell: PostgreSQL runs the same statements for both, with as many rows.
func TestWhatIsAnothersIsNotThere(t *testing.T) {
	t.Parallel()
	db := postgrestest.Database(t, "orders", postgres.Migrations()...)
	proxy := postgrestest.Through(t, db.Config)
	through, err := pg.Open(proxy.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { through.Close() })
	b := overFor(t, through, told)
	b.db = db
	proxy.Watch()
	referring := strings.Replace(body, "{", `{"reference": "r", `, 1)
	placed := decode[api.Order](t, b.as(t, alice, "POST", api.Path, referring), 201)
	id := placed.ID
	if placed.Owner != alice.subject || placed.IdempotencyKey != "" {
		t.Errorf("who placed it, and with which key: %+v", placed)
	}
	path := func(id uuid.UUID, rest string) string { return api.Path + "/" + id.String() + rest }
	tried := 0
	for _, route := range (&api.API{}).Routes() {
		rest, ok := strings.CutPrefix(route.Pattern, api.Path+"/{id}")
		if !ok {
			continue
		}
		queries := []string{""}
		if rest == "" || rest == "/cancel" {
			queries = append(queries, "?wait=1s")
		}
		for _, query := range queries {
			for _, other := range others {
				tried++
				absent := uuid.New()
				ask := func(id uuid.UUID) (answer, []string, int) {
					proxy.About(uuid.Nil)
					got := b.as(t, other, route.Method, path(id, rest+query), "", "Idempotency-Key", "k")
					work, rows := proxy.About(id)
					return got, work, rows
				}
				missing, want, without := ask(absent)
				there, work, rows := ask(id)
				for n := 0; n < 9 && (!slices.Equal(work, want) || rows != without); n++ {
					there, work, rows = ask(id) // its owner may have been told of it just then, which takes a look
				}
				if len(work) == 0 || !slices.Equal(work, want) || rows != without {
					t.Errorf("%s %s for %s: %d rows by %q\nwhere there is none %d rows by %q", route.Method, route.Pattern, other,
						rows, work, without, want)
				}
				got := strings.ReplaceAll(string(there.body), id.String(), absent.String())
				if there.status != 404 || missing.status != 404 || got != string(missing.body) ||
					fmt.Sprint(headersOf(there)) != fmt.Sprint(headersOf(missing)) {
					t.Errorf("%s %s for %s: %d %v %s\nwhere there is none %d %v %s", route.Method, route.Pattern, other,
						there.status, there.header, there.body, missing.status, missing.header, missing.body)
				}
			}
			for _, one := range []client{alice, clerk, {"shop", "alice", false}} {
				if rest == "/stream" || rest == "/cancel" {
					continue // below
				}
				if a := b.as(t, one, route.Method, path(id, rest), ""); a.status != 200 {
					t.Errorf("%s %s for %s: %d %s", route.Method, route.Pattern, one, a.status, a.body)
				}
			}
		}
	}
	if tried < 6*len(others) {
		t.Errorf("%d calls", tried)
	}
	for _, query := range []string{"", "?account_id=" + account, "?reference=r", "?status=pending",
		"?account_id=" + account + "&reference=r&status=pending"} {
		for _, other := range others {
			if list := b.list(t, other, query); len(list) != 0 {
				t.Errorf("%s sees %v by %q", other, list, query)
			}
		}
		for _, one := range []client{alice, clerk} {
			if list := b.list(t, one, query); !slices.Equal(list, []uuid.UUID{id}) {
				t.Errorf("%s sees %v by %q", one, list, query)
			}
		}
	}
	if o := decode[api.Order](t, b.as(t, clerk, "GET", path(id, ""), ""), 200); o.Status != order.Pending {
		t.Errorf("it has become %s", o.Status)
	}
	if got := b.as(t, clerk, "HEAD", path(id, "/stream"), ""); got.status != 200 {
		t.Errorf("stream: %d", got.status)
	}
	if got := b.as(t, clerk, "POST", path(id, "/cancel"), ""); got.status != 202 {
		t.Errorf("cancel: %d %s", got.status, got.body)
	}
}

// headersOf are the headers that do not name the request.
func headersOf(a answer) http.Header {
	header := a.header.Clone()
	for _, name := range []string{"Date", "X-Request-Id", "Traceparent"} {
		header.Del(name)
	}
	return header
}

// list reads a whole list by pages of three.
func (b bundle) list(t testing.TB, c client, query string) (ids []uuid.UUID) {
	t.Helper()
	query = "?limit=3&" + strings.TrimPrefix(query, "?")
	for cursor := ""; ; {
		page := decode[httpserver.List[api.Order]](t, b.as(t, c, "GET", api.Path+query+cursor, ""), 200)
		for _, o := range page.Items {
			ids = append(ids, o.ID)
		}
		if page.NextCursor == "" {
			return ids
		}
		cursor = "&cursor=" + page.NextCursor
	}
}

// An order that another transaction holds keeps nobody waiting who does not reach it.
func TestACancellationWaitsForNoOrderOfAnother(t *testing.T) {
	t.Parallel()
	b := setupTenants(t)
	id := decode[api.Order](t, b.as(t, alice, "POST", api.Path, body), 201).ID
	tx := b.db.Owner.MustBegin()
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.Exec(`SELECT FROM orders WHERE id = $1 FOR UPDATE`, id); err != nil {
		t.Fatal(err)
	}
	for _, other := range others {
		wantProblem(t, b.as(t, other, "POST", api.Path+"/"+id.String()+"/cancel", ""), 404, api.CodeOrderNotFound)
	}
}

// placedOrder is an order of the model.
type placedOrder struct {
	api.Order
	by        client
	cancelled bool
}

// model is what clients have done, and what follows from it.
type model struct {
	bundle
	testing.TB
	orders []*placedOrder // the newest last
	keys   map[string]*placedOrder
}

// TestTenantsLiveApart is a random script of clients of three tenants, who use the same accounts, references and keys,
// and each other's IDs. Each answer is the one that follows from what those have done who reach the same.
func TestTenantsLiveApart(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	m := model{bundle: setupTenants(t), TB: t, keys: map[string]*placedOrder{}}
	var clients []client
	for _, tenant := range []string{"default", "shop", "kiosk"} {
		for _, subject := range []string{"alice", "bob"} {
			clients = append(clients, client{tenant, subject, true}, client{tenant, subject, false})
		}
	}
	accounts := []string{account, uuid.NewString()}
	one := func(texts ...string) string { return texts[random.IntN(len(texts))] }
	for range 600 {
		c := clients[random.IntN(len(clients))]
		switch random.IntN(6) {
		case 0, 1:
			m.place(c, one(accounts...), one("", "r", "s"), one("", "k", "l"))
		case 2:
			m.placeBatch(c, one(accounts...), one("", "k", "l"))
		case 3:
			m.cancel(c, random)
		case 4:
			m.get(c, random)
		case 5:
			m.check(c, one("", accounts[0], accounts[1]), one("", "r", "s"), one("", "pending", "cancelling"))
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	m.checkEvents()
}

func placeBody(account, reference string) string {
	return fmt.Sprintf(`{"account_id": %q, "amount": "1.00", "currency": "RUB", "reference": %q}`, account, reference)
}

func (m *model) place(c client, account, reference, key string) {
	var headers []string
	name := fmt.Sprint("one ", c.keys(), account, key)
	if key != "" {
		headers = []string{"Idempotency-Key", key}
	}
	a := m.as(m, c, "POST", api.Path, placeBody(account, reference), headers...)
	before := m.keys[name]
	switch {
	case key == "" || before == nil:
		placed := &placedOrder{Order: decode[api.Order](m, a, 201), by: c}
		m.orders = append(m.orders, placed)
		if m.keys[name] = placed; a.header.Get("Idempotent-Replayed") != "" {
			m.Errorf("%s repeats another's request: %s", c, a.body)
		}
	case before.Reference != reference:
		wantProblem(m, a, 422, httpserver.CodeIdempotencyKeyReused)
	case decode[api.Order](m, a, 201).ID != before.ID || a.header.Get("Idempotent-Replayed") != "true":
		m.Errorf("%s repeats %s: %s", c, before.ID, a.body)
	}
}

func (m *model) placeBatch(c client, account, key string) {
	var headers []string
	name := fmt.Sprint("batch ", c.keys(), account, key)
	if key != "" {
		headers = []string{"Idempotency-Key", key + account}
	}
	a := m.as(m, c, "POST", api.Path+"/batch", `{"orders": [`+placeBody(account, "r")+`]}`, headers...)
	placed := decode[api.Results](m, a, 200).Items[0].Order
	if placed == nil {
		m.Fatalf("%s: %s", c, a.body)
	}
	if before := m.keys[name]; key == "" || before == nil {
		o := &placedOrder{Order: *placed, by: c}
		m.orders = append(m.orders, o)
		if m.keys[name] = o; a.header.Get("Idempotent-Replayed") != "" {
			m.Errorf("%s repeats another's batch: %s", c, a.body)
		}
	} else if placed.ID != before.ID || a.header.Get("Idempotent-Replayed") != "true" {
		m.Errorf("%s repeats %s: %s", c, before.ID, a.body)
	}
}

// any is an order that somebody has placed, and how a client is answered who asks for it.
func (m *model) any(c client, random *rand.Rand) (o *placedOrder, reached bool) {
	if len(m.orders) == 0 {
		return &placedOrder{Order: api.Order{ID: uuid.New()}}, false
	}
	o = m.orders[random.IntN(len(m.orders))]
	return o, c.reaches(o.by)
}

func (m *model) cancel(c client, random *rand.Rand) {
	o, reached := m.any(c, random)
	a := m.as(m, c, "POST", api.Path+"/"+o.ID.String()+"/cancel", "", "Idempotency-Key", "k")
	if !reached {
		wantProblem(m, a, 404, api.CodeOrderNotFound)
		return
	}
	if o.cancelled = true; decode[api.Order](m, a, 202).Status != order.Cancelling {
		m.Errorf("%s cancels %s: %s", c, o.ID, a.body)
	}
}

func (m *model) get(c client, random *rand.Rand) {
	o, reached := m.any(c, random)
	for _, path := range []string{"", "/timeline"} {
		if a := m.as(m, c, "GET", api.Path+"/"+o.ID.String()+path, ""); !reached {
			wantProblem(m, a, 404, api.CodeOrderNotFound)
		} else if a.status != 200 {
			m.Errorf("%s asks for %s of %s: %s", c, o.ID, o.by, a.body)
		}
	}
}

// check reads a list.
func (m *model) check(c client, account, reference, status string) {
	var want []uuid.UUID
	for _, o := range slices.Backward(m.orders) {
		is := "pending"
		if o.cancelled {
			is = "cancelling"
		}
		if c.reaches(o.by) && (account == "" || o.AccountID.String() == account) &&
			(reference == "" || o.Reference == reference) && (status == "" || status == is) {
			want = append(want, o.ID)
		}
	}
	query := "?"
	for name, value := range map[string]string{"account_id": account, "reference": reference, "status": status} {
		if value != "" {
			query += "&" + name + "=" + value
		}
	}
	if got := m.list(m, c, strings.Replace(query, "?&", "?", 1)); !slices.Equal(got, want) {
		m.Errorf("%s by %q: %d orders, not %d", c, query, len(got), len(want))
	}
}

// checkEvents expects that each order was told of with its tenant, and with the owner whom it is restricted to.
func (m *model) checkEvents() {
	placed := map[string]client{}
	for _, o := range m.orders {
		placed[o.ID.String()] = o.by
	}
	events := outboxtest.Messages(m, m.db.Owner)
	if len(outboxtest.Of(events, contract.OrderPlacedType, "")) != len(m.orders) {
		m.Errorf("%d events of %d orders", len(events), len(m.orders))
	}
	for _, e := range events {
		by, owner := placed[e.Subject], ""
		if by.own {
			owner = by.subject
		}
		var told contract.Order
		if err := json.Unmarshal([]byte(e.Payload), &told); err != nil || e.Tenant != by.tenant || told.Owner != owner {
			m.Errorf("%v: %s placed %+v", err, by, e)
		}
	}
}

// A stream and a wait end when the token expires, although the order goes on.
func TestStreamsAndWaitsEndWithTheToken(t *testing.T) {
	t.Parallel()
	tokens := issuer.New(t)
	verifier := bearer.New(bearer.Config{Auth: bearer.JWT, Issuers: []string{tokens.URL},
		Audiences: []string{issuer.Audience}, TenantClaim: "tenant"}, slog.New(slog.DiscardHandler))
	done := make(chan error)
	go func() { done <- verifier.Run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	wait.NoError(t, func() error { return verifier.Ready(t.Context()) })
	db := postgrestest.Database(t, "orders", postgres.Migrations()...)
	b := overFor(t, db.Service, verifier.Authenticate)
	bearing := func(expires time.Time) string {
		return "Bearer " + tokens.Mint(issuer.Claims{"tenant": "shop", "scope": "orders:read orders:write",
			"exp": expires.Unix()}, nil, tokens.Key())
	}
	lasting := bearing(time.Now().Add(time.Hour))
	id := decode[api.Order](t, b.call(t, "POST", api.Path, body, "Authorization", lasting), 201).ID

	expires := time.Now().Add(3 * time.Second).Truncate(time.Second)
	short := bearing(expires)
	waited := make(chan answer, 2)
	for _, call := range [][3]string{{"GET", api.Path + "/" + id.String() + "?wait=30s", ""},
		{"POST", api.Path + "?wait=30s", body}} {
		go func() { waited <- b.call(t, call[0], call[1], call[2], "Authorization", short) }()
	}
	limited, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(limited, "GET", b.server.URL+api.Path+"/"+id.String()+"/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", short)
	l := open(t, request)
	if event, err := l.next(); err != nil || len(event) == 0 {
		t.Fatalf("event %q: %v", event, err)
	}
	l.expectEnd(t)
	for range 2 {
		if a := <-waited; decode[api.Order](t, a, a.status).Status != order.Pending {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if now := time.Now(); now.Before(expires) || now.After(expires.Add(20*time.Second)) {
		t.Errorf("they ended at %s, the token expired at %s", now, expires)
	}
	wantProblem(t, b.call(t, "GET", api.Path+"/"+id.String(), "", "Authorization", short), 401,
		httpserver.CodeUnauthenticated)
}

// Who has cancelled an order, with which key, is kept, and told those who may read what is not their own; who may not
// learns it of his own cancellations alone.
func TestWhoHasCancelled(t *testing.T) {
	t.Parallel()
	b := setupTenants(t)
	cancel := func(by client) (path string) {
		t.Helper()
		o := decode[api.Order](t, b.as(t, alice, "POST", api.Path, body, "Idempotency-Key", uuid.NewString()), 201)
		path = api.Path + "/" + o.ID.String()
		decode[api.Order](t, b.as(t, by, "POST", path+"/cancel", `{"reason": "sold out"}`, "Idempotency-Key", "c-3"), 202)
		return path + "/explain"
	}
	tells := func(to client, path string) string {
		t.Helper()
		return string(b.as(t, to, "GET", path, "").body)
	}
	clerks, own := cancel(clerk), cancel(alice)
	for _, test := range []struct {
		to         client
		path, want string
	}{
		{clerk, clerks, "is to be cancelled, by clerk, key c-3; the event"},
		{alice, clerks, "is to be cancelled; the event"},
		{clerk, own, "is to be cancelled, by alice, key c-3; the event"},
		{alice, own, "is to be cancelled, by alice, key c-3; the event"},
	} {
		if got := tells(test.to, test.path); !strings.Contains(got, test.want) || !strings.Contains(got, "sold out") ||
			!strings.Contains(got, "was placed, by alice, key ") || test.to == alice && strings.Contains(got, "clerk") {
			t.Errorf("%s is told %s, want %q", test.to, got, test.want)
		}
	}
}
