package settlement

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/broker"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/kafka"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// inventoryBundle is the inventory over a real database, without a broker and without a worker that settles the inbox.
type inventoryBundle struct {
	*testing.T
	postgrestest.DB
	*Inventory
	store   *postgres.Store
	metrics *prometheus.Registry
	letters []string // what could not be read, with the reasons
	joins   atomic.Int32
}

func setupInventory(t *testing.T) *inventoryBundle {
	t.Parallel()
	b := &inventoryBundle{T: t, DB: postgrestest.Database(t, "payments", postgres.Migrations()...)}
	b.store = postgres.New(b.Service)
	b.Inventory, b.metrics = b.instance()
	return b
}

// instance is the inventory in another process.
func (b *inventoryBundle) instance() (*Inventory, *prometheus.Registry) {
	metrics := prometheus.NewRegistry()
	return NewInventory(b.store, func() { b.joins.Add(1) }, slog.New(slog.DiscardHandler), metrics), metrics
}

// start runs instances until the test ends.
func (b *inventoryBundle) start(instances ...*Inventory) {
	ctx, stop := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	for _, v := range instances {
		wait.Go(func() {
			if err := v.Run(ctx); err != nil {
				b.Error(err)
			}
		})
	}
	b.Cleanup(func() {
		stop()
		wait.Wait()
	})
}

func goods(order, key uuid.UUID, status string) kafka.Message {
	payload, err := json.Marshal(contract.Inventory{IdempotentKey: key, OrderID: order, Status: status})
	if err != nil {
		panic(err)
	}
	return kafka.Message{Topic: contract.TopicInventory, Value: payload}
}

func completed(order uuid.UUID) kafka.Message {
	return goods(order, uuid.New(), contract.InventoryCompleted)
}

func (b *inventoryBundle) receive(records ...kafka.Message) {
	b.Helper()
	unreadable, reasons, err := b.Receive(b.Context(), everyones(records))
	if err != nil {
		b.Fatal(err)
	}
	for i, reason := range reasons {
		b.letters = append(b.letters, fmt.Sprintf("%s: %v", unreadable[i].Value, reason))
	}
}

// everyones are records of which nobody asks who has sent them.
func everyones(messages []kafka.Message) []broker.Record {
	records := make([]broker.Record, len(messages))
	for i, m := range messages {
		records[i] = broker.Record{Message: m, Who: identity.Everyone}
	}
	return records
}

// stored is what storing records ends with.
func (b *inventoryBundle) stored(records ...kafka.Message) error {
	_, _, err := b.Receive(b.Context(), everyones(records))
	return err
}

// pay stores the payments of orders as their settlement does, and has what is stored of their goods looked at.
func (b *inventoryBundle) pay(orders ...uuid.UUID) {
	b.Helper()
	if err := pg.InTx(b.Context(), b.Service, func(tx *sqlx.Tx) error { return b.payIn(tx, orders...) }); err != nil {
		b.Fatal(err)
	}
}

func (b *inventoryBundle) payIn(tx *sqlx.Tx, orders ...uuid.UUID) error {
	for _, order := range orders {
		account := payer(order)
		if _, err := tx.ExecContext(b.Context(), `
			INSERT INTO payments (order_id, lane, account_id, currency, amount, capture, status, reason, captured, refunded,
				version, created_at, updated_at)
			VALUES ($1, $2, $3, 'RUB', 100, 'automatic', 'created', 'waiting_for_inventory', 0, 0, 1, now(), now())`,
			order, contract.Lane(account), account); err != nil {
			return err
		}
	}
	return b.store.LookForInventory(b.Context(), tx, orders)
}

// payer is the account that pays an order.
func payer(order uuid.UUID) uuid.UUID { return contract.DerivedID("test", order, "") }

// join looks once at all that is due.
func (b *inventoryBundle) join() {
	b.Helper()
	for looked := postgres.MaxJoins; looked == postgres.MaxJoins; {
		var err error
		if looked, err = b.Inventory.join(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// queued reads the messages in the inbox.
func (b *inventoryBundle) queued() []postgres.Message {
	b.Helper()
	return stored(b.T, b.DB)
}

func (b *inventoryBundle) exec(query string, args ...any) {
	b.Helper()
	if _, err := b.Owner.ExecContext(b.Context(), query, args...); err != nil {
		b.Fatal(err)
	}
}

// until waits for a query to count n. It asks as the service, whose own sessions it sees.
func (b *inventoryBundle) until(n int, query string, args ...any) {
	b.Helper()
	postgrestest.AwaitCount(b, b.Service, n, query, args...)
}

const (
	waiting = `SELECT count(*) FROM inventory WHERE joined_at IS NULL`
	kept    = `SELECT count(*) FROM inventory`
)

// measured reads a metric; outcomes are its counters' labels.
func (b *inventoryBundle) measured(name string) map[string]float64 {
	b.Helper()
	families, err := b.metrics.Gather()
	if err != nil {
		b.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() != name {
				continue
			}
			label := ""
			for _, l := range m.GetLabel() {
				label += l.GetValue()
			}
			values[label] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return values
}

func (b *inventoryBundle) counted(want map[string]float64) {
	b.Helper()
	got := b.measured("altyn_inventory_messages_total")
	for outcome, n := range want {
		if got[outcome] != n {
			b.Errorf("%v messages are %s, not %v: %v", got[outcome], outcome, n, got)
		}
	}
}

func TestUnreadableAndIgnoredInventory(t *testing.T) {
	b := setupInventory(t)
	order, other := uuid.New(), uuid.New()
	text := func(format string, args ...any) kafka.Message {
		return kafka.Message{Topic: contract.TopicInventory, Value: []byte(fmt.Sprintf(format, args...))}
	}
	bad := []kafka.Message{
		text(`nonsense`), text(``), text(`[]`), text(`"COMPLETED"`), text("\xff{"), text(`null`), text(`{}`),
		text(`{"idempotent_key": "%s", "status": "COMPLETED"}`, order),
		text(`{"order_id": "%s", "status": "COMPLETED"}`, order),
		text(`{"order_id": "%s", "idempotent_key": "%s", "status": "COMPLETED"}`, uuid.Nil, order),
		text(`{"order_id": "%s", "idempotent_key": "%s", "status": "COMPLETED"}`, order, uuid.Nil),
		text(`{"order_id": "7", "idempotent_key": "%s", "status": "COMPLETED"}`, order),
		text(`{"order_id": "%s", "idempotent_key": "%s", "status": 7}`, order, order),
		text(`{"order_id": "%s", "idempotent_key": "%s", "STATUS": "COMPLETED"}`, order, order),
		text(`{"order_id": "%s", "idempotent_key": "%s", "status": "FAILED", "status": "COMPLETED"}`, order, order),
		text(`{"order_id": "{%s}", "idempotent_key": "%s", "status": "COMPLETED"}`, order, order),
		text(`{"order_id": "%s", "idempotent_key": "%s", "status": "PENDING\u0000"}`, order, order),
	}
	strange := completed(other)
	strange.Headers = []kafka.Header{{Key: "traceparent", Value: []byte("\xff\x00")}}
	b.receive(append(slices.Clone(bad),
		goods(order, uuid.New(), "PENDING"), goods(order, uuid.New(), "completed"),
		goods(order, uuid.New(), strings.Repeat("Ж", 1000)),
		text(`{"order_id": "%s", "idempotent_key": "%s"}`, order, order),
		text(`{"order_id": "%s", "idempotent_key": "%s", "status": "FAILED", "warehouse": {"id": 7}, "items": []}`, order,
			uuid.New()),
		strange,
	)...)
	b.counted(map[string]float64{"unreadable": float64(len(bad)), "ignored": 4, "stored": 2})
	if len(b.letters) != len(bad) {
		t.Fatalf("dead letters %q", b.letters)
	}
	for i, letter := range b.letters {
		if value, reason, _ := strings.Cut(letter, ": "); !strings.HasPrefix(letter, string(bad[i].Value)+": ") ||
			reason == "" {
			t.Errorf("dead letter %d is %q because of %q, of %q", i, value, reason, bad[i].Value)
		}
	}
	var status string
	if err := b.Owner.GetContext(t.Context(), &status, `SELECT status FROM inventory WHERE order_id = $1`,
		order); err != nil || status != contract.InventoryFailed {
		t.Errorf("what was ignored first does not count: %s, %v", status, err)
	}
}

// What the inventory system sends is read like a request, but for names that mean nothing here.
func TestInventoryMessagesAreReadStrictly(t *testing.T) {
	order, key := uuid.NewString(), uuid.NewString()
	valid := `{"idempotent_key": "` + key + `", "order_id": "` + order + `", "status": "COMPLETED"}`
	for name, change := range map[string]struct {
		from, to string
		right    bool
	}{
		"as it is":         {"", "", true},
		"a new name":       {`{"`, `{"colour": {"x": [1]}, "`, true},
		"a name twice":     {`{"`, `{"order_id": "` + order + `", "`, false},
		"another case":     {`"order_id"`, `"Order_ID"`, false},
		"both cases":       {`{"`, `{"ORDER_ID": "` + key + `", "`, false},
		"half a surrogate": {`{"`, `{"colour": "\ud83d", "`, false},
		"NUL":              {`{"`, `{"colour": "\u0000", "`, false},
		"no dashes":        {order, strings.ReplaceAll(order, "-", ""), false},
		"two objects":      {`{"`, `{}{"`, false},
	} {
		payload := []byte(strings.Replace(valid, change.from, change.to, 1))
		if _, err := readInventory(everyones([]kafka.Message{{Value: payload}})[0]); (err == nil) != change.right {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInventoryJoinsTheQueueOfItsOrdersAccount(t *testing.T) {
	b := setupInventory(t)
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	there, gone := uuid.New(), uuid.New()
	b.pay(there, gone)
	first := completed(there)
	first.Headers = []kafka.Header{{Key: "traceparent", Value: []byte(trace)}}
	b.receive(first, goods(gone, uuid.New(), contract.InventoryFailed))
	b.join()
	b.join()
	messages := b.queued()
	if len(messages) != 2 || b.joins.Load() != 1 {
		t.Fatalf("%d times told of %+v", b.joins.Load(), messages)
	}
	if messages[0].AccountID != payer(there) {
		slices.Reverse(messages)
	}
	for i, order := range []uuid.UUID{there, gone} {
		m, account := messages[i], payer(order)
		if m.ID != contract.DerivedID("inventory", account, order.String()) || m.AccountID != account ||
			m.Lane != contract.Lane(account) || m.Fingerprint.Valid {
			t.Errorf("message %+v", m)
		}
		if r := billing.Request(m); r.Command != (ledger.Inventory{OrderID: order, InStock: order == there}) {
			t.Errorf("request %+v", r)
		}
		if (m.Traceparent == trace) != (order == there) {
			t.Errorf("the trace is %q", m.Traceparent)
		}
	}
	b.counted(map[string]float64{"stored": 2, "joined": 2, "repeated": 0})
	if gauge := b.measured("altyn_inventory_waiting"); gauge[""] != 0 {
		t.Errorf("waiting: %v", gauge)
	}
}

func TestRunSurvivesTheDatabase(t *testing.T) {
	b := setupInventory(t)
	order := uuid.New()
	b.exec(`CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN PERFORM nextval('failures'); RAISE 'no'; END $$`)
	b.exec(`CREATE SEQUENCE failures`)
	b.exec(`CREATE TRIGGER fail BEFORE UPDATE ON inventory EXECUTE FUNCTION fail()`)
	b.start(b.Inventory)
	b.receive(completed(order))
	b.until(2, `SELECT least(last_value, 2) FROM failures`)
	b.exec(`DROP TRIGGER fail ON inventory`)
	b.pay(order)
	b.Wake()
	b.until(0, waiting)
}

func TestRunForgets(t *testing.T) {
	b := setupInventory(t)
	b.receive(completed(uuid.New()), completed(uuid.New()))
	// Not due: while they are joined, nobody else has them.
	b.exec(`UPDATE inventory SET received_at = now() - interval '25 hours', look_at = now() + interval '1 hour'`)
	b.start(b.Inventory)
	b.until(0, kept)
}

// The order and the message about its goods come at the same moment, again and again, while two instances look.
func TestInventoryAtTheMomentOfItsOrder(t *testing.T) {
	b := setupInventory(t)
	other, _ := b.instance()
	b.start(b.Inventory, other)
	const orders = 300
	var all []uuid.UUID
	for i := range orders {
		order := uuid.New()
		all = append(all, order)
		gate := make(chan struct{})
		var wait sync.WaitGroup
		wait.Go(func() {
			<-gate
			if err := b.stored(completed(order)); err != nil {
				t.Error(err)
			}
		})
		wait.Go(func() {
			<-gate
			if err := pg.InTx(b.Context(), b.Service, func(tx *sqlx.Tx) error { return b.payIn(tx, order) }); err != nil {
				t.Error(err)
			}
			[]*Inventory{b.Inventory, other}[i%2].Wake()
		})
		close(gate)
		wait.Wait()
	}
	b.until(0, waiting)
	messages := map[uuid.UUID]int{}
	for _, m := range b.queued() {
		messages[m.AccountID]++
	}
	for _, order := range all {
		if n := messages[payer(order)]; n != 1 {
			t.Errorf("%d messages about the goods of order %s", n, order)
		}
	}
	if len(messages) != orders {
		t.Errorf("messages of %d accounts", len(messages))
	}
}
