package order

import (
	"time"

	"github.com/altyn-pay/altyn/platform/contract"
)

// Unsettled is what is remembered about an order that is not at its end, so that it does not wait for a lost event for
// ever.
type Unsettled struct {
	Version int64     // the order's when it was last looked at; 0 before the first time
	Asked   int       // how often payments was asked since the order had this version
	AskedAt time.Time // the last time
	DueAt   time.Time // when to look at the order next
}

// The pauses between two questions to payments, as multiples of the patience that an order is given before the first
// one. They double up to the longest.
const (
	longestPause = 60

	// An order may wait for days for goods, money or its confirmation, mostly without anything being lost.
	firstWaitingPause   = 10
	longestWaitingPause = 360
)

// Waits reports whether the order has a reason to stay as it is: its payment is known to wait for something.
func (o *Order) Waits() bool {
	switch o.Status {
	case Authorized:
		return true
	case Pending:
		return o.Reason == contract.WaitingForFunds || o.Reason == contract.WaitingForInventory
	}
	return false
}

// deadline returns the deadline of the order's payment: the order's own, or the default of what it waits for; zero
// where there is none.
func (o *Order) deadline() time.Time {
	switch {
	case o.ExpiresAt != nil:
		return *o.ExpiresAt
	case o.Status == Authorized:
		return o.UpdatedAt.Add(contract.HoldExpiry)
	case o.Reason == contract.WaitingForFunds:
		return o.UpdatedAt.Add(contract.FundsExpiry)
	case o.Reason == contract.WaitingForInventory:
		return o.UpdatedAt.Add(contract.InventoryExpiry)
	}
	return time.Time{}
}

// Look decides what to do about an order now. patience is how long an order may take without a reason to wait. ask
// reports that payments must be asked for the state of the payment. When watch is false, nothing more will happen by
// itself, and the order need not be looked at again.
func (u Unsettled) Look(o *Order, now time.Time, patience time.Duration) (next Unsettled, ask, watch bool) {
	waits := o.Waits()
	if o.Status.Settled() && !waits {
		return u, false, false
	}
	// After its deadline an order has no reason to wait any more.
	over := o.deadline().Add(patience)
	overdue := waits && !now.Before(over)
	if next = u; u.Version == o.Version {
		if overdue && u.AskedAt.Before(over) {
			next.Asked = 0
		}
	} else {
		next = Unsettled{Version: o.Version}
		if waits && !overdue {
			return next.in(o, now, firstWaitingPause*patience, patience), false, true
		}
		if since := now.Sub(o.UpdatedAt); since < patience {
			return next.in(o, now, patience-max(0, since), patience), false, true
		}
	}
	first, longest := patience, longestPause*patience
	if waits && !overdue {
		first, longest = firstWaitingPause*patience, longestWaitingPause*patience
	}
	pause := longest
	if next.Asked < 16 { // later it is the longest anyway
		pause = min(longest, first<<next.Asked)
	}
	next.Asked++
	next.AskedAt = now
	return next.in(o, now, pause, patience), true, true
}

// in sets when to look next: after the pause, or when the wait should have ended at its deadline.
func (u Unsettled) in(o *Order, now time.Time, pause, patience time.Duration) Unsettled {
	u.DueAt = now.Add(pause)
	if over := o.deadline().Add(patience); over.After(now) && over.Before(u.DueAt) {
		u.DueAt = over
	}
	return u
}

// Healed reports whether the order has changed soon after payments was asked about it.
func (u Unsettled) Healed(o *Order, patience time.Duration) bool {
	return u.Asked > 0 && u.Version < o.Version && o.UpdatedAt.Sub(u.AskedAt) < patience
}
