package placing

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/money"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/stage"
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

// recalled is an order of which an event tells, and its cancellation if that tells of one.
type recalled struct {
	order     order.Order
	cancelled bool
	note      string
	at        time.Time
	place     string // of the message
}

// Handle is the kafka.Handler of the topic orders. It may see a message any number of times. A message that the
// database refuses is left out; when the database is away, Handle returns its error.
func (r *Recovery) Handle(ctx context.Context, messages []kafka.Message) error {
	var list []recalled
	for _, m := range messages {
		c, err := r.read(m)
		if err != nil {
			r.LeftOut = append(r.LeftOut, m.Place()+": "+err.Error())
			continue
		}
		list = append(list, c)
	}
	store := func(list []recalled) error { return r.store(ctx, list) }
	blames := func(err error) bool { return ctx.Err() == nil && !pg.IsTransient(err) }
	err := store(list)
	if err == nil || !blames(err) {
		return err
	}
	return stage.Isolate(list, err, store, blames, func(c recalled, err error) error {
		r.LeftOut = append(r.LeftOut, c.place+": "+err.Error())
		return nil
	})
}

// store stores the orders and cancellations that are not there, in one transaction.
func (r *Recovery) store(ctx context.Context, list []recalled) error {
	if len(list) == 0 {
		return nil
	}
	orders := make([]order.Order, len(list))
	for i, c := range list {
		orders[i] = c.order
	}
	var stored, cancelled int64
	if err := r.Store.InTx(ctx, func(tx *sqlx.Tx) (err error) {
		if stored, err = r.Store.Recover(ctx, tx, orders); err != nil {
			return err
		}
		cancelled, err = r.cancel(ctx, tx, list)
		return err
	}); err != nil {
		return err
	}
	r.Orders += stored
	r.Cancellations += cancelled
	return nil
}

// read decodes a message.
func (r *Recovery) read(m kafka.Message) (c recalled, err error) {
	err = kafka.Read(m, func() error {
		header := kafka.EventOf(m)
		c = recalled{place: m.Place(), cancelled: header.Type == contract.OrderCancelledType}
		if !c.cancelled && header.Type != contract.OrderPlacedType {
			return fmt.Errorf("no such event on this topic: ce_type %q", header.Type)
		}
		var event contract.Cancellation // it has all that a placed order has
		if err := strictjson.UnmarshalEvent(m.Value, &event); err != nil {
			return fmt.Errorf("not an order: %w", err)
		}
		c.note, c.at = contract.NoteOf(event.Reason, event.Note), time.Time(event.CancelledAt)
		trace := uuid.Nil
		if !c.cancelled { // else it is that of the cancellation
			trace, _ = uuid.Parse(telemetry.TraceID(header.Traceparent)) // zero where there is none
		}
		c.order, err = order.Recall(r.Currencies, event.Order, header.Tenant, trace)
		return err
	})
	return c, err
}

// cancel has orders be cancelled that are neither cancelled nor at their end.
func (r *Recovery) cancel(ctx context.Context, tx *sqlx.Tx, list []recalled) (n int64, err error) {
	list = slices.DeleteFunc(slices.Clone(list), func(c recalled) bool { return !c.cancelled })
	ids := make([]uuid.UUID, len(list))
	for i, c := range list {
		ids[i] = c.order.ID
	}
	orders, err := r.Store.Lock(ctx, tx, ids)
	if err != nil {
		return 0, err
	}
	var changed []order.Order
	var transitions []order.Transition
	var cancellations []postgres.Cancellation
	for _, c := range list {
		o := orders[c.order.ID]
		transition, err := o.Cancel(c.note, c.at)
		if err != nil || transition == nil {
			continue
		}
		orders[o.ID] = o
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
