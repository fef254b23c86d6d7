package order

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/money"
)

// Event tells payments of an order. An event that is told again has the same ID.
type Event struct {
	ID        uuid.UUID
	Type      string
	OrderID   uuid.UUID
	AccountID uuid.UUID
	Tenant    string // of the order
	Payload   string // JSON
	// Traceparent is that of the request which caused it, if any. Whoever has the request sets it.
	Traceparent string
}

// PlacedEvent encodes order.placed. repeated marks it as told again.
func (o Order) PlacedEvent(currencies *money.Currencies, repeated bool) (Event, error) {
	placed, err := o.placed(currencies, repeated)
	if err != nil {
		return Event{}, err
	}
	return o.event(o.PlacedEventID(), contract.OrderPlacedType, placed)
}

// CancelledEvent encodes order.cancelled: a cancellation that began at a time, with the client's note. It carries the
// whole order, since it may overtake order.placed.
func (o Order) CancelledEvent(currencies *money.Currencies, note string, at time.Time, repeated bool) (Event, error) {
	placed, err := o.placed(currencies, repeated)
	if err != nil {
		return Event{}, err
	}
	return o.event(o.CancelledEventID(), contract.OrderCancelledType, contract.Cancellation{
		Order: placed, Reason: contract.ReasonCancelled, Note: note, CancelledAt: contract.Time(at),
	})
}

// PlacedEventID is the ID of order.placed.
func (o Order) PlacedEventID() uuid.UUID { return contract.EventID(contract.OrderPlacedType, o.ID, 1) }

// CancelledEventID is the ID of order.cancelled: an order is cancelled once.
func (o Order) CancelledEventID() uuid.UUID {
	return contract.EventID(contract.OrderCancelledType, o.ID, 1)
}

// Denomination returns the order's currency, or an error where it is no longer configured.
func (o Order) Denomination(currencies *money.Currencies) (money.Currency, error) {
	currency, ok := currencies.Lookup(o.Currency)
	if !ok {
		return money.Currency{}, fmt.Errorf("order %s is in %q, which is no longer among the currencies", o.ID, o.Currency)
	}
	return currency, nil
}

func (o Order) placed(currencies *money.Currencies, repeated bool) (contract.Order, error) {
	currency, err := o.Denomination(currencies)
	if err != nil {
		return contract.Order{}, err
	}
	owner := ""
	if o.Owned {
		owner = o.Subject
	}
	return contract.Order{
		OrderID: o.ID, AccountID: o.AccountID, Amount: currency.Format(o.Amount), Currency: o.Currency,
		Description: o.Description, Reference: o.Reference, Capture: o.Capture, AwaitInventory: o.AwaitInventory,
		OnInsufficient: o.OnInsufficient, CreatedAt: contract.Time(o.CreatedAt), ExpiresAt: (*contract.Time)(o.ExpiresAt),
		Owner: owner, Repeated: repeated,
	}, nil
}

func (o Order) event(id uuid.UUID, eventType string, payload any) (Event, error) {
	text, err := json.Marshal(payload)
	if err != nil {
		return Event{}, fmt.Errorf("encode %s of order %s: %w", eventType, o.ID, err)
	}
	return Event{
		ID: id, Type: eventType, OrderID: o.ID, AccountID: o.AccountID, Tenant: o.Tenant, Payload: string(text),
	}, nil
}
