package order

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/money"
)

// Request is what a client asks for, as it was sent. What is empty was left out.
type Request struct {
	AccountID      string
	Amount         money.Decimal
	Currency       string
	Description    string
	Reference      string
	Capture        string
	AwaitInventory bool
	OnInsufficient string
	ExpiresIn      string
}

// Invalid says everything that is wrong with a request.
type Invalid []Fault

// Fault is what is wrong with one field, named as in JSON.
type Fault struct{ Field, Detail string }

func (v Invalid) Error() string {
	faults := make([]string, len(v))
	for i, f := range v {
		faults[i] = f.Field + " " + f.Detail
	}
	return "invalid order: " + strings.Join(faults, ", ")
}

// Place turns a request into an order that is pending since now, to which the caller gives an ID. A request that cannot
// become an order is refused with an Invalid.
func Place(currencies *money.Currencies, r Request, now time.Time) (Order, error) {
	var faults Invalid
	check := func(ok bool, field, format string, args ...any) bool {
		if !ok {
			faults = append(faults, Fault{field, fmt.Sprintf(format, args...)})
		}
		return ok
	}
	o := Order{
		Currency: r.Currency, Description: r.Description, Reference: r.Reference,
		Capture: contract.CaptureAutomatic, OnInsufficient: contract.OnInsufficientReject,
		Status: Pending, Version: 1, CreatedAt: now.UTC().Truncate(time.Microsecond), // what the database keeps
	}
	o.UpdatedAt = o.CreatedAt

	if check(r.AccountID != "", "account_id", "is required") {
		var ok bool
		o.AccountID, ok = parseUUID(r.AccountID)
		check(ok, "account_id", "must be a UUID")
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
		check(utf8.RuneCountInString(text.value) <= text.limit, text.field, "must have at most %d characters", text.limit)
	}
	// What payments does not settle would wait for ever, so it is refused.
	check(r.Capture == "" || r.Capture == o.Capture, "capture", "must be %s; nothing else is offered", o.Capture)
	check(r.OnInsufficient == "" || r.OnInsufficient == o.OnInsufficient, "on_insufficient", "must be %s; nothing else is offered", o.OnInsufficient)
	check(!r.AwaitInventory, "await_inventory", "must be false; nothing else is offered")
	check(r.ExpiresIn == "", "expires_in", "must be left out; a deadline is not offered")

	if len(faults) > 0 {
		return Order{}, faults
	}
	o.Fingerprint = fingerprint(r, o)
	return o, nil
}

// fingerprint identifies what a request asks for: requests that mean the same have the same one, whether they spell out
// a default or not, and however they write the amount. A field that is added later must be left out where it has its
// default, so that older fingerprints stay true.
func fingerprint(r Request, o Order) uuid.UUID {
	orEmpty := func(value, defaultValue string) string {
		if value == defaultValue {
			return ""
		}
		return value
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
		orEmpty(o.OnInsufficient, contract.OnInsufficientReject), r.ExpiresIn,
	})
	if err != nil {
		panic(err) // strings can always be encoded
	}
	return uuid.NewSHA1(fingerprints, canonical)
}

// fingerprints is the namespace of the UUIDs that fingerprint makes.
var fingerprints = uuid.MustParse("6c1d6a0e-5c59-4c55-9a4a-2f0c7c2f5d11")

// Placed is the event that tells payments of a new order.
func (o Order) Placed(currency money.Currency) contract.Order {
	return contract.Order{
		OrderID: o.ID, AccountID: o.AccountID, Amount: currency.Format(o.Amount), Currency: o.Currency,
		Description: o.Description, Reference: o.Reference, Capture: o.Capture, AwaitInventory: o.AwaitInventory,
		OnInsufficient: o.OnInsufficient, CreatedAt: o.CreatedAt, ExpiresAt: o.ExpiresAt,
	}
}

// PlacedEventID is the ID of that event.
func (o Order) PlacedEventID() uuid.UUID { return contract.EventID(contract.OrderPlacedType, o.ID, 1) }

// parseUUID takes the canonical form only.
func parseUUID(text string) (uuid.UUID, bool) {
	id, err := uuid.Parse(text)
	return id, err == nil && len(text) == len(uuid.Nil.String()) && id != uuid.Nil
}
