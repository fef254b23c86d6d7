// Package broker makes inbox messages of what comes over the broker: the commands of the billing core and the events
// of orders.
package broker

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/inbox"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/platform/strictjson"
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

// orderPlaced makes the payment's request of an event. The request's ID is the order's, so that the event takes effect
// once however often it comes.
func orderPlaced(currencies *money.Currencies, payload []byte) (ledger.Request, error) {
	var order contract.Order
	if err := strictjson.UnmarshalEvent(payload, &order); err != nil {
		return ledger.Request{}, fmt.Errorf("not an order: %w", err)
	}
	p, err := payment(currencies, order)
	return ledger.Request{By: identity.Reach{Owner: order.Owner}, ID: order.OrderID, AccountID: order.AccountID,
		Command: p}, err
}

// orderCancelled makes the request that ends a payment of an event. There is one for each order.
func orderCancelled(currencies *money.Currencies, payload []byte) (ledger.Request, error) {
	var cancellation contract.Cancellation
	if err := strictjson.UnmarshalEvent(payload, &cancellation); err != nil {
		return ledger.Request{}, fmt.Errorf("not a cancellation: %w", err)
	}
	note := contract.NoteOf(cancellation.Reason, cancellation.Note)
	if err := contract.CheckText(note, contract.MaxReason); err != nil {
		return ledger.Request{}, fmt.Errorf("note %w", err)
	}
	p, err := payment(currencies, cancellation.Order)
	account := cancellation.AccountID
	return ledger.Request{
		By: identity.Reach{Owner: cancellation.Owner},
		ID: contract.DerivedID(contract.OrderCancelledType, account, p.OrderID.String()), AccountID: account,
		Command: ledger.Cancel{
			Currency: p.Currency, Amount: p.Amount, Reference: p.Reference, Description: p.Description, OrderID: p.OrderID,
			Capture: p.Capture, Note: note, Refused: p.Refused, Repeated: p.Repeated,
		},
	}, err
}

// payment is the payment of an order as the events of orders tell it.
func payment(currencies *money.Currencies, order contract.Order) (ledger.Payment, error) {
	if order.OrderID == uuid.Nil || order.AccountID == uuid.Nil {
		return ledger.Payment{}, fmt.Errorf("order_id and account_id are required")
	}
	if order.Capture != contract.CaptureAutomatic && order.Capture != contract.CaptureManual {
		return ledger.Payment{}, fmt.Errorf("capture %q is not known", order.Capture)
	}
	if o := order.OnInsufficient; o != "" && o != contract.OnInsufficientReject && o != contract.OnInsufficientWait {
		return ledger.Payment{}, fmt.Errorf("on_insufficient %q is not known", o)
	}
	// In another number of digits the amount may mean something else: better no payment than one of another amount.
	var refused ledger.Reason
	code, amount := order.Currency, int64(0)
	if currency, ok := currencies.Lookup(code); ok && money.Digits(order.Amount) == currency.Digits {
		var err error
		if amount, err = currency.Parse(order.Amount); err != nil {
			return ledger.Payment{}, fmt.Errorf("amount %w", err)
		}
	} else {
		foreign, err := money.ParseForeign(code, order.Amount)
		if err != nil {
			return ledger.Payment{}, err
		}
		code, amount, refused = foreign.Name(), foreign.Minor, ledger.CurrencyMismatch
	}
	for _, text := range []struct {
		field, value string
		limit        int
	}{
		{"description", order.Description, contract.MaxDescription},
		{"reference", order.Reference, contract.MaxReference},
	} {
		if err := contract.CheckText(text.value, text.limit); err != nil {
			return ledger.Payment{}, fmt.Errorf("%s %w", text.field, err)
		}
	}
	p := ledger.Payment{
		Currency: code, Amount: amount, Reference: order.Reference, Description: order.Description, OrderID: order.OrderID,
		Capture: order.Capture, Refused: refused, Repeated: order.Repeated,
		AwaitInventory: order.AwaitInventory, WaitForFunds: order.OnInsufficient == contract.OnInsufficientWait,
	}
	// What is settled at once has no use for a time from which its deadline counts.
	if p.AwaitInventory || p.WaitForFunds || p.Capture == contract.CaptureManual {
		p.AcceptedAt = time.Time(order.CreatedAt).UTC()
	}
	if order.ExpiresAt != nil {
		p.ExpiresAt = time.Time(*order.ExpiresAt).UTC()
	}
	return p, nil
}

// Repeated is what is stored in place of a message that is waiting already: nothing for an event, and for a command
// its repetition, which is behind the command in the queue, meets its record there and is answered like any repeated
// command.
func Repeated(m postgres.Message) (postgres.Message, bool) {
	if !m.Fingerprint.Valid {
		return m, false
	}
	m.ID, m.Kind = uuid.Must(uuid.NewV7()), postgres.Repetition
	return m, true
}

// unreadableRecord is what is stored of a record that can be neither read nor kept as a dead letter: the record as it
// came.
type unreadableRecord struct {
	Reason    string         `json:"reason"`
	Topic     string         `json:"topic"`
	Partition int            `json:"partition"`
	Offset    int64          `json:"offset"`
	Key       []byte         `json:"key"`
	Value     []byte         `json:"value"`
	Headers   []kafka.Header `json:"headers"`
}

// Unreadable is what is parked of a record, in the queue of an account that is nobody's. It is the same message
// however often the record is delivered.
func Unreadable(record kafka.Message, reason error) (inbox.Stored, error) {
	payload, err := json.Marshal(unreadableRecord{
		Reason: reason.Error(), Topic: record.Topic, Partition: record.Partition, Offset: record.Offset,
		Key: record.Key, Value: record.Value, Headers: record.Headers,
	})
	if err != nil {
		return inbox.Stored{}, fmt.Errorf("encode unreadable record: %w", err)
	}
	id := contract.DerivedID(postgres.Unreadable, uuid.Nil, record.Place())
	return inbox.Stored{
		ID: id, AccountID: id, Lane: contract.Lane(id), Kind: postgres.Unreadable, Body: string(payload),
	}, nil
}
