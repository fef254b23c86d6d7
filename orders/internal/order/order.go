// Package order holds the rules of an order, and nothing else: no I/O, no clock, no randomness. A request becomes an
// order or is refused (Place), and an order follows the events that tell of its payment (Order.Apply) and its client's
// wish to cancel it (Order.Cancel) along one state machine, which is written down as data.
package order

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
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

// successors is the state machine: the statuses that may follow each. A status that follows itself tells that something
// happened to the payment which leaves the order where it stands. Apart from that there is no cycle: an order changes its
// status at most four times. A constraint of the database and the diagram in docs/flows.md say the same again, and a test
// holds the three together.
var successors = map[Status][]Status{
	Pending:    {Pending, Authorized, Paid, Failed, Cancelling}, // itself: the payment waits for something else
	Authorized: {Paid, Failed, Cancelling},
	Paid:       {Paid, Cancelling},              // itself: money was returned
	Cancelling: {Cancelling, Cancelled, Failed}, // itself: the payment went on before the cancellation reached it, or failed
	Failed:     {},
	Cancelled:  {},
}

// CanBecome tells whether an order may go from this status to the next one.
func (s Status) CanBecome(next Status) bool { return slices.Contains(successors[s], next) }

// Settled tells whether nothing more happens by itself: only a client's next call, if anything, changes the order.
func (s Status) Settled() bool { return s != Pending && s != Cancelling }

// Final tells whether nothing can happen to an order any more.
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

	Status   Status `db:"status"`
	Reason   string `db:"reason"` // what it waits for, or why it failed or is cancelled: a code
	Note     string `db:"note"`   // what a client said of its cancellation, rejection or last refund
	Captured int64  `db:"captured"`
	Refunded int64  `db:"refunded"` // of what was captured

	// Version counts what happened to the order: 1 is being placed, each transition is one more.
	Version int64 `db:"version"`
	// PaymentVersion is the highest version of the payment that the order has seen; 0 is none.
	PaymentVersion int64 `db:"payment_version"`
	// Fingerprint identifies the request, to tell its repetition from another one under the same key.
	Fingerprint uuid.UUID `db:"fingerprint"`

	CreatedAt time.Time `db:"created_at"`
	UpdatedAt time.Time `db:"updated_at"`
}

// Transition is one step of an order: to another status, or one that leaves it where it stands.
type Transition struct {
	OrderID uuid.UUID     `db:"order_id"`
	Number  int64         `db:"number"` // the order's version after it
	At      time.Time     `db:"at"`
	From    Status        `db:"from_status"`
	To      Status        `db:"to_status"`
	Reason  string        `db:"reason"`
	Note    string        `db:"note"`
	EventID uuid.NullUUID `db:"event_id"` // the event that caused it, or that tells of it
}

// move takes the order one step further. The order's own reason and note are the caller's matter.
func (o *Order) move(to Status, reason, note string, event uuid.UUID, now time.Time) (*Transition, error) {
	if !o.Status.CanBecome(to) {
		return nil, fmt.Errorf("an order that is %s cannot become %s", o.Status, to)
	}
	t := &Transition{
		OrderID: o.ID, Number: o.Version + 1, At: o.UpdatedAt, From: o.Status, To: to, Reason: reason, Note: note,
		EventID: uuid.NullUUID{UUID: event, Valid: true},
	}
	// The clocks of two machines may differ, but an order's times do not run backwards.
	if now = now.UTC().Truncate(time.Microsecond); now.After(t.At) {
		t.At = now
	}
	o.Status, o.Version, o.UpdatedAt = to, t.Number, t.At
	return t, nil
}
