package settlement

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
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
	b.restart()
	return b
}

// restart puts another process in its place.
func (b *inventoryBundle) restart() { b.Inventory, b.metrics = b.instance() }

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
	unreadable, reasons, err := b.Receive(b.Context(), records)
	if err != nil {
		b.Fatal(err)
	}
	for i, reason := range reasons {
		b.letters = append(b.letters, fmt.Sprintf("%s: %v", unreadable[i].Value, reason))
	}
}

// stored is what storing records ends with.
func (b *inventoryBundle) stored(records ...kafka.Message) error {
	_, _, err := b.Receive(b.Context(), records)
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
			INSERT INTO payments (order_id, lane, account_id, currency, amount, capture, status, reason, captured, refunded, version,
				created_at, updated_at)
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

func (b *inventoryBundle) count(query string, args ...any) (n int) {
	b.Helper()
	// As the service, whose own sessions it sees.
	if err := b.Service.GetContext(b.Context(), &n, query, args...); err != nil {
		b.Fatal(err)
	}
	return n
}

// until waits for a query to count n.
func (b *inventoryBundle) until(n int, query string, args ...any) {
	b.Helper()
	postgrestest.AwaitCount(b, b.Service, n, query, args...)
}

const (
	waiting = `SELECT count(*) FROM inventory WHERE joined_at IS NULL`
	kept    = `SELECT count(*) FROM inventory`
	locked  = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`
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

func TestTheFirstInventoryMessageWins(t *testing.T) {
	b := setupInventory(t)
	x, y, z := uuid.New(), uuid.New(), uuid.New()
	key := uuid.New()
	fetch := []kafka.Message{
		goods(x, key, contract.InventoryCompleted),
		goods(x, uuid.New(), contract.InventoryFailed), // another message about the same order
		goods(y, uuid.New(), contract.InventoryFailed),
		goods(y, uuid.New(), contract.InventoryCompleted),
		goods(z, key, contract.InventoryCompleted), // another order under the same key
		goods(x, key, contract.InventoryCompleted), // the same again
	}
	b.receive(fetch...)
	b.counted(map[string]float64{"stored": 2, "repeated": 4})
	b.receive(fetch...) // the offsets were not committed
	b.receive(goods(x, uuid.New(), contract.InventoryFailed), goods(z, key, contract.InventoryFailed))
	b.counted(map[string]float64{"stored": 2, "repeated": 12})
	b.pay(x, y, z)
	b.join()
	b.receive(goods(x, uuid.New(), contract.InventoryFailed), goods(x, key, contract.InventoryFailed)) // and after it has joined
	b.join()
	got := map[string]bool{}
	var payloads []string
	if err := b.Owner.SelectContext(b.Context(), &payloads, `SELECT payload FROM inbox`); err != nil {
		b.Fatal(err)
	}
	for _, payload := range payloads {
		got[payload] = true
	}
	want := map[string]bool{fmt.Sprintf(`{"order_id":"%s","in_stock":true}`, x): true, fmt.Sprintf(`{"order_id":"%s"}`, y): true}
	if n := len(b.queued()); !maps.Equal(got, want) || n != 2 || b.count(kept) != 2 {
		t.Errorf("%d rows, %d messages %v, want %v", b.count(kept), n, got, want)
	}
}

// Several processes store the same messages at once, in different sequence, as it happens when partitions move. None waits
// for another in a circle, which would take a second to be noticed.
func TestInventoryIsReceivedByManyAtOnce(t *testing.T) {
	b := setupInventory(t)
	const orders, receivers = 200, 4
	forth := make([]kafka.Message, orders)
	for i := range forth {
		forth[i] = completed(uuid.New())
	}
	back := slices.Clone(forth)
	slices.Reverse(back)
	var wait sync.WaitGroup
	for i := range receivers {
		wait.Go(func() {
			records := [][]kafka.Message{forth, back}[i%2]
			for _, part := range [][]kafka.Message{records[:10], records[10:], records} {
				if err := b.stored(part...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	b.counted(map[string]float64{"stored": orders, "repeated": orders * (2*receivers - 1)})
	if n := b.count(kept); n != orders {
		t.Errorf("%d rows", n)
	}
}

// Two processes wait for each other, for keys that orders share: one of them gives way, and tries again.
func TestInventoryIsReceivedInACircle(t *testing.T) {
	b := setupInventory(t)
	message := func(order byte, key byte) kafka.Message {
		return goods(uuid.UUID{order}, uuid.UUID{key}, contract.InventoryCompleted)
	}
	// Whoever has a trace is held up between the two.
	b.exec(`CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END $$`)
	b.exec(`CREATE TRIGGER hold BEFORE INSERT ON inventory FOR EACH ROW WHEN (NEW.traceparent <> '') EXECUTE FUNCTION hold()`)
	held, err := b.Owner.BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Rollback()
	if _, err := held.ExecContext(t.Context(), `SELECT pg_advisory_xact_lock(7)`); err != nil {
		t.Fatal(err)
	}
	traced := message(3, 2)
	traced.Headers = []kafka.Header{{Key: "traceparent", Value: []byte("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")}}
	done := make(chan error)
	go func() { done <- b.stored(message(1, 1), traced) }()
	b.until(1, locked)
	go func() { done <- b.stored(message(2, 2), message(4, 1)) }()
	b.until(2, locked)
	if err := held.Rollback(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	b.counted(map[string]float64{"stored": 2, "repeated": 2})
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
		goods(order, uuid.New(), "PENDING"), goods(order, uuid.New(), "completed"), goods(order, uuid.New(), strings.Repeat("Ж", 1000)),
		text(`{"order_id": "%s", "idempotent_key": "%s"}`, order, order),
		text(`{"order_id": "%s", "idempotent_key": "%s", "status": "FAILED", "warehouse": {"id": 7}, "items": []}`, order, uuid.New()),
		strange,
	)...)
	b.counted(map[string]float64{"unreadable": float64(len(bad)), "ignored": 4, "stored": 2})
	if len(b.letters) != len(bad) {
		t.Fatalf("dead letters %q", b.letters)
	}
	for i, letter := range b.letters {
		if value, reason, _ := strings.Cut(letter, ": "); !strings.HasPrefix(letter, string(bad[i].Value)+": ") || reason == "" {
			t.Errorf("dead letter %d is %q because of %q, of %q", i, value, reason, bad[i].Value)
		}
	}
	var status string
	if err := b.Owner.GetContext(t.Context(), &status, `SELECT status FROM inventory WHERE order_id = $1`, order); err != nil || status != contract.InventoryFailed {
		t.Errorf("what was ignored first does not count: %s, %v", status, err)
	}
}

// A process dies after it has stored a fetch and before its offsets are committed, or in the middle of storing it.
func TestACrashWhileInventoryIsReceived(t *testing.T) {
	b := setupInventory(t)
	batch := []kafka.Message{completed(uuid.New()), completed(uuid.New()), completed(uuid.New())}
	b.exec(`CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$`)
	b.exec(`CREATE TRIGGER die AFTER INSERT ON inventory EXECUTE FUNCTION die()`)
	if err := b.stored(batch...); !pg.IsUnavailable(err) || b.count(kept) != 0 {
		t.Errorf("%v, and %d rows", err, b.count(kept))
	}
	b.exec(`DROP TRIGGER die ON inventory`)
	b.receive(batch...)
	b.restart()
	b.receive(batch...)
	b.counted(map[string]float64{"stored": 0, "repeated": 3})
	if n := b.count(kept); n != 3 {
		t.Errorf("%d rows", n)
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
		if _, err := readInventory(kafka.Message{Value: []byte(strings.Replace(valid, change.from, change.to, 1))}); (err == nil) != change.right {
			t.Errorf("%s: %v", name, err)
		}
	}
}
