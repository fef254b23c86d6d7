package status_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/placing"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/orders/internal/status"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/outbox"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// impatience is how long an order is given in these tests.
const impatience = 300 * time.Millisecond

// healing is a database with healers, and what they have announced. Nobody publishes the outbox: announced does as if.
type healing struct {
	*bundle
	*testing.T
	log  *syncBuffer
	told map[string][]outbox.Message // by order
}

// syncBuffer is a log that several write.
type syncBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

func setupHealing(t *testing.T) *healing {
	t.Parallel()
	b := &bundle{db: postgrestest.Database(t, "orders", postgres.Migrations()...), changes: make(chan order.Order, 10_000)}
	b.store = postgres.New(b.db.Service)
	b.newWorker()
	return &healing{bundle: b, T: t, log: new(syncBuffer), told: map[string][]outbox.Message{}}
}

// heal runs a healer until the test ends.
func (h *healing) heal() {
	metrics := prometheus.Registerer(h.metrics)
	if h.log.String() != "" { // of another process
		metrics = prometheus.NewRegistry()
	}
	_, _ = io.WriteString(h.log, "begin\n")
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	healer := status.NewHealer(h.store, currencies(), impatience, func() {}, slog.New(slog.NewTextHandler(h.log, nil)),
		metrics)
	running.Go(func() {
		if err := healer.Run(ctx); err != nil {
			h.Error(err)
		}
	})
	h.Cleanup(func() { cancel(); running.Wait() })
}

// publish empties the outbox, but for rows that are no messages.
func (h *healing) publish() {
	h.Helper()
	var rows []outbox.Row
	if err := h.db.Service.Select(&rows, `
		DELETE FROM outbox WHERE messages <> '' RETURNING seq, lane, messages, created_at`); err != nil {
		h.Fatal(err)
	}
	for _, row := range rows {
		messages, err := row.Unpack()
		if err != nil {
			h.Fatal(err)
		}
		for _, m := range messages {
			h.told[m.Subject] = append(h.told[m.Subject], m)
		}
	}
}

// until publishes until a condition is met.
func (h *healing) until(what string, met func() bool) {
	h.Helper()
	for deadline := time.Now().Add(30 * time.Second); !met(); h.publish() {
		if time.Now().After(deadline) {
			h.Fatalf("after 30 s it is not so that %s:\n%s", what, h.log)
		}
	}
}

func (h *healing) asked(o order.Order) int { return len(h.told[o.ID.String()]) }

// unwatched tells whether an order need not be looked at any more.
func (h *healing) unwatched(o order.Order) bool {
	h.Helper()
	var n int
	if err := h.db.Service.Get(&n, `SELECT count(*) FROM unsettled WHERE order_id = $1`, o.ID); err != nil {
		h.Fatal(err)
	}
	return n == 0
}

func TestAnOrderWithoutAnAnswerIsAnnouncedAgain(t *testing.T) {
	h := setupHealing(t)
	orders := h.place(t, 40)
	h.publish()
	clear(h.told)
	begin := time.Now()
	for range 3 {
		h.heal()
	}
	h.until("each order was announced again three times", func() bool {
		for _, o := range orders {
			if h.asked(o) < 3 {
				return false
			}
		}
		return true
	})
	// Asked at once, after one, two, four … times the patience: three healers do no more than one.
	most := 1
	for pause, at := impatience, impatience*9/10; at < time.Since(begin); pause *= 2 {
		most, at = most+1, at+pause
	}
	for _, o := range orders {
		if n := h.asked(o); n > most {
			t.Errorf("order %s was announced %d times in %s, want at most %d", o.ID, n, time.Since(begin), most)
		}
		m := h.told[o.ID.String()][0]
		var got, want contract.Order
		if err := errors.Join(json.Unmarshal([]byte(m.Payload), &got),
			json.Unmarshal([]byte(placedEvent(t, o).Payload), &want)); err != nil {
			t.Fatal(err)
		}
		want.Repeated = true
		if !reflect.DeepEqual(got, want) {
			t.Errorf("announced\n%+v of\n%+v", got, want)
		}
		if m.ID != o.PlacedEventID() || m.Type != contract.OrderPlacedType || m.Topic != contract.TopicOrders ||
			m.Key != o.AccountID.String() || m.Lane != contract.Lane(o.AccountID) {
			t.Errorf("the event is %+v", m)
		}
		if !strings.Contains(h.log.String(), `msg="order announced again: no answer has come" order_id=`+o.ID.String()) {
			t.Errorf("the log does not tell of %s", o.ID)
		}
	}
	for _, o := range orders[:20] {
		h.handle(t, event(t, o, contract.PaymentSucceeded, 1, nil))
	}
	h.until("the answered orders are left alone", func() bool {
		for _, o := range orders[:20] {
			if !h.unwatched(o) {
				return false
			}
		}
		return true
	})
	h.until("the others are still asked about", func() bool { return h.asked(orders[39]) >= 4 })
	if h.unwatched(orders[39]) {
		t.Error("an order without an answer is forgotten")
	}
}

// What is announced again says whose it is, as it did the first time.
func TestAnAnnouncementSaysWhoseTheOrderIs(t *testing.T) {
	h := setupHealing(t)
	alice := identity.Reach{Tenant: "shop", Owner: "alice"}
	kept, cancelled := h.placeFor(t, alice, 1)[0], h.placeFor(t, alice, 1)[0]
	h.publish()
	service := placing.New(h.store, currencies(), func(order.Order) {}, func() {}, nil, nil, slog.New(slog.DiscardHandler),
		prometheus.NewRegistry())
	if _, _, err := service.Cancel(t.Context(), placing.Client{Reach: alice}, cancelled.ID, "", ""); err != nil {
		t.Fatal(err)
	}
	h.heal()
	h.until("they are announced again", func() bool { return h.asked(kept) > 1 && h.asked(cancelled) > 2 })
	for _, o := range []order.Order{kept, cancelled} {
		for _, m := range h.told[o.ID.String()] {
			var told contract.Order
			if err := json.Unmarshal([]byte(m.Payload), &told); err != nil || m.Tenant != "shop" || told.Owner != "alice" {
				t.Errorf("%v: told %+v", err, m)
			}
		}
	}
}

func TestAnOrderHealsAndSaysSo(t *testing.T) {
	h := setupHealing(t)
	o := h.place(t, 1)[0]
	h.heal()
	h.publish()
	clear(h.told)
	h.until("it is announced again", func() bool { return h.asked(o) > 0 })
	if n, age := h.metric(t, "altyn_orders_overdue", ""), h.metric(t, "altyn_orders_oldest_overdue_seconds", ""); n != 1 ||
		age < impatience.Seconds() || age > time.Since(o.CreatedAt).Seconds()+1 {
		t.Errorf("%v orders are overdue, by %v s", n, age)
	}
	// It goes on right after it was asked about, by its clock, however long this machine takes.
	var asked time.Time
	if err := h.db.Service.Get(&asked, `SELECT asked_at FROM unsettled WHERE order_id = $1`, o.ID); err != nil {
		t.Fatal(err)
	}
	h.worker.Now = func() time.Time { return asked.Add(time.Millisecond) }
	h.handle(t, event(t, o, contract.PaymentSucceeded, 1, nil))
	h.until("it is left alone", func() bool { return h.unwatched(o) })
	if n := h.metric(t, "altyn_orders_overdue", ""); n != 0 {
		t.Errorf("%v orders are overdue", n)
	}
	h.until("it is told", func() bool { return h.metric(t, "altyn_orders_healed_total", "") == 1 })
	if n := h.metric(t, "altyn_orders_announced_again_total", contract.OrderPlacedType); n < 1 {
		t.Errorf("%v were announced again", n)
	}
	want := `msg="order healed: it went on after it was announced again" order_id=` + o.ID.String() + " status=paid"
	if !strings.Contains(h.log.String(), want) {
		t.Errorf("the log lacks %q:\n%s", want, h.log)
	}
}

// Each order is in another state; those that have a reason to be as they are, or of which the reason is in this
// database, are not announced.
func TestWhoIsAnnouncedAgain(t *testing.T) {
	h := setupHealing(t)
	names := []string{"lost", "paid", "failed", "waits", "held", "cancelling", "cancelled", "paid, then cancelling",
		"late in the outbox", "parked in the outbox", "parked event"}
	orders := map[string]order.Order{}
	for i, o := range h.place(t, len(names)) {
		orders[names[i]] = o
	}
	overdue := 3                                    // the one that is lost, and two that will be cancelling
	for late := "late in the outbox"; ; overdue++ { // it is in a lane of its own; those before it are lost, too
		alone := true
		for name, o := range orders {
			alone = alone && (name == late || contract.Lane(o.AccountID) != contract.Lane(orders[late].AccountID))
		}
		if alone {
			break
		}
		orders[late] = h.place(t, 1)[0]
	}
	reason := func(reason string) func(*contract.Payment) { return func(p *contract.Payment) { p.Reason = reason } }
	h.handle(t,
		event(t, orders["paid"], contract.PaymentSucceeded, 1, nil),
		event(t, orders["failed"], contract.PaymentFailed, 1, nil),
		event(t, orders["waits"], contract.PaymentCreated, 1, reason(contract.WaitingForFunds)),
		event(t, orders["held"], contract.PaymentAuthorized, 1, nil),
		event(t, orders["paid, then cancelling"], contract.PaymentSucceeded, 1, nil),
		event(t, orders["parked event"], contract.PaymentSucceeded, 1,
			func(p *contract.Payment) { p.AccountID = uuid.New() }))
	h.publish()
	clear(h.told)
	h.execute(`
		INSERT INTO outbox (lane, count, messages, created_at)
		VALUES ($1, 1, '', clock_timestamp() - interval '1 hour')`,
		contract.Lane(orders["late in the outbox"].AccountID))
	h.execute(`
		INSERT INTO outbox_parked (seq, lane, id, type, topic, key, subject, payload, traceparent, created_at, reason)
		VALUES (1, 0, gen_random_uuid(), '', 'orders', $1, '', '', '', clock_timestamp(), '')`,
		orders["parked in the outbox"].AccountID.String())
	h.heal()
	h.until("the lost order is announced again", func() bool { return h.asked(orders["lost"]) > 0 })

	for _, name := range []string{"cancelling", "cancelled", "paid, then cancelling"} {
		h.cancel(t, orders[name].ID, "no more")
	}
	h.handle(t, event(t, orders["cancelled"], contract.PaymentCancelled, 1, nil))
	announced := func(name string) (found []outbox.Message) {
		for _, m := range h.told[orders[name].ID.String()] {
			if m.Type == contract.OrderCancelledType && strings.Contains(m.Payload, `"repeated":true`) {
				found = append(found, m)
			}
		}
		return found
	}
	h.until("both cancellations are announced again", func() bool {
		return len(announced("cancelling")) > 0 && len(announced("paid, then cancelling")) > 0
	})
	for _, name := range []string{"cancelling", "paid, then cancelling"} {
		o, err := h.store.Order(t.Context(), identity.Default, orders[name].ID)
		if err != nil {
			t.Fatal(err)
		}
		var event contract.Cancellation
		m := announced(name)[0]
		if err := json.Unmarshal([]byte(m.Payload), &event); err != nil || !event.Repeated || event.Reason != "cancelled" ||
			event.Note != "no more" || event.OrderID != o.ID ||
			!time.Time(event.CancelledAt).Equal(o.UpdatedAt) || m.ID != o.CancelledEventID() {
			t.Errorf("%s: %v: announced %s as %s", name, err, m.Payload, m.ID)
		}
	}
	for _, name := range []string{"paid", "failed", "waits", "held", "late in the outbox", "parked in the outbox",
		"parked event"} {
		if n := h.asked(orders[name]); n != 0 {
			t.Errorf("%s: announced %d times: %v", name, n, h.told[orders[name].ID.String()])
		}
	}
	if len(announced("cancelled")) != 0 {
		t.Error("a cancelled order is announced again")
	}
	for _, name := range []string{"paid", "failed", "cancelled"} {
		h.until(name+" is left alone", func() bool { return h.unwatched(orders[name]) })
	}
	// The pauses of those that wait are ten times as long, and then they are asked about too.
	h.until("what waits is asked about at last", func() bool {
		return h.asked(orders["waits"]) > 0 && h.asked(orders["held"]) > 0
	})
	if n := h.metric(t, "altyn_orders_overdue", ""); n != float64(overdue) {
		t.Errorf("%v orders are overdue, not %d", n, overdue)
	}
}

func (h *healing) execute(query string, args ...any) {
	h.Helper()
	if _, err := h.db.Service.Exec(query, args...); err != nil {
		h.Fatal(err)
	}
}

// An order that is committed when one with a higher seq has had its time is swept too.
func TestTheSweepWaitsForTransactionsThatRun(t *testing.T) {
	h := setupHealing(t)
	first := h.place(t, 1)[0]
	h.publish()
	clear(h.told)
	h.heal()
	h.until("the first order is announced again", func() bool { return h.asked(first) > 0 })
	late, err := h.db.Service.BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = late.Rollback() }()
	insert := func(tx sqlx.ExtContext) order.Order {
		o := first
		o.ID = uuid.Must(uuid.NewV7())
		if _, err := tx.ExecContext(t.Context(), `
			INSERT INTO orders (id, account_id, amount, currency, description, reference, capture, await_inventory,
				on_insufficient, status, version, fingerprint, created_at, updated_at)
			SELECT $2, account_id, amount, currency, description, reference, capture, await_inventory, on_insufficient,
				status, version, fingerprint, created_at, updated_at FROM orders WHERE id = $1`, first.ID, o.ID); err != nil {
			t.Fatal(err)
		}
		return o
	}
	lower := insert(late)
	higher := insert(h.db.Service)
	var rounds []time.Time
	h.until("there were rounds for which the later order would be old enough", func() bool {
		var at time.Time
		if err := h.db.Service.Get(&at, `SELECT at FROM sweep`); err != nil {
			t.Fatal(err)
		}
		if len(rounds) == 0 || !rounds[len(rounds)-1].Equal(at) {
			rounds = append(rounds, at)
		}
		return at.Sub(rounds[0]) > 2*impatience
	})
	if err := late.Commit(); err != nil {
		t.Fatal(err)
	}
	h.until("both orders are announced again", func() bool { return h.asked(lower) > 0 && h.asked(higher) > 0 })
	var marks int
	h.until("no mark is left", func() bool {
		if err := h.db.Service.Get(&marks, `SELECT count(*) FROM sweep_marks`); err != nil {
			t.Fatal(err)
		}
		return marks == 0
	})
}

// An order of before the sweep was introduced is found like any other, and the sweep goes on where it ended.
func TestTheSweepComesOnceAcrossEveryOrder(t *testing.T) {
	h := setupHealing(t)
	lost := h.place(t, 2)
	h.execute(`
		INSERT INTO orders (id, account_id, amount, currency, description, reference, capture, await_inventory,
			on_insufficient, status, version, fingerprint, created_at, updated_at)
		SELECT gen_random_uuid(), account_id, amount, currency, description, reference, capture, await_inventory,
			on_insufficient, 'paid', version, fingerprint, created_at, updated_at
		FROM orders, generate_series(1, 60000) WHERE id = $1`, lost[0].ID)
	lost = append(lost, h.place(t, 1)...)
	h.publish()
	clear(h.told)
	h.heal()
	h.until("the lost orders are announced again", func() bool {
		return h.asked(lost[0]) > 0 && h.asked(lost[1]) > 0 && h.asked(lost[2]) > 0
	})
	var swept, last int64
	if err := h.db.Service.QueryRow(`SELECT sweep.seq, max(orders.seq) FROM sweep, orders GROUP BY 1`).
		Scan(&swept, &last); err != nil || swept != last {
		t.Errorf("%v: swept up to %d of %d", err, swept, last)
	}
	plan := h.plan(`
		SELECT seq, id, status FROM orders WHERE seq > (SELECT seq FROM sweep WHERE one) AND seq <= 60000
		ORDER BY seq LIMIT 50000`)
	if !strings.Contains(plan, "orders_seq") {
		t.Error("the sweep does not use the index of seq:\n" + plan)
	}
}

func (h *healing) plan(query string) string {
	h.Helper()
	var lines []string
	if err := h.db.Service.Select(&lines, `EXPLAIN `+query); err != nil {
		h.Fatal(err)
	}
	return strings.Join(lines, "\n")
}
