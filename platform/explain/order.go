package explain

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

// The statuses of an order.
const (
	pending    = "pending"
	authorized = "authorized"
	paid       = "paid"
	failed     = "failed"
	cancelling = "cancelling"
	cancelled  = "cancelled"
)

// Part is what a service has said of an order.
type Part struct {
	*Explanation      // nil where it has said nothing
	Unknown      bool // the order is not there, as far as who asks may see
	Gap          *Gap // why there is nothing; nil where nobody has asked
}

// OfOrder explains an order by what orders and payments have said of it.
func OfOrder(id uuid.UUID, orders, payments Part, now time.Time) Explanation {
	e := Explanation{ID: id}
	var timelines [][]Step
	for _, part := range []Part{orders, payments} {
		if part.Gap != nil {
			e.Missing = append(e.Missing, *part.Gap)
		}
		if part.Explanation == nil {
			continue
		}
		e.Missing = append(e.Missing, part.Missing...)
		timelines = append(timelines, part.Timeline)
		e.Events = append(e.Events, part.Events...)
	}
	if orders.Explanation != nil {
		e.Order, e.TraceID = orders.Order, orders.TraceID
	}
	if payments.Explanation != nil {
		e.Payment, e.Hold, e.Wait = payments.Payment, payments.Hold, payments.Wait
		e.Queued, e.Stop = payments.Queued, payments.Stop
	}
	e.Timeline = Merge(timelines...)
	o := orderText{text: text{now: now}, Explanation: &e, unknown: payments.Unknown}
	if e.Order == nil {
		o.withoutOrders(orders.Unknown)
	} else {
		e.Status = e.Order.Status
		o.tell()
	}
	o.into(&e)
	return e
}

// orderText makes the sentences of an order.
type orderText struct {
	text
	*Explanation
	unknown bool // payments has no payment of it
}

// withoutOrders tells what payments alone knows. unknown tells that orders has no such order.
func (o *orderText) withoutOrders(unknown bool) {
	p := o.Payment
	if unknown {
		o.say("Orders has no such order for this token; payments has its payment, which is %s.", p.Status)
		o.can("Where orders was restored from an older copy of its database, an operator compares both services.")
	} else {
		o.say("This is what payments alone knows: the payment of the order is %s.", p.Status)
		o.can("GET /api/v1/orders/%s/explain at the gateway tells all of it.", o.ID)
	}
	o.Status = p.Status
	if len(o.Queued) > 0 {
		o.inQueue()
	} else {
		o.waits(p.Reason, p.Amount, p.Currency)
	}
}

// tell is for an order that orders knows.
func (o *orderText) tell() {
	order := o.Order
	amount := order.Amount + " " + order.Currency
	switch order.Status {
	case paid:
		o.paid(amount)
	case authorized:
		o.authorized(amount)
	case failed:
		o.say("The order failed: %s. Nothing was taken.", why(order.Reason))
		if remedy, ok := remedies[order.Reason]; ok {
			o.can("%s", remedy)
		}
	case cancelled:
		if zero(order.RefundedAmount) {
			o.say("The order is cancelled. Nothing was taken, and nothing is held any more.")
		} else {
			o.say("The order is cancelled. All that was taken, %s %s, was returned.", order.RefundedAmount, order.Currency)
		}
	case cancelling:
		o.say("The order is being cancelled.")
	default:
		o.say("The order of %s is pending.", amount)
	}
	o.way()
}

func (o *orderText) paid(amount string) {
	order := o.Order
	taken := order.CapturedAmount + " " + order.Currency
	switch {
	case order.RefundedAmount == order.CapturedAmount:
		o.say("The order is paid, and all of it, %s, was refunded.", taken)
		return
	case !zero(order.RefundedAmount):
		o.say("The order is paid: %s were taken, of which %s %s were refunded.", taken, order.RefundedAmount, order.Currency)
	case order.CapturedAmount != order.Amount:
		o.say("The order is paid: of %s that were held, %s were taken; the rest was released.", amount, taken)
	default:
		o.say("The order is paid: %s were taken.", taken)
	}
	o.can("Nothing has to be done. To return money: POST /api/v1/payments/%s/refund, or cancel the order.", o.ID)
}

func (o *orderText) authorized(amount string) {
	until := o.Order.ExpiresAt
	if o.Hold != nil {
		until = o.Hold.ExpiresAt
	}
	if until.IsZero() {
		o.say("%s are held until the payment is confirmed or rejected.", amount)
	} else {
		o.say("%s are held until the payment is confirmed or rejected, until %s at the latest.", amount, clock(until))
	}
	o.can("Confirm the payment, all of it or a part, or reject it: POST /api/v1/payments/%s/confirm or /reject.", o.ID)
	o.can("To give it up: POST /api/v1/orders/%s/cancel.", o.ID)
}

// way tells where on its way the order is: what has not come to its end in orders, the broker and payments, in the
// order of the way.
func (o *orderText) way() {
	open := o.Order.Status == pending || o.Order.Status == cancelling
	for _, service := range []string{Orders, Payments} {
		for _, e := range o.Events {
			if e.Service == service && !e.arrived() {
				o.undelivered(e)
				open = open && service == Payments // what is behind it has not begun
			}
		}
	}
	arrived := false
	for _, e := range o.Events {
		if e.arrived() {
			o.undelivered(e)
			arrived = true
		}
	}
	switch p, seen := o.Payment, o.Order.PaymentVersion; {
	case p != nil && p.Version > seen:
		o.untold(p, arrived)
	case p != nil && p.Version < seen && p.Version > 0:
		o.say("Orders has seen version %d of its payment; payments has version %d only.", seen, p.Version)
		o.stand("Payments may run on an older copy of its database: an operator compares both services.")
	case len(o.Queued) > 0:
		o.inQueue()
	case !open:
	case o.unknown && seen == 0:
		o.unheard()
	case p == nil:
		if reason := o.Order.Reason; reason != "" && o.Order.Status == pending {
			o.say("When orders last heard of its payment, %s.", why(reason))
		}
		o.can("Where it stands is seen once payments can be asked, too.")
	case o.Order.Status == cancelling:
		o.onItsWay("order.cancelled", "orders.dlq", o.Order.UpdatedAt)
	default:
		o.waits(p.Reason, p.Amount, p.Currency)
	}
}

// inQueue tells of what payments has accepted. The one at the head of a stopped queue comes first.
func (o *orderText) inQueue() {
	q := o.Queued[0]
	if i := slices.IndexFunc(o.Queued, func(q Queued) bool { return q.Head }); i >= 0 {
		q = o.Queued[i]
	}
	o.queued(q, o.Stop, names[q.Kind])
}

// names are the messages of an order's payment.
var names = map[string]string{
	"payment": "The order", "cancel": "Its cancellation", "inventory": "What the inventory system says of it",
	"confirm": "The confirmation of its payment", "reject": "The rejection of its payment", "refund": "A refund of it",
	"expire": "The end of its time", "kept": "An event of a newer version about it",
}

// waits tells what the payment waits for.
func (o *orderText) waits(reason, amount, currency string) {
	switch {
	case o.Wait != nil:
		o.wait(o.Wait, amount+" "+currency)
		if o.Order != nil {
			o.can("To give it up: POST /api/v1/orders/%s/cancel.", o.ID)
		}
	case reason != "" && o.Payment != nil && o.Payment.Status == contract.PaymentCreated:
		o.say("In payments, %s.", why(reason))
	}
}

// untold tells that payments is further than orders has heard.
func (o *orderText) untold(p *contract.Payment, arrived bool) {
	if p.Status == contract.PaymentCreated && p.Reason != "" {
		o.waits(p.Reason, p.Amount, p.Currency)
	} else {
		o.say("In payments it is further: its payment is %s since %s.", p.Status, clock(p.UpdatedAt))
	}
	published := !slices.ContainsFunc(o.Events, func(e Event) bool { return e.Service == Payments })
	if published && !arrived {
		o.onItsWay("payment."+p.Status, "payments.dlq", p.UpdatedAt)
	}
}

// unheard tells that payments has not got the order.
func (o *orderText) unheard() {
	if !slices.ContainsFunc(o.Events, func(e Event) bool { return e.Service == Orders }) {
		o.onItsWay("order.placed", "orders.dlq", o.Order.CreatedAt)
	}
}

// onItsWay tells of an event that was published and whose effect is not seen.
func (o *orderText) onItsWay(event, deadLetters string, since contract.Time) {
	if o.age(since) <= usual {
		o.say("The event %s is on its way.", event)
		o.can("Wait a moment, and look again.")
		return
	}
	o.say("The event %s was published and has had no effect, %s: its reader does not run, could not read it, or keeps it "+
		"for a newer version.", event, o.since(since))
	if o.Order.Asked > 0 {
		o.say("Orders has announced the order again %s, last at %s.", times(o.Order.Asked), clock(o.Order.AskedAt))
	}
	if !o.Order.AskAt.IsZero() {
		o.can("Nothing: orders announces it again by itself, at about %s.", clock(o.Order.AskAt))
	}
	reader := map[string]string{"orders.dlq": Payments, "payments.dlq": Orders}[deadLetters]
	o.stand("An operator looks whether %s reads, and among the dead letters on %s: "+
		"`%s dead-letters --about %s`, then `%s put-back`.",
		reader, deadLetters, reader, o.ID, reader)
}
