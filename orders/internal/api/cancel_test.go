package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/api"
	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/outbox"
	"github.com/altyn-pay/altyn/testkit/outboxtest"
)

// placed is a new order, and the path under which it is cancelled.
func (b bundle) placed(t testing.TB) (id uuid.UUID, cancel string) {
	t.Helper()
	id = decode[api.Order](t, b.call(t, "POST", "/api/v1/orders", body), 201).ID
	return id, "/api/v1/orders/" + id.String() + "/cancel"
}

func (b bundle) count(t testing.TB, query string, args ...any) (n int) {
	t.Helper()
	if err := b.db.Service.Get(&n, query, args...); err != nil {
		t.Fatal(err)
	}
	return n
}

// cancellations are the events of an order's cancellation, or of all.
func (b bundle) cancellations(t testing.TB, id string) []outbox.Message {
	t.Helper()
	return outboxtest.Of(outboxtest.Messages(t, b.db.Service), contract.OrderCancelledType, id)
}

func TestCancel(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id, path := b.placed(t)
	woken, changes := b.woken.Load(), b.hub.Subscribe(id)
	defer changes.Close()
	a := b.call(t, "POST", path, `{"reason": "the client changed its mind"}`)
	cancelled := decode[api.Order](t, a, 202)
	if cancelled.ID != id || cancelled.Status != order.Cancelling || cancelled.Reason != "cancelled" ||
		cancelled.Note != "the client changed its mind" ||
		a.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("got %s", a.body)
	}
	if b.woken.Load() != woken+1 {
		t.Error("the relay was not woken")
	}
	ctx, end := context.WithTimeout(t.Context(), 10*time.Second)
	defer end()
	if _, told := changes.Until(ctx, func(o order.Order) bool {
		return o.Status == order.Cancelling && o.Version == 2
	}); !told {
		t.Error("the hub was not told")
	}
	for _, again := range []answer{b.call(t, "POST", path, ""), b.call(t, "POST", path, `{"reason": "another"}`)} {
		if again.status != 202 || !bytes.Equal(again.body, a.body) || again.header.Get("Idempotent-Replayed") != "" {
			t.Errorf("again: %d %s", again.status, again.body)
		}
	}
	payload := b.cancellations(t, "")[0].Payload
	var event contract.Cancellation
	if err := json.Unmarshal([]byte(payload), &event); err != nil {
		t.Fatal(err)
	}
	if want := (contract.Cancellation{
		Order: contract.Order{
			OrderID: id, AccountID: cancelled.AccountID, Amount: "2500.00", Currency: "RUB", Capture: contract.CaptureAutomatic,
			OnInsufficient: contract.OnInsufficientReject, CreatedAt: cancelled.CreatedAt,
		},
		Reason: "cancelled", Note: "the client changed its mind", CancelledAt: cancelled.UpdatedAt,
	}); !reflect.DeepEqual(event, want) {
		t.Errorf("told %s", payload)
	}

	b.settle(t, id, contract.PaymentSucceeded, 1, "") // before the cancellation reached the payment
	b.settle(t, id, contract.PaymentCancelled, 2, "cancelled")
	a = b.call(t, "POST", path, "")
	if got := decode[api.Order](t, a, 202); got.Status != order.Cancelled || got.Reason != "cancelled" ||
		got.Note != cancelled.Note {
		t.Errorf("in the end: %s", a.body)
	}
	var steps []string
	timeline := b.call(t, "GET", strings.TrimSuffix(path, "cancel")+"timeline", "")
	for _, item := range decode[api.Timeline](t, timeline, 200).Items {
		steps = append(steps, fmt.Sprintf("%s %q %q", item.Status, item.Reason, item.Note))
		if item.EventID == nil {
			t.Errorf("no event brought %+v", item)
		}
	}
	if want := []string{`pending "" ""`, `cancelling "cancelled" "the client changed its mind"`,
		`cancelling "succeeded" ""`,
		`cancelled "cancelled" ""`}; !reflect.DeepEqual(steps, want) {
		t.Errorf("the timeline is %q", steps)
	}
}

func TestCancelIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id, path := b.placed(t)
	const invalid = httpserver.CodeValidationFailed
	for name, test := range map[string]struct {
		path, body string
		headers    []string
		status     int
		code       string
	}{
		"unknown order":  {"/api/v1/orders/" + uuid.NewString() + "/cancel", "", nil, 404, api.CodeOrderNotFound},
		"no UUID":        {"/api/v1/orders/17/cancel", "", nil, 400, invalid},
		"long reason":    {path, `{"reason": "` + strings.Repeat("ы", 201) + `"}`, nil, 400, invalid},
		"NUL":            {path, `{"reason": "\u0000"}`, nil, 400, httpserver.CodeInvalidJSON},
		"reason number":  {path, `{"reason": 17}`, nil, 400, invalid},
		"unknown field":  {path, `{"why": "x"}`, nil, 400, httpserver.CodeUnknownField},
		"no JSON":        {path, `{`, nil, 400, httpserver.CodeInvalidJSON},
		"text":           {path, `{}`, []string{"Content-Type", "text/plain"}, 415, httpserver.CodeUnsupportedMediaType},
		"empty key":      {path, `{}`, []string{"Idempotency-Key", ""}, 400, invalid},
		"long wait":      {path + "?wait=31s", "", nil, 400, invalid},
		"more than 1MiB": {path, `{"reason": "` + strings.Repeat("x", 1<<20) + `"}`, nil, 413, httpserver.CodeBodyTooLarge},
	} {
		t.Log(name)
		a := b.call(t, "POST", test.path, test.body, test.headers...)
		p := wantProblem(t, a, test.status, test.code)
		if name == "long reason" && (len(p.Errors) != 1 || p.Errors[0].Field != "reason") {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	wantProblem(t, b.call(t, "GET", path, ""), 405, httpserver.CodeMethodNotAllowed)
	if n := b.count(t, `SELECT count(*) FROM orders WHERE status <> 'pending'`); n != 0 {
		t.Errorf("%d orders were cancelled", n)
	}

	b.settle(t, id, contract.PaymentFailed, 1, "insufficient_funds")
	for _, headers := range [][]string{nil, {"Idempotency-Key", "k"}, {"Idempotency-Key", "k"}} {
		wantProblem(t, b.call(t, "POST", path+"?wait=30s", `{"reason": "`+strings.Repeat("ы", 200)+`"}`, headers...), 422,
			api.CodeOrderFailed)
	}
}

func TestCancelWithAKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id, path := b.placed(t)
	_, other := b.placed(t)
	for i, test := range []struct {
		path, body, key string
		status          int
		replayed        string
	}{
		{path, `{"reason": "why"}`, "k", 202, ""},
		{path, `{"reason": "why"}`, "k", 202, "true"},
		{path, `{"reason": "another"}`, "k", 422, ""},
		{path, ``, "k", 422, ""},
		{path, `{"reason": "another"}`, "l", 202, ""},
		{other, `{}`, "k", 202, ""}, // a key belongs to its order
		{other, ``, "k", 202, "true"},
	} {
		a := b.call(t, "POST", test.path, test.body, "Idempotency-Key", test.key)
		if a.header.Get("Idempotent-Replayed") != test.replayed {
			t.Errorf("%d: replayed %q: %s", i, a.header.Get("Idempotent-Replayed"), a.body)
		}
		if test.status == 422 {
			wantProblem(t, a, 422, httpserver.CodeIdempotencyKeyReused)
		} else if o := decode[api.Order](t, a, 202); o.Status != order.Cancelling {
			t.Errorf("%d: %s", i, a.body)
		}
	}
	// What was accepted stays so for its key, whatever has become of the order.
	b.settle(t, id, contract.PaymentFailed, 1, "insufficient_funds")
	a := b.call(t, "POST", path, `{"reason": "why"}`, "Idempotency-Key", "k")
	if o := decode[api.Order](t, a, 202); o.Status != order.Failed || o.Reason != "insufficient_funds" ||
		a.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("after its failure: %s", a.body)
	}
	wantProblem(t, b.call(t, "POST", path, `{"reason": "another"}`, "Idempotency-Key", "k"), 422,
		httpserver.CodeIdempotencyKeyReused)
	wantProblem(t, b.call(t, "POST", path, `{"reason": "why"}`), 422, api.CodeOrderFailed)
	if n := len(b.cancellations(t, "")); n != 2 {
		t.Errorf("%d events of 2 cancellations", n)
	}
}

func TestCancelWaitsForTheEndOfThePayment(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.follow(t)
	for status, want := range map[string]order.Status{contract.PaymentCancelled: order.Cancelled,
		contract.PaymentFailed: order.Failed} {
		id, path := b.placed(t)
		before := b.settle(t, id, contract.PaymentCreated, 1, "waiting_for_funds")
		if status == contract.PaymentCancelled {
			before = b.settle(t, id, contract.PaymentSucceeded, 2, "")
		}
		answers := make(chan answer, 1)
		go func() { answers <- b.call(t, "POST", path+"?wait=30s", "") }()
		for b.count(t, `SELECT count(*) FROM cancellations WHERE order_id = $1`, id) == 0 {
			b.hub.Publish(id, before) // what a poll has read
		}
		b.settle(t, id, status, 3, "why")
		a := <-answers
		if o := decode[api.Order](t, a, 202); o.Status != want ||
			o.Reason != map[order.Status]string{order.Cancelled: "cancelled", order.Failed: "why"}[want] {
			t.Errorf("%s: %s", status, a.body)
		}
	}
	_, path := b.placed(t)
	if o := decode[api.Order](t, b.call(t, "POST", path+"?wait=50ms", ""), 202); o.Status != order.Cancelling {
		t.Errorf("got %+v", o)
	}
	begin := time.Now()
	_, path = b.placed(t)
	if o := decode[api.Order](t, b.call(t, "POST", path+"?wait=0s", ""), 202); o.Status != order.Cancelling ||
		time.Since(begin) > 20*time.Second {
		t.Errorf("after %s: %+v", time.Since(begin), o)
	}
}

// What a poll has read before the order was cancelled, and tells afterwards, is no news.
func TestWaitIgnoresWhatIsOld(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id, path := b.placed(t)
	paid := b.settle(t, id, contract.PaymentSucceeded, 1, "")
	decode[api.Order](t, b.call(t, "POST", path, ""), 202)
	answers := make(chan answer)
	go func() { answers <- b.call(t, "GET", strings.TrimSuffix(path, "/cancel")+"?wait=200ms", "") }()
	for {
		select {
		case a := <-answers:
			if o := decode[api.Order](t, a, 200); o.Status != order.Cancelling {
				t.Errorf("got %s", a.body)
			}
			return
		default:
			b.hub.Publish(id, paid)
		}
	}
}

// Many cancel the same orders at once while their payments are settled: each order is cancelled once, and every answer
// is one that fits.
func TestCancelsTogetherWithPayments(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const orders, clients = 12, 8
	ids, paths := make([]uuid.UUID, orders), make([]string, orders)
	for i := range orders {
		ids[i], paths[i] = b.placed(t)
	}
	var all sync.WaitGroup
	fresh, refused := make([]atomic.Int64, orders), make([]atomic.Int64, orders)
	for client := range clients {
		all.Go(func() {
			for n := range orders {
				i := (n + client) % orders
				a := b.call(t, "POST", paths[i], `{"reason": "why"}`, "Idempotency-Key", "the key")
				switch {
				case a.status == 422 && bytes.Contains(a.body, []byte(api.CodeOrderFailed)):
					refused[i].Add(1)
				case a.status != 202:
					t.Errorf("%d %s", a.status, a.body)
				case a.header.Get("Idempotent-Replayed") == "":
					fresh[i].Add(1)
				}
			}
		})
	}
	all.Go(func() {
		for i, id := range ids {
			b.settle(t, id, contract.PaymentCreated, 1, "waiting_for_funds")
			b.settle(t, id, []string{contract.PaymentFailed, contract.PaymentSucceeded, contract.PaymentAuthorized}[i%3], 2, "")
		}
	})
	all.Wait()
	for i, id := range ids {
		events := len(b.cancellations(t, id.String()))
		lines := b.count(t, `SELECT count(*) FROM order_history
			WHERE order_id = $1 AND from_status <> 'cancelling' AND to_status = 'cancelling'`, id)
		o, err := b.store.Order(t.Context(), identity.Default, id)
		if err != nil {
			t.Fatal(err)
		}
		n := int(fresh[i].Load())
		if n > 1 || events != n || lines != n || o.PaymentVersion != 2 ||
			(n == 0) != (refused[i].Load() == clients) || refused[i].Load() != 0 && refused[i].Load() != clients ||
			(i%3 == 0) != (o.Status == order.Failed) || (i%3 != 0) != (o.Status == order.Cancelling) {
			t.Errorf("order %d is %s: %d answers, %d refusals, %d events, %d lines", i, o.Status, n, refused[i].Load(), events,
				lines)
		}
	}
}
