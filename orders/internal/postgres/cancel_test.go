package postgres_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/outbox"
	"github.com/altyn-pay/altyn/testkit/outboxtest"
)

// cancellation is a request with a key, or without one where it is "".
func cancellation(id uuid.UUID, key, reason string) postgres.Cancellation {
	c := postgres.Cancellation{OrderID: id, Fingerprint: order.CancellationFingerprint(reason), Reason: reason, Traceparent: "00-trace"}
	if key != "" {
		c.Request = uuid.NullUUID{UUID: contract.DerivedID("test", id, key), Valid: true}
	}
	return c
}

func cancelledEvent(o order.Order, t order.Transition) (order.Event, error) {
	table, err := currencies()
	if err != nil {
		return order.Event{}, err
	}
	return o.CancelledEvent(table, t.Note, t.At, false)
}

func (b bundle) cancel(t testing.TB, requests ...postgres.Cancellation) []postgres.Cancelled {
	t.Helper()
	results, err := b.store.Cancel(t.Context(), requests, cancelledEvent)
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
	p := placement(t, nil)
	place(t, b.store, p)
	c := cancellation(p.Order.ID, "key", "ё <&> \" \\")
	got := b.cancel(t, c)[0]
	want := p.Order
	want.Status, want.Reason, want.Note, want.Version, want.UpdatedAt = order.Cancelling, "cancelled", c.Reason, 2, got.Order.UpdatedAt
	if !reflect.DeepEqual(got, postgres.Cancelled{Order: want, New: true}) {
		t.Fatalf("got %+v", got)
	}
	if stored, err := b.store.Order(t.Context(), p.Order.ID); err != nil || !reflect.DeepEqual(stored, want) {
		t.Errorf("%v: stored %+v, want %+v", err, stored, want)
	}
	eventID := contract.EventID(contract.OrderCancelledType, p.Order.ID, 1)
	line := order.Transition{
		OrderID: p.Order.ID, Number: 2, At: want.UpdatedAt, From: order.Pending, To: order.Cancelling, Reason: "cancelled", Note: c.Reason,
		EventID: uuid.NullUUID{UUID: eventID, Valid: true},
	}
	if history, err := b.store.Transitions(t.Context(), p.Order.ID); err != nil || !reflect.DeepEqual(history, []order.Transition{line}) {
		t.Errorf("%v: history %+v", err, history)
	}
	events := outboxtest.Messages(t, b.Service)
	if len(events) != 2 {
		t.Fatalf("events %+v", events)
	}
	told, _ := cancelledEvent(want, line)
	if event := (outbox.Message{
		Seq: events[1].Seq, CreatedAt: events[1].CreatedAt, Lane: contract.Lane(account), ID: eventID, Type: contract.OrderCancelledType,
		Topic: contract.TopicOrders, Key: account.String(), Subject: p.Order.ID.String(), Payload: told.Payload, Traceparent: "00-trace",
	}); events[0].Type != contract.OrderPlacedType || events[1] != event {
		t.Errorf("events %+v, want %+v", events, event)
	}
	var stored struct {
		postgres.Cancellation
		At time.Time
	}
	c.Traceparent = ""
	if err := b.Service.Get(&stored, `SELECT * FROM cancellations`); err != nil || stored.Cancellation != c || !stored.At.Equal(want.UpdatedAt) {
		t.Errorf("%v: cancellation %+v", err, stored)
	}
}

// Requests see each other in the same way whether they share a transaction or not.
func TestCancelAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, test := range map[string]struct {
		first, again postgres.Cancellation // of the order whose ID is filled in
		repeated     bool
		err          error
	}{
		"no key at all":           {cancellation(account, "", "a"), cancellation(account, "", "b"), false, nil},
		"one key":                 {cancellation(account, "k", "a"), cancellation(account, "k", "a"), true, nil},
		"one key, another reason": {cancellation(account, "k", "a"), cancellation(account, "k", "b"), true, postgres.ErrKeyReused},
		"another key":             {cancellation(account, "k", "a"), cancellation(account, "l", "b"), false, nil},
		"a key first":             {cancellation(account, "k", "a"), cancellation(account, "", "a"), false, nil},
		"a key later":             {cancellation(account, "", "a"), cancellation(account, "k", "a"), false, nil},
	} {
		for _, together := range []bool{false, true} {
			p := placement(t, nil)
			place(t, b.store, p)
			test.first.OrderID, test.again.OrderID = p.Order.ID, p.Order.ID
			var results []postgres.Cancelled
			if together {
				results = b.cancel(t, test.first, test.again)
			} else {
				results = append(b.cancel(t, test.first), b.cancel(t, test.again)...)
			}
			if first := results[0]; !first.New || first.Repeated || first.Err != nil || first.Order.Note != test.first.Reason {
				t.Errorf("%s, together %v: first %+v", name, together, first)
			}
			if again := results[1]; again.New || again.Repeated != test.repeated || !errors.Is(again.Err, test.err) ||
				!reflect.DeepEqual(again.Order, results[0].Order) {
				t.Errorf("%s, together %v: again %+v", name, together, again)
			}
			// Once it has failed for its payment, only the same request is answered with it.
			b.setStatus(t, p.Order.ID, order.Failed)
			late := b.cancel(t, test.again)[0]
			if want := test.err; test.repeated && (!late.Repeated || !errors.Is(late.Err, want) || late.Order.Status != order.Failed) ||
				!test.repeated && !errors.Is(late.Err, order.ErrFailed) {
				t.Errorf("%s, together %v: late %+v", name, together, late)
			}
			if n := len(outboxtest.Of(outboxtest.Messages(t, b.Service), "", p.Order.ID.String())); n != 2 {
				t.Errorf("%s, together %v: %d events", name, together, n)
			}
		}
	}
}

func TestCancelRefusesEachByItself(t *testing.T) {
	t.Parallel()
	b := setup(t)
	failed, cancelled, pending := placement(t, nil), placement(t, nil), placement(t, nil)
	place(t, b.store, failed, cancelled, pending)
	b.setStatus(t, failed.Order.ID, order.Failed)
	b.setStatus(t, cancelled.Order.ID, order.Cancelled)
	results := b.cancel(t, cancellation(failed.Order.ID, "k", ""), cancellation(uuid.New(), "k", ""),
		cancellation(cancelled.Order.ID, "k", ""), cancellation(pending.Order.ID, "k", ""))
	if !errors.Is(results[0].Err, order.ErrFailed) || !errors.Is(results[1].Err, postgres.ErrNotFound) ||
		results[2].Err != nil || results[2].New || results[2].Order.Status != order.Cancelled || !results[3].New {
		t.Errorf("got %+v", results)
	}
	if lines, rows := b.count(t, `SELECT count(*) FROM order_history`), b.count(t, `SELECT count(*) FROM cancellations`); lines != 1 || rows != 1 {
		t.Errorf("%d lines of history, %d cancellations", lines, rows)
	}
}

// An event that cannot be made takes everything back.
func TestCancelIsAllOrNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, two := placement(t, nil), placement(t, nil)
	place(t, b.store, one, two)
	broken := errors.New("broken")
	_, err := b.store.Cancel(t.Context(), []postgres.Cancellation{cancellation(one.Order.ID, "", ""), cancellation(two.Order.ID, "", "")},
		func(o order.Order, t order.Transition) (order.Event, error) {
			if o.ID == two.Order.ID {
				return order.Event{}, broken
			}
			return cancelledEvent(o, t)
		})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if n := b.count(t, `SELECT count(*) FROM order_history`) + b.count(t, `SELECT count(*) FROM cancellations`) +
		b.count(t, `SELECT count(*) FROM orders WHERE status <> 'pending'`); n != 0 {
		t.Errorf("%d rows were written", n)
	}
}

// Requests to cancel and the events of payments meet on the same orders, in batches of any order, from many sides: nobody
// fails, no update is lost, and each order that is cancelled is so once.
func TestCancelsRaceWithPayments(t *testing.T) {
	t.Parallel()
	b := setup(t)
	placements := make([]postgres.Placement, 40)
	for i := range placements {
		placements[i] = placement(t, nil)
	}
	place(t, b.store, placements...)

	var all sync.WaitGroup
	var mu sync.Mutex
	fresh := map[uuid.UUID]int{}
	for n := range 4 {
		all.Go(func() { // a status worker
			random := rand.New(rand.NewPCG(uint64(n), 11))
			for _, version := range []int64{1, 2, 3, 4, 5} {
				for _, part := range [][]int{random.Perm(len(placements)), random.Perm(len(placements))[:7]} {
					if err := b.apply(t, placements, part, version); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
		all.Go(func() { // clients
			random := rand.New(rand.NewPCG(uint64(n), 12))
			for range 10 {
				var requests []postgres.Cancellation
				for _, i := range random.Perm(len(placements))[:5] {
					requests = append(requests, cancellation(placements[i].Order.ID, fmt.Sprint(random.IntN(3)), "why"))
				}
				results, err := b.store.Cancel(t.Context(), requests, cancelledEvent)
				if err != nil {
					t.Error(err)
					return
				}
				for _, r := range results {
					if r.Err != nil && !errors.Is(r.Err, order.ErrFailed) {
						t.Error(r.Err)
					}
					if r.New {
						mu.Lock()
						fresh[r.Order.ID]++
						mu.Unlock()
					}
				}
			}
		})
	}
	all.Wait()

	messages := outboxtest.Messages(t, b.Service)
	for _, p := range placements {
		o, err := b.store.Order(t.Context(), p.Order.ID)
		if err != nil {
			t.Fatal(err)
		}
		history, err := b.store.Transitions(t.Context(), o.ID)
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
		if o.Status != from || o.PaymentVersion != 5 || cancels > 1 || fresh[o.ID] != cancels || events != cancels || rows != cancels {
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
func (b bundle) apply(t testing.TB, placements []postgres.Placement, which []int, version int64) error {
	return b.store.InTx(t.Context(), func(tx *sqlx.Tx) error {
		ids := make([]uuid.UUID, len(which))
		for n, i := range which {
			ids[n] = placements[i].Order.ID
		}
		orders, err := b.store.Lock(t.Context(), tx, ids)
		if err != nil {
			return err
		}
		var changed []order.Order
		var transitions []order.Transition
		for _, i := range which {
			o := orders[placements[i].Order.ID]
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

// What the version before has stored of a cancellation: the client's words as the reason.
func TestAnEarlierCancellationIsReadAsANote(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, status := range []order.Status{order.Cancelling, order.Cancelled} {
		p := placement(t, nil)
		place(t, b.store, p)
		if _, err := b.Owner.Exec(`UPDATE orders SET status = $2, reason = 'changed my mind', version = 3 WHERE id = $1`, p.Order.ID, status); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Owner.Exec(`INSERT INTO order_history (order_id, number, at, from_status, to_status, reason) VALUES
			($1, 2, now(), 'pending', 'cancelling', 'changed my mind'), ($1, 3, now(), 'cancelling', 'cancelling', 'succeeded')`, p.Order.ID); err != nil {
			t.Fatal(err)
		}
		o, err := b.store.Order(t.Context(), p.Order.ID)
		if err != nil || o.Reason != "cancelled" || o.Note != "changed my mind" {
			t.Errorf("%v: %+v", err, o)
		}
		lines, err := b.store.Transitions(t.Context(), p.Order.ID)
		if err != nil || len(lines) != 2 || lines[0].Reason != "cancelled" || lines[0].Note != "changed my mind" ||
			lines[1].Reason != "succeeded" || lines[1].Note != "" {
			t.Errorf("%v: %+v", err, lines)
		}
	}
}
