package billing_test

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

	"github.com/altyn-pay/altyn/payments/api/altyn/payments/v1/paymentsv1connect"
	"github.com/altyn-pay/altyn/payments/internal/api"
	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/payments/internal/rpc"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// attempt is a POST that can be sent, and what counts how often it has taken effect.
type attempt struct {
	path  string
	body  any
	count string // a query
	of    any    // its argument
	once  int    // what it says when the request has taken effect once
}

// attempts makes an attempt of each route.
func attempts() map[string]func(*bundle) attempt {
	operations := func(kind, path string, account uuid.UUID, body any) attempt {
		return attempt{path, body,
			`SELECT count(*) FROM operations WHERE account_id = $1 AND status = 'success' AND operation = '` + kind + `'`,
			account, 1}
	}
	ofAccount := func(kind, path string) func(*bundle) attempt {
		return func(b *bundle) attempt {
			account := b.Account("100.00")
			a := operations(kind, "/api/v1/accounts/"+account.String()+"/"+path, account,
				map[string]any{"amount": "7.00", "currency": "RUB"})
			if kind == "deposit" {
				a.once = 2
			}
			return a
		}
	}
	ofHold := func(kind string) func(*bundle) attempt {
		return func(b *bundle) attempt {
			account := b.Account("100.00")
			hold := b.Post("/api/v1/accounts/"+account.String()+"/holds", map[string]any{"amount": "7.00", "currency": "RUB"})
			return operations(kind, fmt.Sprint("/api/v1/holds/", hold.Body["id"], "/", kind), account, nil)
		}
	}
	// A step over HTTP, or where procedure is given by Connect's own protocol.
	step := func(kind, step, procedure string) func(*bundle) attempt {
		return func(b *bundle) attempt {
			account := b.Account("100.00")
			o := b.Held(account, "60.00")
			if step == "refund" {
				b.Expect(b.Step(o, "confirm", ""), 200)
			}
			a := operations(kind, "/api/v1/payments/"+o.OrderID.String()+"/"+step, account, nil)
			if procedure != "" {
				a.path, a.body = "/"+paymentsv1connect.PaymentServiceName+"/"+procedure,
					map[string]any{"orderId": o.OrderID.String()}
			}
			return a
		}
	}
	return map[string]func(*bundle) attempt{
		"/api/v1/accounts": func(*bundle) attempt {
			owner := uuid.NewString()
			return attempt{"/api/v1/accounts", map[string]any{"owner": owner},
				`SELECT count(*) FROM accounts WHERE owner = $1`, owner, 1}
		},
		"/api/v1/accounts/{id}/deposits":    ofAccount("deposit", "deposits"),
		"/api/v1/accounts/{id}/withdrawals": ofAccount("withdraw", "withdrawals"),
		"/api/v1/accounts/{id}/holds":       ofAccount("hold", "holds"),
		"/api/v1/holds/{id}/capture":        ofHold("capture"),
		"/api/v1/holds/{id}/release":        ofHold("release"),
		"/api/v1/transfers": func(b *bundle) attempt {
			from, to := b.Account("100.00"), b.Account("")
			return operations("transfer", "/api/v1/transfers", from,
				map[string]any{"from_account_id": from, "to_account_id": to, "amount": "7.00", "currency": "RUB"})
		},
		"/api/v1/operations/batch": func(b *bundle) attempt {
			account := b.Account("100.00")
			withdraw := map[string]any{"operation": "withdraw", "account_id": account, "amount": "7.00", "currency": "RUB"}
			a := operations("withdraw", "/api/v1/operations/batch", account,
				map[string]any{"operations": []any{withdraw, withdraw}})
			a.once = 2
			return a
		},
		"/api/v1/operations/{id}/cancel": func(b *bundle) attempt {
			account := b.Account("100.00")
			waits := b.Call("POST", "/api/v1/accounts/"+account.String()+"/withdrawals",
				map[string]any{"amount": "700.00", "currency": "RUB", "on_insufficient": "wait"})
			return attempt{fmt.Sprint("/api/v1/operations/", waits.Body["id"], "/cancel"), nil,
				`SELECT count(*) FROM operations WHERE id = $1 AND status = 'error' AND reason = 'cancelled'`, waits.Body["id"], 1}
		},
		"/api/v1/payments/{order_id}/confirm":                          step("capture", "confirm", ""),
		"/api/v1/payments/{order_id}/reject":                           step("release", "reject", ""),
		"/api/v1/payments/{order_id}/refund":                           step("refund", "refund", ""),
		"/" + paymentsv1connect.PaymentServiceName + "/ConfirmPayment": step("capture", "confirm", "ConfirmPayment"),
		"/" + paymentsv1connect.PaymentServiceName + "/RejectPayment":  step("release", "reject", "RejectPayment"),
		"/" + paymentsv1connect.PaymentServiceName + "/RefundPayment":  step("refund", "refund", "RefundPayment"),
	}
}

// served are the routes of the service that take POST and change anything.
func served(t *testing.T) []string {
	t.Helper()
	router := chi.NewRouter()
	httpserver.Mount(router, api.New(nil, nil, nil).Routes()...)
	httpserver.Mount(router, rpc.New(nil, nil).Routes()...)
	methods := make(map[string]string) // of each route
	if err := chi.Walk(router, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		methods[route] += method
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(methods, func(route, methods string) bool {
		reads := strings.Contains(methods, "GET") && strings.HasPrefix(route, "/"+paymentsv1connect.PaymentServiceName)
		return !strings.Contains(methods, "POST") || reads || strings.HasPrefix(route, "/grpc.")
	})
	return slices.Sorted(maps.Keys(methods))
}

// of makes the attempt of a route.
func (b *bundle) of(route string) attempt {
	b.Helper()
	ready, ok := attempts()[route]
	if !ok {
		b.Fatalf("POST %s has no case: what does it answer when the answer to a commit is lost?", route)
	}
	return ready(b)
}

// effects tells how often a request has taken effect.
func (b *bundle) effects(a attempt) (n int) {
	b.Helper()
	if err := b.Owner.GetContext(b.Context(), &n, a.count, a.of); err != nil {
		b.Fatal(err)
	}
	return n
}

// proxied is a service whose connections to the database go through a proxy.
func proxied(t *testing.T, roles ...service.Role) (*bundle, *postgrestest.Proxy) {
	t.Helper()
	b := setup(t)
	proxy := b.Through()
	for i, role := range roles {
		if url, _ := b.Start(role); i == 0 {
			b.URL = url
		}
	}
	return b, proxy
}

// accepting is in the text of a statement of every transaction that accepts requests.
const accepting = "pg_try_advisory_xact_lock"

var moments = map[string]postgrestest.Moment{"before the commit": postgrestest.BeforeCommit,
	"after the commit": postgrestest.AfterCommit}

// The connection is lost once: the request is settled all the same, once, and its answer is that of a request that
// nobody has sent before.
func TestTheAnswerToACommitIsLost(t *testing.T) {
	b, proxy := proxied(t, "all")
	for _, route := range served(t) {
		for name, moment := range moments {
			a, key := b.of(route), uuid.NewString()
			lost := proxy.Lose(moment, accepting, 1)
			got := b.Call("POST", a.path, a.body, "Idempotency-Key", key)
			proxy.Lose(moment, accepting, 0)
			if len(lost) != 1 {
				t.Errorf("%s: no commit was lost", route)
			}
			if got.Status >= 300 || got.Header.Get("Idempotent-Replayed") != "" || b.effects(a) != a.once {
				t.Errorf("%s, lost %s: %d %v %v; it has taken effect %d times, not %d",
					route, name, got.Status, got.Header, got.Body, b.effects(a), a.once)
			}
			again := b.Call("POST", a.path, a.body, "Idempotency-Key", key)
			if again.Status >= 300 || again.Header.Get("Idempotent-Replayed") != "true" || b.effects(a) != a.once {
				t.Errorf("%s again: %d %v %v; it has taken effect %d times, not %d", route, again.Status, again.Header,
					again.Body, b.effects(a), a.once)
			}
		}
	}
}

// The connection is lost again and again: the answer says that nobody knows, and where the outcome is to be seen. It
// is there when the request has taken effect, and only then.
func TestAnOutcomeStaysUnknown(t *testing.T) {
	for name, moment := range moments {
		t.Run(name, func(t *testing.T) {
			b, proxy := proxied(t, "all")
			var sent []attempt
			for _, route := range served(t) {
				sent = append(sent, b.of(route))
			}
			proxy.Lose(moment, accepting, 500)
			answers := make([]paymentstest.Answer, len(sent))
			var all sync.WaitGroup
			for i, a := range sent {
				all.Go(func() { answers[i] = b.Call("POST", a.path, a.body) })
			}
			all.Wait()
			proxy.Lose(moment, accepting, 0)
			for i, a := range sent {
				effects, done := b.effects(a), moment == postgrestest.AfterCommit
				if want := map[bool]int{true: a.once, false: a.once - unique(a)}[done]; effects != want {
					t.Errorf("%s: taken effect %d times, not %d", a.path, effects, want)
				}
				places := unknown(answers[i])
				if len(places) == 0 {
					t.Errorf("%s: %d %v %v", a.path, answers[i].Status, answers[i].Header, answers[i].Body)
				}
				for _, place := range places {
					at := b.Call("GET", place, nil)
					// What is to be cancelled is there before.
					there, undone := at.Status == 200, at.Status == 404 || at.Body["status"] == "created"
					if done != (there && !undone) || !done && !undone {
						t.Errorf("%s: at %s there is %d %v", a.path, place, at.Status, at.Body)
					}
				}
			}
		})
	}
}

// unique is how much of the count an attempt has by itself: an account got its money by a deposit before.
func unique(a attempt) int {
	if strings.HasSuffix(a.path, "/deposits") {
		return a.once - 1
	}
	return a.once
}

// unknown reads the places that an answer names for outcomes that are not known; none when it is another answer.
func unknown(got paymentstest.Answer) (places []string) {
	if items, ok := got.Body["items"].([]any); ok && got.Status == 200 {
		for _, item := range items {
			problem, _ := item.(map[string]any)["problem"].(map[string]any)
			if id, location := fmt.Sprint(problem["operation_id"]),
				fmt.Sprint(problem["location"]); problem["code"] == "outcome_unknown" && strings.HasSuffix(location, id) {
				places = append(places, location)
			}
		}
		return places
	}
	if details, ok := got.Body["details"].([]any); ok && got.Body["code"] == "unknown" { // of Connect
		info := details[0].(map[string]any)["debug"].(map[string]any)
		if metadata, _ := info["metadata"].(map[string]any); len(details) == 1 && info["reason"] == "outcome_unknown" {
			return []string{fmt.Sprint(metadata["location"])}
		}
		return nil
	}
	location := got.Header.Get("Location")
	if got.Status == 503 && got.Body["code"] == "outcome_unknown" && got.Body["location"] == location &&
		got.Header.Get("Retry-After") == "" &&
		strings.HasSuffix(location, fmt.Sprint(got.Body["operation_id"])) {
		return []string{location}
	}
	return nil
}

// The key of a batch is stored by itself, before the batch takes effect.
func TestTheAnswerToAKeyIsLost(t *testing.T) {
	b, proxy := proxied(t, "all")
	for name, moment := range moments {
		a, key := b.of("/api/v1/operations/batch"), uuid.NewString()
		proxy.Lose(moment, "INSERT INTO request_keys", 1)
		got := b.Call("POST", a.path, a.body, "Idempotency-Key", key)
		if got.Status != 200 || got.Header.Get("Idempotent-Replayed") != "" || b.effects(a) != a.once {
			t.Errorf("lost %s: %d %v %v; it has taken effect %d times", name, got.Status, got.Header, got.Body, b.effects(a))
		}
	}
}

// Where another process settles, the request is stored, and may be settled before it is known to be.
func TestTheAnswerToACommitOfAStoredRequestIsLost(t *testing.T) {
	b, proxy := proxied(t, "api", "worker")
	for name, moment := range moments {
		a := b.of("/api/v1/accounts/{id}/withdrawals")
		lost := proxy.Lose(moment, "INSERT INTO inbox", 1)
		got := b.Call("POST", a.path, a.body, "Idempotency-Key", "k")
		if len(lost) != 1 || got.Status != http.StatusCreated ||
			got.Header.Get("Idempotent-Replayed") != "" || b.effects(a) != 1 {
			t.Errorf("lost %s: %d %v %v; it has taken effect %d times", name, got.Status, got.Header, got.Body, b.effects(a))
		}
	}
}

// What never reached the server has surely done nothing, also where a connection was kept from before.
func TestTheDatabaseDiesBeforeARequest(t *testing.T) {
	b, proxy := proxied(t, "all")
	a := b.of("/api/v1/accounts/{id}/withdrawals")
	proxy.Away(true)
	got := b.Call("POST", a.path, a.body)
	if got.Status != 503 || got.Body["code"] != "unavailable" || got.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v %v", got.Status, got.Header, got.Body)
	}
	proxy.Away(false)
	if b.effects(a) != 0 {
		t.Error("it has taken effect")
	}
}
