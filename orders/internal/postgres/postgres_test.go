package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/outboxtest"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
	"github.com/altyn-pay/altyn/testkit/wait"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

type bundle struct {
	postgrestest.DB
	store *postgres.Store
}

func setup(t testing.TB) bundle {
	db := postgrestest.Database(t, "orders", postgres.Migrations()...)
	return bundle{db, postgres.New(db.Service)}
}

var currencies = sync.OnceValues(func() (*money.Currencies, error) { return money.LoadCurrencies("") })

var account = uuid.MustParse("0198c5a7-5f6e-7c3e-9d57-3f1f6a0f8e11")

// placement makes an order with a fresh ID.
func placement(t testing.TB, change func(*order.Request)) postgres.Placement {
	t.Helper()
	table, err := currencies()
	if err != nil {
		t.Fatal(err)
	}
	r := order.Request{AccountID: account.String(), Amount: "10.00", Currency: "RUB", Description: "ё <&> \" \\",
		Reference: "{shop},17"}
	if change != nil {
		change(&r)
	}
	o, err := order.Place(table, r, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	o.ID = uuid.Must(uuid.NewV7())
	event, err := o.PlacedEvent(table, false)
	if err != nil {
		t.Fatal(err)
	}
	event.Traceparent = "00-trace"
	return postgres.Placement{Order: o, Event: event}
}

func place(t testing.TB, store *postgres.Store, placements ...postgres.Placement) []postgres.Placed {
	t.Helper()
	pointers := make([]*postgres.Placement, len(placements))
	for i := range placements {
		pointers[i] = &placements[i]
	}
	placed, err := store.Place(t.Context(), pointers)
	if err != nil {
		t.Fatal(err)
	}
	return placed
}

func TestPlaceStoresTheOrderAndItsEvent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := placement(t, nil)
	if placed := place(t, b.store, p); len(placed) != 1 || !placed[0].New ||
		!reflect.DeepEqual(*placed[0].Order, p.Order) {
		t.Fatalf("placed %+v", placed)
	}
	stored, err := b.store.Order(t.Context(), identity.Default, p.Order.ID)
	if err != nil || !reflect.DeepEqual(stored, p.Order) {
		t.Fatalf("%v: stored\n%+v\nof\n%+v", err, stored, p.Order)
	}
	events := outboxtest.Messages(t, b.Service)
	want := outbox.Message{
		Lane: contract.Lane(account), ID: p.Order.PlacedEventID(), Type: contract.OrderPlacedType,
		Topic: contract.TopicOrders,
		Key:   account.String(), Subject: p.Order.ID.String(), Payload: p.Event.Payload, Traceparent: "00-trace",
		Tenant: identity.DefaultTenant,
	}
	if len(events) == 1 {
		want.Seq, want.CreatedAt = events[0].Seq, events[0].CreatedAt
	}
	if len(events) != 1 || events[0] != want {
		t.Errorf("events %+v, want %+v", events, want)
	}
}

func TestPlaceTwice(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, other := placement(t, nil), placement(t, nil)
	again := placement(t, func(r *order.Request) { r.Amount = "11.00" })
	again.Order.ID = first.Order.ID
	// Within one transaction, and in a later one.
	for round, want := range [][]bool{{true, true, false}, {false, false, false}} {
		placed := place(t, b.store, first, other, again)
		for i, p := range placed {
			if p.New != want[i] {
				t.Errorf("round %d: placement %d is new: %v", round, i, p.New)
			}
		}
		if !reflect.DeepEqual(*placed[2].Order, first.Order) || !reflect.DeepEqual(*placed[1].Order, other.Order) {
			t.Errorf("round %d: %+v", round, placed)
		}
	}
	if events := outboxtest.Messages(t, b.Service); len(events) != 2 {
		t.Errorf("%d events of 2 orders", len(events))
	}
}

func TestPlaceConcurrentlyUnderOneID(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, two := placement(t, nil), placement(t, nil)
	var created sync.Map
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			pair := []*postgres.Placement{&one, &two}
			if i%2 == 1 { // crosswise: deadlocks are survived
				slices.Reverse(pair)
			}
			placed, err := b.store.Place(t.Context(), pair)
			if err != nil {
				t.Error(err)
				return
			}
			for _, p := range placed {
				if p.New {
					if _, twice := created.LoadOrStore(p.Order.ID, true); twice {
						t.Errorf("%s is new twice", p.Order.ID)
					}
				}
			}
		})
	}
	all.Wait()
	if events := outboxtest.Messages(t, b.Service); len(events) != 2 {
		t.Errorf("%d events of 2 orders", len(events))
	}
}

func TestOrderNotFound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if _, err := b.store.Order(t.Context(), identity.Default, uuid.New()); !errors.Is(err, postgres.ErrNotFound) {
		t.Error(err)
	}
}

func TestTheServiceCannotRewriteHistory(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, statement := range []string{
		`UPDATE order_history SET reason = ''`, `DELETE FROM order_history`, `TRUNCATE order_history`, `DELETE FROM orders`,
		`UPDATE cancellations SET reason = ''`, `UPDATE cancellations SET subject = ''`, `DELETE FROM cancellations`,
		`UPDATE orders SET subject = ''`, `DROP TABLE orders`, `ALTER TABLE orders ADD COLUMN x int`, `CREATE TABLE x ()`,
	} {
		if _, err := b.Service.Exec(statement); pq.As(err, pqerror.InsufficientPrivilege) == nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
	var open string
	if err := b.Service.Get(&open, `
		SELECT string_agg(attname, ' ' ORDER BY attname) FROM pg_attribute
		WHERE attrelid = 'orders'::regclass AND has_column_privilege('orders', attname, 'UPDATE')`,
	); err != nil || open != "captured note payment_version reason refunded status updated_at version" {
		t.Errorf("of an order the service can change %s, %v", open, err)
	}
}

func TestSaveAndPark(t *testing.T) {
	t.Parallel()
	b := setup(t)
	one, two := placement(t, nil), placement(t, nil)
	place(t, b.store, one, two)
	event := uuid.New()
	headers := []kafka.Header{{Key: "bytes", Value: []byte{0, 0xff}}, {Key: "\x00\xff"}}
	poison := kafka.Message{Topic: "payments", Partition: 3, Offset: 7, Key: nil, Value: []byte{0, 0xff, '"'},
		Headers: headers}
	var saved order.Order
	for range 2 {
		err := b.store.InTx(t.Context(), func(tx *sqlx.Tx) error {
			locked, err := b.store.Lock(t.Context(), tx, []uuid.UUID{two.Order.ID, uuid.New(), one.Order.ID})
			if err != nil || len(locked) != 2 {
				return fmt.Errorf("locked %d: %w", len(locked), err)
			}
			saved = locked[one.Order.ID]
			var changed []order.Order
			var transitions []order.Transition
			if saved.Status == order.Pending {
				transition, err := saved.Apply(order.Payment{
					EventID: event, OrderID: saved.ID, AccountID: account, Currency: "RUB", Amount: 1000,
					Captured: 1000, Refunded: 300, Status: contract.PaymentRefunded, Version: 2, Reason: "because",
				}, time.Now())
				if err != nil {
					return err
				}
				changed, transitions = append(changed, saved), append(transitions, *transition)
			}
			if err := b.store.Save(t.Context(), tx, changed, transitions); err != nil {
				return err
			}
			return b.store.Park(t.Context(), tx, []postgres.Refused{{Message: poison, Reason: errors.New("NUL \x00 and \xff")}})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	stored, err := b.store.Newer(t.Context(), []uuid.UUID{one.Order.ID, uuid.New(), two.Order.ID}, []int64{0, 0, 0})
	want := map[uuid.UUID]order.Order{one.Order.ID: saved, two.Order.ID: two.Order}
	if err != nil || !reflect.DeepEqual(stored, want) || saved.Status != order.Paid {
		t.Errorf("%v: stored %+v, want %+v", err, stored, want)
	}
	history, err := b.store.Transitions(t.Context(), one.Order)
	if err != nil || !reflect.DeepEqual(history, []order.Transition{{
		OrderID: one.Order.ID, Number: 2, At: saved.UpdatedAt, From: order.Pending, To: order.Paid, Reason: "because",
		EventID: uuid.NullUUID{UUID: event, Valid: true},
	}}) {
		t.Errorf("%v: history %+v", err, history)
	}
	var parked struct {
		Attempts     int
		Key, Payload []byte
		Headers      string
		Reason       string
	}
	if err := b.Service.Get(&parked, `SELECT attempts, key, payload, headers, reason FROM parked_events
		WHERE topic = 'payments' AND "partition" = 3 AND "offset" = 7`); err != nil {
		t.Fatal(err)
	}
	if parked.Attempts != 2 || len(parked.Key) != 0 || string(parked.Payload) != string(poison.Value) ||
		parked.Headers != `[{"key":"bytes","value":"AP8="},{"key":"��","value":null}]` ||
		parked.Reason != "NUL � and �" {
		t.Errorf("parked %+v", parked)
	}
}

// A stale writer changes no row, and that is an error.
func TestSaveNeverGoesBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p := placement(t, nil)
	place(t, b.store, p)
	if _, err := b.Service.Exec(`UPDATE orders SET payment_version = 2`); err != nil {
		t.Fatal(err)
	}
	for _, versions := range [][2]int64{{2, 1}, {1, 2}} {
		stale := p.Order
		stale.Version, stale.PaymentVersion = versions[0], versions[1]
		err := b.store.InTx(t.Context(), func(tx *sqlx.Tx) error {
			return b.store.Save(t.Context(), tx, []order.Order{stale},
				nil)
		})
		if err == nil || !strings.Contains(err.Error(), "0 rows") {
			t.Errorf("versions %d: %v", versions, err)
		}
	}
}

// pages reads a whole list and returns the IDs in its order.
func pages(t testing.TB, store *postgres.Store, filter postgres.Filter, limit int, between func()) []uuid.UUID {
	t.Helper()
	var ids []uuid.UUID
	for before := pg.NewestFirst; before != 0; {
		page, next, err := store.List(t.Context(), identity.Default, filter, before, limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) > limit || next >= before {
			t.Fatalf("%d orders from %d to %d", len(page), before, next)
		}
		for _, o := range page {
			ids = append(ids, o.ID)
		}
		before = next
		between()
	}
	return ids
}

func TestListIsCompleteAndStableWhileOrdersCome(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other := uuid.New()
	var all []postgres.Placement
	for i := range 53 {
		all = append(all, placement(t, func(r *order.Request) {
			r.Reference = fmt.Sprint("ref-", i%5)
			if i%3 == 0 {
				r.AccountID = other.String()
			}
		}))
	}
	place(t, b.store, all...)
	if _, err := b.Service.Exec(`
		UPDATE orders SET status = 'paid' WHERE reference = 'ref-1' OR reference = 'ref-4'`); err != nil {
		t.Fatal(err)
	}
	paid := func(p postgres.Placement) bool { return p.Order.Reference == "ref-1" || p.Order.Reference == "ref-4" }
	is := func(id uuid.UUID) uuid.NullUUID { return uuid.NullUUID{UUID: id, Valid: true} }
	for name, test := range map[string]struct {
		filter postgres.Filter
		keep   func(postgres.Placement) bool
	}{
		"all": {postgres.Filter{}, func(postgres.Placement) bool { return true }},
		"account": {postgres.Filter{AccountID: is(other)},
			func(p postgres.Placement) bool { return p.Order.AccountID == other }},
		"reference": {postgres.Filter{Reference: "ref-2"},
			func(p postgres.Placement) bool { return p.Order.Reference == "ref-2" }},
		"status":  {postgres.Filter{Status: order.Paid}, paid},
		"nothing": {postgres.Filter{AccountID: is(uuid.New())}, func(postgres.Placement) bool { return false }},
		"everything": {postgres.Filter{AccountID: is(other), Reference: "ref-1", Status: order.Paid},
			func(p postgres.Placement) bool {
				return p.Order.AccountID == other && p.Order.Reference == "ref-1"
			}},
	} {
		var want []uuid.UUID
		for _, p := range all {
			if test.keep(p) {
				want = append(want, p.Order.ID)
			}
		}
		slices.Reverse(want)
		for _, limit := range []int{1, 7, 53, 200} {
			first := true
			got := pages(t, b.store, test.filter, limit, func() {
				if first { // what comes now is newer than the first page
					first = false
					place(t, b.store, placement(t, func(r *order.Request) { r.AccountID, r.Reference = uuid.NewString(), "late" }))
				}
			})
			got = slices.DeleteFunc(got, func(id uuid.UUID) bool { // of the rounds before
				return !slices.ContainsFunc(all, func(p postgres.Placement) bool { return p.Order.ID == id })
			})
			if !slices.Equal(got, want) {
				t.Errorf("%s by %d: %d orders instead of %d, or not in order", name, limit, len(got), len(want))
			}
		}
	}
}

// A page by status looks at a bounded number of orders, and the list is complete all the same.
func TestListByStatusIsBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, last := placement(t, nil), placement(t, nil)
	place(t, b.store, first)
	if _, err := b.Owner.Exec(`
		INSERT INTO orders (id, account_id, amount, currency, description, reference, capture, await_inventory,
			on_insufficient, status, version, fingerprint, created_at, updated_at)
		SELECT gen_random_uuid(), $1, 1, 'RUB', '', '', 'automatic', false, 'reject', 'paid', 2, $1, now(), now()
		FROM generate_series(1, 25000)`, account); err != nil {
		t.Fatal(err)
	}
	place(t, b.store, last)
	calls := 0
	got := pages(t, b.store, postgres.Filter{Status: order.Pending}, 50, func() { calls++ })
	if !slices.Equal(got, []uuid.UUID{last.Order.ID, first.Order.ID}) || calls != 3 {
		t.Errorf("%v in %d pages", got, calls)
	}
	got = pages(t, b.store, postgres.Filter{Status: order.Failed, AccountID: uuid.NullUUID{UUID: account, Valid: true}},
		50, func() {})
	if len(got) != 0 {
		t.Errorf("%v has failed", got)
	}
}

// A change of status rewrites no index.
func TestUpdatesAreHeapOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 20 {
		var placements []postgres.Placement
		for range 50 {
			placements = append(placements, placement(t, nil))
		}
		place(t, b.store, placements...)
		err := b.store.InTx(t.Context(), func(tx *sqlx.Tx) error {
			var orders []order.Order
			for _, p := range placements {
				o := p.Order
				o.Status, o.Version, o.PaymentVersion = order.Paid, 2, 1
				orders = append(orders, o)
			}
			return b.store.Save(t.Context(), tx, orders, nil)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var updated, hot int
	// The statistics of a session arrive when it ends.
	b.Service.Close()
	wait.Until(t, "the statistics tell of 1,000 updates", func() bool {
		if err := b.Owner.QueryRow(`SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'orders'`).
			Scan(&updated, &hot); err != nil {
			t.Fatal(err)
		}
		return updated >= 1000
	})
	t.Logf("%d updates, %d of them heap-only", updated, hot)
	if updated != 1000 || hot < updated*9/10 {
		t.Errorf("of %d updates %d are heap-only", updated, hot)
	}
}

// What the version before has stored of a cancellation: the client's words as the reason.
func TestAnEarlierCancellationIsReadAsANote(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, status := range []order.Status{order.Cancelling, order.Cancelled} {
		p := placement(t, nil)
		place(t, b.store, p)
		if _, err := b.Owner.Exec(`UPDATE orders SET status = $2, reason = 'changed my mind', version = 3 WHERE id = $1`,
			p.Order.ID, status); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Owner.Exec(`INSERT INTO order_history (order_id, number, at, from_status, to_status, reason) VALUES
			($1, 2, now(), 'pending', 'cancelling', 'changed my mind'),
			($1, 3, now(), 'cancelling', 'cancelling', 'succeeded')`, p.Order.ID); err != nil {
			t.Fatal(err)
		}
		o, err := b.store.Order(t.Context(), identity.Default, p.Order.ID)
		if err != nil || o.Reason != "cancelled" || o.Note != "changed my mind" {
			t.Errorf("%v: %+v", err, o)
		}
		lines, err := b.store.Transitions(t.Context(), p.Order)
		if err != nil || len(lines) != 2 || lines[0].Reason != "cancelled" || lines[0].Note != "changed my mind" ||
			lines[1].Reason != "succeeded" || lines[1].Note != "" {
			t.Errorf("%v: %+v", err, lines)
		}
	}
}

func BenchmarkPlace(b *testing.B) {
	for _, size := range []int{1, 64, 500} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			bundle := setup(b)
			placements := make([]*postgres.Placement, size)
			for b.Loop() {
				for i := range placements {
					p := placement(b, nil)
					placements[i] = &p
				}
				if _, err := bundle.store.Place(context.Background(), placements); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "orders/s")
		})
	}
}
