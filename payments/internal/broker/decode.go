// Package broker makes inbox messages of what comes over the broker: the commands of the billing core and the events
// of orders.
package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/idempotency"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/platform/strictjson"
)

// Decoder makes inbox messages of what comes over the broker.
type Decoder struct {
	store      *postgres.Store
	currencies *money.Currencies
	reader     billing.Reader
	hasTopic   func(ctx context.Context, topic string) (bool, error)
}

// NewDecoder returns a decoder. hasTopic tells whether a topic for replies exists.
func NewDecoder(store *postgres.Store, currencies *money.Currencies,
	hasTopic func(context.Context, string) (bool, error)) *Decoder {
	return &Decoder{store: store, currencies: currencies, reader: billing.NewReader(currencies), hasTopic: hasTopic}
}

// Decode is an inbox.Decoder.
func (d *Decoder) Decode(ctx context.Context, records []kafka.Message) ([]postgres.Message, []error, error) {
	messages, reasons := make([]postgres.Message, len(records)), make([]error, len(records))
	commands := make(map[int]*received)
	var all []contract.Command
	topics := make(map[string]bool) // for replies; false: it does not exist
	for i, record := range records {
		switch record.Topic {
		case contract.TopicCommands:
			reasons[i] = kafka.Read(record, func() error {
				c, err := receive(record)
				if err != nil {
					return err
				}
				commands[i], all = c, append(all, c.command)
				topics[c.reply.Topic] = true
				return nil
			})
		default:
			reasons[i] = kafka.Read(record, func() (err error) {
				messages[i], err = d.event(record)
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
			c.reply.Topic = contract.TopicReplies
		}
		if reasons[i] = kafka.Read(records[i], func() error { d.request(c, named); return nil }); reasons[i] != nil {
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

// claim has commands for new accounts claim their IDs, in their order: the account's ID is the client's, and so the
// command's ID does not stand for one account by itself.
func (d *Decoder) claim(ctx context.Context, commands map[int]*received, records int) error {
	var creations []*received
	var claims []idempotency.Claim
	for i := range records {
		if c, ok := commands[i]; ok && c.problem == nil && c.request.Kind() == ledger.KindCreateAccount {
			creations = append(creations, c)
			claims = append(claims, billing.Claim(c.request, contract.TopicCommands, c.reply.CommandID.String()))
		}
	}
	if len(claims) == 0 {
		return nil
	}
	outcomes, err := d.store.Claim(ctx, claims...)
	if err != nil {
		return err
	}
	for i, o := range outcomes {
		if o.Err != nil {
			creations[i].problem = o.Err
		}
	}
	return nil
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
	if err != nil {
		return postgres.Message{}, err
	}
	return billing.Message(r, event.Traceparent), nil
}

// received is a command as it came.
type received struct {
	command     contract.Command
	reply       billing.ReplyTo
	request     ledger.Request // where there is no problem
	problem     error          // why it cannot be done, though its JSON can be read
	place       string         // where it was: what has no other identity is recognised by it
	traceparent string
}

// maxOperation bounds what a reply repeats of a command's operation, in bytes: a command may be as large as a message
// can be, and its reply must fit into one.
const maxOperation = 64

// receive reads a command. An error means that it is not a JSON object, and so cannot even be answered.
func receive(record kafka.Message) (*received, error) {
	event := kafka.EventOf(record)
	c := &received{place: place(record), traceparent: event.Traceparent}
	c.reply.Topic = contract.TopicReplies
	topic := record.Header(contract.ReplyToHeader)
	if strings.HasPrefix(topic, contract.ReplyToPrefix) && kafka.ValidTopic(topic) {
		c.reply.Topic = topic
	}
	c.problem = strictjson.Unmarshal(record.Value, &c.command)
	id := c.command.CommandID
	if c.reply.Operation = c.command.Operation; c.problem != nil {
		// What says whose answer it is and to what is read by itself, so that a command which is wrong elsewhere is
		// answered too.
		var head map[string]json.RawMessage
		if err := json.Unmarshal(record.Value, &head); err != nil {
			return nil, fmt.Errorf("not a JSON object: %w", err)
		}
		if head == nil {
			return nil, errors.New("not a JSON object: null")
		}
		c.reply.Operation = ""
		_ = json.Unmarshal(head["operation"], &c.reply.Operation)
		id = commandID(head["command_id"], c.problem)
	}
	c.reply.Operation = c.reply.Operation[:min(len(c.reply.Operation), maxOperation)]
	if id != nil {
		c.reply.CommandID = *id
	} else if id, err := contract.ParseID(event.ID); err == nil {
		c.reply.CommandID = id
	}
	if c.reply.CommandID == uuid.Nil {
		c.problem = contract.Invalid("command_id", "%v", contract.ErrID)
	}
	return c, nil
}

// place is where a record is: by it what has no other identity is recognised when it is delivered again.
func place(record kafka.Message) string {
	return fmt.Sprintf("%s/%d/%d", record.Topic, record.Partition, record.Offset)
}

// commandID reads a command's ID by itself; uuid.Nil stands for one that cannot be read, or came twice.
func commandID(value json.RawMessage, problem error) *uuid.UUID {
	var fields contract.FieldErrors
	wrong := func(e contract.FieldError) bool { return e.Field == "command_id" }
	if errors.As(problem, &fields) && slices.ContainsFunc(fields, wrong) {
		return new(uuid.UUID)
	}
	var text *string
	if err := json.Unmarshal(value, &text); value != nil && err != nil {
		return new(uuid.UUID)
	}
	if text == nil {
		return nil
	}
	id, _ := contract.ParseID(*text)
	return &id
}

// request makes the request of a command.
func (d *Decoder) request(c *received, named postgres.Named) {
	if c.problem != nil {
		return
	}
	r := &c.request
	if *r, c.problem = d.reader.Request(c.command, named); c.problem != nil {
		return
	}
	r.CommandID = c.reply.CommandID
	if r.Kind() == ledger.KindBalanceQuery {
		// It leaves no record that a repeated one could meet, so each is a message of its own.
		r.ID = contract.DerivedID(c.place, r.AccountID, c.reply.CommandID.String())
		return
	}
	c.problem = billing.Identify(r, contract.TopicCommands, c.reply.CommandID.String())
}

// message makes a message of a command; one that cannot be done becomes a refusal in the queue of the same account,
// as far as it names one.
func (c *received) message() postgres.Message {
	r, err := c.request, c.problem
	if err == nil {
		r.Reply = c.reply.Encode()
		return billing.Message(r, c.traceparent)
	}
	c.reply.Refuse(err)
	account := r.AccountID
	if account == uuid.Nil {
		account = c.reply.CommandID
	}
	return billing.Message(ledger.Request{
		ID: contract.DerivedID(c.place, account, ""), AccountID: account, CommandID: c.reply.CommandID,
		Reply: c.reply.Encode(), Command: ledger.Refusal{},
	}, c.traceparent)
}

// orderPlaced makes the payment's request of an event. The request's ID is the order's, so that the event takes effect
// once however often it comes.
func orderPlaced(currencies *money.Currencies, payload []byte) (ledger.Request, error) {
	var order contract.Order
	if err := strictjson.UnmarshalEvent(payload, &order); err != nil {
		return ledger.Request{}, fmt.Errorf("not an order: %w", err)
	}
	p, err := payment(currencies, order)
	return ledger.Request{ID: order.OrderID, AccountID: order.AccountID, Command: p}, err
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
