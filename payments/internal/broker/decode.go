// Package broker makes inbox messages of what comes over the broker: the commands of the billing core and the events
// of orders.
package broker

import (
	"cmp"
	"context"
	"fmt"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
)

// Decoder makes inbox messages of what comes over the broker.
type Decoder struct {
	store      *postgres.Store
	currencies *money.Currencies
	hasTopic   func(ctx context.Context, topic string) (bool, error)
}

// NewDecoder returns a decoder. hasTopic tells whether a topic for replies exists.
func NewDecoder(store *postgres.Store, currencies *money.Currencies,
	hasTopic func(context.Context, string) (bool, error)) *Decoder {
	return &Decoder{store: store, currencies: currencies, hasTopic: hasTopic}
}

// Decode is an inbox.Decoder.
func (d *Decoder) Decode(ctx context.Context, records []Record) ([]postgres.Message, []error, error) {
	messages, reasons := make([]postgres.Message, len(records)), make([]error, len(records))
	commands := make(map[int]*received)
	var all []contract.Command
	topics := make(map[string]bool) // for replies; false: it does not exist
	for i, record := range records {
		switch record.Topic {
		case contract.TopicCommands:
			reasons[i] = kafka.Read(record.Message, func() error {
				c, err := receive(record)
				if err != nil {
					return err
				}
				commands[i], all = c, append(all, c.command)
				topics[c.reply.Topic], topics[ownReplies(record.Who)] = true, true
				return nil
			})
		default:
			reasons[i] = kafka.Read(record.Message, func() (err error) {
				messages[i], err = d.event(record.Message)
				return err
			})
		}
	}
	named, err := d.store.Named(ctx, all...)
	if err != nil {
		return nil, nil, err
	}
	for topic := range topics {
		if topics[topic], err = d.hasTopic(ctx, topic); err != nil {
			return nil, nil, fmt.Errorf("look for topic %s: %w", topic, err)
		}
	}
	for i, c := range commands {
		if !topics[c.reply.Topic] {
			c.reply.Topic = ownReplies(c.who)
		}
		if !topics[c.reply.Topic] {
			c.reply.Topic = contract.TopicReplies
		}
		if reasons[i] = kafka.Read(records[i].Message, func() error { d.request(c, named); return nil }); reasons[i] != nil {
			delete(commands, i)
		}
	}
	if err := d.claim(ctx, commands, len(records)); err != nil {
		return nil, nil, err
	}
	for i, c := range commands {
		messages[i] = c.message()
	}
	return messages, reasons, nil
}

// event makes a message of an event of orders.
func (d *Decoder) event(record kafka.Message) (postgres.Message, error) {
	event := kafka.EventOf(record)
	var (
		r   ledger.Request
		err error
	)
	switch event.Type {
	case contract.OrderPlacedType:
		r, err = orderPlaced(d.currencies, record.Value)
	case contract.OrderCancelledType:
		r, err = orderCancelled(d.currencies, record.Value)
	default:
		err = fmt.Errorf("no such event on this topic: ce_type %q", event.Type)
	}
	if err == nil {
		r.By.Tenant = cmp.Or(event.Tenant, identity.DefaultTenant)
		err = checkReach(r.By)
	}
	if err != nil {
		return postgres.Message{}, err
	}
	return billing.Message(r, event.Traceparent), nil
}

// checkReach returns what is wrong with the tenant or the owner of an event.
func checkReach(by identity.Reach) error {
	if err := identity.CheckTenant(by.Tenant); err != nil {
		return fmt.Errorf("ce_tenant %w", err)
	}
	if by.Owner == "" {
		return nil
	}
	if err := identity.CheckSubject(by.Owner); err != nil {
		return fmt.Errorf("owner %w", err)
	}
	return nil
}
