package postgres

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

const (
	waiting = `SELECT count(*) FROM inventory WHERE joined_at IS NULL`
	kept    = `SELECT count(*) FROM inventory`
)

func goods(order, key uuid.UUID, status string) Inventory {
	return Inventory{OrderID: order, IdempotentKey: key, Status: status}
}

func completed(order uuid.UUID) Inventory {
	return goods(order, uuid.New(), contract.InventoryCompleted)
}

// add stores messages, of which so many are new.
func (b *bundle) add(added int, messages ...Inventory) {
	b.Helper()
	if n, err := b.AddInventory(b.Context(), messages); n != added || err != nil {
		b.Fatalf("%d messages were new, not %d, %v", n, added, err)
	}
}

// pay stores the payments of orders as their settlement does, and has what is stored of their goods looked at.
func (b *bundle) pay(orders ...uuid.UUID) {
	b.Helper()
	b.must(b.in(func(tx *sqlx.Tx) error { return b.payIn(tx, orders...) }))
}

func (b *bundle) payIn(tx *sqlx.Tx, orders ...uuid.UUID) error {
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
	return b.LookForInventory(b.Context(), tx, orders)
}

// payer is the account that pays an order.
func payer(order uuid.UUID) uuid.UUID { return contract.DerivedID("test", order, "") }

// about is the message that tells an account's queue of its goods.
func about(m Inventory, account uuid.UUID) Message {
	return message(ledger.Request{
		ID: contract.DerivedID(contract.TopicInventory, account, m.OrderID.String()), AccountID: account,
		Lane:    contract.Lane(account),
		Command: ledger.Inventory{OrderID: m.OrderID, InStock: m.Status == contract.InventoryCompleted},
	})
}

// join looks at all that is due, and returns how many have joined.
func (b *bundle) join() (joined int) {
	b.Helper()
	for looked := MaxJoins; looked == MaxJoins; {
		var n int
		var err error
		looked, n, err = b.JoinInventory(b.Context(), about)
		b.must(err)
		joined += n
	}
	return joined
}

// queued reads which accounts are told of their goods.
func (b *bundle) queued() (accounts []uuid.UUID) {
	b.Helper()
	b.must(b.Service.SelectContext(b.Context(), &accounts,
		`SELECT account_id FROM inbox WHERE kind = 'inventory' ORDER BY seq`))
	return accounts
}

func TestInventoryBeforeItsOrder(t *testing.T) {
	b := setup(t)
	for age, want := range map[time.Duration]time.Duration{
		0: 50 * time.Millisecond, 10 * time.Second: 10 * time.Second, 3 * time.Hour: time.Minute, 25 * time.Hour: time.Minute,
	} {
		order := uuid.New()
		b.add(1, completed(order))
		b.exec(`UPDATE inventory SET received_at = clock_timestamp() - make_interval(secs => $2) WHERE order_id = $1`, order,
			age.Seconds())
		b.join()
		var later float64 // from its coming to the next look
		if err := b.Owner.GetContext(t.Context(), &later, `
			SELECT extract(epoch FROM look_at - received_at) FROM inventory
			WHERE order_id = $1 AND joined_at IS NULL`, order); err != nil {
			t.Fatal(err)
		}
		// It gets older while the test looks.
		if got := time.Duration(later*float64(time.Second)) - age; got < want || got > want+20*time.Second {
			t.Errorf("of the age %v: looked at again after %v, want %v", age, got, want)
		}
		before := len(b.queued())
		b.pay(order)
		b.join() // at once, whenever it would have been looked at again
		if accounts := b.queued(); len(accounts) != before+1 || accounts[before] != payer(order) {
			t.Errorf("of the age %v: told %v", age, accounts)
		}
	}
	if n := b.count(waiting); n != 0 {
		t.Errorf("%d wait", n)
	}
}

// An old message is looked at in the very moment in which its order is settled: it may not be put off for its usual
// minute, whatever the two transactions do first. One more look after both must find it.
func TestASettlementIsNotMissedByALookAtTheSameTime(t *testing.T) {
	b := setup(t)
	for range 200 {
		order := uuid.New()
		b.add(1, completed(order))
		b.exec(`UPDATE inventory SET received_at = clock_timestamp() - interval '3 hours' WHERE order_id = $1`, order)
		gate := make(chan struct{})
		var wait sync.WaitGroup
		wait.Go(func() {
			<-gate
			if _, _, err := b.JoinInventory(b.Context(), about); err != nil {
				t.Error(err)
			}
		})
		wait.Go(func() {
			<-gate
			if err := b.in(func(tx *sqlx.Tx) error { return b.payIn(tx, order) }); err != nil {
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
	b := setup(t)
	order := uuid.New()
	b.add(1, completed(order))
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
		_, _, err := b.JoinInventory(b.Context(), about)
		looked <- err
	}()
	b.until(1, locked)
	// The settlement waits for the look with its first statement.
	go func() {
		settled <- b.in(func(tx *sqlx.Tx) error {
			if err := b.LookForInventory(b.Context(), tx, []uuid.UUID{order}); err != nil {
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
	b := setup(t)
	const orders, unknown = 2200, 700
	messages, paid := make([]Inventory, 0, orders+unknown), make([]uuid.UUID, orders)
	for i := range paid {
		paid[i] = uuid.New()
		messages = append(messages, completed(paid[i]))
	}
	for range unknown {
		messages = append(messages, completed(uuid.New()))
	}
	for part := range slices.Chunk(messages, 1000) {
		b.add(len(part), part...)
	}
	b.pay(paid...)
	b.exec(`UPDATE inventory SET look_at = now() - interval '1 second', received_at = now() - interval '1 hour'`)
	var wait sync.WaitGroup
	var joined atomic.Int64
	for range 2 {
		wait.Go(func() {
			for looked := MaxJoins; looked == MaxJoins; {
				var n int
				var err error
				if looked, n, err = b.JoinInventory(b.Context(), about); err != nil {
					t.Error(err)
				}
				joined.Add(int64(n))
			}
		})
	}
	wait.Wait()
	n := int(joined.Load()) + b.join() // the rest, when both had the last ones in hand
	if m := len(b.queued()); m != orders || n != orders || b.count(waiting) != unknown {
		t.Errorf("%d joined, %d messages, %d waiting", n, m, b.count(waiting))
	}
}

// A process dies between what a look does: everything or nothing of it is there.
func TestACrashBetweenTheStepsOfALook(t *testing.T) {
	postgrestest.NotOnCitus(t, "it crashes by triggers, which distributed tables have not")
	b := setup(t)
	order, early := uuid.New(), uuid.New()
	b.add(2, completed(order), completed(early))
	b.pay(order)
	b.exec(`CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$`)
	for _, when := range []string{
		`AFTER INSERT ON inbox`,
		`BEFORE UPDATE ON inventory FOR EACH ROW WHEN (NEW.joined_at IS NOT NULL)`,
		`AFTER UPDATE ON inventory FOR EACH ROW WHEN (NEW.joined_at IS NULL)`,
	} {
		b.exec(`CREATE TRIGGER die ` + when + ` EXECUTE FUNCTION die()`)
		if _, _, err := b.JoinInventory(t.Context(), about); !pg.IsUnavailable(err) {
			t.Errorf("%s: %v", when, err)
		}
		on, _, _ := strings.Cut(when[strings.Index(when, " ON ")+4:], " ")
		b.exec(`DROP TRIGGER die ON ` + on)
		if n := len(b.queued()); n != 0 || b.count(waiting) != 2 {
			t.Errorf("%s: %d messages, %d waiting", when, n, b.count(waiting))
		}
	}
	if n := b.join(); n != 1 || len(b.queued()) != 1 || b.count(waiting) != 1 {
		t.Errorf("after it: %d joined, %d messages, %d waiting", n, len(b.queued()), b.count(waiting))
	}
}

func TestInventoryIsKeptForADay(t *testing.T) {
	b := setup(t)
	const old, joined, young = 2300, 400, 7
	store := func(n int) (orders []uuid.UUID) {
		var messages []Inventory
		for range n {
			orders = append(orders, uuid.New())
			messages = append(messages, completed(orders[len(orders)-1]))
		}
		for part := range slices.Chunk(messages, 1000) {
			b.add(len(part), part...)
		}
		return orders
	}
	orders := store(old)
	b.pay(orders[:joined]...)
	b.join()
	b.exec(`UPDATE inventory SET received_at = now() - interval '24 hours'`)
	waits := store(young)
	b.exec(`UPDATE inventory SET received_at = now() - interval '23 hours 59 minutes' WHERE order_id = $1`, waits[0])
	without := 0 // forgotten without their order
	for _, left := range []int{old + young - 1000, old + young - 2000, young, young} {
		forgotten, unjoined, err := b.ForgetInventory(t.Context())
		if n := b.count(kept); err != nil || n != left || (forgotten == MaxForgotten) != (left > young) {
			t.Errorf("%d rows left instead of %d, %d forgotten, %v", n, left, forgotten, err)
		}
		without += unjoined
	}
	if without != old-joined {
		t.Errorf("%d were forgotten without their order", without)
	}
	// What is young waits on, and what has been forgotten is new again.
	b.pay(waits[0])
	b.add(1, completed(orders[0]))
	if n := b.join(); n != 2 || len(b.queued()) != joined+1 {
		t.Errorf("%d joined, %d messages in the inbox, where the repeated one waits already", n, len(b.queued()))
	}
}

func TestTheFirstInventoryMessageWins(t *testing.T) {
	b := setup(t)
	x, y, z := uuid.New(), uuid.New(), uuid.New()
	key := uuid.New()
	fetch := []Inventory{
		goods(x, key, contract.InventoryCompleted),
		goods(x, uuid.New(), contract.InventoryFailed), // another message about the same order
		goods(y, uuid.New(), contract.InventoryFailed),
		goods(y, uuid.New(), contract.InventoryCompleted),
		goods(z, key, contract.InventoryCompleted), // another order under the same key
		goods(x, key, contract.InventoryCompleted), // the same again
	}
	b.add(2, fetch...)
	b.add(0, fetch...) // the offsets were not committed
	b.add(0, goods(x, uuid.New(), contract.InventoryFailed), goods(z, key, contract.InventoryFailed))
	b.pay(x, y, z)
	b.join()
	// and after it has joined
	b.add(0, goods(x, uuid.New(), contract.InventoryFailed), goods(x, key, contract.InventoryFailed))
	b.join()
	got := map[string]bool{}
	var payloads []string
	b.must(b.Owner.SelectContext(t.Context(), &payloads, `SELECT payload FROM inbox`))
	for _, payload := range payloads {
		got[payload] = true
	}
	want := map[string]bool{fmt.Sprintf(`{"order_id":"%s","in_stock":true}`, x): true,
		fmt.Sprintf(`{"order_id":"%s"}`, y): true}
	if n := len(b.queued()); !maps.Equal(got, want) || n != 2 || b.count(kept) != 2 {
		t.Errorf("%d rows, %d messages %v, want %v", b.count(kept), n, got, want)
	}
}

// Several processes store the same messages at once, in different sequence, as it happens when partitions move. None
// waits for another in a circle, which would take a second to be noticed.
func TestInventoryIsReceivedByManyAtOnce(t *testing.T) {
	b := setup(t)
	const orders, receivers = 200, 4
	forth := make([]Inventory, orders)
	for i := range forth {
		forth[i] = completed(uuid.New())
	}
	back := slices.Clone(forth)
	slices.Reverse(back)
	var wait sync.WaitGroup
	var added atomic.Int64
	for i := range receivers {
		wait.Go(func() {
			messages := [][]Inventory{forth, back}[i%2]
			for _, part := range [][]Inventory{messages[:10], messages[10:], messages} {
				n, err := b.AddInventory(t.Context(), part)
				if err != nil {
					t.Error(err)
				}
				added.Add(int64(n))
			}
		})
	}
	wait.Wait()
	if n := b.count(kept); n != orders || added.Load() != orders {
		t.Errorf("%d rows, %d were new", n, added.Load())
	}
}

// Two processes wait for each other, for keys that orders share: one of them gives way, and tries again.
func TestInventoryIsReceivedInACircle(t *testing.T) {
	b := setup(t)
	of := func(order byte, key byte) Inventory {
		return goods(uuid.UUID{order}, uuid.UUID{key}, contract.InventoryCompleted)
	}
	// Whoever has a trace is held up between the two.
	b.exec(`CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END $$`)
	b.exec(`CREATE TRIGGER hold BEFORE INSERT ON inventory
		FOR EACH ROW WHEN (NEW.traceparent <> '') EXECUTE FUNCTION hold()`)
	held, err := b.Owner.BeginTxx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Rollback()
	if _, err := held.ExecContext(t.Context(), `SELECT pg_advisory_xact_lock(7)`); err != nil {
		t.Fatal(err)
	}
	traced := of(3, 2)
	traced.Traceparent = "00-1-2-01"
	type outcome struct {
		added int
		err   error
	}
	done := make(chan outcome)
	add := func(messages ...Inventory) {
		added, err := b.AddInventory(b.Context(), messages)
		done <- outcome{added, err}
	}
	go add(of(1, 1), traced)
	b.until(1, locked)
	go add(of(2, 2), of(4, 1))
	b.until(2, locked)
	if err := held.Rollback(); err != nil {
		t.Fatal(err)
	}
	added := 0
	for range 2 {
		o := <-done
		if o.err != nil {
			t.Error(o.err)
		}
		added += o.added
	}
	if added != 2 {
		t.Errorf("%d messages were new", added)
	}
}

// A process dies after it has stored a fetch and before its offsets are committed, or in the middle of storing it.
func TestACrashWhileInventoryIsReceived(t *testing.T) {
	b := setup(t)
	batch := []Inventory{completed(uuid.New()), completed(uuid.New()), completed(uuid.New())}
	b.exec(`CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$`)
	b.exec(`CREATE TRIGGER die AFTER INSERT ON inventory EXECUTE FUNCTION die()`)
	if _, err := b.AddInventory(t.Context(), batch); !pg.IsUnavailable(err) || b.count(kept) != 0 {
		t.Errorf("%v, and %d rows", err, b.count(kept))
	}
	b.exec(`DROP TRIGGER die ON inventory`)
	b.add(3, batch...)
	b.add(0, batch...)
	if n := b.count(kept); n != 3 {
		t.Errorf("%d rows", n)
	}
}
