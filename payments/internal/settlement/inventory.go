package settlement

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/broker"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/stage"
	"github.com/altyn-pay/altyn/platform/strictjson"
)

const (
	// joinInterval is how often Run looks at stored messages when nobody wakes it: for what other processes have stored,
	// and for orders that came a moment after their goods' message.
	joinInterval = 100 * time.Millisecond

	// forgetInterval is how often Run looks for old messages. While there are more, it goes on without a pause.
	forgetInterval = time.Minute
)

// Inventory accepts what the inventory system says about the goods of orders. A message names an order but no account,
// and may come before its order, so it cannot go into the inbox as it comes. Receive stores it under its order. Run
// keeps looking for the payments of stored messages, and puts those that have one into the inbox. Any number of
// instances may run.
type Inventory struct {
	store  *postgres.Store
	joined func()
	log    *slog.Logger
	wake   stage.Signal

	messages *prometheus.CounterVec
}

// NewInventory makes an inventory. It calls joined after it has put messages into the inbox.
func NewInventory(store *postgres.Store, joined func(), log *slog.Logger, metrics prometheus.Registerer) *Inventory {
	v := &Inventory{
		store: store, joined: joined, log: log, wake: stage.NewSignal(),
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "altyn_inventory_messages_total",
			Help: "Messages of the inventory system: unreadable, ignored, repeated or stored, " +
				"and of the stored ones joined or, without their order, forgotten.",
		}, []string{"outcome"}),
	}
	metrics.MustRegister(v.messages, store.InventoryGauge())
	return v
}

// Receive stores messages of the topic inventory, and returns those that cannot be read, with the reasons. Once the
// caller has kept these elsewhere, it may acknowledge all of them: the others are stored or of no interest. After an
// error all must be delivered again.
func (v *Inventory) Receive(ctx context.Context, records []broker.Record) (
	unreadable []broker.Record, reasons []error, err error) {
	messages := make([]postgres.Inventory, 0, len(records))
	ignored := 0
	for _, record := range records {
		var m postgres.Inventory
		err := kafka.Read(record.Message, func() (err error) {
			m, err = readInventory(record)
			return err
		})
		switch {
		case err != nil:
			unreadable, reasons = append(unreadable, record), append(reasons, err)
		case m.Status != contract.InventoryCompleted && m.Status != contract.InventoryFailed:
			ignored++
		default:
			messages = append(messages, m)
		}
	}
	added := 0
	if len(messages) > 0 {
		if added, err = v.store.AddInventory(ctx, messages); err != nil {
			return nil, nil, err
		}
	}
	v.count("unreadable", len(unreadable))
	v.count("ignored", ignored)
	v.count("repeated", len(messages)-added)
	v.count("stored", added)
	if added > 0 {
		v.Wake()
	}
	return unreadable, reasons, nil
}

// readInventory reads a message. Its status may be any text; unknown fields mean nothing.
func readInventory(record broker.Record) (postgres.Inventory, error) {
	if record.Refused != nil {
		return postgres.Inventory{}, record.Refused
	}
	if _, err := record.Who.Reach(identity.InventoryWrite); err != nil {
		return postgres.Inventory{}, err
	}
	var payload contract.Inventory
	if err := strictjson.UnmarshalEvent(record.Value, &payload); err != nil {
		return postgres.Inventory{}, fmt.Errorf("not an inventory message: %w", err)
	}
	if payload.OrderID == uuid.Nil || payload.IdempotentKey == uuid.Nil {
		return postgres.Inventory{}, errors.New("order_id and idempotent_key are required")
	}
	return postgres.Inventory{
		Tenant: record.Who.Tenant, OrderID: payload.OrderID, IdempotentKey: payload.IdempotentKey,
		Status: payload.Status, Traceparent: kafka.EventOf(record.Message).Traceparent,
	}, nil
}

// Wake has Run look at what is due. It never blocks. Whoever calls LookForInventory calls it after the commit.
func (v *Inventory) Wake() { v.wake.Send() }

// Run works until ctx ends, then returns nil; the batch in flight is finished. It survives the loss of the database.
func (v *Inventory) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return stage.Loop{
			Name: "joining of inventory", Log: v.log, Once: v.join, Wake: v.wake, Every: joinInterval,
			Full: postgres.MaxJoins,
		}.Run(ctx)
	})
	group.Go(func() error {
		return stage.Loop{
			Name: "forgetting of inventory", Log: v.log, Once: v.forget, Every: forgetInterval,
			Full: postgres.MaxForgotten,
		}.Run(ctx)
	})
	return group.Wait()
}

// join looks at a batch of stored messages, and returns how many there were.
func (v *Inventory) join(ctx context.Context) (looked int, err error) {
	looked, joined, err := v.store.JoinInventory(ctx, inventoryMessage)
	if err == nil && joined > 0 {
		v.count("joined", joined)
		v.joined()
	}
	return looked, err
}

// forget deletes a batch of old messages, and returns how many there were.
func (v *Inventory) forget(ctx context.Context) (forgotten int, err error) {
	forgotten, unjoined, err := v.store.ForgetInventory(ctx)
	v.count("forgotten", unjoined)
	return forgotten, err
}

func (v *Inventory) count(outcome string, n int) { v.messages.WithLabelValues(outcome).Add(float64(n)) }

// inventoryMessage is the message to an account's queue about the goods of one of its orders. Its ID is derived, so it
// is one message however often the inventory system sends it.
func inventoryMessage(m postgres.Inventory, account uuid.UUID) postgres.Message {
	message := billing.Message(ledger.Request{
		ID: contract.DerivedID(contract.TopicInventory, account, m.OrderID.String()), AccountID: account,
		Command: ledger.Inventory{OrderID: m.OrderID, InStock: m.Status == contract.InventoryCompleted},
	}, m.Traceparent)
	message.Tenant = m.Tenant
	return message
}
