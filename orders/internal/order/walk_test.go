package order

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

// walker is a payment that goes its way at random, as payments would let it, beside its order.
type walker struct {
	random   *rand.Rand
	payment  Payment // its newest version
	told     []Payment
	cancel   bool   // the cancellation has reached it
	cancelAs string // the reason of the cancellation
}

// reasonsOfWaiting are what a payment that was created may wait for.
var reasonsOfWaiting = []string{"waiting_for_inventory", "inventory_completed", "waiting_for_funds"}

func pick[T any](random *rand.Rand, list ...T) T { return list[random.IntN(len(list))] }

// next takes the payment one version further, and tells whether it could go on.
func (w *walker) next() bool {
	p := &w.payment
	var to string
	switch p.Status {
	case "":
		to = pick(w.random, contract.PaymentCreated, contract.PaymentAuthorized, contract.PaymentSucceeded,
			contract.PaymentFailed)
	case contract.PaymentCreated:
		to = pick(w.random, contract.PaymentCreated, contract.PaymentAuthorized, contract.PaymentSucceeded,
			contract.PaymentFailed)
	case contract.PaymentAuthorized:
		to = pick(w.random, contract.PaymentSucceeded, contract.PaymentFailed)
	case contract.PaymentSucceeded, contract.PaymentRefunded:
		to = contract.PaymentRefunded
		if p.Refunded == p.Captured && !w.cancel {
			return false
		}
	default:
		return false
	}
	p.Reason = ""
	switch {
	case w.cancel:
		if to, p.Reason = contract.PaymentCancelled, w.cancelAs; p.Captured > 0 {
			p.Refunded = p.Captured
		}
	case to == contract.PaymentCreated:
		p.Reason = pick(w.random, reasonsOfWaiting...)
	case to == contract.PaymentFailed:
		p.Reason = pick(w.random, "insufficient_funds", "rejected", "expired")
	case to == contract.PaymentSucceeded:
		p.Captured = 1 + w.random.Int64N(p.Amount)
	case to == contract.PaymentRefunded:
		p.Refunded += 1 + w.random.Int64N(p.Captured-p.Refunded)
	}
	p.Status, p.Version = to, p.Version+1
	p.EventID = contract.EventID(to, p.OrderID, p.Version)
	w.told = append(w.told, *p)
	return true
}

// Whatever way a payment goes, whenever its order is cancelled, whatever order its events come in, however often and
// with whatever missing: the order's history is one chain along the state machine, with a line for each version
// applied, and the order ends with the payment.
func TestOrdersFollowTheirPaymentsWhereverTheyGo(t *testing.T) {
	type step struct{ from, to Status }
	taken := map[step]int{}
	for seed := range uint64(20_000) {
		random := rand.New(rand.NewPCG(seed, 7))
		o := pendingOrder()
		w := walker{random: random, payment: paymentOf(o, "", 0, 0, 0)}
		var history []Transition
		apply := func(p Payment) {
			before := o
			transition, err := o.Apply(p, noon)
			switch {
			case err != nil:
				t.Fatalf("seed %d: %v\norder %+v", seed, err, before)
			case (transition == nil) != (p.Version <= before.PaymentVersion), transition == nil && !reflect.DeepEqual(o, before):
				t.Fatalf("seed %d: version %d of %+v: %+v", seed, p.Version, before, transition)
			case transition != nil:
				history = append(history, *transition)
			}
			if again, err := o.Apply(p, noon); again != nil || err != nil {
				t.Fatalf("seed %d: version %d has an effect twice: %+v, %v", seed, p.Version, again, err)
			}
		}
		cancel := func() {
			transition, err := o.Cancel("why", noon)
			if failed := o.Status == Failed; failed != (err != nil) {
				t.Fatalf("seed %d: cancelled as %s: %v", seed, o.Status, err)
			}
			if transition != nil {
				history = append(history, *transition)
			}
		}
		cancels := random.IntN(2) == 0
		for range 12 {
			switch random.IntN(4) {
			case 0:
				w.next()
			case 1: // an event of any age, as after a restart
				if len(w.told) > 0 {
					apply(pick(random, w.told...))
				}
			case 2:
				if cancels && random.IntN(3) == 0 {
					cancel()
				}
			case 3: // the cancellation reaches the payment
				if o.Status == Cancelling {
					w.cancel, w.cancelAs = true, o.Reason
				}
			}
		}
		if o.Status == Cancelling {
			w.cancel, w.cancelAs = true, o.Reason
		}
		for w.payment.Version == 0 || o.Status == Cancelling && w.payment.Status != contract.PaymentFailed &&
			w.payment.Status != contract.PaymentCancelled {
			w.next()
		}
		apply(w.payment)

		from, number := Pending, int64(1)
		seen := map[uuid.UUID]bool{}
		for _, line := range history {
			number++
			if line.From != from || line.Number != number || !from.CanBecome(line.To) || !line.EventID.Valid ||
				seen[line.EventID.UUID] {
				t.Fatalf("seed %d: line %+v of %+v", seed, line, history)
			}
			taken[step{line.From, line.To}]++
			from, seen[line.EventID.UUID] = line.To, true
		}
		p := w.payment
		reason := p.Reason
		if o.Status == Authorized || o.Status == Paid {
			reason = ""
		}
		if o.Status != from || o.Version != number || o.Status != statusOf[p.Status] || o.PaymentVersion != p.Version ||
			o.Reason != reason ||
			o.Captured != p.Captured || o.Refunded != p.Refunded {
			t.Fatalf("seed %d: %+v\nafter %+v\nof %+v", seed, o, history, p)
		}
	}
	for from, next := range successors {
		for _, to := range next {
			if taken[step{from, to}] == 0 {
				t.Errorf("no order went from %s to %s", from, to)
			}
		}
	}
}
