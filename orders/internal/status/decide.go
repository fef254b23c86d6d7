package status

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/order"
)

var errUnknownOrder = errors.New("unknown order")

// outcome is what a batch of events has done.
type outcome struct {
	changed     []order.Order // in their last state
	transitions []order.Transition
	settled     []time.Duration // from acceptance to the payment's decision, of those whose payment was decided
	impossible  []refused
	unknown     []refused
	redriven    []uuid.UUID // of the parked events that were applied again: those that need be no longer
}

// decide applies events, in their order, to the orders that were loaded.
func decide(orders map[uuid.UUID]order.Order, events []event, now time.Time) outcome {
	var result outcome
	var changed []uuid.UUID
	seen := make(map[uuid.UUID]bool, len(orders))
	for _, e := range events {
		o, ok := orders[e.payment.OrderID]
		if !ok {
			result.unknown = append(result.unknown, refused{e.message, errUnknownOrder})
			continue
		}
		transition, err := o.Apply(e.payment, now)
		switch {
		case err != nil:
			result.impossible = append(result.impossible, refused{e.message, err})
			continue
		case e.parked != uuid.Nil:
			result.redriven = append(result.redriven, e.parked)
		}
		if transition == nil {
			continue
		}
		orders[o.ID] = o
		if !seen[o.ID] {
			seen[o.ID] = true
			changed = append(changed, o.ID)
		}
		result.transitions = append(result.transitions, *transition)
		if transition.From == order.Pending && transition.To.Settled() {
			result.settled = append(result.settled, transition.At.Sub(o.CreatedAt))
		}
	}
	for _, id := range changed {
		result.changed = append(result.changed, orders[id])
	}
	return result
}
