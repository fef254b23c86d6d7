package order

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

func TestStateMachine(t *testing.T) {
	for _, from := range Statuses() {
		next, ok := successors[from]
		if !ok {
			t.Errorf("%s has no entry", from)
		}
		if final := from == Failed || from == Cancelled; final != from.Final() || final != (len(next) == 0) {
			t.Errorf("%s is final: %v, with the successors %v", from, from.Final(), next)
		}
		if itself := from == Pending || from == Paid || from == Cancelling; itself != from.CanBecome(from) {
			t.Errorf("%s may follow itself: %v", from, from.CanBecome(from))
		}
	}
	var longest func(from Status, path []Status) int
	longest = func(from Status, path []Status) (n int) {
		if slices.Contains(path, from) {
			t.Fatalf("a cycle: %v %s", path, from)
		}
		for _, to := range successors[from] {
			if to != from {
				n = max(n, 1+longest(to, append(slices.Clone(path), from)))
			}
		}
		return n
	}
	if n := longest(Pending, nil); n != 4 {
		t.Errorf("an order may change its status %d times, not the 4 that are documented", n)
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
		Authorized: {impossible, impossible, Paid, Failed, impossible, Paid},
		Paid:       {impossible, impossible, Paid, impossible, impossible, Paid},
		Failed:     {impossible, impossible, impossible, impossible, impossible, impossible},
		Cancelling: {Cancelling, Cancelling, Cancelling, Failed, Cancelled, Cancelling},
		Cancelled:  {impossible, impossible, impossible, impossible, impossible, impossible},
	} {
		for i, status := range paymentStatuses {
			before := pendingOrder()
			before.Status, before.PaymentVersion, before.Version = from, 4, 3
			before.Reason, before.Note = "before", "said before"
			o := before
			p := paymentOf(o, status, 5, 700, 200)
			p.Reason, p.Note = "because", "said"
			transition, err := o.Apply(p, noon.Add(time.Second))
			if want[i] == impossible {
				if err == nil || transition != nil || !reflect.DeepEqual(o, before) {
					t.Errorf("%s with %s: %v, %+v", from, status, err, o)
				}
				continue
			}
			line, reason, note := "because", "because", "said"
			switch want[i] {
			case Authorized:
				reason = ""
			case Paid:
				if reason = ""; from == Paid {
					line = status
				}
			case Cancelling:
				line, reason, note = status, "before", "said before"
			}
			after := before
			after.Status, after.Reason, after.Note = want[i], reason, note
			after.Version, after.UpdatedAt = 4, utc(noon.Add(time.Second))
			after.PaymentVersion, after.Captured, after.Refunded = 5, 700, 200
			if err != nil || !reflect.DeepEqual(o, after) {
				t.Errorf("%s with %s: %v,\n%+v instead of\n%+v", from, status, err, o, after)
			}
			if transition == nil || *transition != (Transition{
				OrderID: o.ID, Number: 4, At: after.UpdatedAt, From: from, To: want[i], Reason: line, Note: "said",
				EventID: uuid.NullUUID{UUID: p.EventID, Valid: true},
			}) {
				t.Errorf("%s with %s: transition %+v", from, status, transition)
			}
		}
	}
}

// utc is a time as orders keep it.
func utc(at time.Time) time.Time { return at.UTC().Truncate(time.Microsecond) }

func TestApplyIgnoresWhatItHasSeen(t *testing.T) {
	o := pendingOrder()
	if _, err := o.Apply(paymentOf(o, contract.PaymentSucceeded, 2, 1000, 0), noon); err != nil {
		t.Fatal(err)
	}
	after := o
	for _, p := range []Payment{
		paymentOf(o, contract.PaymentSucceeded, 2, 1000, 0),
		paymentOf(o, contract.PaymentAuthorized, 1, 0, 0),
		paymentOf(o, contract.PaymentFailed, 1, 0, 0),
	} {
		transition, err := o.Apply(p, noon.Add(time.Hour))
		if transition != nil || err != nil || !reflect.DeepEqual(o, after) {
			t.Errorf("%s at version %d: %+v, %v", p.Status, p.Version, transition, err)
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
		if _, err := o.Apply(p, noon); err == nil || !reflect.DeepEqual(o, pendingOrder()) {
			t.Errorf("another %s: %v, %+v", name, err, o)
		}
	}
}

func TestTimesDoNotRunBackwards(t *testing.T) {
	o := pendingOrder()
	transition, err := o.Apply(paymentOf(o, contract.PaymentSucceeded, 1, 1000, 0), noon.Add(-time.Minute))
	if err != nil || !transition.At.Equal(noon) || !o.UpdatedAt.Equal(noon) {
		t.Errorf("%v: at %s, updated %s", err, transition.At, o.UpdatedAt)
	}
}

func TestReadPayment(t *testing.T) {
	table := currencies(t)
	state := contract.Payment{
		OrderID: pendingOrder().ID, AccountID: account, Amount: "10.00", Currency: "RUB", Status: contract.PaymentRefunded,
		Reason: "because", Note: "said", CapturedAmount: "7.00", RefundedAmount: "0.00", Version: 3,
	}
	eventID := uuid.New()
	got, err := ReadPayment(table, eventID, state)
	want := Payment{
		EventID: eventID, OrderID: state.OrderID, AccountID: account, Currency: "RUB", Amount: 1000, Captured: 700,
		Status: contract.PaymentRefunded, Reason: "because", Note: "said", Version: 3,
	}
	if err != nil || got != want {
		t.Fatalf("%v: got %+v", err, got)
	}
	for name, change := range map[string]func(*contract.Payment){
		"order":           func(p *contract.Payment) { p.OrderID = uuid.Nil },
		"currency":        func(p *contract.Payment) { p.Currency = "QQQ" },
		"status":          func(p *contract.Payment) { p.Status = "paid" },
		"version":         func(p *contract.Payment) { p.Version = 0 },
		"amount":          func(p *contract.Payment) { p.Amount = "10" + "000000000000000000" },
		"captured":        func(p *contract.Payment) { p.CapturedAmount = "" },
		"negative":        func(p *contract.Payment) { p.RefundedAmount = "-0.00" },
		"over captured":   func(p *contract.Payment) { p.CapturedAmount = "10.01" },
		"over refunded":   func(p *contract.Payment) { p.RefundedAmount = "7.01" },
		"note's length":   func(p *contract.Payment) { p.Note = strings.Repeat("ы", 201) },
		"reason's NUL":    func(p *contract.Payment) { p.Reason = "a\x00b" },
		"reason's length": func(p *contract.Payment) { p.Reason = strings.Repeat("ы", 201) },
		"endless amount":  func(p *contract.Payment) { p.Amount = "10." + strings.Repeat("0", 1000) },
	} {
		bad := state
		change(&bad)
		if _, err := ReadPayment(table, eventID, bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// What an earlier version of payments tells of a cancellation has the client's words as the reason.
func TestReadCancellation(t *testing.T) {
	table := currencies(t)
	for _, test := range []struct{ reason, note, want string }{
		{"cancelled", "changed my mind", "changed my mind"}, {"cancelled", "", ""},
		{"changed my mind", "", "changed my mind"}, {"", "", ""},
	} {
		p, err := ReadPayment(table, uuid.New(), contract.Payment{
			OrderID: pendingOrder().ID, AccountID: account, Amount: "10.00", Currency: "RUB", Status: contract.PaymentCancelled,
			Reason: test.reason, Note: test.note, CapturedAmount: "0.00", RefundedAmount: "0.00", Version: 1,
		})
		if err != nil || p.Reason != "cancelled" || p.Note != test.want {
			t.Errorf("%+v: %v, reason %q, note %q", test, err, p.Reason, p.Note)
		}
	}
}

// An order keeps the note of its cancellation also where payments, of an earlier version, does not tell it.
func TestACancelledOrderKeepsItsNote(t *testing.T) {
	o := pendingOrder()
	if _, err := o.Cancel("changed my mind", noon); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Apply(paymentOf(o, contract.PaymentCancelled, 1, 0, 0), noon); err != nil ||
		o.Note != "changed my mind" {
		t.Errorf("%v: %+v", err, o)
	}
}

// What payments writes with other digits is taken where it is the same amount; what is not is a fault of the settings,
// and not an event that cannot be read.
func TestReadPaymentWithOtherDigits(t *testing.T) {
	table := currencies(t)
	for text, minor := range map[string]int64{"10": 1000, "10.0": 1000, "10.00": 1000, "10.000": 1000, "10.010": 1001,
		"0": -1, "0.000": -1, "10.001": 0, "0.001": 0} {
		amount, captured := text, "0.00"
		if minor < 0 {
			amount, captured, minor = "10.00", text, 1000
		}
		got, err := ReadPayment(table, uuid.New(), contract.Payment{OrderID: uuid.New(), AccountID: account, Amount: amount,
			Currency: "RUB", Status: contract.PaymentFailed, CapturedAmount: captured, RefundedAmount: "0", Version: 1})
		if minor == 0 && !errors.Is(err, ErrCurrency) || minor > 0 &&
			(err != nil || got.Amount != minor || got.Captured != 0) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	_, err := ReadPayment(table, uuid.New(), contract.Payment{OrderID: uuid.New(), AccountID: account, Amount: "1",
		Currency: "QQQ", Status: contract.PaymentFailed, CapturedAmount: "0", RefundedAmount: "0", Version: 1})
	if !errors.Is(err, ErrCurrency) {
		t.Errorf("an unknown currency: %v", err)
	}
}

// After a restoration of payments an order follows what payments knows now, whatever it was before. Only of what has
// failed or is cancelled no money is taken: it is cancelled again.
func TestApplyAfterARestoration(t *testing.T) {
	const same = Status("")
	const epoch = 1_796_000_000 * contract.Epoch
	for from, want := range map[Status][]Status{
		//           created     authorized  succeeded   failed      cancelled   refunded
		Pending:    {same, same, same, same, Cancelled, same},
		Authorized: {Pending, Authorized, same, same, Cancelled, same},
		Paid:       {Pending, Authorized, same, Failed, Cancelled, same},
		Failed:     {Cancelling, Cancelling, Cancelling, Failed, Cancelled, Cancelling},
		Cancelling: {same, same, same, same, same, same},
		Cancelled:  {Cancelling, Cancelling, Cancelling, Failed, Cancelled, Cancelling},
	} {
		for i, status := range paymentStatuses {
			before := pendingOrder()
			before.Status, before.PaymentVersion, before.Version = from, epoch+4, 3
			before.Captured, before.Refunded = 700, 200
			ordinary := before
			p := paymentOf(before, status, epoch+5, 700, 200)
			wanted, err := ordinary.Apply(p, noon)
			o := before
			p.Version = epoch + contract.Epoch // fewer versions than the order has seen, but a new epoch
			transition, errAgain := o.Apply(p, noon)
			if want[i] == same { // as within an epoch
				if wanted != nil {
					ordinary.PaymentVersion = p.Version
				}
				if (err == nil) != (errAgain == nil) || !reflect.DeepEqual(o, ordinary) || transition.Undoes() {
					t.Errorf("%s with %s: %v, %+v instead of %v, %+v", from, status, errAgain, o, err, ordinary)
				}
				continue
			}
			if err == nil && from != want[i] && from != Pending {
				t.Errorf("%s with %s is ordinary", from, status)
			}
			if errAgain != nil || o.Status != want[i] || o.PaymentVersion != p.Version ||
				transition.Reason != contract.ReasonRestored || transition.Undoes() != (from != want[i]) {
				t.Errorf("%s with %s: %v, %s, %+v", from, status, errAgain, o.Status, transition)
			}
		}
	}
	// A refund that is lost is undone, though the status is the same.
	o := pendingOrder()
	o.Status, o.PaymentVersion, o.Captured, o.Refunded = Paid, 2, 700, 200
	transition, err := o.Apply(paymentOf(o, contract.PaymentSucceeded, contract.Epoch+1, 700, 0), noon)
	if err != nil || !transition.Undoes() || o.Refunded != 0 {
		t.Errorf("a lost refund: %+v, %v", transition, err)
	}
}
