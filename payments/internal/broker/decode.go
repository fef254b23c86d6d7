// Package broker makes inbox messages of what comes over the broker: the commands of the billing core and the events
// of orders.
package broker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
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

// NewDecoder returns a decoder, which from now on also reads what the store has kept. hasTopic tells whether a topic
// for replies exists.
func NewDecoder(store *postgres.Store, currencies *money.Currencies,
	hasTopic func(context.Context, string) (bool, error)) *Decoder {
	d := &Decoder{store: store, currencies: currencies, hasTopic: hasTopic}
	store.ReadKept = d.readKept
	return d
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
				if messages[i], err = d.event(record.Message); errors.Is(err, inbox.ErrUnknown) {
					messages[i], err = keep(record.Message, err)
				}
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
		if strings.HasPrefix(event.Type, "order.") {
			err = fmt.Errorf("%w: %w", inbox.ErrUnknown, err)
		}
	}
	if err == nil {
		r.By.Tenant = cmp.Or(event.Tenant, identity.DefaultTenant)
		err = checkReach(r.By)
	}
	if err != nil {
		return postgres.Message{}, err
	}
	r.PublishedAt = record.Time
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
	if order.Capture == "" {
		return ledger.Payment{}, errors.New("capture is required")
	}
	if order.Capture != contract.CaptureAutomatic && order.Capture != contract.CaptureManual {
		return ledger.Payment{}, fmt.Errorf("%w: capture %q", inbox.ErrUnknown, order.Capture)
	}
	if o := order.OnInsufficient; o != "" && o != contract.OnInsufficientReject && o != contract.OnInsufficientWait {
		return ledger.Payment{}, fmt.Errorf("%w: on_insufficient %q", inbox.ErrUnknown, o)
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

// storedRecord is what is stored of a record that has no effect yet: the record as it came.
type storedRecord struct {
	Reason    string         `json:"reason"`
	Topic     string         `json:"topic"`
	Partition int            `json:"partition"`
	Offset    int64          `json:"offset"`
	Key       []byte         `json:"key"`
	Value     []byte         `json:"value"`
	Headers   []kafka.Header `json:"headers"`
}

func encodeRecord(m kafka.Message, reason error) (string, error) {
	payload, err := json.Marshal(storedRecord{
		Reason: reason.Error(), Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Key: m.Key, Value: m.Value,
		Headers: m.Headers,
	})
	if err != nil {
		return "", fmt.Errorf("encode record: %w", err)
	}
	return string(payload), nil
}

// keep makes a message of an event that this version does not know, in the queue of its account: a later one reads it
// there. It is the same message however often the record is delivered. Without an account or a tenant it is unreadable.
func keep(record kafka.Message, reason error) (postgres.Message, error) {
	account, err := contract.ParseID(string(record.Key))
	if err != nil {
		return postgres.Message{}, fmt.Errorf("%w; its key %w", reason, err)
	}
	event := kafka.EventOf(record)
	tenant := cmp.Or(event.Tenant, identity.DefaultTenant)
	if err := identity.CheckTenant(tenant); err != nil {
		return postgres.Message{}, fmt.Errorf("ce_tenant %w", err)
	}
	payload, err := encodeRecord(record, reason)
	return postgres.Message{
		ID: contract.DerivedID(postgres.Kept, account, record.Place()), AccountID: account, Lane: contract.Lane(account),
		Kind: postgres.Kept, Tenant: tenant, Traceparent: event.Traceparent, Unknown: payload,
	}, err
}

// readKept reads an event that was kept.
func (d *Decoder) readKept(m inbox.Stored) (*ledger.Request, error) {
	var r storedRecord
	if err := json.Unmarshal([]byte(m.Body), &r); err != nil {
		return nil, fmt.Errorf("decode record %s: %w", m.ID, err)
	}
	message, err := d.event(kafka.Message{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: r.Key,
		Value: r.Value, Headers: r.Headers})
	if err == nil && message.AccountID != m.AccountID {
		err = errors.New("the record's key is not its account")
	}
	return message.Body, err
}

// Unreadable is what is parked of a record, in the queue of an account that is nobody's. It is the same message
// however often the record is delivered.
func Unreadable(record kafka.Message, reason error) (inbox.Stored, error) {
	payload, err := encodeRecord(record, reason)
	id := contract.DerivedID(postgres.Unreadable, uuid.Nil, record.Place())
	return inbox.Stored{
		ID: id, AccountID: id, Lane: contract.Lane(id), Kind: postgres.Unreadable, Body: payload,
	}, err
}
