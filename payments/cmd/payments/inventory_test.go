package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/paymentstest"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/testkit/contracttest"
)

// goods is what the inventory system says of an order.
func goods(order uuid.UUID, status string, headers ...kafka.Header) kafka.Message {
	payload, err := json.Marshal(contract.Inventory{IdempotentKey: uuid.New(), OrderID: order, Status: status})
	if err != nil {
		panic(err)
	}
	return kafka.Message{Topic: contract.TopicInventory, Key: []byte(order.String()), Value: payload, Headers: headers}
}

// What the inventory system says comes by the same consumer as orders, and neither gets into the way of the other.
func TestInventoryMeetsOrders(t *testing.T) {
	b := setup(t, "all", "worker")
	const orders = 50
	early, strange, late := paymentstest.Order(b.Account("1.00"), "1.00"), paymentstest.Order(b.Account("1.00"), "1.00"),
		paymentstest.Order(b.Account("1.00"), "1.00")
	records := []kafka.Message{
		goods(early.OrderID, contract.InventoryCompleted), goods(early.OrderID, contract.InventoryFailed),
		goods(strange.OrderID, contract.InventoryCompleted, kafka.Header{Key: "traceparent", Value: []byte("\xff\x00")}),
		goods(late.OrderID, "PENDING"), goods(uuid.New(), contract.InventoryFailed),
		{Topic: contract.TopicInventory, Value: []byte("nonsense")},
		{Topic: contract.TopicInventory, Value: []byte(fmt.Sprintf(`{"order_id": "%s", "status": "COMPLETED"}`,
			late.OrderID))},
	}
	for range orders {
		records = append(records, paymentstest.Placed(paymentstest.Order(b.Account("1.00"), "1.00")))
	}
	b.Produce(append(records, records...)...)
	dead := b.Consume(contract.DeadLetter(contract.TopicInventory), func(m []kafka.Message) bool { return len(m) >= 4 })
	for _, m := range dead {
		if m.Header("dlq_reason") == "" || m.Header("dlq_topic") != contract.TopicInventory {
			t.Errorf("dead letter %+v", m)
		}
	}
	b.Until(3, `SELECT count(*) FROM inventory WHERE joined_at IS NULL`)
	b.Produce(paymentstest.Placed(early), paymentstest.Placed(strange), paymentstest.Placed(late))
	b.states(orders + 3)
	b.Until(1, `SELECT count(*) FROM inventory WHERE joined_at IS NULL`)
	b.Until(2, `SELECT count(*) FROM inventory WHERE joined_at IS NOT NULL AND traceparent = '' AND status = 'COMPLETED'`)
	contracttest.Validate(t, contract.TopicInventory, records[0].Value)
	if dead := len(b.Consume(contract.DeadLetter(contract.TopicInventory),
		func(m []kafka.Message) bool { return len(m) >= 4 })); dead != 4 {
		t.Errorf("%d dead letters", dead)
	}
}

func TestAnOrderWaitsForItsGoods(t *testing.T) {
	b := setup(t, "all", "worker")
	account := b.Account("100.00")
	await := func(amount string) contract.Order {
		o := paymentstest.Order(account, amount)
		o.AwaitInventory = true
		return o
	}
	before, after, none, dear := await("10.00"), await("20.00"), await("30.00"), await("500.00")
	b.Produce(goods(before.OrderID, contract.InventoryCompleted))
	b.Until(1, `SELECT count(*) FROM inventory`)
	// Hours ago: it is due again in an hour.
	if _, err := b.Owner.ExecContext(t.Context(),
		`UPDATE inventory SET received_at = now() - interval '3 hours', look_at = now() + interval '1 hour'`); err != nil {
		t.Fatal(err)
	}
	b.Place(before, "succeeded")
	for _, o := range []contract.Order{after, none, dear} {
		b.Place(o, "created")
	}
	b.Place(paymentstest.Order(account, "1.00"), "succeeded") // the account's queue goes on
	b.Produce(
		goods(after.OrderID, contract.InventoryCompleted), goods(after.OrderID, contract.InventoryCompleted),
		goods(none.OrderID, contract.InventoryFailed), goods(none.OrderID, contract.InventoryFailed),
		goods(dear.OrderID, contract.InventoryCompleted),
	)
	for o, want := range map[contract.Order][]string{
		before: {"1 created waiting_for_inventory 0.00-0.00", "2 created inventory_completed 0.00-0.00",
			"3 succeeded  10.00-0.00"},
		after: {"1 created waiting_for_inventory 0.00-0.00", "2 created inventory_completed 0.00-0.00",
			"3 succeeded  20.00-0.00"},
		none: {"1 created waiting_for_inventory 0.00-0.00", "2 failed out_of_stock 0.00-0.00"},
		dear: {"1 created waiting_for_inventory 0.00-0.00", "2 created inventory_completed 0.00-0.00",
			"3 failed insufficient_funds 0.00-0.00"},
	} {
		if got := b.Story(o, len(want)); !slices.Equal(got, want) {
			t.Errorf("the events tell %q, want %q", got, want)
		}
	}
	// Once more, and the other way round: nothing of it counts.
	b.Produce(goods(after.OrderID, contract.InventoryFailed), goods(none.OrderID, contract.InventoryCompleted))
	b.Produce(goods(uuid.New(), contract.InventoryFailed))
	b.Until(1, `SELECT count(*) FROM inventory WHERE joined_at IS NULL`)
	b.Until(0, `SELECT count(*) FROM inbox`)
	if got := b.Balances(account); got != "69.00 0.00" {
		t.Errorf("in the end: %s", got)
	}
}
