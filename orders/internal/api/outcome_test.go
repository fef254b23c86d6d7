package api_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/orders/internal/api"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/outboxtest"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// attempt is a POST that can be sent, and how to tell how often it has taken effect.
type attempt struct {
	path, body string
	statement  string // is in the text of one of its transaction
	count      string // a query
	of         any    // its argument
	event      func(outbox.Message) bool
	once       int // what count says, and how many events there are, when the request has taken effect once
	status     int // of its answer then
}

// attempts makes an attempt of each route.
func attempts() map[string]func(testing.TB, bundle) attempt {
	placing := func(path string, once, status int, text func(one string) string) func(testing.TB, bundle) attempt {
		return func(testing.TB, bundle) attempt {
			payer := uuid.NewString()
			return attempt{path, text(strings.ReplaceAll(body, account, payer)), "INSERT INTO orders",
				`SELECT count(*) FROM orders WHERE account_id = $1`, payer,
				func(m outbox.Message) bool { return m.Key == payer }, once, status}
		}
	}
	return map[string]func(testing.TB, bundle) attempt{
		"/api/v1/orders": placing("/api/v1/orders", 1, 201, func(one string) string { return one }),
		"/api/v1/orders/batch": placing("/api/v1/orders/batch", 2, 200, func(one string) string {
			return `{"orders": [` + one + `, {"amount": 0}, ` + one + `]}`
		}),
		"/api/v1/orders/{id}/cancel": func(t testing.TB, b bundle) attempt {
			o := decode[api.Order](t, b.call(t, "POST", "/api/v1/orders", body), 201)
			return attempt{"/api/v1/orders/" + o.ID.String() + "/cancel", `{"reason": "no more"}`, "FROM cancellations",
				`SELECT count(*) FROM order_history WHERE order_id = $1 AND to_status = 'cancelling'`, o.ID,
				func(m outbox.Message) bool {
					return m.Subject == o.ID.String() && m.Type == contract.OrderCancelledType
				}, 1, 202}
		},
	}
}

// served are the routes that take POST, but for the operators'.
func served(t testing.TB) (routes []string) {
	t.Helper()
	router := chi.NewRouter()
	httpserver.Mount(router, api.New(nil, nil, nil, nil, prometheus.NewRegistry()).Routes()...)
	if err := chi.Walk(router, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if method == http.MethodPost {
			routes = append(routes, route)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return routes
}

func (b bundle) of(t testing.TB, route string) attempt {
	t.Helper()
	ready, ok := attempts()[route]
	if !ok {
		t.Fatalf("POST %s has no case: what does it answer when the answer to a commit is lost?", route)
	}
	return ready(t, b)
}

// effects tells how often a request has taken effect.
func (b bundle) effects(t testing.TB, a attempt) (n int) {
	t.Helper()
	if err := b.db.Owner.GetContext(t.Context(), &n, a.count, a.of); err != nil {
		t.Fatal(err)
	}
	events := 0
	for _, m := range outboxtest.Messages(t, b.db.Owner) {
		if a.event(m) {
			events++
		}
	}
	if events != n {
		t.Errorf("%s: %d events of %d effects", a.path, events, n)
	}
	return n
}

// proxied is the API over a database behind a proxy.
func proxied(t *testing.T) (bundle, *postgrestest.Proxy) {
	t.Helper()
	t.Parallel()
	plain := setup(t)
	proxy := postgrestest.Through(t, plain.db.Config)
	db, err := pg.Open(proxy.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	b := over(t, db)
	b.db = plain.db
	return b, proxy
}

var moments = map[string]postgrestest.Moment{"before the commit": postgrestest.BeforeCommit,
	"after the commit": postgrestest.AfterCommit}

// The connection is lost once: the request takes effect all the same, once, and its answer is that of a request that
// nobody has sent before.
func TestTheAnswerToACommitIsLost(t *testing.T) {
	b, proxy := proxied(t)
	for _, route := range served(t) {
		for name, moment := range moments {
			a, key := b.of(t, route), uuid.NewString()
			woken := b.woken.Load()
			lost := proxy.Lose(moment, a.statement, 1)
			got := b.call(t, "POST", a.path, a.body, "Idempotency-Key", key)
			if len(lost) != 1 || got.status != a.status || got.header.Get("Idempotent-Replayed") != "" ||
				b.woken.Load() == woken {
				t.Errorf("%s, lost %s %d times: %d %v %s", route, name, len(lost), got.status, got.header, got.body)
			}
			again := b.call(t, "POST", a.path, a.body, "Idempotency-Key", key)
			if again.status != a.status || again.header.Get("Idempotent-Replayed") != "true" {
				t.Errorf("%s again: %d %v %s", route, again.status, again.header, again.body)
			}
			if n := b.effects(t, a); n != a.once {
				t.Errorf("%s, lost %s: it has taken effect %d times, not %d", route, name, n, a.once)
			}
		}
	}
}

// The connection is lost again and again: the answer says that nobody knows, and where the outcome is to be seen. It is
// there when the request has taken effect, and only then.
func TestAnOutcomeStaysUnknown(t *testing.T) {
	for name, moment := range moments {
		for _, route := range served(t) {
			t.Run(route+" "+name, func(t *testing.T) {
				b, proxy := proxied(t)
				a := b.of(t, route)
				proxy.Lose(moment, a.statement, 1000)
				got := b.call(t, "POST", a.path, a.body)
				proxy.Lose(moment, a.statement, 0)
				done := moment == postgrestest.AfterCommit
				if n := b.effects(t, a); n != map[bool]int{true: a.once, false: 0}[done] {
					t.Errorf("it has taken effect %d times", n)
				}
				var problems []httpserver.Problem
				if a.status == http.StatusOK {
					for i, item := range decode[api.Results](t, got, 200).Items {
						if i != 1 {
							problems = append(problems, *item.Problem)
						}
					}
				} else {
					problems = append(problems, wantProblem(t, got, 503, httpserver.CodeOutcomeUnknown))
					if got.header.Get("Location") != problems[0].Location || got.header.Get("Retry-After") != "" {
						t.Errorf("headers %v", got.header)
					}
				}
				for _, p := range problems {
					if p.Code != httpserver.CodeOutcomeUnknown || p.OrderID == "" || p.Location != api.Path+"/"+p.OrderID {
						t.Errorf("problem %+v", p)
					}
					at := b.call(t, "GET", p.Location, "")
					switch {
					case a.status == http.StatusAccepted:
						if o := decode[api.Order](t, at, 200); (o.Status == "cancelling") != done {
							t.Errorf("the order is %s", o.Status)
						}
					case (at.status == 200) != done, !done && at.status != 404:
						t.Errorf("at %s there is %d %s", p.Location, at.status, at.body)
					}
				}
			})
		}
	}
}

// The key of a batch is stored by itself, before the batch takes effect.
func TestTheAnswerToAKeyIsLost(t *testing.T) {
	b, proxy := proxied(t)
	for name, moment := range moments {
		a := b.of(t, "/api/v1/orders/batch")
		lost := proxy.Lose(moment, "INSERT INTO request_keys", 1)
		got := b.call(t, "POST", a.path, a.body, "Idempotency-Key", uuid.NewString())
		if n := b.effects(t, a); len(lost) != 1 || got.status != 200 || got.header.Get("Idempotent-Replayed") != "" ||
			n != a.once {
			t.Errorf("lost %s: %d %v %s; it has taken effect %d times", name, got.status, got.header, got.body, n)
		}
	}
}

// Requests that share a transaction share its fate: each takes effect once.
func TestManyLoseTheAnswerToACommit(t *testing.T) {
	b, proxy := proxied(t)
	routes := slices.Sorted(maps.Keys(attempts()))
	var sent []attempt
	for i := range 60 {
		sent = append(sent, b.of(t, routes[i%len(routes)]))
	}
	for _, statement := range []string{"INSERT INTO orders", "FROM cancellations"} {
		proxy.Lose(postgrestest.AfterCommit, statement, 3)
		var all sync.WaitGroup
		for _, a := range sent {
			if a.statement == statement {
				all.Go(func() {
					if got := b.call(t, "POST", a.path, a.body, "Idempotency-Key", fmt.Sprint("k ", a.of)); got.status != a.status ||
						got.header.Get("Idempotent-Replayed") != "" {
						t.Errorf("%s: %d %v %s", a.path, got.status, got.header, got.body)
					}
				})
			}
		}
		all.Wait()
	}
	for _, a := range sent {
		if n := b.effects(t, a); n != a.once {
			t.Errorf("%s: it has taken effect %d times, not %d", a.path, n, a.once)
		}
	}
}

// What never reached the server has surely done nothing, also where connections were kept from before.
func TestTheDatabaseDiesBeforeARequest(t *testing.T) {
	b, proxy := proxied(t)
	for _, route := range served(t) {
		a := b.of(t, route)
		proxy.Away(true)
		if p := wantProblem(t, b.call(t, "POST", a.path, a.body), 503, httpserver.CodeUnavailable); p.Location != "" {
			t.Errorf("problem %+v", p)
		}
		proxy.Away(false)
		if n := b.effects(t, a); n != 0 {
			t.Errorf("%s: it has taken effect %d times", a.path, n)
		}
	}
}
