package order_test

import (
	"testing"
	"time"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/platform/contract"
)

func TestLookingAtAnUnsettledOrder(t *testing.T) {
	t.Parallel()
	const patience = time.Minute
	now := time.Date(2026, 1, 15, 9, 30, 0, 0, time.UTC)
	at := func(d time.Duration) *time.Time { at := now.Add(d); return &at }
	pending := order.Order{Status: order.Pending, Version: 1, UpdatedAt: now.Add(-time.Minute)}
	with := func(o order.Order, change func(*order.Order)) order.Order { change(&o); return o }
	waiting := with(pending, func(o *order.Order) { o.Reason, o.Version = contract.WaitingForInventory, 2 })
	forMoney := with(waiting, func(o *order.Order) { o.Reason = contract.WaitingForFunds })
	cancelling := with(pending, func(o *order.Order) {
		o.Status, o.Version = order.Cancelling, 2
		o.Reason = contract.WaitingForFunds
	})
	status := func(s order.Status) order.Order { return with(pending, func(o *order.Order) { o.Status = s }) }

	for name, c := range map[string]struct {
		order  order.Order
		before order.Unsettled
		asks   bool
		in     time.Duration // until the next look; 0: it is not watched any more
		asked  int
	}{
		"nothing was heard of it":    {pending, order.Unsettled{}, true, time.Minute, 1},
		"and again":                  {pending, order.Unsettled{Version: 1, Asked: 1}, true, 2 * time.Minute, 2},
		"and again, the pauses grow": {pending, order.Unsettled{Version: 1, Asked: 5}, true, 32 * time.Minute, 6},
		"up to an hour":              {pending, order.Unsettled{Version: 1, Asked: 6}, true, time.Hour, 7},
		"and stay so":                {pending, order.Unsettled{Version: 1, Asked: 1 << 20}, true, time.Hour, 1<<20 + 1},
		"its goods were there": {with(waiting, func(o *order.Order) { o.Reason = "inventory_completed" }),
			order.Unsettled{}, true, time.Minute, 1},
		"it has a reason now":             {waiting, order.Unsettled{Version: 1, Asked: 3}, false, 10 * time.Minute, 0},
		"its reason may be over":          {waiting, order.Unsettled{Version: 2}, true, 10 * time.Minute, 1},
		"it waits on":                     {forMoney, order.Unsettled{Version: 2, Asked: 2}, true, 40 * time.Minute, 3},
		"it waits for days":               {forMoney, order.Unsettled{Version: 2, Asked: 9}, true, 6 * time.Hour, 10},
		"until goods have had their time": {waiting, order.Unsettled{Version: 2, Asked: 2}, true, 15 * time.Minute, 3},
		"they have had it": {with(waiting, func(o *order.Order) { o.UpdatedAt = now.Add(-16 * time.Minute) }),
			order.Unsettled{Version: 2, Asked: 9, AskedAt: now.Add(-time.Minute)}, true, time.Minute, 1},
		"it was asked about since": {with(waiting, func(o *order.Order) { o.ExpiresAt = at(-time.Hour) }),
			order.Unsettled{Version: 2, Asked: 2, AskedAt: now.Add(-time.Minute)}, true, 4 * time.Minute, 3},
		"a hold that is over": {with(waiting, func(o *order.Order) {
			o.Status, o.Reason = order.Authorized, ""
			o.UpdatedAt = now.Add(-8 * 24 * time.Hour)
		}), order.Unsettled{Version: 2, Asked: 9}, true, time.Minute, 1},
		"its time is soon over": {with(waiting, func(o *order.Order) { o.ExpiresAt = at(2 * time.Minute) }),
			order.Unsettled{}, false, 3 * time.Minute, 0},
		"its time was over long ago": {with(waiting, func(o *order.Order) { o.ExpiresAt = at(-time.Hour) }),
			order.Unsettled{Version: 2}, true, time.Minute, 1},
		"its time was over a moment ago": {with(waiting, func(o *order.Order) { o.ExpiresAt = at(-time.Second) }),
			order.Unsettled{Version: 2}, true, 59 * time.Second, 1},
		"it is held": {with(waiting, func(o *order.Order) { o.Status, o.Reason = order.Authorized, "" }),
			order.Unsettled{}, false, 10 * time.Minute, 0},
		"it is being cancelled": {cancelling, order.Unsettled{}, true, time.Minute, 1},
		"for a moment": {with(cancelling, func(o *order.Order) { o.UpdatedAt = now.Add(-time.Second) }),
			order.Unsettled{}, false, 59 * time.Second, 0},
		"by a clock that is ahead": {with(cancelling, func(o *order.Order) { o.UpdatedAt = now.Add(time.Hour) }),
			order.Unsettled{}, false, time.Minute, 0},
		"for long":              {cancelling, order.Unsettled{Version: 2, Asked: 3}, true, 8 * time.Minute, 4},
		"it was waiting before": {cancelling, order.Unsettled{Version: 1, Asked: 7}, true, time.Minute, 1},
		"it is paid":            {status(order.Paid), order.Unsettled{}, false, 0, 0},
		"it has failed":         {status(order.Failed), order.Unsettled{Version: 1, Asked: 3}, false, 0, 0},
		"it is cancelled":       {status(order.Cancelled), order.Unsettled{}, false, 0, 0},
	} {
		next, asks, watched := c.before.Look(&c.order, now, patience)
		switch {
		case watched != (c.in > 0) || asks != c.asks:
			t.Errorf("%s: asks %v, watched %v", name, asks, watched)
		case watched && (next.DueAt.Sub(now) != c.in || next.Asked != c.asked || next.Version != c.order.Version ||
			asks != next.AskedAt.Equal(now)):
			t.Errorf("%s: next in %s: %+v", name, next.DueAt.Sub(now), next)
		}
	}

	asked := order.Unsettled{Version: 1, Asked: 1, AskedAt: now}
	answered := with(waiting, func(o *order.Order) { o.UpdatedAt = now.Add(time.Second) })
	later := with(waiting, func(o *order.Order) { o.UpdatedAt = now.Add(time.Hour) })
	if !asked.Healed(&answered, patience) || asked.Healed(&later, patience) || asked.Healed(&pending, patience) ||
		(order.Unsettled{}).Healed(&answered, patience) {
		t.Error("healed is an order that changes soon after it was asked about, and no other")
	}
}
