package settlement

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

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
		if m.ID != contract.DerivedID("inventory", account, order.String()) || m.AccountID != account || m.Lane != contract.Lane(account) || m.Fingerprint.Valid {
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

func TestInventoryBeforeItsOrder(t *testing.T) {
	b := setupInventory(t)
	for age, want := range map[time.Duration]time.Duration{
		0: 50 * time.Millisecond, 10 * time.Second: 10 * time.Second, 3 * time.Hour: time.Minute, 25 * time.Hour: time.Minute,
	} {
		order := uuid.New()
		b.receive(completed(order))
		b.exec(`UPDATE inventory SET received_at = clock_timestamp() - make_interval(secs => $2) WHERE order_id = $1`, order, age.Seconds())
		b.join()
		var later float64 // from its coming to the next look
		if err := b.Owner.GetContext(t.Context(), &later, `
			SELECT extract(epoch FROM look_at - received_at) FROM inventory WHERE order_id = $1 AND joined_at IS NULL`, order); err != nil {
			t.Fatal(err)
		}
		// It gets older while the test looks.
		if got := time.Duration(later*float64(time.Second)) - age; got < want || got > want+20*time.Second {
			t.Errorf("of the age %v: looked at again after %v, want %v", age, got, want)
		}
		before := len(b.queued())
		b.pay(order)
		b.join() // at once, whenever it would have been looked at again
		if messages := b.queued(); len(messages) != before+1 || messages[before].AccountID != payer(order) {
			t.Errorf("of the age %v: messages %+v", age, messages)
		}
	}
	if gauge := b.measured("altyn_inventory_waiting"); gauge[""] != 0 {
		t.Errorf("waiting: %v", gauge)
	}
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

// An old message is looked at in the very moment in which its order is settled: it may not be put off for its usual minute,
// whatever the two transactions do first. One more look after both must find it.
func TestASettlementIsNotMissedByALookAtTheSameTime(t *testing.T) {
	b := setupInventory(t)
	for range 200 {
		order := uuid.New()
		b.receive(completed(order))
		b.exec(`UPDATE inventory SET received_at = clock_timestamp() - interval '3 hours' WHERE order_id = $1`, order)
		gate := make(chan struct{})
		var wait sync.WaitGroup
		wait.Go(func() {
			<-gate
			if _, err := b.Inventory.join(b.Context()); err != nil {
				t.Error(err)
			}
		})
		wait.Go(func() {
			<-gate
			if err := pg.InTx(b.Context(), b.Service, func(tx *sqlx.Tx) error { return b.payIn(tx, order) }); err != nil {
				t.Error(err)
			}
		})
		close(gate)
		wait.Wait()
		b.join()
		if n := b.count(waiting); n != 0 {
			t.Fatal("the message was put off although its order is there")
		}
	}
	if n := len(b.queued()); n != 200 {
		t.Errorf("%d messages", n)
	}
}

// The same, step by step: the settlement comes when the look has found nothing but has not committed.
func TestASettlementOverrulesALookThatFoundNothing(t *testing.T) {
	b := setupInventory(t)
	order := uuid.New()
	b.receive(completed(order))
	b.exec(`UPDATE inventory SET received_at = clock_timestamp() - interval '3 hours'`)
	// The look has its row, and is held up before it reads the payments.
	held, err := b.Owner.BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Rollback()
	if _, err := held.ExecContext(t.Context(), `LOCK TABLE payments IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	looked, settled := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := b.Inventory.join(b.Context())
		looked <- err
	}()
	b.until(1, locked)
	// The settlement waits for the look with its first statement.
	go func() {
		settled <- pg.InTx(b.Context(), b.Service, func(tx *sqlx.Tx) error {
			if err := b.store.LookForInventory(b.Context(), tx, []uuid.UUID{order}); err != nil {
				return err
			}
			return b.payIn(tx, order)
		})
	}()
	b.until(2, locked)
	if err := held.Rollback(); err != nil {
		t.Fatal(err)
	}
	for _, done := range []chan error{looked, settled} {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if n := len(b.queued()); n != 0 {
		t.Fatalf("%d messages before the payment", n)
	}
	b.join()
	if n := len(b.queued()); n != 1 || b.count(waiting) != 0 {
		t.Errorf("%d messages, %d waiting", n, b.count(waiting))
	}
}

func TestTwoInstancesShareTheLooks(t *testing.T) {
	b := setupInventory(t)
	const orders, unknown = 2200, 700
	records, paid := make([]kafka.Message, 0, orders+unknown), make([]uuid.UUID, orders)
	for i := range paid {
		paid[i] = uuid.New()
		records = append(records, completed(paid[i]))
	}
	for range unknown {
		records = append(records, completed(uuid.New()))
	}
	for part := range slices.Chunk(records, 1000) {
		b.receive(part...)
	}
	b.pay(paid...)
	b.exec(`UPDATE inventory SET look_at = now() - interval '1 second', received_at = now() - interval '1 hour'`)
	other, metrics := b.instance()
	var wait sync.WaitGroup
	for _, v := range []*Inventory{b.Inventory, other} {
		wait.Go(func() {
			for looked := postgres.MaxJoins; looked == postgres.MaxJoins; {
				var err error
				if looked, err = v.join(b.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	b.join() // the rest, when both had the last ones in hand
	if n := len(b.queued()); n != orders || b.count(waiting) != unknown {
		t.Errorf("%d messages, %d waiting", n, b.count(waiting))
	}
	joined := b.measured("altyn_inventory_messages_total")["joined"]
	b.metrics = metrics
	if joined += b.measured("altyn_inventory_messages_total")["joined"]; joined != orders {
		t.Errorf("joined %v times", joined)
	}
	if b.measured("altyn_inventory_waiting")[""] != unknown {
		t.Errorf("the gauge says %v", b.measured("altyn_inventory_waiting"))
	}
}

// A process dies between what a look does: everything or nothing of it is there.
func TestACrashBetweenTheStepsOfALook(t *testing.T) {
	b := setupInventory(t)
	order, early := uuid.New(), uuid.New()
	b.receive(completed(order), completed(early))
	b.pay(order)
	b.exec(`CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$`)
	for _, when := range []string{
		`AFTER INSERT ON inbox`,
		`BEFORE UPDATE ON inventory FOR EACH ROW WHEN (NEW.joined_at IS NOT NULL)`,
		`AFTER UPDATE ON inventory FOR EACH ROW WHEN (NEW.joined_at IS NULL)`,
	} {
		b.exec(`CREATE TRIGGER die ` + when + ` EXECUTE FUNCTION die()`)
		if _, err := b.Inventory.join(t.Context()); !pg.IsUnavailable(err) {
			t.Errorf("%s: %v", when, err)
		}
		on, _, _ := strings.Cut(when[strings.Index(when, " ON ")+4:], " ")
		b.exec(`DROP TRIGGER die ON ` + on)
		if n := len(b.queued()); n != 0 || b.count(waiting) != 2 {
			t.Errorf("%s: %d messages, %d waiting", when, n, b.count(waiting))
		}
	}
	b.counted(map[string]float64{"joined": 0})
	b.restart()
	b.join()
	if n := len(b.queued()); n != 1 || b.count(waiting) != 1 {
		t.Errorf("after the restart: %d messages, %d waiting", n, b.count(waiting))
	}
}

func TestRunSurvivesTheDatabase(t *testing.T) {
	b := setupInventory(t)
	order := uuid.New()
	b.exec(`CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('failures'); RAISE 'no'; END $$`)
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

func TestInventoryIsKeptForADay(t *testing.T) {
	b := setupInventory(t)
	const old, joined, young = 2300, 400, 7
	store := func(n int) (orders []uuid.UUID) {
		var records []kafka.Message
		for range n {
			orders = append(orders, uuid.New())
			records = append(records, completed(orders[len(orders)-1]))
		}
		for part := range slices.Chunk(records, 1000) {
			b.receive(part...)
		}
		return orders
	}
	orders := store(old)
	b.pay(orders[:joined]...)
	b.join()
	b.exec(`UPDATE inventory SET received_at = now() - interval '24 hours'`)
	waits := store(young)
	b.exec(`UPDATE inventory SET received_at = now() - interval '23 hours 59 minutes' WHERE order_id = $1`, waits[0])
	for _, left := range []int{old + young - 1000, old + young - 2000, young, young} {
		forgotten, err := b.forget(t.Context())
		if n := b.count(kept); err != nil || n != left || (forgotten == postgres.MaxForgotten) != (left > young) {
			t.Errorf("%d rows left instead of %d, %d forgotten, %v", n, left, forgotten, err)
		}
	}
	b.counted(map[string]float64{"joined": joined, "forgotten": old - joined})
	// What is young waits on, and what has been forgotten is new again.
	b.pay(waits[0])
	b.receive(completed(orders[0]))
	b.join()
	b.counted(map[string]float64{"stored": old + young + 1, "joined": joined + 2})
	if n := len(b.queued()); n != joined+1 {
		t.Errorf("%d messages in the inbox, where the repeated one waits already", n)
	}
}

func TestRunForgets(t *testing.T) {
	b := setupInventory(t)
	b.receive(completed(uuid.New()), completed(uuid.New()))
	b.exec(`UPDATE inventory SET received_at = now() - interval '25 hours'`)
	b.start(b.Inventory)
	b.until(0, kept)
}
