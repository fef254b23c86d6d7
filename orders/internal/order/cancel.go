package order

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

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
