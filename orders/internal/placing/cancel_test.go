package placing

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/idempotency"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/platform/outbox"
	"github.com/altyn-pay/altyn/testkit/outboxtest"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// bundle is a service over a database of its own.
type bundle struct {
	postgrestest.DB
	store   *postgres.Store
	service *Service
}

func setup(t testing.TB) bundle {
	t.Helper()
	currencies, err := money.LoadCurrencies("")
	if err != nil {
		t.Fatal(err)
	}
	db := postgrestest.Database(t, "orders", postgres.Migrations()...)
	store := postgres.New(db.Service)
	return bundle{db, store, New(store, currencies, func(order.Order) {}, func() {}, func(int16) bool { return false },
		nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())}
}

var account = uuid.MustParse("0198c5a7-5f6e-7c3e-9d57-3f1f6a0f8e11")

// place places an order of 10.00 RUB.
func (b bundle) place(t testing.TB) order.Order {
	t.Helper()
	o, err := b.service.Admit(t.Context(), Client{},
		order.Request{AccountID: account.String(), Amount: "10.00", Currency: "RUB"}, Key{})
	if err == nil {
		o, _, err = b.service.Place(t.Context(), o)
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// asks is a request with a key, or without one where it is "".
func asks(id uuid.UUID, key, reason string) cancellation {
	c := cancellation{traceparent: "00-trace", Cancellation: postgres.Cancellation{
		OrderID: id, Fingerprint: order.CancellationFingerprint(reason), Subject: "clerk", Key: key, Note: reason,
	}}
	if key != "" {
		c.Request = uuid.NullUUID{UUID: contract.DerivedID("test", id, key), Valid: true}
	}
	return c
}

// cancel has requests share a transaction.
func (b bundle) cancel(t testing.TB, requests ...cancellation) []cancelled {
	t.Helper()
	results, err := b.service.commitCancellations(t.Context(), requests)
	if err != nil || len(results) != len(requests) {
		t.Fatalf("%v: %d results of %d requests", err, len(results), len(requests))
	}
	return results
}

func (b bundle) count(t testing.TB, query string, args ...any) (n int) {
	t.Helper()
	if err := b.Service.Get(&n, query, args...); err != nil {
		t.Fatal(err)
	}
	return n
}

// setStatus is for the orders whose way to a status does not matter.
func (b bundle) setStatus(t testing.TB, id uuid.UUID, status order.Status) {
	t.Helper()
	if _, err := b.Service.Exec(`UPDATE orders SET status = $2 WHERE id = $1`, id, status); err != nil {
		t.Fatal(err)
	}
}

func TestCancelStoresEverythingTogether(t *testing.T) {
	t.Parallel()
	b := setup(t)
	placed := b.place(t)
	c := asks(placed.ID, "key", "ё <&> \" \\")
	got := b.cancel(t, c)[0]
	want := placed
	want.Status, want.Reason, want.Note, want.Version, want.UpdatedAt = order.Cancelling, "cancelled", c.Note, 2,
		got.order.UpdatedAt
	if !reflect.DeepEqual(got, cancelled{order: want, begun: true}) {
		t.Fatalf("got %+v", got)
	}
	if stored, err := b.store.Order(t.Context(), identity.Default, placed.ID); err != nil ||
		!reflect.DeepEqual(stored, want) {
		t.Errorf("%v: stored %+v, want %+v", err, stored, want)
	}
	eventID := contract.EventID(contract.OrderCancelledType, placed.ID, 1)
	line := order.Transition{
		OrderID: placed.ID, Number: 2, At: want.UpdatedAt, From: order.Pending, To: order.Cancelling, Reason: "cancelled",
		Note:    c.Note,
		EventID: uuid.NullUUID{UUID: eventID, Valid: true},
	}
	if history, err := b.store.Transitions(t.Context(), placed); err != nil ||
		!reflect.DeepEqual(history, []order.Transition{line}) {
		t.Errorf("%v: history %+v", err, history)
	}
	events := outboxtest.Messages(t, b.Service)
	if len(events) != 2 {
		t.Fatalf("events %+v", events)
	}
	told, err := want.CancelledEvent(b.service.currencies, line.Note, line.At, false)
	if err != nil {
		t.Fatal(err)
	}
	if event := (outbox.Message{
		Seq: events[1].Seq, CreatedAt: events[1].CreatedAt, Lane: contract.Lane(account), ID: eventID,
		Type:  contract.OrderCancelledType,
		Topic: contract.TopicOrders, Key: account.String(), Subject: placed.ID.String(), Payload: told.Payload,
		Traceparent: "00-trace", Tenant: identity.DefaultTenant,
	}); events[0].Type != contract.OrderPlacedType || events[1] != event {
		t.Errorf("events %+v, want %+v", events, event)
	}
	var stored postgres.Cancellation
	if err := b.Service.Get(&stored, `SELECT * FROM cancellations`); err != nil || !stored.At.Equal(want.UpdatedAt) {
		t.Errorf("%v: cancellation %+v", err, stored)
	}
	if stored.At = c.At; stored != c.Cancellation {
		t.Errorf("cancellation %+v, want %+v", stored, c)
	}
}

// Requests see each other in the same way whether they share a transaction or not.
func TestCancelAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, test := range map[string]struct {
		first, again cancellation // of the order whose ID is filled in
		repeated     bool
		err          error
	}{
		"no key at all":           {asks(account, "", "a"), asks(account, "", "b"), false, nil},
		"one key":                 {asks(account, "k", "a"), asks(account, "k", "a"), true, nil},
		"one key, another reason": {asks(account, "k", "a"), asks(account, "k", "b"), true, idempotency.ErrReused},
		"another key":             {asks(account, "k", "a"), asks(account, "l", "b"), false, nil},
		"a key first":             {asks(account, "k", "a"), asks(account, "", "a"), false, nil},
		"a key later":             {asks(account, "", "a"), asks(account, "k", "a"), false, nil},
	} {
		for _, together := range []bool{false, true} {
			o := b.place(t)
			test.first.OrderID, test.again.OrderID = o.ID, o.ID
			var results []cancelled
			if together {
				results = b.cancel(t, test.first, test.again)
			} else {
				results = append(b.cancel(t, test.first), b.cancel(t, test.again)...)
			}
			if first := results[0]; !first.begun || first.repeated || first.err != nil || first.order.Note != test.first.Note {
				t.Errorf("%s, together %v: first %+v", name, together, first)
			}
			if again := results[1]; again.begun || again.repeated != test.repeated || !errors.Is(again.err, test.err) ||
				!reflect.DeepEqual(again.order, results[0].order) {
				t.Errorf("%s, together %v: again %+v", name, together, again)
			}
			// Once it has failed for its payment, only the same request is answered with it.
			b.setStatus(t, o.ID, order.Failed)
			late := b.cancel(t, test.again)[0]
			if want := test.err; test.repeated && (!late.repeated || !errors.Is(late.err, want) ||
				late.order.Status != order.Failed) ||
				!test.repeated && !errors.Is(late.err, order.ErrFailed) {
				t.Errorf("%s, together %v: late %+v", name, together, late)
			}
			if n := len(outboxtest.Of(outboxtest.Messages(t, b.Service), "", o.ID.String())); n != 2 {
				t.Errorf("%s, together %v: %d events", name, together, n)
			}
		}
	}
}

func TestCancelRefusesEachByItself(t *testing.T) {
	t.Parallel()
	b := setup(t)
	failed, cancelled, pending := b.place(t), b.place(t), b.place(t)
	b.setStatus(t, failed.ID, order.Failed)
	b.setStatus(t, cancelled.ID, order.Cancelled)
	results := b.cancel(t, asks(failed.ID, "k", ""), asks(uuid.New(), "k", ""),
		asks(cancelled.ID, "k", ""), asks(pending.ID, "k", ""))
	if !errors.Is(results[0].err, order.ErrFailed) || !errors.Is(results[1].err, postgres.ErrNotFound) ||
		results[2].err != nil || results[2].begun || results[2].order.Status != order.Cancelled || !results[3].begun {
		t.Errorf("got %+v", results)
	}
	if lines, rows := b.count(t, `SELECT count(*) FROM order_history`),
		b.count(t, `SELECT count(*) FROM cancellations`); lines != 1 || rows != 1 {
		t.Errorf("%d lines of history, %d cancellations", lines, rows)
	}
}

// An event that cannot be made takes everything back.
func TestCancelIsAllOrNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, two := b.place(t), b.place(t)
	if _, err := b.Owner.Exec(`UPDATE orders SET currency = 'GONE' WHERE id = $1`, two.ID); err != nil {
		t.Fatal(err)
	}
	_, err := b.service.commitCancellations(t.Context(), []cancellation{asks(one.ID, "", ""), asks(two.ID, "", "")})
	if err == nil || !strings.Contains(err.Error(), "no longer among the currencies") {
		t.Errorf("got %v", err)
	}
	if n := b.count(t, `SELECT count(*) FROM order_history`) + b.count(t, `SELECT count(*) FROM cancellations`) +
		b.count(t, `SELECT count(*) FROM orders WHERE status <> 'pending'`); n != 0 {
		t.Errorf("%d rows were written", n)
	}
}

// Requests to cancel and the events of payments meet on the same orders, in batches of any order, from many sides:
// nobody fails, no update is lost, and each order that is cancelled is so once.
func TestCancelsRaceWithPayments(t *testing.T) {
	t.Parallel()
	b := setup(t)
	placed := make([]order.Order, 40)
	for i := range placed {
		placed[i] = b.place(t)
	}

	var all sync.WaitGroup
	var mu sync.Mutex
	fresh := map[uuid.UUID]int{}
	for n := range 4 {
		all.Go(func() { // a status worker
			random := rand.New(rand.NewPCG(uint64(n), 11))
			for _, version := range []int64{1, 2, 3, 4, 5} {
				for _, part := range [][]int{random.Perm(len(placed)), random.Perm(len(placed))[:7]} {
					if err := b.apply(t, placed, part, version); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
		all.Go(func() { // clients
			random := rand.New(rand.NewPCG(uint64(n), 12))
			for range 10 {
				var requests []cancellation
				for _, i := range random.Perm(len(placed))[:5] {
					requests = append(requests, asks(placed[i].ID, fmt.Sprint(random.IntN(3)), "why"))
				}
				results, err := b.service.commitCancellations(t.Context(), requests)
				if err != nil {
					t.Error(err)
					return
				}
				for _, r := range results {
					if r.err != nil && !errors.Is(r.err, order.ErrFailed) {
						t.Error(r.err)
					}
					if r.begun {
						mu.Lock()
						fresh[r.order.ID]++
						mu.Unlock()
					}
				}
			}
		})
	}
	all.Wait()

	messages := outboxtest.Messages(t, b.Service)
	for _, p := range placed {
		o, err := b.store.Order(t.Context(), identity.Default, p.ID)
		if err != nil {
			t.Fatal(err)
		}
		history, err := b.store.Transitions(t.Context(), o)
		if err != nil || int64(len(history)) != o.Version-1 {
			t.Fatalf("%v: %+v with the history %+v", err, o, history)
		}
		from, cancels := order.Pending, 0
		for _, line := range history {
			if line.From != from {
				t.Errorf("%s: history %+v", o.ID, history)
			}
			if from = line.To; line.From != order.Cancelling && line.To == order.Cancelling {
				cancels++
			}
		}
		events := len(outboxtest.Of(messages, contract.OrderCancelledType, o.ID.String()))
		rows := b.count(t, `SELECT count(*) FROM cancellations WHERE order_id = $1`, o.ID)
		if o.Status != from || o.PaymentVersion != 5 || cancels > 1 || fresh[o.ID] != cancels || events != cancels ||
			rows != cancels {
			t.Errorf("%s is %s at version %d of its payment: cancelled %d times, %d answers, %d events, %d rows",
				o.ID, o.Status, o.PaymentVersion, cancels, fresh[o.ID], events, rows)
		}
	}
	if len(fresh) == 0 {
		t.Error("no order was cancelled")
	}
}

// apply gives orders a version of their payment, as the status worker does. One payment in four fails in the end, the
// others go on.
func (b bundle) apply(t testing.TB, placed []order.Order, which []int, version int64) error {
	return b.store.InTx(t.Context(), func(tx *sqlx.Tx) error {
		ids := make([]uuid.UUID, len(which))
		for n, i := range which {
			ids[n] = placed[i].ID
		}
		orders, err := b.store.Lock(t.Context(), tx, ids)
		if err != nil {
			return err
		}
		var changed []order.Order
		var transitions []order.Transition
		for _, i := range which {
			o := orders[placed[i].ID]
			status := contract.PaymentCreated
			switch {
			case version == 5 && i%4 == 0:
				status = contract.PaymentFailed
			case version > 2 && i%4 != 0:
				status = contract.PaymentSucceeded
			}
			transition, err := o.Apply(order.Payment{
				EventID: contract.EventID(status, o.ID, version), OrderID: o.ID, AccountID: o.AccountID, Currency: o.Currency,
				Amount: o.Amount, Status: status, Version: version,
			}, time.Now())
			if err != nil {
				return err
			}
			if transition != nil {
				changed, transitions = append(changed, o), append(transitions, *transition)
			}
		}
		return b.store.Save(t.Context(), tx, changed, transitions)
	})
}
