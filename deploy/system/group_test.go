package system

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// group is some accounts between which money moves, and the world as it should be for them. The last account does not
// exist; the one before it never waits for money, and so is the one that those who wait may transfer to: what they are
// served with then depends on nobody else's queue.
type group struct {
	*party
	world    *world
	accounts []uuid.UUID
	ids      []uuid.UUID // of the world's things
	armed    int         // the thing with a deadline that comes soon, of which there is one at a time; or none
	deadline time.Time   // the earliest that it may be
}

// request is one that was answered, and may be sent again under its key.
type request struct {
	path, key string
	body      any
	command   map[string]any          // which it is over the broker
	procedure string                  // which it is over gRPC
	order     uuid.UUID               // of the procedure
	allowed   func(w *world) []string // the codes of its answers; nil: the first one's
}

// act is something that happens, in the world and in reality.
type act struct {
	// apply does it in a world, and returns the codes with which that may be answered, which may
	// depend on what else happens.
	apply func(w *world) (allowed func() []string)
	// send does it in reality and returns the codes of the answers; nil if it happens by itself.
	send func() ([]string, error)
}

// done is the code of what was not refused.
const done = ""

func always(codes ...string) func() []string { return func() []string { return codes } }

// play does a step, as far as there is something to do it to.
func (g *group) play(s step) error {
	if g.armed != none && !g.world.things[g.armed].due() {
		g.armed = none
	}
	if s.Kind == "guess" {
		return g.guesses(s)
	}
	acts := g.acts(s)
	if len(acts) == 0 {
		return nil
	}
	if g.armed != none && g.armed < len(g.world.things) {
		if s.AtDeadline {
			g.waitUntil(g.deadline.Add(time.Duration(rand.IntN(600)-50) * time.Millisecond))
		} else if time.Until(g.deadline) < 200*time.Millisecond {
			if err := g.lapse(); err != nil {
				return err
			}
			if acts = g.acts(s); len(acts) == 0 {
				return nil
			}
		}
	}
	return g.run(acts...)
}

// waitUntil waits for a time of day.
func (g *group) waitUntil(at time.Time) {
	_ = wait.Within(patience, 10*time.Millisecond, func() error {
		if time.Now().Before(at) {
			return errors.New("it is not time yet")
		}
		return nil
	})
}

// lapse lets what is due meet its deadline.
func (g *group) lapse() error {
	g.waitUntil(g.deadline)
	return g.run()
}

// run has things happen at the same time, and finds the world that has come of it among those that there may be.
func (g *group) run(acts ...act) error {
	codes := make([][]string, len(acts))
	var sending errgroup.Group
	for i, act := range acts {
		sending.Go(func() (err error) {
			codes[i], err = act.send()
			return err
		})
	}
	if err := sending.Wait(); err != nil {
		return err
	}
	var unexplained error
	err := wait.Within(g.patience, 5*time.Millisecond, func() error {
		happened := acts
		if g.armed != none && !time.Now().Before(g.deadline) {
			armed := g.armed
			happened = append(slices.Clone(acts), act{apply: func(w *world) func() []string {
				w.expire(armed)
				return always()
			}})
		}
		var errs []error
		for w := range g.worlds(happened, codes) {
			err := g.compare(w)
			if err == nil {
				g.world, unexplained = w, nil
				w.late = none
				return nil
			}
			errs = append(errs, err)
		}
		if errs == nil {
			if unexplained = fmt.Errorf("the answers %q are not those of any world", codes); g.armed == none ||
				len(happened) > len(acts) {
				return nil // nor will they be
			}
			return unexplained
		}
		return errors.Join(errs...)
	})
	if err = errors.Join(err, unexplained); err != nil {
		return fmt.Errorf("%w\nbefore it: %+v", err, *g.world)
	}
	return nil
}

// worlds are those that there may be after acts, whichever order they have happened in, as far as they explain the
// answers. Who waits for money is served after what brought it, perhaps only after something else: of two payments at
// the same time both may be there by then.
func (g *group) worlds(acts []act, codes [][]string) func(yield func(*world) bool) {
	return func(yield func(*world) bool) {
		permutations(len(acts), func(order []int) bool {
			for puttingOff := range 1 << max(0, len(order)-1) { // a bit for each but the last
				w, different := g.world.clone(), puttingOff == 0
				allowed := make([]func() []string, len(acts))
				for n, i := range order {
					w.putOff = puttingOff>>n&1 == 1
					allowed[i] = acts[i].apply(w)
					for purse := range w.purses {
						switch {
						case !w.purses[purse].unserved:
						case w.putOff:
							different = true
						default:
							w.serve(purse)
						}
					}
				}
				if different && explains(allowed, codes) && !yield(w) {
					return false
				}
			}
			return true
		})
	}
}

// explains tells whether all answers are allowed.
func explains(allowed []func() []string, codes [][]string) bool {
	for i := range codes {
		for _, code := range codes[i] {
			if !slices.Contains(allowed[i](), code) {
				return false
			}
		}
	}
	return true
}

// permutations calls yield with each order of n things until it returns false.
func permutations(n int, yield func(order []int) bool) {
	var extend func(order []int) bool
	extend = func(order []int) bool {
		if len(order) == n {
			return yield(order)
		}
		for i := range n {
			if !slices.Contains(order, i) && !extend(append(slices.Clone(order), i)) {
				return false
			}
		}
		return true
	}
	extend(nil)
}

// compare expects reality to be as a world where that differs from the present one.
func (g *group) compare(w *world) error {
	for i := range w.things {
		if want := w.thing(i); i >= len(g.world.things) || want != g.world.thing(i) {
			if err := g.expectThing(i, w); err != nil {
				return err
			}
		}
	}
	for i := range w.purses {
		if want := w.purse(i); want != g.world.purse(i) {
			if err := g.expectPurse(i, want); err != nil {
				return err
			}
		}
	}
	return nil
}

// orderStatus is the status of an order whose payment has the given one.
var orderStatus = map[string]string{
	contract.PaymentCreated: "pending", contract.PaymentAuthorized: "authorized", contract.PaymentSucceeded: "paid",
	contract.PaymentRefunded: "paid", contract.PaymentFailed: "failed", contract.PaymentCancelled: "cancelled",
}

// thing is a thing as the services should tell it.
func (w *world) thing(i int) string {
	t := w.things[i]
	if t.kind != anOrder {
		return t.status + " " + t.reason
	}
	return fmt.Sprintf("%s %s, captured %s, refunded %s", orderStatus[t.status], t.reason, cents(t.captured),
		cents(t.refunded))
}

func (w *world) purse(i int) string {
	return cents(w.purses[i].actual) + " and " + cents(w.purses[i].frozen) + " frozen"
}

func (g *group) expectThing(i int, w *world) error {
	t, want, got := w.things[i], w.thing(i), ""
	if t.kind == anOrder {
		var o load.Order
		if err := g.client.Get(g.Context(), load.OrdersPath+"/"+g.ids[i].String(), &o); err != nil {
			return err
		}
		if o.Status == "paid" {
			o.Reason = ""
		}
		got = fmt.Sprintf("%s %s, captured %s, refunded %s", o.Status, o.Reason, o.CapturedAmount, o.RefundedAmount)
	} else {
		var op contract.Operation
		if err := g.client.Get(g.Context(), "/api/v1/operations/"+g.ids[i].String(), &op); err != nil {
			return err
		}
		got = op.Status + " " + op.Reason
	}
	if got != want {
		return fmt.Errorf("%s %d (%s) is %q, not %q", t.kind, i, g.ids[i], got, want)
	}
	if t.manual || t.kind == aHold {
		return g.expectHold(i, t)
	}
	return nil
}

func (g *group) expectPurse(i int, want string) error {
	account, currency := g.accounts[i/len(currencies)], currencies[i%len(currencies)]
	has, held, err := g.balance(account)
	if err != nil {
		return err
	}
	got := "0.00 and 0.00 frozen"
	if actual, ok := has[currency]; ok {
		got = actual + " and " + held[currency] + " frozen"
	}
	if got != want {
		return fmt.Errorf("account %s has %s in %s, not %s", account, got, currency, want)
	}
	return nil
}

// end lets what is due meet its deadline, and then expects all that there is to be as in the world.
func (g *group) end() error {
	if g.armed != none && g.world.things[g.armed].due() {
		if err := g.lapse(); err != nil {
			return err
		}
	}
	var errs []error
	for i, t := range g.world.things {
		g.count(t.end())
		errs = append(errs, g.expectThing(i, g.world))
		if t.kind == anOrder {
			errs = append(errs, g.expectPayment(i, t))
		}
	}
	for i, p := range g.world.purses {
		if !p.missing {
			errs = append(errs, g.expectPurse(i, g.world.purse(i)))
		}
	}
	return errors.Join(errs...)
}

// end says how a thing has ended.
func (t thing) end() string {
	end := string(t.kind)
	if t.manual {
		end += " held"
	}
	if t.goods {
		end += " with goods"
	}
	if end += ": " + t.status + " " + t.reason; t.kind == aHold {
		end += t.hold
	}
	return end
}

// expectHold tells also apart whether something was held until its deadline, or met it before.
func (g *group) expectHold(i int, t thing) error {
	var got struct {
		Status         string `json:"status"`
		CapturedAmount string `json:"captured_amount"`
	}
	err := g.client.Get(g.Context(), "/api/v1/holds/"+g.ids[i].String(), &got)
	var missing *load.StatusError
	if err != nil && (t.hold != "" || !errors.As(err, &missing) || missing.Code() != "hold_not_found") {
		return err
	}
	captured := ""
	switch t.hold {
	case "captured":
		captured = cents(t.captured)
	case "open", "released", "expired":
		captured = cents(0)
	}
	if got.Status != t.hold || got.CapturedAmount != captured {
		return fmt.Errorf("the hold of %s %d (%s) is %+v, not %q with %q captured", t.kind, i, g.ids[i], got, t.hold,
			captured)
	}
	return nil
}

func (g *group) expectPayment(i int, t thing) error {
	p, err := g.payment(g.ids[i])
	var missing *load.StatusError
	if g.reach.Owner != "" && g.world.purses[t.purse].missing && errors.As(err, &missing) &&
		missing.Code() == "payment_not_found" { // it is not one of an account of the subject's
		return nil
	}
	if err != nil {
		return err
	}
	if p.Status != t.status || p.Reason != t.reason ||
		p.CapturedAmount != cents(t.captured) || p.RefundedAmount != cents(t.refunded) {
		return fmt.Errorf("payment %+v is not %s", p, g.world.thing(i))
	}
	return nil
}

// copies sends copies of a request at the same time. It returns the codes of the answers, and whatever they
// answer of: an ID and a deadline.
func (g *group) copies(r request, copies int) (codes []string, id uuid.UUID, expires time.Time, err error) {
	codes = make([]string, copies)
	answers := make([]answer, copies)
	err = load.Each(g.Context(), copies, copies, func(i int) (err error) {
		answers[i], err = g.ask(r)
		codes[i] = answers[i].code
		return err
	})
	if err != nil {
		return nil, id, expires, fmt.Errorf("%s %+v: %w", r.path, r.body, err)
	}
	for _, a := range answers {
		if id != uuid.Nil && a.ID != id && a.ID != uuid.Nil {
			return nil, id, expires, fmt.Errorf("%s %+v: copies were answered with %s and %s", r.path, r.body, a.ID, id)
		}
		if id == uuid.Nil {
			id = a.ID
		}
		if a.ExpiresAt != nil {
			expires = *a.ExpiresAt
		}
	}
	if r.allowed == nil { // whatever it was
		r.allowed = func(*world) []string { return codes[:1] }
	}
	g.mu.Lock()
	g.sent = append(g.sent, r)
	g.mu.Unlock()
	return codes, id, expires, nil
}
