package placing

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
	"github.com/altyn-pay/altyn/platform/strictjson"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// Recovery brings back what a database that has got the state of an earlier moment does not know any more, from the
// events that orders itself has published: orders, and that they are to be cancelled. What became of their payments
// comes by the events of payments.
type Recovery struct {
	Store      *postgres.Store
	Currencies *money.Currencies

	Orders, Cancellations int64    // that were brought back
	LeftOut               []string // the messages that could not be read, with the reasons
}

// cancelledOrder is a cancellation of which an event tells.
type cancelledOrder struct {
	id   uuid.UUID
	note string
	at   time.Time
}

// Handle is the kafka.Handler of the topic orders. It may see a message any number of times.
func (r *Recovery) Handle(ctx context.Context, messages []kafka.Message) error {
	var orders []order.Order
	var cancellations []cancelledOrder
	seen := make(map[uuid.UUID]bool)
	for _, m := range messages {
		o, c, err := r.read(m)
		if err != nil {
			r.LeftOut = append(r.LeftOut, m.Place()+": "+err.Error())
			continue
		}
		if !seen[o.ID] {
			seen[o.ID] = true
			orders = append(orders, o)
		}
		if c != nil {
			cancellations = append(cancellations, *c)
		}
	}
	if len(orders) == 0 {
		return nil
	}
	var stored, cancelled int64
	if err := r.Store.InTx(ctx, func(tx *sqlx.Tx) (err error) {
		if stored, err = r.Store.Recover(ctx, tx, orders); err != nil {
			return err
		}
		cancelled, err = r.cancel(ctx, tx, cancellations)
		return err
	}); err != nil {
		return err
	}
	r.Orders += stored
	r.Cancellations += cancelled
	return nil
}

// read decodes a message. c is nil unless the order was cancelled.
func (r *Recovery) read(m kafka.Message) (o order.Order, c *cancelledOrder, err error) {
	err = kafka.Read(m, func() error {
		header := kafka.EventOf(m)
		var event contract.Cancellation // it has all that a placed order has
		switch header.Type {
		case contract.OrderPlacedType, contract.OrderCancelledType:
		default:
			return fmt.Errorf("no such event on this topic: ce_type %q", header.Type)
		}
		if err := strictjson.UnmarshalEvent(m.Value, &event); err != nil {
			return fmt.Errorf("not an order: %w", err)
		}
		trace, _ := uuid.Parse(telemetry.TraceID(header.Traceparent)) // zero where there is none
		if o, err = order.Recall(r.Currencies, event.Order, header.Tenant, trace); err != nil {
			return err
		}
		if header.Type == contract.OrderCancelledType {
			c = &cancelledOrder{o.ID, contract.NoteOf(event.Reason, event.Note), time.Time(event.CancelledAt)}
			o.TraceID = uuid.Nil // that is the cancellation's
		}
		return nil
	})
	return o, c, err
}

// cancel has orders be cancelled that are neither cancelled nor at their end.
func (r *Recovery) cancel(ctx context.Context, tx *sqlx.Tx, list []cancelledOrder) (n int64, err error) {
	ids := make([]uuid.UUID, len(list))
	for i, c := range list {
		ids[i] = c.id
	}
	orders, err := r.Store.Lock(ctx, tx, ids)
	if err != nil {
		return 0, err
	}
	var changed []order.Order
	var transitions []order.Transition
	var cancellations []postgres.Cancellation
	for _, c := range list {
		o := orders[c.id]
		transition, err := o.Cancel(c.note, c.at)
		if err != nil || transition == nil {
			continue
		}
		orders[c.id] = o
		changed, transitions = append(changed, o), append(transitions, *transition)
		cancellations = append(cancellations, postgres.Cancellation{
			OrderID: o.ID, Fingerprint: order.CancellationFingerprint(c.note), Note: c.note, At: transition.At})
	}
	if len(changed) == 0 {
		return 0, nil
	}
	if err := r.Store.Save(ctx, tx, changed, transitions); err != nil {
		return 0, err
	}
	return int64(len(changed)), r.Store.SaveCancellations(ctx, tx, cancellations)
}
