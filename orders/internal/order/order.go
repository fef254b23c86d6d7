// Package order holds the rules of an order and nothing else: no I/O, no clock, no randomness. Place turns a request
// into an order or refuses it. Order.Apply follows the events of its payment, and Order.Cancel the client's wish to
// cancel it, both along one state machine, which is written down as data.
package order

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
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

	Status   Status `db:"status"`
	Reason   string `db:"reason"` // what it waits for, or why it failed or is cancelled: a code
	Note     string `db:"note"`   // what a client said of its cancellation, rejection or last refund
	Captured int64  `db:"captured"`
	Refunded int64  `db:"refunded"` // of what was captured

	// Version counts what happened to the order: it is 1 when the order is placed, and one more after each transition.
	Version int64 `db:"version"`
	// PaymentVersion is the highest version of the payment that the order has seen; 0 is none.
	PaymentVersion int64 `db:"payment_version"`
	// Fingerprint identifies the request. It tells a repetition from another request with the same key.
	Fingerprint uuid.UUID `db:"fingerprint"`

	CreatedAt time.Time `db:"created_at"`
	UpdatedAt time.Time `db:"updated_at"`
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
}

// move takes the order one step further. It leaves the order's own reason and note to the caller.
func (o *Order) move(to Status, reason, note string, event uuid.UUID, now time.Time) (*Transition, error) {
	if !o.Status.CanBecome(to) {
		return nil, fmt.Errorf("an order that is %s cannot become %s", o.Status, to)
	}
	t := &Transition{
		OrderID: o.ID, Number: o.Version + 1, At: o.UpdatedAt, From: o.Status, To: to, Reason: reason, Note: note,
		EventID: uuid.NullUUID{UUID: event, Valid: true},
	}
	// An order's times never run backwards, even where the clocks of two machines differ.
	if now = now.UTC().Truncate(time.Microsecond); now.After(t.At) {
		t.At = now
	}
	o.Status, o.Version, o.UpdatedAt = to, t.Number, t.At
	return t, nil
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
