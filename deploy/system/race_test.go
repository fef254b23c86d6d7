package system

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/deploy/stack"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/testkit/localkafka"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// race is an order that is brought to a stage, where two things are done to it at the same time.
type race struct {
	order      load.NewOrder
	stage, why string // before the race; "" is right after it was accepted
	step       action
	other      action   // a cancellation where it is nil
	refusals   []string // codes with which a step may be refused
	taken      taken
	allowed    []string // what may become of it, see ending
	first      string   // the ending that there is if, and only if, the first step was taken
}

// action does something to an order.
type action func(s *saga, account, order uuid.UUID) error

// taken says how many of the two steps must be taken, and not refused.
type taken string

const (
	both      taken = "both"
	oneOnly   taken = "exactly one"
	oneOrBoth taken = "at least one"
	whoever   taken = "" // refused is whoever comes after something that happened by itself
)

func (n taken) holds(steps [2]bool) bool {
	switch n {
	case both:
		return steps[0] && steps[1]
	case oneOnly:
		return steps[0] != steps[1]
	case oneOrBoth:
		return steps[0] || steps[1]
	}
	return true
}

func confirmation(s *saga, _, order uuid.UUID) error {
	_, err := s.client.Confirm(s.Context(), uuid.NewString(), order, "")
	return err
}

func rejection(s *saga, _, order uuid.UUID) error {
	_, err := s.client.Reject(s.Context(), uuid.NewString(), order, "")
	return err
}

func refund(amount string) action {
	return func(s *saga, _, order uuid.UUID) error {
		_, err := s.client.Refund(s.Context(), uuid.NewString(), order, amount)
		return err
	}
}

func cancellation(s *saga, _, order uuid.UUID) error {
	_, err := s.client.Cancel(s.Context(), uuid.NewString(), order, changedMind)
	return err
}

func word(status string) action {
	return func(s *saga, account, order uuid.UUID) error { return s.tell(account, goods(order, status)) }
}

func funding(s *saga, account, _ uuid.UUID) error {
	return s.post("/api/v1/accounts/"+account.String()+"/deposits", uuid.NewString(), amount("50.00"), nil)
}

// nothing is done: it happens by itself.
func nothing(*saga, uuid.UUID, uuid.UUID) error { return nil }

// ending is how an order has ended: its status, the reason, what was captured and what of it was refunded.
func ending(o load.Order) string {
	if o.Status == "paid" {
		o.Reason = ""
	}
	return strings.Join([]string{o.Status, o.Reason, o.CapturedAmount, o.RefundedAmount}, " ")
}

// The accounts of a race have 10.00.
const (
	cancelledFree = "cancelled cancelled 0.00 0.00"
	cancelledBack = "cancelled cancelled 10.00 10.00"
	paidWhole     = "paid  10.00 0.00"
	isRejected    = "failed rejected 0.00 0.00"
	isExpired     = "failed expired 0.00 0.00"
)

var (
	atOnce    = load.NewOrder{Amount: "10.00"}
	manual    = load.NewOrder{Amount: "10.00", Capture: contract.CaptureManual}
	brief     = load.NewOrder{Amount: "10.00", Capture: contract.CaptureManual, ExpiresIn: soon}
	withGoods = load.NewOrder{Amount: "10.00", AwaitInventory: true}
)

var races = map[string]race{
	"settlement": {order: atOnce, step: nothing, taken: both, allowed: []string{cancelledFree, cancelledBack}},
	"failure": {order: load.NewOrder{Amount: "10.01"}, step: nothing, refusals: []string{"order_failed"},
		allowed: []string{"failed insufficient_funds 0.00 0.00"}},
	"another": {order: manual, stage: "authorized", step: cancellation, taken: both, allowed: []string{cancelledFree}},
	"confirmation": {order: manual, stage: "authorized", step: confirmation, refusals: []string{"payment_not_authorized"},
		taken:   oneOrBoth,
		allowed: []string{cancelledFree, cancelledBack}, first: cancelledBack},
	"rejection": {order: manual, stage: "authorized", step: rejection,
		refusals: []string{"payment_not_authorized", "order_failed"}, taken: oneOrBoth,
		allowed: []string{isRejected, cancelledFree}, first: isRejected},
	"expiry": {order: brief, stage: "authorized", step: nothing, refusals: []string{"order_failed"},
		allowed: []string{isExpired, cancelledFree}},
	"refund": {order: atOnce, stage: "paid", step: refund("4.00"), refusals: []string{"payment_not_captured"},
		taken:   oneOrBoth,
		allowed: []string{cancelledBack}},
	"goods": {order: withGoods, stage: "pending", why: "waiting_for_inventory", step: word(contract.InventoryCompleted),
		taken:   both,
		allowed: []string{cancelledFree, cancelledBack}},
	"missing goods": {order: withGoods, stage: "pending", why: "waiting_for_inventory",
		step:     word(contract.InventoryFailed),
		refusals: []string{"order_failed"}, taken: oneOrBoth,
		allowed: []string{"failed out_of_stock 0.00 0.00", cancelledFree}},
	"money": {order: load.NewOrder{Amount: "60.00", OnInsufficient: contract.OnInsufficientWait}, stage: "pending",
		why:  "waiting_for_funds",
		step: funding, taken: both, allowed: []string{cancelledFree, "cancelled cancelled 60.00 60.00"}},

	// Without a cancellation.
	"goods that are due": {order: load.NewOrder{Amount: "10.00", AwaitInventory: true, ExpiresIn: soon}, stage: "pending",
		why: "waiting_for_inventory", step: word(contract.InventoryCompleted), other: nothing,
		allowed: []string{paidWhole, isExpired}},
	"confirmation that is due": {order: brief, stage: "authorized", step: confirmation, other: nothing,
		refusals: []string{"payment_not_authorized"}, allowed: []string{paidWhole, isExpired}, first: paidWhole},
	"confirmations": {order: manual, stage: "authorized", step: confirmation, other: confirmation,
		refusals: []string{"payment_not_authorized"}, taken: oneOnly, allowed: []string{paidWhole}},
	"verdicts": {order: manual, stage: "authorized", step: confirmation, other: rejection,
		refusals: []string{"payment_not_authorized"}, taken: oneOnly, allowed: []string{paidWhole, isRejected},
		first: paidWhole},
	"refunds": {order: atOnce, stage: "paid", step: refund("6.00"), other: refund("6.00"),
		refusals: []string{"amount_exceeds_captured"}, taken: oneOnly, allowed: []string{"paid  10.00 6.00"}},
}

// A cancellation races with whatever else may happen to an order at the same time, for hundreds of orders at once, on
// two instances of each service: each order ends in a way that is allowed, the steps were answered accordingly, and the
// money is where it should be.
func TestRaces(t *testing.T) {
	s := newSaga(t, localkafka.Embedded, stack.Instances(2, 2, 0))
	const each, clients = 30, 60
	names := slices.Sorted(maps.Keys(races))
	accounts := s.accounts(each*len(names), "10.00")
	var (
		mu       sync.Mutex
		ends     = map[string]int{}
		statuses = map[string]int64{"paid": 1} // the first order
	)
	if err := load.Each(t.Context(), len(accounts), clients, func(i int) error {
		name := names[i%len(names)]
		order, err := races[name].run(s, accounts[i])
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		mu.Lock()
		defer mu.Unlock()
		ends[name+": "+ending(order)]++
		statuses[order.Status]++
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, end := range slices.Sorted(maps.Keys(ends)) {
		t.Logf("%3d × %s", ends[end], end)
	}
	s.audit(statuses)
}

// run brings an order of an account to its stage, has two steps race, and returns the order when it has ended.
func (r race) run(s *saga, account uuid.UUID) (load.Order, error) {
	r.order.AccountID, r.order.Currency = account, "RUB"
	order, err := s.client.Place(s.Context(), uuid.NewString(), r.order)
	if err != nil {
		return order, err
	}
	if r.stage != "" {
		if order, err = s.until(order.ID, func(o load.Order) bool {
			return o.Status == r.stage && o.Reason == r.why
		}); err != nil {
			return order, err
		}
	}
	if r.order.ExpiresIn != "" { // what is due is looked for twice a second
		due := order.ExpiresAt.Add(time.Duration(rand.IntN(600)) * time.Millisecond)
		if order, err = s.until(order.ID, func(o load.Order) bool { return time.Now().After(due) || o.Final() }); err != nil {
			return order, err
		}
	}
	steps := [2]action{r.step, cancellation}
	if r.other != nil {
		steps[1] = r.other
	}
	// Now the one has a start, now the other, by some requests.
	late, start := rand.IntN(2), rand.IntN(8)
	var taken [2]bool
	var group errgroup.Group
	for i, step := range steps {
		group.Go(func() error {
			for range start {
				if i == late {
					if err := s.client.Get(s.Context(), load.OrdersPath+"/"+order.ID.String(), nil); err != nil {
						return err
					}
				}
			}
			err := step(s, account, order.ID)
			var answer *load.StatusError
			if taken[i] = err == nil; errors.As(err, &answer) && slices.Contains(r.refusals, answer.Code()) {
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return order, err
	}
	if order, err = s.until(order.ID, func(o load.Order) bool {
		return slices.Contains(r.allowed, ending(o))
	}); err != nil {
		return order, fmt.Errorf("it must become one of %q: %w", r.allowed, err)
	}
	if !r.taken.holds(taken) || r.first != "" && taken[0] != (ending(order) == r.first) {
		return order, fmt.Errorf("%+v; of its steps were taken %v, want %s", order, taken, r.taken)
	}
	return order, nil
}

// until polls an order until it is as a condition says.
func (s *saga) until(id uuid.UUID, condition func(load.Order) bool) (order load.Order, err error) {
	err = wait.Within(patience, 25*time.Millisecond, func() error {
		order = load.Order{} // what is left out is empty
		if err := s.client.Get(s.Context(), load.OrdersPath+"/"+id.String(), &order); err != nil {
			return err
		}
		if !condition(order) {
			return fmt.Errorf("order %+v", order)
		}
		return nil
	})
	return order, err
}
