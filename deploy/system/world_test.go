package system

import (
	"maps"
	"slices"
	"testing"

	"github.com/altyn-pay/altyn/platform/contract"
)

// world is what a few accounts should have, and what should have become of all that was asked of them: the rules of the
// whole system in their simplest form, one thing after another.
type world struct {
	purses []purse
	things []thing
	late   int  // the order, not begun yet, whose deadline passes before its payment begins; or none
	putOff bool // who waits for money is not served yet
}

// purse is what an account has of a currency.
type purse struct {
	actual, frozen int64
	queue          []int // the things that wait for money, in their order
	unserved       bool  // they would have been served, but for putOff
	missing        bool  // there is no such account
}

// thing is something that takes money of a purse. The statuses of an order are those of its payment, the
// others' those of their operations.
type thing struct {
	kind           kind
	purse, payee   int
	amount         int64
	manual         bool // of an order: held until it is confirmed
	goods          bool // of an order: its goods are waited for first
	wait           bool // of an order or withdrawal: it waits for money
	brief          bool // it has a deadline soon
	status, reason string
	captured       int64
	refunded       int64
	hold           string // the status of its hold, if it ever had one
}

type kind string

const (
	anOrder      kind = "order"
	aWithdrawal  kind = "withdrawal"
	aTransfer    kind = "transfer"
	aHold        kind = "hold"
	anAccount    kind = "account" // which is no thing of the world's
	forFunds          = "waiting_for_funds"
	forInventory      = "waiting_for_inventory"
)

// none is no thing.
const none = -1

func (w *world) clone() *world {
	c := &world{slices.Clone(w.purses), slices.Clone(w.things), w.late, w.putOff}
	for i := range c.purses {
		c.purses[i].queue = slices.Clone(c.purses[i].queue)
	}
	return c
}

// begin accepts a thing.
func (w *world) begin(t thing) {
	i := len(w.things)
	w.things = append(w.things, t)
	switch {
	case w.purses[t.purse].missing:
		w.fail(i, "account_not_found")
	case t.kind == anOrder && w.late == i:
		w.fail(i, "expired")
	case t.goods:
		w.things[i].status, w.things[i].reason = contract.PaymentCreated, forInventory
	default:
		w.debit(i)
	}
}

// debit takes the money of a thing, or lets it wait: behind others, or because it wants to.
func (w *world) debit(i int) {
	t := &w.things[i]
	p := &w.purses[t.purse]
	switch {
	case len(p.queue) > 0 || p.actual < t.amount && t.wait:
		t.status, t.reason = contract.PaymentCreated, forFunds
		p.queue = append(p.queue, i)
	case p.actual < t.amount:
		w.fail(i, "insufficient_funds")
	default:
		w.take(i)
	}
}

func (w *world) take(i int) {
	t := &w.things[i]
	p := &w.purses[t.purse]
	p.actual -= t.amount
	t.status, t.reason = "success", ""
	switch {
	case t.kind == aHold || t.manual:
		p.frozen += t.amount
		t.hold = "open"
		if t.manual {
			t.status = contract.PaymentAuthorized
		}
	case t.kind == aTransfer:
		w.credit(t.payee, t.amount)
	case t.kind == anOrder:
		t.status, t.captured = contract.PaymentSucceeded, t.amount
	}
}

func (w *world) fail(i int, reason string) {
	t := &w.things[i]
	if t.status, t.reason = "error", reason; t.kind == anOrder {
		t.status = contract.PaymentFailed
	}
}

func (w *world) credit(purse int, amount int64) {
	w.purses[purse].actual += amount
	w.serve(purse)
}

// serve goes through those that wait for money, as far as it goes.
func (w *world) serve(purse int) {
	p := &w.purses[purse]
	if w.putOff {
		p.unserved = len(p.queue) > 0
		return
	}
	p.unserved = false
	for len(p.queue) > 0 {
		i := p.queue[0]
		enough := w.things[i].amount <= p.actual
		if !enough && w.things[i].wait {
			return
		}
		p.queue = p.queue[1:]
		if enough {
			w.take(i)
		} else {
			w.fail(i, "insufficient_funds")
		}
	}
}

// leave takes a thing that has ended out of its queue.
func (w *world) leave(i int) {
	purse := w.things[i].purse
	p := &w.purses[purse]
	p.queue = slices.DeleteFunc(p.queue, func(other int) bool { return other == i })
	w.serve(purse)
}

// free ends the hold of a thing; what is not captured goes back.
func (w *world) free(i int, status string, captured int64) {
	t := &w.things[i]
	t.hold, t.captured = status, captured
	w.purses[t.purse].frozen -= t.amount
	w.credit(t.purse, t.amount-captured)
}

// due tells whether a thing may still meet its deadline.
func (t thing) due() bool {
	return t.brief && (t.status == contract.PaymentCreated && t.kind != aHold || t.hold == "open")
}

// waitsFor tells what a thing waits for.
func (t thing) waitsFor(reason string) bool {
	return t.status == contract.PaymentCreated && t.reason == reason
}

// What may be done to things. A refusal has a code; without one it is done.

func (w *world) confirm(i int, amount int64) string {
	t := &w.things[i]
	if amount == 0 {
		amount = t.amount
	}
	switch {
	case t.status != contract.PaymentAuthorized:
		return "payment_not_authorized"
	case amount > t.amount:
		return "amount_exceeds_hold"
	}
	t.status = contract.PaymentSucceeded
	w.free(i, "captured", amount)
	return ""
}

func (w *world) reject(i int) string {
	if w.things[i].status != contract.PaymentAuthorized {
		return "payment_not_authorized"
	}
	w.fail(i, "rejected")
	w.free(i, "released", 0)
	return ""
}

func (w *world) refund(i int, amount int64) string {
	t := &w.things[i]
	left := t.captured - t.refunded
	if amount == 0 {
		amount = left
	}
	switch {
	case t.status != contract.PaymentSucceeded && t.status != contract.PaymentRefunded:
		return "payment_not_captured"
	case left == 0 || amount > left:
		return "amount_exceeds_captured"
	}
	t.status, t.refunded = contract.PaymentRefunded, t.refunded+amount
	w.credit(t.purse, amount)
	return ""
}

func (w *world) cancel(i int) {
	t := &w.things[i]
	was, back := t.status, t.captured-t.refunded
	if was == contract.PaymentFailed || was == contract.PaymentCancelled {
		return
	}
	t.status, t.reason = contract.PaymentCancelled, "cancelled"
	switch was {
	case contract.PaymentCreated:
		w.leave(i)
	case contract.PaymentAuthorized:
		w.free(i, "released", 0)
	default:
		t.refunded = t.captured
		w.credit(t.purse, back)
	}
}

// end cancels what waits and is no order's.
func (w *world) end(i int) string {
	t := &w.things[i]
	switch {
	case t.kind == anOrder:
		return "operation_of_order"
	case t.status != contract.PaymentCreated:
		return "operation_final"
	}
	w.fail(i, "cancelled")
	w.leave(i)
	return ""
}

// word is what is said of an order's goods.
func (w *world) word(i int, status string) {
	switch {
	case !w.things[i].waitsFor(forInventory):
	case status == contract.InventoryCompleted:
		w.debit(i)
	case status == contract.InventoryFailed:
		w.fail(i, "out_of_stock")
	}
}

func (w *world) expire(i int) {
	if i == len(w.things) {
		w.late = i
		return
	}
	switch t := w.things[i]; {
	case !t.due():
	case t.status == contract.PaymentCreated:
		w.fail(i, "expired")
		w.leave(i)
	default:
		if t.kind == anOrder {
			w.fail(i, "expired")
		}
		w.free(i, "expired", 0)
	}
}

// capture and release are for holds that are no order's.

func (w *world) capture(i int, amount int64) string {
	t := w.things[i]
	if amount == 0 {
		amount = t.amount
	}
	switch {
	case t.kind == anOrder:
		return "hold_of_order"
	case t.hold != "open":
		return "hold_not_open"
	case amount > t.amount:
		return "amount_exceeds_hold"
	}
	w.free(i, "captured", amount)
	return ""
}

func (w *world) release(i int) string {
	switch t := w.things[i]; {
	case t.kind == anOrder:
		return "hold_of_order"
	case t.hold != "open":
		return "hold_not_open"
	}
	w.free(i, "released", 0)
	return ""
}

// Two payments at the same time may both be there before the first in the queue is served, and leave enough for the
// second, which waits only behind it.
func TestTheModelServesBetweenPaymentsOrAfterThem(t *testing.T) {
	w := &world{purses: []purse{{actual: 370}}, late: none}
	w.begin(thing{kind: aWithdrawal, amount: 377, wait: true})
	w.begin(thing{kind: aWithdrawal, amount: 229})
	credit := func(amount int64) act {
		return act{apply: func(w *world) func() []string { w.credit(0, amount); return always(done) }}
	}
	outcomes := map[int64]int{}
	for w := range (&group{world: w}).worlds([]act{credit(130), credit(166)}, nil) {
		outcomes[w.purses[0].actual]++
	}
	if want := map[int64]int{289: 2, 60: 2}; !maps.Equal(outcomes, want) {
		t.Errorf("what is left: %v, want %v", outcomes, want)
	}
}

// Who waits for money is told so at once, whether the request is the first or comes again: also right before the
// deadline, after which the answer is that it has expired.
func TestTheModelAnswersBeforeADeadlineOrAfterIt(t *testing.T) {
	for code, want := range map[string]bool{done: true, "expired": true, "insufficient_funds": false} {
		w := &world{purses: []purse{{}}, late: none}
		w.begin(thing{kind: aWithdrawal, amount: 383, wait: true, brief: true})
		g := &group{world: w, party: &party{sent: []request{{allowed: func(w *world) []string {
			if w.things[0].status == "error" {
				return []string{w.things[0].reason}
			}
			return []string{done}
		}}}}}
		acts := append(g.again(step{}), act{apply: func(w *world) func() []string { w.expire(0); return always() }})
		explained := false
		for range g.worlds(acts, [][]string{{code}}) {
			explained = true
		}
		if explained != want {
			t.Errorf("the answer %q is explained: %t, want %t", code, explained, want)
		}
	}
}
