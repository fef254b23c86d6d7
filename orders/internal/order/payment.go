package order

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/money"
)

// Payment is the state of an order's payment, as an event brings it. Amounts are in minor units.
type Payment struct {
	EventID   uuid.UUID
	OrderID   uuid.UUID
	AccountID uuid.UUID
	Currency  string
	Amount    int64
	Captured  int64
	Refunded  int64
	Status    string // one of contract.Payment's
	Reason    string
	Note      string
	Version   int64
}

// statusOf is the status of an order by the status of its payment.
var statusOf = map[string]Status{
	contract.PaymentCreated:    Pending,
	contract.PaymentAuthorized: Authorized,
	contract.PaymentSucceeded:  Paid,
	contract.PaymentRefunded:   Paid,
	contract.PaymentFailed:     Failed,
	contract.PaymentCancelled:  Cancelled,
}

// ErrCurrency is returned for a payment whose currency is unknown here or has other digits here. Somebody must correct
// the settings; the event must not be lost meanwhile.
var ErrCurrency = errors.New("payments has other currencies than orders")

// ReadPayment checks an event by itself. Whether it fits its order is for Apply to say.
func ReadPayment(currencies *money.Currencies, eventID uuid.UUID, event contract.Payment) (Payment, error) {
	p := Payment{
		EventID: eventID, OrderID: event.OrderID, AccountID: event.AccountID, Currency: event.Currency,
		Status: event.Status, Reason: event.Reason, Note: event.Note, Version: event.Version,
	}
	if p.Status == contract.PaymentCancelled {
		p.Reason, p.Note = contract.ReasonCancelled, contract.NoteOf(event.Reason, event.Note)
	}
	currency, ok := currencies.Lookup(event.Currency)
	switch {
	case p.OrderID == uuid.Nil:
		return Payment{}, errors.New("order_id is missing")
	case !ok:
		return Payment{}, fmt.Errorf("%w: %q is not known", ErrCurrency, event.Currency)
	case statusOf[p.Status] == "":
		return Payment{}, fmt.Errorf("status %q is not known", p.Status)
	case p.Version < 1:
		return Payment{}, fmt.Errorf("version %d is not positive", p.Version)
	}
	if err := contract.CheckText(p.Reason, contract.MaxReason); err != nil {
		return Payment{}, fmt.Errorf("reason %w", err)
	}
	if err := contract.CheckText(p.Note, contract.MaxReason); err != nil {
		return Payment{}, fmt.Errorf("note %w", err)
	}
	for _, total := range []struct {
		name, text string
		minor      *int64
	}{
		{"amount", event.Amount, &p.Amount},
		{"captured_amount", event.CapturedAmount, &p.Captured},
		{"refunded_amount", event.RefundedAmount, &p.Refunded},
	} {
		var err error
		if *total.minor, err = parseTotal(currency, total.text); err != nil {
			return Payment{}, fmt.Errorf("%s %w", total.name, err)
		}
	}
	if p.Captured > p.Amount || p.Refunded > p.Captured {
		return Payment{}, errors.New("more is captured than the amount, or more refunded than captured")
	}
	return p, nil
}

// parseTotal reads an amount that may be zero. It may have more digits than the currency has here, as long as they are
// zeros.
func parseTotal(currency money.Currency, text string) (int64, error) {
	if digits := money.Digits(text); digits > currency.Digits && digits <= money.MaxDigits {
		text = text[:len(text)-digits] + strings.TrimRight(text[len(text)-digits:], "0")
		text = strings.TrimSuffix(text, ".")
	}
	minor, err := currency.Parse(text)
	switch {
	case errors.Is(err, money.ErrNotPositive) && !strings.HasPrefix(text, "-"):
		return 0, nil
	case errors.Is(err, money.ErrTooManyDigits):
		return 0, fmt.Errorf("%w: %w", ErrCurrency, err)
	}
	return minor, err
}

// Apply brings the order to its payment's state and returns that transition. It returns nil and changes nothing when
// the order has seen this version or a newer one, so events may come any number of times and in any order. An error
// means that the payment cannot be this order's, or cannot have become so; the order is then as it was.
func (o *Order) Apply(p Payment, now time.Time) (*Transition, error) {
	if p.OrderID != o.ID || p.AccountID != o.AccountID || p.Currency != o.Currency || p.Amount != o.Amount {
		return nil, fmt.Errorf("the payment of order %s is for another account or amount", o.ID)
	}
	if p.Version <= o.PaymentVersion {
		return nil, nil
	}
	to, line, reason, note := o.following(p)
	next := *o
	transition, err := next.move(to, line, p.Note, p.EventID, now)
	if err != nil {
		return nil, fmt.Errorf("payment %s at version %d: %w", p.Status, p.Version, err)
	}
	next.Reason, next.Note = reason, note
	next.PaymentVersion, next.Captured, next.Refunded = p.Version, p.Captured, p.Refunded
	*o = next
	return transition, nil
}

// following returns the status that the order's payment leads to, the reason that its history gives for that, and the
// order's own reason and note then. An order that is being cancelled waits for its payment to end: what happened before
// the cancellation reached the payment neither takes the order back nor replaces the cancellation's note.
func (o *Order) following(p Payment) (to Status, line, reason, note string) {
	to = statusOf[p.Status]
	switch {
	case o.Status == Cancelling && !to.Final():
		return Cancelling, p.Status, o.Reason, o.Note
	case o.Status == Paid && to == Paid:
		return Paid, p.Status, "", p.Note
	case to == Authorized, to == Paid:
		return to, p.Reason, "", p.Note
	case to == Cancelled:
		return to, p.Reason, p.Reason, cmp.Or(p.Note, o.Note)
	}
	return to, p.Reason, p.Reason, p.Note
}
