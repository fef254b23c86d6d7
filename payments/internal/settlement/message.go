package settlement

import (
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/inbox"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
)

// Message puts a request into the form in which the inbox keeps it, in the lane of its account.
func Message(r ledger.Request, traceparent string) (inbox.Message, error) {
	payload, err := json.Marshal(r)
	if err != nil {
		return inbox.Message{}, fmt.Errorf("encode request %s: %w", r.ID, err)
	}
	return inbox.Message{
		ID: r.ID, Lane: contract.Lane(r.AccountID), AccountID: r.AccountID, Kind: string(r.Kind), Payload: string(payload),
		Fingerprint: r.Fingerprint, Traceparent: traceparent,
	}, nil
}

// Request reads a request back from the inbox.
func Request(m inbox.Message) (ledger.Request, error) {
	r := ledger.Request{
		ID: m.ID, Seq: m.Seq, Lane: m.Lane, AccountID: m.AccountID, Kind: ledger.Kind(m.Kind), Fingerprint: m.Fingerprint,
		ReceivedAt: m.ReceivedAt.UTC(),
	}
	if err := json.Unmarshal([]byte(m.Payload), &r); err != nil {
		return ledger.Request{}, fmt.Errorf("decode request %s: %w", m.ID, err)
	}
	return r, nil
}

// Decoder makes inbox messages of what comes over the broker.
func Decoder(currencies *money.Currencies) func(kafka.Message) (inbox.Message, error) {
	return func(record kafka.Message) (inbox.Message, error) {
		event := kafka.EventOf(record)
		switch {
		case record.Topic == contract.TopicOrders && event.Type == contract.OrderPlacedType:
			r, err := orderPlaced(currencies, record.Value)
			if err != nil {
				return inbox.Message{}, err
			}
			return Message(r, event.Traceparent)
		}
		return inbox.Message{}, fmt.Errorf("no such event on this topic: ce_type %q", event.Type)
	}
}

// orderPlaced makes the payment's request of an event. The request's ID is the order's, so that the event takes effect
// once however often it comes.
func orderPlaced(currencies *money.Currencies, payload []byte) (ledger.Request, error) {
	var order contract.Order
	if err := json.Unmarshal(payload, &order); err != nil {
		return ledger.Request{}, fmt.Errorf("not an order: %w", err)
	}
	if order.OrderID == uuid.Nil || order.AccountID == uuid.Nil {
		return ledger.Request{}, fmt.Errorf("order_id and account_id are required")
	}
	if order.Capture != contract.CaptureAutomatic {
		return ledger.Request{}, fmt.Errorf("capture %q is not known", order.Capture)
	}
	currency, ok := currencies.Lookup(order.Currency)
	if !ok {
		return ledger.Request{}, fmt.Errorf("currency %q is not known", order.Currency)
	}
	amount, err := currency.Parse(order.Amount)
	if err != nil {
		return ledger.Request{}, fmt.Errorf("amount %w", err)
	}
	for _, text := range []struct {
		field, value string
		limit        int
	}{
		{"description", order.Description, contract.MaxDescription},
		{"reference", order.Reference, contract.MaxReference},
	} {
		if err := contract.CheckText(text.value, text.limit); err != nil {
			return ledger.Request{}, fmt.Errorf("%s %w", text.field, err)
		}
	}
	return ledger.Request{
		ID: order.OrderID, AccountID: order.AccountID, Kind: ledger.Payment, Currency: order.Currency, Amount: amount,
		OrderID: order.OrderID, Capture: order.Capture, Reference: order.Reference, Description: order.Description,
	}, nil
}
