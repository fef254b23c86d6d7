package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// inventoryCommand plays the inventory system, which tells on a topic of its own what became of an order's goods.
var inventoryCommand = subcommand{
	name:    "inventory",
	summary: "say what became of an order's goods, as the inventory system does",
	usage:   "--order ID --status STATUS",
	about: `It writes one message on the topic inventory, which has no reply: the order's status tells what came of it. COMPLETED lets
the payment of an order that was placed with await_inventory go on, FAILED fails the order with out_of_stock.`,
	examples: []string{"--order " + exampleHold + " --status COMPLETED", "--order " + exampleHold + " --status FAILED"},
	define: func(flags *flag.FlagSet) func(context.Context, *program, kafka.Config) error {
		order := flags.String("order", "", "`ID` the order")
		status := flags.String("status", "", "`STATUS` COMPLETED or FAILED")
		timeout := flags.Duration("timeout", 10*time.Second, "`DURATION` how long to wait for the broker")
		return func(ctx context.Context, p *program, cfg kafka.Config) error {
			id, err := uuid.Parse(*order)
			if err != nil {
				return wrong("--order must be a UUID")
			}
			if *status != contract.InventoryCompleted && *status != contract.InventoryFailed {
				return wrong("--status must be %s or %s", contract.InventoryCompleted, contract.InventoryFailed)
			}
			if err := checkTimeout(*timeout); err != nil {
				return err
			}
			ctx, cancel := within(ctx, *timeout)
			defer cancel()
			return p.tell(ctx, cfg, contract.Inventory{IdempotentKey: newCommandID(), OrderID: id, Status: *status})
		}
	},
}

// tell publishes a message of the inventory system. The message is sent again until the broker has it or ctx ends: its key
// makes repetitions harmless.
func (p *program) tell(ctx context.Context, cfg kafka.Config, message contract.Inventory) error {
	value, err := json.Marshal(message)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	producer, err := kafka.NewProducer(cfg, log, prometheus.NewRegistry())
	if err != nil {
		return usageError{err}
	}
	defer producer.Close()
	record := kafka.Message{Topic: contract.TopicInventory, Key: []byte(message.OrderID.String()), Value: value}
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		err := producer.Produce(ctx, []kafka.Message{record})[0]
		if err == nil || kafka.Permanent(err) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return unknownError{fmt.Errorf("the broker at %s (KAFKA_BROKERS) did not take it %w: %w; is the stack running (make start)?",
				strings.Join(cfg.Brokers, ","), context.Cause(ctx), err)}
		}
	}
}
