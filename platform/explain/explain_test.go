package explain_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/explain"
)

var (
	now   = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)
	order = uuid.MustParse("0198c5a8-0d3c-7b0f-8a52-5c1d2e3f4a5b")
	first = uuid.MustParse("0198c5a7-5f6e-7c3e-9d57-3f1f6a0f8e11")
)

func ago(d time.Duration) contract.Time { return contract.Time(now.Add(-d)) }

// orderIs is what orders says of an order of 60.00 RUB.
func orderIs(status, reason string, version int64, change ...func(*explain.Explanation)) explain.Part {
	e := &explain.Explanation{}
	e.Order = &explain.Order{Amount: "60.00", Currency: "RUB", Capture: "automatic", Status: status, Reason: reason,
		CapturedAmount: "0.00", RefundedAmount: "0.00", PaymentVersion: version, CreatedAt: ago(time.Minute),
		UpdatedAt: ago(time.Minute)}
	if status == "paid" {
		e.Order.CapturedAmount = "60.00"
	}
	for _, c := range change {
		c(e)
	}
	return explain.Part{Explanation: e}
}

// paymentIs is what payments says of it.
func paymentIs(status, reason string, version int64, change ...func(*explain.Explanation)) explain.Part {
	e := &explain.Explanation{}
	e.Payment = &contract.Payment{Amount: "60.00", Currency: "RUB", Status: status, Reason: reason, Version: version,
		UpdatedAt: ago(time.Minute)}
	for _, c := range change {
		c(e)
	}
	return explain.Part{Explanation: e}
}

type change = func(*explain.Explanation)

func event(service, kind, state string, age time.Duration) change {
	return func(e *explain.Explanation) {
		e.Events = append(e.Events, explain.Event{Service: service, Type: kind, State: state, Since: ago(age)})
	}
}

func waits(w explain.Wait) change {
	return func(e *explain.Explanation) { w.Until = contract.Time(now.Add(time.Hour)); e.Wait = &w }
}

func queued(q explain.Queued, stop *explain.Stop) change {
	return func(e *explain.Explanation) { e.Queued, e.Stop = append(e.Queued, q), stop }
}

func amounts(captured, refunded string) change {
	return func(e *explain.Explanation) { e.Order.CapturedAmount, e.Order.RefundedAmount = captured, refunded }
}

// TestOrders goes through where an order can be, by what the services say of it. The text says must be in the summary,
// and next in what to do next.
func TestOrders(t *testing.T) {
	unknown := explain.Part{Unknown: true}
	away := explain.Part{Gap: &explain.Gap{What: "payments", Why: "it cannot be reached", Away: true}}
	for name, test := range map[string]struct {
		orders, payments explain.Part
		status, says     string
		next             string
		stuck            bool
	}{
		"paid": {orderIs("paid", "", 1), paymentIs("succeeded", "", 1),
			"paid", "The order is paid: 60.00 RUB were taken.", "/refund", false},
		"paid in part": {orderIs("paid", "", 2, amounts("40.00", "0.00")), paymentIs("succeeded", "", 2),
			"paid", "of 60.00 RUB that were held, 40.00 RUB were taken; the rest was released.", "/refund", false},
		"refunded in parts": {orderIs("paid", "", 3, amounts("60.00", "25.00")), paymentIs("refunded", "", 3),
			"paid", "60.00 RUB were taken, of which 25.00 RUB were refunded.", "/refund", false},
		"refunded": {orderIs("paid", "", 3, amounts("60.00", "60.00")), paymentIs("refunded", "", 3),
			"paid", "all of it, 60.00 RUB, was refunded", "Nothing has to be done.", false},
		"a refund that orders has not heard of": {orderIs("paid", "", 1), paymentIs("refunded", "", 2),
			"paid", "its payment is refunded since 2026-01-02 15:03:05 UTC. The event payment.refunded was published",
			"payments.dlq", true},
		"authorized": {orderIs("authorized", "", 1), paymentIs("authorized", "", 1, func(e *explain.Explanation) {
			e.Hold = &explain.Hold{Status: "open", ExpiresAt: contract.Time(now.Add(time.Hour))}
		}), "authorized", "60.00 RUB are held until the payment is confirmed or rejected, until 2026-01-02 16:04:05 UTC",
			"/confirm or /reject", false},
		"want of money": {orderIs("failed", "insufficient_funds", 1), paymentIs("failed", "insufficient_funds", 1),
			"failed", "The order failed: the account had not enough money. Nothing was taken.", "Deposit money", false},
		"no account": {orderIs("failed", "account_not_found", 1), paymentIs("failed", "account_not_found", 1),
			"failed", "there is no such account", "the account's ID", false},
		"expired": {orderIs("failed", "expired", 2), paymentIs("failed", "expired", 2),
			"failed", "its time was over", "expires_in", false},
		"rejected": {orderIs("failed", "rejected", 2), paymentIs("failed", "rejected", 2),
			"failed", "the payment was rejected. Nothing was taken.", "Nothing has to be done.", false},
		"out of stock": {orderIs("failed", "out_of_stock", 2), paymentIs("failed", "out_of_stock", 2),
			"failed", "the goods are not there", "Place another order", false},
		"discarded": {orderIs("failed", "discarded", 1), paymentIs("failed", "discarded", 1),
			"failed", "an operator gave it up", "/admin/actions", false},
		"cancelled before": {orderIs("cancelled", "cancelled", 1), paymentIs("cancelled", "cancelled", 1),
			"cancelled", "Nothing was taken, and nothing is held any more.", "Nothing has to be done.", false},
		"cancelled after": {orderIs("cancelled", "cancelled", 2, amounts("60.00", "60.00")),
			paymentIs("cancelled", "cancelled", 2), "cancelled", "All that was taken, 60.00 RUB, was returned.",
			"Nothing has to be done.", false},
		"cancelling, a moment ago": {orderIs("cancelling", "cancelled", 1, func(e *explain.Explanation) {
			e.Order.UpdatedAt = ago(time.Second)
		}), paymentIs("succeeded", "", 1), "cancelling", "The event order.cancelled is on its way.", "Wait a moment", false},
		"cancelling, long ago": {orderIs("cancelling", "cancelled", 1), paymentIs("succeeded", "", 1),
			"cancelling", "The event order.cancelled was published and has had no effect, since 2026-01-02 15:03:05 UTC (1 min)",
			"orders.dlq", true},
		"cancelling, and stuck in the outbox": {
			orderIs("cancelling", "cancelled", 1, event("orders", "order.cancelled", explain.Unpublished, time.Minute)),
			paymentIs("succeeded", "", 1), "cancelling", "The event order.cancelled is stored in orders and not published",
			"whether the broker answers", true},
		"cancelling, behind a stopped account": {orderIs("cancelling", "cancelled", 1),
			paymentIs("succeeded", "", 1, queued(explain.Queued{Kind: "cancel", Since: ago(time.Minute)},
				&explain.Stop{Attempts: 8, Parked: true})),
			"cancelling", "Its cancellation is accepted by payments and stands in a queue that stands still", "/admin/parked",
			true},

		"waits for goods": {orderIs("pending", "waiting_for_inventory", 1), paymentIs("created", "waiting_for_inventory", 1,
			waits(explain.Wait{For: "waiting_for_inventory"})), "pending",
			"It waits for the goods, until 2026-01-02 16:04:05 UTC at the latest.", "COMPLETED", false},
		"waits for money": {orderIs("pending", "waiting_for_funds", 1), paymentIs("created", "waiting_for_funds", 1,
			waits(explain.Wait{For: "waiting_for_funds", Available: "10.00"})), "pending",
			"It waits for money: 60.00 RUB, of which the account has 10.00 free, until", "Deposit money", false},
		"waits behind another": {orderIs("pending", "waiting_for_funds", 1), paymentIs("created", "waiting_for_funds", 1,
			waits(explain.Wait{For: "waiting_for_funds", Behind: 1, First: first})), "pending",
			"There is 1 other of the account before it, the first of which is " + first.String(), "The first in the queue",
			false},
		"waits behind another that may not be named": {orderIs("pending", "waiting_for_funds", 1),
			paymentIs("created", "waiting_for_funds", 1, waits(explain.Wait{For: "waiting_for_funds", Behind: 1000})),
			"pending", "There are 1000 others or more of the account before it.", "The first in the queue", false},

		"on its way": {orderIs("pending", "", 0, func(e *explain.Explanation) { e.Order.CreatedAt = ago(time.Second) }),
			unknown, "pending", "The event order.placed is on its way.", "Wait a moment", false},
		"the broker is away": {orderIs("pending", "", 0, event("orders", "order.placed", explain.Unpublished, time.Minute)),
			unknown, "pending", "not published, since 2026-01-02 15:03:05 UTC (1 min). Nothing is lost: the broker may be away",
			"whether the broker answers", true},
		"a moment in the outbox": {orderIs("pending", "", 0,
			event("orders", "order.placed", explain.Unpublished, time.Second)), unknown, "pending",
			"The event order.placed is stored in orders and not published", "Wait a moment", false},
		"refused by the broker": {orderIs("pending", "", 0, event("orders", "order.placed", explain.Refused, time.Minute)),
			unknown, "pending", "The broker does not take the event order.placed", "GET /admin/parked of orders", true},
		"dead-lettered in payments": {orderIs("pending", "", 0, func(e *explain.Explanation) {
			e.Order.Asked, e.Order.AskedAt, e.Order.AskAt = 2, ago(time.Second), contract.Time(now.Add(time.Minute))
		}), unknown, "pending", "Orders has announced the order again 2 times, last at 2026-01-02 15:04:04 UTC.",
			"`payments dead-letters --about " + order.String() + "`, then `payments put-back`", true},
		"dead-lettered in orders": {orderIs("pending", "", 0), paymentIs("succeeded", "", 1), "pending",
			"its payment is succeeded since 2026-01-02 15:03:05 UTC. The event payment.succeeded was published",
			"`orders dead-letters --about " + order.String() + "`, then `orders put-back`", true},
		"parked in orders": {orderIs("pending", "", 0, event("orders", "payment.succeeded", explain.Unapplied, time.Minute)),
			paymentIs("succeeded", "", 1), "pending", "The event payment.succeeded came to orders and could not be applied",
			"redrives the event", true},
		"kept in orders": {orderIs("pending", "", 0, event("orders", "payment.disputed", explain.Unknown, time.Minute)),
			paymentIs("disputed", "", 1), "pending", "runs in a version that does not know it",
			"once a version of orders runs that knows it", true},
		"kept in payments": {orderIs("pending", "", 0), paymentIs("created", "", 0,
			queued(explain.Queued{Kind: "kept", Since: ago(time.Minute), Head: true}, &explain.Stop{})), "pending",
			"An event of a newer version about it is accepted by payments", "once an instance of that version runs", true},
		"stuck in payments' outbox": {orderIs("pending", "", 0), paymentIs("succeeded", "", 1,
			event("payments", "payment.succeeded", explain.Unpublished, time.Minute)), "pending",
			"The event payment.succeeded is stored in payments and not published", "/readyz of payments", true},
		"failed, and tried again": {orderIs("pending", "", 0), paymentIs("created", "", 0,
			queued(explain.Queued{Kind: "payment", Since: ago(time.Minute), Head: true},
				&explain.Stop{Attempts: 2, RetryAt: contract.Time(now.Add(time.Second))})), "pending",
			"The order is accepted by payments and failed 2 times; the queue of its account stands still. It is tried again at",
			"tried again by itself", true},
		"parked": {orderIs("pending", "", 0), paymentIs("created", "", 0,
			queued(explain.Queued{Kind: "payment", Since: ago(time.Minute), Head: true},
				&explain.Stop{Attempts: 8, Parked: true})), "pending", "failed 8 times; the queue of its account stands still",
			"redrives or discards", true},
		"behind what is parked": {orderIs("pending", "", 0), paymentIs("created", "", 0,
			queued(explain.Queued{Kind: "payment", Since: ago(time.Minute)}, &explain.Stop{Attempts: 8, Parked: true})),
			"pending", "an earlier message of the account failed 8 times", "redrives or discards", true},
		"in the queue of payments": {orderIs("pending", "", 0), paymentIs("created", "", 0,
			queued(explain.Queued{Kind: "payment", Since: ago(time.Second)}, nil)), "pending",
			"The order is accepted by payments and has not taken effect", "Wait a moment", false},

		"payments is away": {orderIs("pending", "waiting_for_funds", 1), away, "pending",
			"When orders last heard of its payment, it waits for money.", "once payments can be asked", false},
		"paid, and payments is away": {orderIs("paid", "", 1), away, "paid", "60.00 RUB were taken.", "/refund", false},
		"orders is away": {explain.Part{Gap: &explain.Gap{What: "orders", Away: true}}, paymentIs("succeeded", "", 1),
			"succeeded", "what payments alone knows: the payment of the order is succeeded", "/explain at the gateway", false},
		"orders has lost it": {unknown, paymentIs("succeeded", "", 1), "succeeded",
			"Orders has no such order for this token; payments has its payment", "older copy", false},
		"payments has lost a version": {orderIs("paid", "", 3), paymentIs("succeeded", "", 1), "paid",
			"Orders has seen version 3 of its payment; payments has version 1 only.", "older copy", true},
	} {
		e := explain.OfOrder(order, test.orders, test.payments, now)
		next := strings.Join(e.Next, "\n")
		if e.ID != order || e.Status != test.status || e.Stuck != test.stuck || !strings.Contains(e.Summary, test.says) ||
			!strings.Contains(next, test.next) || len(e.Next) == 0 || e.Timeline == nil {
			t.Errorf("%s: %s, stuck %v: %s\n%s\nwant %s, stuck %v, %q, %q", name, e.Status, e.Stuck, e.Summary, next,
				test.status, test.stuck, test.says, test.next)
		}
		if gaps := test.orders.Gap != nil || test.payments.Gap != nil; gaps != (len(e.Missing) > 0) {
			t.Errorf("%s: missing %+v", name, e.Missing)
		}
	}
}

func TestOperations(t *testing.T) {
	op := func(kind, status, reason string, changes ...change) explain.Explanation {
		e := explain.Explanation{ID: first}
		e.Operation = &contract.Operation{ID: first, Operation: kind, AccountID: order, Amount: "5.00", Currency: "RUB",
			Status: status, Reason: reason, CreatedAt: ago(time.Minute), SettledAt: ago(time.Minute)}
		for _, c := range changes {
			c(&e)
		}
		return e
	}
	of := func(hold, other, belongs uuid.UUID) change {
		return func(e *explain.Explanation) {
			e.Operation.HoldID, e.Operation.ToAccountID, e.Operation.OrderID = hold, other, belongs
		}
	}
	hold := func(status string) change {
		return func(e *explain.Explanation) {
			e.Hold = &explain.Hold{Status: status, ExpiresAt: contract.Time(now.Add(time.Hour))}
		}
	}
	for name, test := range map[string]struct {
		explain.Explanation
		says, next string
		stuck      bool
	}{
		"opened": {op("create_account", "success", ""), "The opening of the account " + order.String() + " took effect",
			"Nothing has to be done.", false},
		"deposited": {op("deposit", "success", ""), "The deposit of 5.00 RUB on the account " + order.String() +
			" took effect at 2026-01-02 15:03:05 UTC.", "Nothing has to be done.", false},
		"no money": {op("withdraw", "error", "insufficient_funds"),
			"failed: the account had not enough money. It moved no money.", "Deposit money", false},
		"transferred": {op("transfer", "success", "", of(uuid.Nil, first, uuid.Nil)),
			" to " + first.String() + " took effect", "Nothing has to be done.", false},
		"held": {op("hold", "success", "", hold("open")), "until 2026-01-02 16:04:05 UTC at the latest", "/capture", false},
		"held and captured": {op("hold", "success", "", hold("captured")), "The hold is captured.",
			"Nothing has to be done.", false},
		"captured": {op("capture", "success", "", of(first, uuid.Nil, uuid.Nil)), "of the hold " + first.String(),
			"Nothing has to be done.", false},
		"released": {op("release", "error", "hold_not_open", of(first, uuid.Nil, uuid.Nil)),
			"captured, released or has expired", "Nothing has to be done.", false},
		"paid": {op("payment", "success", "", of(uuid.Nil, uuid.Nil, order)), "of the order " + order.String(),
			"/api/v1/orders/" + order.String() + "/explain", false},
		"refunded": {op("refund", "success", "", of(uuid.Nil, uuid.Nil, order)), "The refund of 5.00 RUB of the order",
			"/explain", false},
		"cancelled": {op("withdraw", "error", "cancelled"), "it was cancelled", "Nothing has to be done.", false},
		"waits": {op("withdraw", "created", "waiting_for_funds", waits(explain.Wait{For: "waiting_for_funds", Behind: 2,
			First: order, Available: "1.00"})), "There are 2 others of the account before it", "/cancel", false},
		"waits, of an account that may not be read": {op("transfer", "created", "waiting_for_funds"),
			"In short, it waits for money.", "/cancel", false},
		"in the inbox": {op("deposit", "created", "", queued(explain.Queued{Kind: "deposit", Since: ago(time.Minute)},
			&explain.Stop{Attempts: 8, Parked: true})), "stands in a queue that stands still", "/admin/parked", true},
	} {
		e := test.Explanation
		explain.OfOperation(&e, now)
		if next := strings.Join(e.Next, "\n"); e.Status != e.Operation.Status || e.Stuck != test.stuck ||
			!strings.Contains(e.Summary, test.says) || !strings.Contains(next, test.next) {
			t.Errorf("%s: %s, stuck %v: %s\n%s\nwant %q, %q", name, e.Status, e.Stuck, e.Summary, next, test.says, test.next)
		}
	}
}

// Steps stay behind their causes, however the clocks go.
func TestMerge(t *testing.T) {
	step := func(second int, what string) explain.Step {
		return explain.Step{At: contract.Time(now.Add(time.Duration(second) * time.Second)), What: what}
	}
	got := explain.Merge(
		[]explain.Step{step(1, "a"), step(5, "b"), step(4, "c"), step(9, "d")},
		[]explain.Step{step(1, "e"), step(5, "f"), step(6, "g")}, nil)
	var order []string
	for _, s := range got {
		order = append(order, s.What)
	}
	if want := []string{"a", "e", "b", "c", "f", "g", "d"}; !slices.Equal(order, want) {
		t.Errorf("got %v, want %v", order, want)
	}
	if got[3].At != step(4, "").At {
		t.Errorf("a step has lost its time: %+v", got[3])
	}
}
