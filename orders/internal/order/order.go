// Package order holds the rules of an order, and nothing else: no I/O, no clock, no randomness. A request becomes an
// order or is refused (Place), and an order follows the events that tell of its payment (Order.Apply) along one state
// machine, which is written down as data.
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

// successors is the state machine: the statuses that may follow each. It has no cycle, so that an order has at most
// four transitions. A constraint of the database says the same again.
var successors = map[Status][]Status{
	Pending:    {Authorized, Paid, Failed, Cancelling},
	Authorized: {Paid, Failed, Cancelling},
	Paid:       {Cancelling},
	Cancelling: {Cancelled, Failed}, // failed: the payment had failed before the cancellation reached it
	Failed:     {},
	Cancelled:  {},
}

// CanBecome tells whether an order may go from this status to the next one.
func (s Status) CanBecome(next Status) bool { return slices.Contains(successors[s], next) }

// Settled tells whether nothing more happens by itself: only a client's next call, if anything, changes the order.
func (s Status) Settled() bool { return s != Pending && s != Cancelling }

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
	Reason   string `db:"reason"` // of a failure or a cancellation
	Captured int64  `db:"captured"`
	Refunded int64  `db:"refunded"` // of what was captured

	// Version counts the statuses that the order has had; 1 is being placed.
	Version int64 `db:"version"`
	// PaymentVersion is the highest version of the payment that the order has seen; 0 is none.
	PaymentVersion int64 `db:"payment_version"`
	// Fingerprint identifies the request, to tell its repetition from another one under the same key.
	Fingerprint uuid.UUID `db:"fingerprint"`

	CreatedAt time.Time `db:"created_at"`
	UpdatedAt time.Time `db:"updated_at"`
}

// Transition is one step of an order from a status to the next one.
type Transition struct {
	OrderID uuid.UUID     `db:"order_id"`
	Number  int64         `db:"number"` // the order's version after it
	At      time.Time     `db:"at"`
	From    Status        `db:"from_status"`
	To      Status        `db:"to_status"`
	Reason  string        `db:"reason"`
	EventID uuid.NullUUID `db:"event_id"` // the event that caused it, if one did
}

// move takes the order to its next status.
func (o *Order) move(to Status, reason string, event uuid.NullUUID) (Transition, error) {
	if !o.Status.CanBecome(to) {
		return Transition{}, fmt.Errorf("an order that is %s cannot become %s", o.Status, to)
	}
	t := Transition{OrderID: o.ID, Number: o.Version + 1, At: o.UpdatedAt, From: o.Status, To: to, Reason: reason, EventID: event}
	o.Status, o.Reason, o.Version = to, reason, t.Number
	return t, nil
}
