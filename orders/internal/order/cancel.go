package order

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/money"
)

// ErrFailed refuses to cancel an order that has failed: nothing was taken, so there is nothing to give back.
var ErrFailed = errors.New("the order has failed")

// Cancel begins to cancel the order: it is cancelling until its payment has ended. The transition is nil, and nothing has
// changed, where the order is being cancelled or is cancelled already; it keeps its first note.
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

// Cancelled is the event that tells payments of the cancellation that this transition began. It carries the whole order,
// since it may come before the order does.
func (o Order) Cancelled(currency money.Currency, t Transition) contract.Cancellation {
	return contract.Cancellation{Order: o.Placed(currency), Reason: contract.ReasonCancelled, Note: t.Note, CancelledAt: contract.Time(t.At)}
}

// CancelledEventID is the ID of that event: an order is cancelled once.
func (o Order) CancelledEventID() uuid.UUID {
	return contract.EventID(contract.OrderCancelledType, o.ID, 1)
}

// CancellationFingerprint identifies what a request to cancel an order asks for, as fingerprint does a request to place
// one.
func CancellationFingerprint(reason string) uuid.UUID {
	canonical, err := json.Marshal(struct {
		Reason string `json:"reason,omitempty"`
	}{reason})
	if err != nil {
		panic(err) // strings can always be encoded
	}
	return uuid.NewSHA1(fingerprints, canonical)
}
