// Package order holds the rules of an order and nothing else: no I/O, no clock, no randomness. Place turns a request
// into an order or refuses it. Order.Apply follows the events of its payment, and Order.Cancel the client's wish to
// cancel it, both along one state machine, which is written down as data.
package order

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/money"
)

// Status is where an order stands.
type Status string

// The statuses of an order.
const (
	Pending    Status = "pending"    // its payment has not been decided
	Authorized Status = "authorized" // the money is set aside until the payment is confirmed or rejected
	Paid       Status = "paid"       // the money was taken; part or all of it may have been returned since
	Failed     Status = "failed"     // nothing was taken; Reason says why
	Cancelling Status = "cancelling" // the cancellation is under way to the payment
	Cancelled  Status = "cancelled"  // the money was released or returned
)

// Statuses lists all statuses, in the order in which an order may go through them.
func Statuses() []Status {
	return []Status{Pending, Authorized, Paid, Failed, Cancelling, Cancelled}
}

// successors is the state machine: the statuses that may follow each. Where a status follows itself, something happened
// to the payment that leaves the order where it is. There is no other cycle: an order changes its status at most four
// times. A constraint of the database and the diagram in docs/flows.md repeat it; a test compares the three.
var successors = map[Status][]Status{
	Pending:    {Pending, Authorized, Paid, Failed, Cancelling}, // itself: the payment waits for something else
	Authorized: {Paid, Failed, Cancelling},
	Paid:       {Paid, Cancelling},              // itself: money was returned
	Cancelling: {Cancelling, Cancelled, Failed}, // itself: the payment went on before it was cancelled
	Failed:     {},
	Cancelled:  {},
}

// CanBecome reports whether an order may go from this status to the next one.
func (s Status) CanBecome(next Status) bool { return slices.Contains(successors[s], next) }

// Settled reports whether the order changes no more by itself: only a client's next call can change it.
func (s Status) Settled() bool { return s != Pending && s != Cancelling }

// Final reports whether nothing can change the order any more.
func (s Status) Final() bool { return s == Failed || s == Cancelled }

// Order is one order. Amounts are in minor units of its currency.
type Order struct {
	ID             uuid.UUID  `db:"id"`
	AccountID      uuid.UUID  `db:"account_id"` // who pays
	Amount         int64      `db:"amount"`
	Currency       string     `db:"currency"`
	Description    string     `db:"description"`
	Reference      string     `db:"reference"` // the client's own ID
	Capture        string     `db:"capture"`   // contract.CaptureAutomatic or contract.CaptureManual
	AwaitInventory bool       `db:"await_inventory"`
	OnInsufficient string     `db:"on_insufficient"` // contract.OnInsufficientReject or contract.OnInsufficientWait
	ExpiresAt      *time.Time `db:"expires_at"`

	Tenant  string `db:"tenant"`  // whose it is
	Subject string `db:"subject"` // who placed it; "" where nobody is told apart
	Owned   bool   `db:"owned"`   // the account must be the Subject's
	Key     string `db:"key"`     // the Idempotency-Key of the request that placed it; "" where there was none

	Status   Status `db:"status"`
	Reason   string `db:"reason"` // what it waits for, or why it failed or is cancelled: a code
	Note     string `db:"note"`   // what a client said of its cancellation, rejection or last refund
	Captured int64  `db:"captured"`
	Refunded int64  `db:"refunded"` // of what was captured

	// Version counts what happened to the order: it is 1 when the order is placed, and one more after each transition.
	Version int64 `db:"version"`
	// PaymentVersion is the highest version of the payment that the order has seen; 0 is none.
	PaymentVersion int64 `db:"payment_version"`
	// Fingerprint identifies the request. It tells a repetition from another request with the same key; uuid.Nil where
	// there was no key, and where it was erased.
	Fingerprint uuid.UUID `db:"fingerprint"`
	// TraceID is that of the request which placed the order; uuid.Nil where it is not known.
	TraceID uuid.UUID `db:"trace_id"`

	CreatedAt time.Time `db:"created_at"`
	UpdatedAt time.Time `db:"updated_at"`
}

// LogAttributes are what a line of the log says of the order beside its ID.
func (o *Order) LogAttributes() []any {
	attributes := []any{"account_id", o.AccountID, "tenant", o.Tenant}
	if o.Reason != "" {
		attributes = append(attributes, "reason", o.Reason)
	}
	return attributes
}

// Transition is one step of an order, to another status or to the same one.
type Transition struct {
	OrderID uuid.UUID     `db:"order_id"`
	Number  int64         `db:"number"` // the order's version after it
	At      time.Time     `db:"at"`
	From    Status        `db:"from_status"`
	To      Status        `db:"to_status"`
	Reason  string        `db:"reason"`
	Note    string        `db:"note"`
	EventID uuid.NullUUID `db:"event_id"` // the event that caused it, or that it caused
	// PublishedAt is when the broker got the event that caused it; nil where that is not known.
	PublishedAt *time.Time `db:"published_at"`
}

// Undoes reports whether the client was told otherwise before: payments was restored.
func (t Transition) Undoes() bool {
	return t.Reason == contract.ReasonRestored && (t.From != t.To || t.To == Paid)
}

// move takes the order one step further. It leaves the order's own reason and note to the caller.
func (o *Order) move(to Status, reason, note string, event uuid.UUID, now time.Time) (*Transition, error) {
	if !o.Status.CanBecome(to) {
		return nil, fmt.Errorf("an order that is %s cannot become %s", o.Status, to)
	}
	return o.leap(to, reason, note, event, now), nil
}

// leap is move to any status.
func (o *Order) leap(to Status, reason, note string, event uuid.UUID, now time.Time) *Transition {
	t := &Transition{
		OrderID: o.ID, Number: o.Version + 1, At: o.UpdatedAt, From: o.Status, To: to, Reason: reason, Note: note,
		EventID: uuid.NullUUID{UUID: event, Valid: true},
	}
	// An order's times never run backwards, even where the clocks of two machines differ.
	if now = now.UTC().Truncate(time.Microsecond); now.After(t.At) {
		t.At = now
	}
	o.Status, o.Version, o.UpdatedAt = to, t.Number, t.At
	return t
}

// ErrFailed refuses to cancel a failed order: nothing was taken, so there is nothing to give back.
var ErrFailed = errors.New("the order has failed")

// Cancel begins to cancel the order, which is cancelling until its payment has ended. Cancel returns nil and changes
// nothing when the order is cancelling or cancelled already: it keeps its first note.
func (o *Order) Cancel(note string, now time.Time) (*Transition, error) {
	switch o.Status {
	case Cancelling, Cancelled:
		return nil, nil
	case Failed:
		return nil, ErrFailed
	}
	transition, err := o.move(Cancelling, contract.ReasonCancelled, note, o.CancelledEventID(), now)
	if err == nil {
		o.Reason, o.Note = transition.Reason, note
	}
	return transition, err
}

// CancellationFingerprint identifies what a request to cancel an order asks for.
func CancellationFingerprint(reason string) uuid.UUID {
	canonical, err := json.Marshal(struct {
		Reason string `json:"reason,omitempty"`
	}{reason})
	if err != nil {
		panic(err) // strings can always be encoded
	}
	return uuid.NewSHA1(fingerprints, canonical)
}

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
	// PublishedAt is when the broker got the event; zero where that is not known.
	PublishedAt time.Time
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

// ErrUnknown is returned for a payment of a newer version, which this one does not know.
var ErrUnknown = errors.New("not known to this version")

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
	case p.Status == "":
		return Payment{}, errors.New("status is missing")
	case statusOf[p.Status] == "":
		return Payment{}, fmt.Errorf("%w: status %q", ErrUnknown, p.Status)
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
//
// A payment of a new epoch may contradict what was before, since payments was restored: then the order follows it, with
// the reason contract.ReasonRestored. Only an order of which the client was told that nothing is taken stays so: where
// the payment goes on all the same, the order is Cancelling, and the caller must announce its cancellation.
func (o *Order) Apply(p Payment, now time.Time) (*Transition, error) {
	if p.OrderID != o.ID || p.AccountID != o.AccountID || p.Currency != o.Currency || p.Amount != o.Amount {
		return nil, fmt.Errorf("the payment of order %s is for another account or amount", o.ID)
	}
	if p.Version <= o.PaymentVersion {
		return nil, nil
	}
	to, line, reason, note := o.following(p)
	next := *o
	var transition *Transition
	renewed := o.PaymentVersion > 0 && contract.EpochOf(p.Version) > contract.EpochOf(o.PaymentVersion)
	if renewed && (!o.Status.CanBecome(to) || p.Captured < o.Captured || p.Refunded < o.Refunded) {
		if o.Status.Final() && !to.Final() {
			to, reason, note = Cancelling, contract.ReasonCancelled, o.Note
		}
		transition = next.leap(to, contract.ReasonRestored, p.Note, p.EventID, now)
	} else {
		var err error
		if transition, err = next.move(to, line, p.Note, p.EventID, now); err != nil {
			return nil, fmt.Errorf("payment %s at version %d: %w", p.Status, p.Version, err)
		}
	}
	if at := p.PublishedAt; !at.IsZero() {
		transition.PublishedAt = &at
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
