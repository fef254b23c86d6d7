package order

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/money"
)

// Bounds of expires_in.
const (
	minExpiry      = time.Second
	maxExpiry      = 8760 * time.Hour // a year
	maxFundsExpiry = 720 * time.Hour  // 30 days, of what waits for money
)

// Request is what a client asks for, as it was sent. An empty field was left out. Stored fingerprints of batches are
// made of its JSON, which therefore never changes: a new field must be omitted where it has its default.
type Request struct {
	AccountID      string        `json:"account_id"`
	Amount         money.Decimal `json:"amount"`
	Currency       string        `json:"currency"`
	Description    string        `json:"description,omitempty"`
	Reference      string        `json:"reference,omitempty"`
	Capture        string        `json:"capture,omitempty"`
	AwaitInventory bool          `json:"await_inventory,omitempty"`
	OnInsufficient string        `json:"on_insufficient,omitempty"`
	ExpiresIn      string        `json:"expires_in,omitempty"`
}

// Place turns a request into an order that is pending since now and has no ID yet. It is the default tenant's, until
// For says whose it is. It refuses a request that is not valid with contract.FieldErrors.
func Place(currencies *money.Currencies, r Request, now time.Time) (Order, error) {
	var faults contract.FieldErrors
	check := func(ok bool, field, format string, args ...any) bool {
		if !ok {
			faults = append(faults, contract.FieldError{Field: field, Detail: fmt.Sprintf(format, args...)})
		}
		return ok
	}
	o := Order{
		Currency: r.Currency, Description: r.Description, Reference: r.Reference,
		Capture: contract.CaptureAutomatic, OnInsufficient: contract.OnInsufficientReject, AwaitInventory: r.AwaitInventory,
		Tenant: identity.DefaultTenant,
		Status: Pending, Version: 1, CreatedAt: now.UTC().Truncate(time.Microsecond), // what the database keeps
	}
	o.UpdatedAt = o.CreatedAt

	if check(r.AccountID != "", "account_id", "is required") {
		var err error
		o.AccountID, err = contract.ParseID(r.AccountID)
		check(err == nil && o.AccountID != uuid.Nil, "account_id", "must be a UUID")
	}
	currency, known := currencies.Lookup(r.Currency)
	if check(r.Currency != "", "currency", "is required") {
		check(known, "currency", "is not a known currency")
	}
	if check(r.Amount != "", "amount", "is required") && known {
		var err error
		if o.Amount, err = currency.Parse(string(r.Amount)); err != nil {
			check(false, "amount", "%v", err)
		}
	}
	for _, text := range []struct {
		field, value string
		limit        int
	}{{"description", r.Description, contract.MaxDescription}, {"reference", r.Reference, contract.MaxReference}} {
		if err := contract.CheckText(text.value, text.limit); err != nil {
			check(false, text.field, "%v", err)
		}
	}
	choose := func(chosen *string, value, field, other string) {
		if value != "" {
			check(value == *chosen || value == other, field, "must be %s or %s", *chosen, other)
			*chosen = value
		}
	}
	choose(&o.Capture, r.Capture, "capture", contract.CaptureManual)
	choose(&o.OnInsufficient, r.OnInsufficient, "on_insufficient", contract.OnInsufficientWait)
	if r.ExpiresIn != "" {
		longest := maxExpiry
		if o.OnInsufficient == contract.OnInsufficientWait {
			longest = maxFundsExpiry
		}
		expiry, err := time.ParseDuration(r.ExpiresIn)
		check(err == nil && expiry >= minExpiry && expiry <= longest, "expires_in",
			"must be a duration from 1s to %gh, such as 15m", longest.Hours())
		at := o.CreatedAt.Add(expiry.Truncate(time.Microsecond))
		o.ExpiresAt = &at
	}

	if len(faults) > 0 {
		return Order{}, faults
	}
	o.Fingerprint = fingerprint(o)
	return o, nil
}

// Recall returns the order of which an event tells, as it was placed. Of who placed it and with which key the event
// says nothing, except of an owner to whose accounts the order is restricted.
func Recall(currencies *money.Currencies, event contract.Order, tenant string, traceID uuid.UUID) (Order, error) {
	currency, ok := currencies.Lookup(event.Currency)
	if !ok {
		return Order{}, fmt.Errorf("currency %q is not known", event.Currency)
	}
	amount, err := currency.Parse(event.Amount)
	if err != nil {
		return Order{}, fmt.Errorf("amount %w", err)
	}
	o := Order{
		ID: event.OrderID, AccountID: event.AccountID, Amount: amount, Currency: event.Currency,
		Description: event.Description, Reference: event.Reference, Capture: event.Capture,
		AwaitInventory: event.AwaitInventory,
		OnInsufficient: cmp.Or(event.OnInsufficient, contract.OnInsufficientReject), ExpiresAt: (*time.Time)(event.ExpiresAt),
		Tenant: cmp.Or(tenant, identity.DefaultTenant), Subject: event.Owner, Owned: event.Owner != "", TraceID: traceID,
		Status: Pending, Version: 1, CreatedAt: time.Time(event.CreatedAt).UTC(), UpdatedAt: time.Time(event.CreatedAt).UTC(),
	}
	o.Fingerprint = fingerprint(o)
	return o, nil
}

// For returns the order as somebody with a reach places it. Who is restricted to what is his own can only pay from his
// own accounts.
func (o Order) For(reach identity.Reach, subject string) Order {
	o.Tenant, o.Subject, o.Owned = reach.Normal().Tenant, subject, reach.Owner != ""
	return o
}

// fingerprint identifies what a request asks for. Requests that mean the same have the same one, whether they spell out
// a default or not, and however they write the amount or the deadline. Fingerprints are stored: a new field must be
// omitted where it has its default.
func fingerprint(o Order) uuid.UUID {
	orEmpty := func(value, defaultValue string) string {
		if value == defaultValue {
			return ""
		}
		return value
	}
	expiresIn := ""
	if o.ExpiresAt != nil {
		expiresIn = o.ExpiresAt.Sub(o.CreatedAt).String()
	}
	canonical, err := json.Marshal(struct {
		AccountID      uuid.UUID `json:"account_id"`
		Amount         string    `json:"amount"` // in minor units
		Currency       string    `json:"currency"`
		Description    string    `json:"description,omitempty"`
		Reference      string    `json:"reference,omitempty"`
		Capture        string    `json:"capture,omitempty"`
		AwaitInventory bool      `json:"await_inventory,omitempty"`
		OnInsufficient string    `json:"on_insufficient,omitempty"`
		ExpiresIn      string    `json:"expires_in,omitempty"`
	}{
		o.AccountID, strconv.FormatInt(o.Amount, 10), o.Currency, o.Description, o.Reference,
		orEmpty(o.Capture, contract.CaptureAutomatic), o.AwaitInventory,
		orEmpty(o.OnInsufficient, contract.OnInsufficientReject), expiresIn,
	})
	if err != nil {
		panic(err) // strings can always be encoded
	}
	return uuid.NewSHA1(fingerprints, canonical)
}

// fingerprints is the namespace of fingerprints.
var fingerprints = uuid.MustParse("6c1d6a0e-5c59-4c55-9a4a-2f0c7c2f5d11")

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
