package order

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

func TestStateMachine(t *testing.T) {
	for _, from := range Statuses() {
		if _, ok := successors[from]; !ok {
			t.Errorf("%s has no entry", from)
		}
		if from.CanBecome(from) {
			t.Errorf("%s may become itself", from)
		}
	}
	var longest func(from Status, path []Status) int
	longest = func(from Status, path []Status) (n int) {
		if slices.Contains(path, from) {
			t.Fatalf("a cycle: %v %s", path, from)
		}
		for _, to := range successors[from] {
			n = max(n, 1+longest(to, append(slices.Clone(path), from)))
		}
		return n
	}
	if n := longest(Pending, nil); n != 4 {
		t.Errorf("an order may have %d transitions, not the 4 that are documented", n)
	}
}

// pendingOrder is an order of 10.00 RUB.
func pendingOrder() Order {
	return Order{
		ID: uuid.MustParse("0198c5a8-0d3c-7b0f-8a52-5c1d2e3f4a5b"), AccountID: account, Amount: 1000, Currency: "RUB",
		Status: Pending, Version: 1, CreatedAt: noon, UpdatedAt: noon,
	}
}

func paymentOf(o Order, status string, version, captured, refunded int64) Payment {
	return Payment{
		EventID: contract.EventID(status, o.ID, version), OrderID: o.ID, AccountID: o.AccountID, Currency: o.Currency,
		Amount: o.Amount, Status: status, Version: version, Captured: captured, Refunded: refunded,
	}
}

// paymentStatuses in the order of the columns below.
var paymentStatuses = []string{
	contract.PaymentCreated, contract.PaymentAuthorized, contract.PaymentSucceeded, contract.PaymentFailed,
	contract.PaymentCancelled, contract.PaymentRefunded,
}

func TestApplyFromEveryStatus(t *testing.T) {
	const impossible = Status("")
	for from, want := range map[Status][]Status{
		//           created     authorized  succeeded   failed      cancelled   refunded
		Pending:    {Pending, Authorized, Paid, Failed, impossible, Paid},
		Authorized: {impossible, Authorized, Paid, Failed, impossible, Paid},
		Paid:       {impossible, impossible, Paid, impossible, impossible, Paid},
		Failed:     {impossible, impossible, impossible, Failed, impossible, impossible},
		Cancelling: {Cancelling, Cancelling, Cancelling, Failed, Cancelled, Cancelling},
		Cancelled:  {impossible, impossible, impossible, impossible, Cancelled, impossible},
	} {
		for i, status := range paymentStatuses {
			before := pendingOrder()
			before.Status, before.PaymentVersion = from, 4
			o := before
			p := paymentOf(o, status, 5, 700, 200)
			p.Reason = "because"
			changed, transition, err := o.Apply(p, noon.Add(time.Second))
			if want[i] == impossible {
				if err == nil || changed || transition != nil || !reflect.DeepEqual(o, before) {
					t.Errorf("%s with %s: %v, changed %v, %+v", from, status, err, changed, o)
				}
				continue
			}
			if err != nil || !changed || o.Status != want[i] || o.PaymentVersion != 5 || o.Captured != 700 || o.Refunded != 200 {
				t.Errorf("%s with %s: %v, changed %v, %+v", from, status, err, changed, o)
			}
			if moved := from != want[i]; moved != (transition != nil) {
				t.Errorf("%s with %s: transition %+v", from, status, transition)
			} else if moved && (*transition != Transition{
				OrderID: o.ID, Number: 2, At: o.UpdatedAt, From: from, To: want[i], Reason: "because",
				EventID: uuid.NullUUID{UUID: p.EventID, Valid: true},
			} || o.Version != 2 || o.Reason != "because") {
				t.Errorf("%s with %s: transition %+v of %+v", from, status, transition, o)
			}
		}
	}
}

func TestApplyIgnoresWhatItHasSeen(t *testing.T) {
	o := pendingOrder()
	if _, _, err := o.Apply(paymentOf(o, contract.PaymentSucceeded, 2, 1000, 0), noon); err != nil {
		t.Fatal(err)
	}
	after := o
	for _, p := range []Payment{
		paymentOf(o, contract.PaymentSucceeded, 2, 1000, 0),
		paymentOf(o, contract.PaymentAuthorized, 1, 0, 0),
		paymentOf(o, contract.PaymentFailed, 1, 0, 0),
	} {
		changed, transition, err := o.Apply(p, noon.Add(time.Hour))
		if changed || transition != nil || err != nil || !reflect.DeepEqual(o, after) {
			t.Errorf("%s at version %d: changed %v, %v", p.Status, p.Version, changed, err)
		}
	}
}

func TestApplyRefusesThePaymentOfAnotherOrder(t *testing.T) {
	for name, change := range map[string]func(*Payment){
		"order":    func(p *Payment) { p.OrderID = uuid.New() },
		"account":  func(p *Payment) { p.AccountID = uuid.New() },
		"amount":   func(p *Payment) { p.Amount++ },
		"currency": func(p *Payment) { p.Currency = "USD" },
	} {
		o := pendingOrder()
		p := paymentOf(o, contract.PaymentSucceeded, 1, 1000, 0)
		change(&p)
		if _, _, err := o.Apply(p, noon); err == nil || !reflect.DeepEqual(o, pendingOrder()) {
			t.Errorf("another %s: %v, %+v", name, err, o)
		}
	}
}

func TestTimesDoNotRunBackwards(t *testing.T) {
	o := pendingOrder()
	_, transition, err := o.Apply(paymentOf(o, contract.PaymentSucceeded, 1, 1000, 0), noon.Add(-time.Minute))
	if err != nil || !transition.At.Equal(noon) || !o.UpdatedAt.Equal(noon) {
		t.Errorf("%v: at %s, updated %s", err, transition.At, o.UpdatedAt)
	}
}

// Whatever order the events of a payment come in, and however often, the order ends the same.
func TestApplyInAnyOrder(t *testing.T) {
	for _, test := range []struct {
		name   string
		from   Status
		events []string
		want   Status
	}{
		{"paid at once", Pending, []string{"succeeded"}, Paid},
		{"paid and refunded", Pending, []string{"created", "succeeded", "refunded", "refunded"}, Paid},
		{"confirmed", Pending, []string{"created", "authorized", "succeeded"}, Paid},
		{"rejected", Pending, []string{"created", "authorized", "failed"}, Failed},
		{"cancelled after all", Cancelling, []string{"created", "authorized", "succeeded", "cancelled"}, Cancelled},
		{"failed before the cancellation", Cancelling, []string{"created", "failed"}, Failed},
	} {
		random := rand.New(rand.NewPCG(1, 2))
		for range 200 {
			o := pendingOrder()
			o.Status = test.from
			var events []Payment
			for i, status := range test.events {
				p := paymentOf(o, status, int64(i+1), int64(i), int64(i))
				events = append(events, p, p)
			}
			last := events[len(events)-1]
			random.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
			transitions := int64(0)
			for _, p := range events {
				_, transition, err := o.Apply(p, noon)
				if err != nil {
					t.Fatalf("%s: %v in %+v", test.name, err, events)
				}
				if transition != nil {
					transitions++
				}
			}
			if o.Status != test.want || o.Captured != last.Captured || o.Refunded != last.Refunded ||
				o.PaymentVersion != last.Version || o.Version != 1+transitions {
				t.Fatalf("%s: %+v after %+v", test.name, o, events)
			}
		}
	}
}

func TestReadPayment(t *testing.T) {
	table := currencies(t)
	state := contract.Payment{
		OrderID: pendingOrder().ID, AccountID: account, Amount: "10.00", Currency: "RUB", Status: contract.PaymentRefunded,
		Reason: "because", CapturedAmount: "7.00", RefundedAmount: "0.00", Version: 3,
	}
	eventID := uuid.New()
	got, err := ReadPayment(table, eventID, state)
	want := Payment{
		EventID: eventID, OrderID: state.OrderID, AccountID: account, Currency: "RUB", Amount: 1000, Captured: 700,
		Status: contract.PaymentRefunded, Reason: "because", Version: 3,
	}
	if err != nil || got != want {
		t.Fatalf("%v: got %+v", err, got)
	}
	for name, change := range map[string]func(*contract.Payment){
		"order":          func(p *contract.Payment) { p.OrderID = uuid.Nil },
		"currency":       func(p *contract.Payment) { p.Currency = "QQQ" },
		"status":         func(p *contract.Payment) { p.Status = "paid" },
		"version":        func(p *contract.Payment) { p.Version = 0 },
		"amount":         func(p *contract.Payment) { p.Amount = "10" + "000000000000000000" },
		"captured":       func(p *contract.Payment) { p.CapturedAmount = "" },
		"negative":       func(p *contract.Payment) { p.RefundedAmount = "-0.00" },
		"over captured":  func(p *contract.Payment) { p.CapturedAmount = "10.01" },
		"over refunded":  func(p *contract.Payment) { p.RefundedAmount = "7.01" },
		"reason's NUL":   func(p *contract.Payment) { p.Reason = "a\x00b" },
		"reason's bytes": func(p *contract.Payment) { p.Reason = string(make([]byte, 201)) },
	} {
		bad := state
		change(&bad)
		if _, err := ReadPayment(table, eventID, bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
