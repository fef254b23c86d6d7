package api

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/explain"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
)

// explain answers with where an order is.
//
//	@ID				explainOrder
//	@Summary		Explain an order: where it is, why, and what to do next
//	@Description	Plain sentences and one timeline. At the gateway it has what orders and payments know, as far as the token may
//	@Description	see it; missing says what is left out, such as a service that is away. Orders itself knows its own part.
//	@Tags			orders
//	@Produce		json,application/problem+json
//	@Param			id	path		string	true	"the order's ID"	format(uuid)
//	@Success		200	{object}	explain.Explanation
//	@Failure		404	{object}	httpserver.Problem	"order_not_found"
//	@Failure		500	{object}	httpserver.Problem	"internal"
//	@Router			/api/v1/orders/{id}/explain [get]
func (a *API) explain(w http.ResponseWriter, r *http.Request) error {
	id, err := httpserver.PathUUID(r, "id")
	if err != nil {
		return err
	}
	ctx := r.Context()
	by := identity.ReachFrom(ctx)
	o, err := a.store.Order(ctx, by, id)
	if err != nil {
		return err
	}
	transitions, err := a.store.Transitions(ctx, o)
	if err != nil {
		return err
	}
	found, err := a.store.Whereabouts(ctx, o)
	if err != nil {
		return err
	}
	if !by.Covers(o.Tenant, found.Cancellation.Subject) { // it is another's
		found.Cancellation.Subject, found.Cancellation.Key = "", ""
	}
	shown, err := a.json(o)
	if err != nil {
		return err
	}
	part := explain.Part{Explanation: partOf(o, shown, transitions, found)}
	return httpserver.WriteJSON(w, http.StatusOK, explain.OfOrder(id, part, explain.Part{}, time.Now()))
}

// partOf is what orders knows of an order.
func partOf(o order.Order, shown Order, transitions []order.Transition,
	found postgres.Whereabouts) *explain.Explanation {
	e := &explain.Explanation{Timeline: stepsOf(o, shown, transitions, found)}
	e.Order = &explain.Order{
		AccountID: o.AccountID, Amount: shown.Amount, Currency: o.Currency, Capture: o.Capture, Status: string(o.Status),
		Reason: o.Reason, CapturedAmount: shown.CapturedAmount, RefundedAmount: shown.RefundedAmount,
		PlacedBy: o.Subject, Keyed: keyed(o.ID), CreatedAt: shown.CreatedAt, UpdatedAt: shown.UpdatedAt,
		PaymentVersion: o.PaymentVersion % contract.Epoch, Asked: found.Watched.Asked,
	}
	if o.TraceID != uuid.Nil {
		e.TraceID = hex.EncodeToString(o.TraceID[:])
	}
	if o.ExpiresAt != nil {
		e.Order.ExpiresAt = contract.Time(*o.ExpiresAt)
	}
	if found.Watched.Asked > 0 {
		e.Order.AskedAt = contract.Time(found.Watched.AskedAt)
	}
	if o.Status == order.Pending || o.Status == order.Cancelling {
		e.Order.AskAt = contract.Time(found.Watched.DueAt)
	}
	for _, m := range found.Undelivered {
		event := explain.Event{Service: explain.Orders, Type: m.Type, State: explain.Unpublished,
			Since: contract.Time(m.CreatedAt)}
		if m.Refused {
			event.State = explain.Refused
		}
		e.Events = append(e.Events, event)
	}
	for _, p := range found.Parked {
		event := explain.Event{Service: explain.Orders, Type: p.Type, State: explain.Unapplied, Since: contract.Time(p.At)}
		if p.Attempts == 0 {
			event.State = explain.Unknown
		}
		e.Events = append(e.Events, event)
	}
	if found.More && len(found.Undelivered) == 0 {
		e.Missing = append(e.Missing, explain.LongOutbox(explain.Orders))
	}
	return e
}

// keyed tells whether the ID of an order was derived from an Idempotency-Key.
func keyed(id uuid.UUID) bool { return id.Version() == 5 }

// asked says who has asked for something and with which key, for the end of a sentence.
func asked(subject, key string) (text string) {
	if subject != "" {
		text = ", by " + subject
	}
	if key != "" {
		text += ", key " + key
	}
	return text
}

// stepsOf are the steps of an order in the order of its history.
func stepsOf(o order.Order, shown Order, transitions []order.Transition, found postgres.Whereabouts) []explain.Step {
	step := func(at time.Time, what, format string, args ...any) explain.Step {
		return explain.Step{At: contract.Time(at), Service: explain.Orders, What: what, Detail: fmt.Sprintf(format, args...)}
	}
	by := asked(o.Subject, o.Key)
	if o.Key == "" && keyed(o.ID) { // placed before keys were kept
		by += ", with an Idempotency-Key"
	} else if o.Key == "" {
		by += ", without an Idempotency-Key"
	}
	placed := step(o.CreatedAt, "placed", "The order of %s %s from the account %s was placed%s; the event %s was stored.",
		shown.Amount, o.Currency, o.AccountID, by, contract.OrderPlacedType)
	placed.EventID = o.PlacedEventID()
	steps := []explain.Step{placed}
	var version int64
	for _, t := range transitions {
		s := step(t.At, "status", "")
		s.EventID = t.EventID.UUID
		if t.To == order.Cancelling && t.From != order.Cancelling && !t.Undoes() {
			s.Detail = fmt.Sprintf("The order, which was %s, is to be cancelled%s; the event %s was stored.", t.From,
				asked(found.Cancellation.Subject, found.Cancellation.Key), contract.OrderCancelledType)
		} else {
			event := "An event of its payment"
			var name string
			if name, version = eventOf(t, version, o.PaymentVersion); name != "" {
				event = fmt.Sprintf("The event %s, version %d,", name, version%contract.Epoch)
			}
			if t.PublishedAt != nil {
				event += fmt.Sprintf(" published at %s,", contract.Time(*t.PublishedAt))
			}
			s.Detail = fmt.Sprintf("%s came in: the order is %s%s.", event, t.To, because(t))
		}
		if t.Note != "" {
			s.Detail += fmt.Sprintf(" Note: %q.", t.Note)
		}
		steps = append(steps, s)
	}
	if n := found.Watched.Asked; n > 0 {
		steps = append(steps, step(found.Watched.AskedAt, "asked",
			"The order was announced again, as no answer had come; attempt %d since its last change.", n))
	}
	for _, p := range found.Parked {
		s := step(p.At, "event", "The event %s came in and is kept for a version of orders that knows it.", p.Type)
		if p.Attempts > 0 {
			s = step(p.At, "event", "The event %s came in and could not be applied; it is parked. Attempts: %d.", p.Type,
				p.Attempts)
		}
		steps = append(steps, s)
	}
	slices.SortStableFunc(steps, func(a, b explain.Step) int { return time.Time(a.At).Compare(time.Time(b.At)) })
	return steps
}

// because is the reason of a transition, for the end of a sentence.
func because(t order.Transition) string {
	switch {
	case t.Undoes():
		return fmt.Sprintf(", which was %s before: payments was restored and does not know of that any more", t.From)
	case t.Reason == "" || t.To == order.Cancelled:
		return ""
	}
	return " (" + t.Reason + ")"
}

// paymentEvents are the types of events of payments.
var paymentEvents = []string{contract.PaymentCreatedType, contract.PaymentAuthorizedType, contract.PaymentSucceededType,
	contract.PaymentFailedType, contract.PaymentCancelledType, contract.PaymentRefundedType}

// maxVersions is more than a payment can have, which payments bounds.
const maxVersions = 2000

// eventOf finds the type and version of the event that brought a transition: an event's ID is made of them. It looks at
// the versions after one and up to last, in the epochs of both, and returns "" and after where none fits.
func eventOf(t order.Transition, after, last int64) (eventType string, version int64) {
	for _, epoch := range []int64{contract.EpochOf(after), contract.EpochOf(last)} {
		begin := max(after, epoch*contract.Epoch)
		for version = begin + 1; version <= min(last, begin+maxVersions); version++ {
			for _, eventType := range paymentEvents {
				if contract.EventID(eventType, t.OrderID, version) == t.EventID.UUID {
					return eventType, version
				}
			}
		}
	}
	return "", after
}
