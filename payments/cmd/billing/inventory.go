package main

import (
	"context"
	"encoding/json"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// inventory is what the inventory system says of an order's goods, as flags.
type inventory struct {
	Order   id      `flag:"order" value:"ID" required:"true" help:"the order"`
	Status  string  `flag:"status" value:"STATUS" required:"true" help:"COMPLETED or FAILED"`
	Timeout timeout `flag:"timeout" value:"DURATION" default:"10s" help:"how long to wait for the broker"`
	Broker  connection
}

// Validate refuses what the inventory system does not say.
func (i inventory) Validate() error {
	if i.Status != contract.InventoryCompleted && i.Status != contract.InventoryFailed {
		return config.Invalid("--status", "must be %s or %s", contract.InventoryCompleted, contract.InventoryFailed)
	}
	return nil
}

// inventoryCommand plays the inventory system, which tells on a topic of its own what became of an order's goods.
func (t terminal) inventoryCommand() config.Command {
	c := config.NewCommand("inventory", "say what became of an order's goods, as the inventory system does", t.tell)
	c.About = `It writes one message on the topic inventory, which has no reply: the order's status tells what came of it.
COMPLETED lets the payment of an order that was placed with await_inventory go on, FAILED fails the order with
out_of_stock.`
	c.Examples = []string{"--order " + exampleHold + " --status COMPLETED", "--order " + exampleHold + " --status FAILED"}
	return c
}

// tell publishes a message of the inventory system.
func (t terminal) tell(ctx context.Context, i inventory) error {
	ctx, cancel := i.Timeout.begin(ctx)
	defer cancel()
	message := contract.Inventory{IdempotentKey: newCommandID(), OrderID: uuid.UUID(i.Order), Status: i.Status}
	value, err := json.Marshal(message)
	if err != nil {
		return err
	}
	s, err := newSender(i.Broker, t.stderr)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.deliver(ctx, kafka.Message{
		Topic: contract.TopicInventory, Key: []byte(message.OrderID.String()), Value: value})
}
