package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/api"
	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/parked"
	"github.com/altyn-pay/altyn/platform/service"
	"github.com/altyn-pay/altyn/testkit/kafkatest"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// parked waits until n items are parked.
func (p process) parked(t testing.TB, n int) []parked.Item {
	t.Helper()
	var list httpserver.List[parked.Item]
	wait.NoError(t, func() error {
		code, answer := p.call(t, "GET", "/admin/parked", "")
		list = httpserver.List[parked.Item]{}
		if err := json.Unmarshal(answer, &list); err != nil || code != 200 {
			t.Fatalf("%d %s", code, answer)
		}
		if len(list.Items) != n {
			return fmt.Errorf("parked %s, want %d", answer, n)
		}
		return nil
	})
	return list.Items
}

// What is parked is an operator's matter in every role, also in one without a broker.
func TestOperatorsRedriveAndDiscard(t *testing.T) {
	t.Parallel()
	db, broker := postgrestest.Database(t, "orders", postgres.Migrations()...), kafkatest.Broker(t)
	startPayments(t, broker)
	cfg := configuration(t, db, broker)
	cfg.Role = service.Worker
	worker := start(t, cfg)
	cfg.Role, cfg.Kafka.Brokers = service.API, []string{"127.0.0.1:1"}
	front := start(t, cfg)

	const victim = "13.13"
	if _, err := db.Owner.Exec(`
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'poison'; END $$;
		CREATE TRIGGER refuse BEFORE UPDATE ON orders FOR EACH ROW WHEN (new.amount = 1313)
			EXECUTE FUNCTION refuse()`); err != nil {
		t.Fatal(err)
	}
	stuck := []api.Order{front.place(t, "", victim), front.place(t, "", victim)}
	if other := front.place(t, "?wait=30s", "25.00"); other.Status != order.Paid {
		t.Errorf("another order is %s", other.Status)
	}
	items := front.parked(t, 4) // every event comes twice
	if again := worker.parked(t, 4); fmt.Sprint(again) != fmt.Sprint(items) {
		t.Errorf("the worker shows %v, the front %v", again, items)
	}
	for _, item := range items {
		if item.Source != "events" || item.Kind != "payment.succeeded" || !strings.Contains(item.Reason, "poison") ||
			!strings.Contains(string(item.Payload), "13.13") {
			t.Errorf("item %+v", item)
		}
	}
	if _, err := db.Owner.Exec(`DROP TRIGGER refuse ON orders`); err != nil {
		t.Fatal(err)
	}
	for _, item := range items {
		if item.AccountID == stuck[0].AccountID { // redriven here, discarded there; the second one of an order is outdated
			if code, answer := front.call(t, "POST", "/admin/parked/"+item.ID.String()+"/redrive", ""); code != 202 {
				t.Errorf("redrive: %d %s", code, answer)
			}
		} else if code, answer := worker.call(t, "POST", "/admin/parked/"+item.ID.String()+"/discard",
			`{"reason": "a test"}`); code != 202 {
			t.Errorf("discard: %d %s", code, answer)
		}
	}
	for i, want := range []order.Status{order.Paid, order.Pending} {
		code, answer := front.call(t, "GET", "/api/v1/orders/"+stuck[i].ID.String(), "")
		var o api.Order
		if err := json.Unmarshal(answer, &o); err != nil || code != 200 || o.Status != want {
			t.Errorf("%d %s, want %s", code, answer, want)
		}
	}
	front.parked(t, 0)

	// A message that the broker had refused is published in the end.
	key := uuid.NewString()
	if _, err := db.Owner.Exec(`
		INSERT INTO outbox_parked (seq, lane, id, type, topic, key, subject, payload, traceparent, created_at, reason)
		SELECT -n, 0, gen_random_uuid(), 'order.exploded', 'payments', $1, 'x', '{}', '', now(),
			CASE n WHEN 2 THEN 'refused' ELSE 'behind a parked message of its key' END
		FROM generate_series(1, 2) n`, key); err != nil {
		t.Fatal(err)
	}
	item := worker.parked(t, 1)[0]
	if item.Source != "outbox" || item.AccountID.String() != key || item.Kind != "order.exploded" {
		t.Errorf("item %+v", item)
	}
	if code, answer := worker.call(t, "POST", "/admin/parked/"+item.ID.String()+"/redrive", ""); code != 202 {
		t.Errorf("redrive: %d %s", code, answer)
	}
	worker.parked(t, 0)
	for n := -1; n != 0; {
		if err := db.Owner.Get(&n, `SELECT count(*) FROM outbox`); err != nil {
			t.Fatal(err)
		}
	}
	if code, answer := worker.call(t, "GET", "/metrics", ""); code != 200 ||
		!strings.Contains(string(answer), "altyn_orders_parked_events 0") ||
		!strings.Contains(string(answer), "altyn_orders_parked_total 4") {
		t.Errorf("/metrics: %d", code)
	}
}
