package ledger_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
)

// The specification of the saga, flow by flow.
func TestSaga(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		script         *script
		story          []string // of order 1
		actual, frozen int64
		last           ledger.Reason // of the last request's operation
	}{
		"paid at once": {newScript().deposit(10).order(1, 7), []string{"succeeded 7-0"}, 3, 0, ""},
		"refused at once": {newScript().deposit(6).order(1, 7), []string{"failed:insufficient_funds"}, 6, 0,
			ledger.InsufficientFunds},
		"placed after its time": {newScript().deposit(10).order(1, 7, expires(0)), []string{"failed:expired"}, 10, 0,
			ledger.PastDeadline},
		"given up by an operator": {newScript().deposit(10).order(1, 7, dropped).cancel(1, 7),
			[]string{"failed:discarded"}, 10, 0, ""},

		"confirmed whole": {newScript().deposit(10).order(1, 7, manual).confirm(1, 0),
			[]string{"authorized", "succeeded 7-0"}, 3, 0, ""},
		"confirmed partly": {newScript().deposit(10).order(1, 7, manual).confirm(1, 5),
			[]string{"authorized", "succeeded 5-0"}, 5, 0, ""},
		"confirmed too much": {newScript().deposit(10).order(1, 7, manual).confirm(1, 8),
			[]string{"authorized"}, 3, 7, ledger.AmountExceedsHold},
		"confirmed twice": {newScript().deposit(10).order(1, 7, manual).confirm(1, 0).confirm(1, 0),
			[]string{"authorized", "succeeded 7-0"}, 3, 0, ledger.PaymentNotAuthorized},
		"confirmed without a hold": {newScript().deposit(10).order(1, 7).confirm(1, 0), []string{"succeeded 7-0"}, 3, 0,
			ledger.PaymentNotAuthorized},
		"confirmed from nothing": {newScript().deposit(10).confirm(1, 0), nil, 10, 0, ledger.PaymentNotFound},
		"rejected": {newScript().deposit(10).order(1, 7, manual).reject(1),
			[]string{"authorized", `failed:rejected "too late"`}, 10, 0, ""},
		"rejected, then confirmed": {newScript().deposit(10).order(1, 7, manual).reject(1).confirm(1, 0),
			[]string{"authorized", `failed:rejected "too late"`}, 10, 0, ledger.PaymentNotAuthorized},
		"a hold that nobody wanted": {newScript().deposit(10).order(1, 7, manual).later(7 * 24 * time.Hour),
			[]string{"authorized", "failed:expired"}, 10, 0, ""},
		"a hold just before its end": {newScript().deposit(10).order(1, 7, manual).later(7*24*time.Hour - time.Microsecond),
			[]string{"authorized"}, 3, 7, ""},
		"a hold with its own deadline": {newScript().deposit(10).order(1, 7, manual, expires(time.Minute)).later(time.Minute),
			[]string{"authorized", "failed:expired"}, 10, 0, ""},
		"an order's hold is not its client's to capture": {
			newScript().deposit(10).order(1, 7, manual).ask(ledger.Capture{HoldID: id(1)}),
			[]string{"authorized"}, 3, 7, ledger.HoldOfOrder},
		"nor to release": {newScript().deposit(10).order(1, 7, manual).ask(ledger.Release{HoldID: id(1)}),
			[]string{"authorized"}, 3, 7, ledger.HoldOfOrder},

		"refunded whole": {newScript().deposit(10).order(1, 7).refund(1, 0), []string{"succeeded 7-0", "refunded 7-7"}, 10,
			0, ""},
		"refunded in parts": {newScript().deposit(10).order(1, 7).refund(1, 2).refund(1, 0),
			[]string{"succeeded 7-0", "refunded 7-2", "refunded 7-7"}, 10, 0, ""},
		"refunded too much": {newScript().deposit(10).order(1, 7).refund(1, 2).refund(1, 6),
			[]string{"succeeded 7-0", "refunded 7-2"}, 5, 0, ledger.AmountExceedsCaptured},
		"refunded when nothing is left": {newScript().deposit(10).order(1, 7).refund(1, 7).refund(1, 0),
			[]string{"succeeded 7-0", "refunded 7-7"}, 10, 0, ledger.AmountExceedsCaptured},
		"refunded more than was confirmed": {newScript().deposit(10).order(1, 7, manual).confirm(1, 5).refund(1, 6),
			[]string{"authorized", "succeeded 5-0"}, 5, 0, ledger.AmountExceedsCaptured},
		"refunded before it is captured": {newScript().deposit(10).order(1, 7, manual).refund(1, 0), []string{"authorized"},
			3, 7, ledger.PaymentNotCaptured},
		"refunded after it has failed": {newScript().order(1, 7).refund(1, 0), []string{"failed:insufficient_funds"}, 0, 0,
			ledger.PaymentNotCaptured},

		"cancelled when paid": {newScript().deposit(10).order(1, 7).cancel(1, 7),
			[]string{"succeeded 7-0", `cancelled:cancelled "changed my mind" 7-7`}, 10, 0, ""},
		"cancelled when partly refunded": {newScript().deposit(10).order(1, 7).refund(1, 2).cancel(1, 7),
			[]string{"succeeded 7-0", "refunded 7-2", `cancelled:cancelled "changed my mind" 7-7`}, 10, 0, ""},
		"cancelled when wholly refunded": {newScript().deposit(10).order(1, 7).refund(1, 0).cancel(1, 7),
			[]string{"succeeded 7-0", "refunded 7-7", `cancelled:cancelled "changed my mind" 7-7`}, 10, 0, ""},
		"cancelled when held": {newScript().deposit(10).order(1, 7, manual).cancel(1, 7).confirm(1, 0),
			[]string{"authorized", `cancelled:cancelled "changed my mind"`}, 10, 0, ledger.PaymentNotAuthorized},
		"cancelled when partly confirmed": {newScript().deposit(10).order(1, 7, manual).confirm(1, 5).cancel(1, 7),
			[]string{"authorized", "succeeded 5-0", `cancelled:cancelled "changed my mind" 5-5`}, 10, 0, ""},
		"cancelled when waiting for goods": {newScript().deposit(10).order(1, 7, await).cancel(1, 7).stock(1, true),
			[]string{"created:waiting_for_inventory", `cancelled:cancelled "changed my mind"`}, 10, 0, ""},
		"cancelled when waiting for money": {newScript().deposit(6).order(1, 7, waiting).cancel(1, 7).deposit(4),
			[]string{"created:waiting_for_funds", `cancelled:cancelled "changed my mind"`}, 10, 0, ""},
		"cancelled when it has failed": {newScript().order(1, 7).cancel(1, 7), []string{"failed:insufficient_funds"}, 0, 0,
			""},
		"cancelled before it is placed": {newScript().deposit(10).cancel(1, 7).order(1, 7),
			[]string{`cancelled:cancelled "changed my mind"`}, 10, 0, ledger.Cancelled},
		"cancelled by another account": {newScript().deposit(10).order(1, 7).cancel(1, 7, by(id(2))),
			[]string{"succeeded 7-0"}, 3, 0, ""},
		"refunded after it is cancelled": {newScript().deposit(10).order(1, 7).cancel(1, 7).refund(1, 0),
			[]string{"succeeded 7-0", `cancelled:cancelled "changed my mind" 7-7`}, 10, 0, ledger.PaymentNotCaptured},

		"goods are there": {newScript().deposit(10).order(1, 7, await).stock(1, true),
			[]string{"created:waiting_for_inventory", "created:inventory_completed", "succeeded 7-0"}, 3, 0, ""},
		"goods are there, then not": {newScript().deposit(10).order(1, 7, await).stock(1, true).stock(1, false).
			stock(1, true),
			[]string{"created:waiting_for_inventory", "created:inventory_completed", "succeeded 7-0"}, 3, 0, ""},
		"goods are not there": {newScript().deposit(10).order(1, 7, await).stock(1, false).stock(1, true),
			[]string{"created:waiting_for_inventory", "failed:out_of_stock"}, 10, 0, ""},
		"goods are there, money is not": {newScript().deposit(6).order(1, 7, await).stock(1, true),
			[]string{"created:waiting_for_inventory", "created:inventory_completed", "failed:insufficient_funds"}, 6, 0, ""},
		"goods are there, money is held": {newScript().deposit(10).order(1, 7, await, manual).stock(1, true).confirm(1, 0),
			[]string{"created:waiting_for_inventory", "created:inventory_completed", "authorized", "succeeded 7-0"}, 3, 0, ""},
		"goods are there, money comes later": {newScript().order(1, 7, await, waiting).stock(1, true).deposit(8),
			[]string{"created:waiting_for_inventory", "created:inventory_completed", "created:waiting_for_funds",
				"succeeded 7-0"}, 1, 0, ""},
		"goods of an order that asks for none": {newScript().deposit(10).order(1, 7).stock(1, false),
			[]string{"succeeded 7-0"}, 3, 0, ""},
		"goods nobody answers for": {newScript().deposit(10).order(1, 7, await).later(15 * time.Minute),
			[]string{"created:waiting_for_inventory", "failed:expired"}, 10, 0, ""},
		"waiting for goods stops nobody": {newScript().deposit(10).order(1, 7, await).withdraw(10, false).stock(1, true),
			[]string{"created:waiting_for_inventory", "created:inventory_completed", "failed:insufficient_funds"}, 0, 0, ""},
		"an account that is not there": {newScript().order(1, 7, await, by(id(3))),
			[]string{"failed:account_not_found"}, 0, 0, ledger.AccountNotFound},

		"money comes": {newScript().order(1, 7, waiting).deposit(6).deposit(1),
			[]string{"created:waiting_for_funds", "succeeded 7-0"}, 0, 0, ""},
		"money comes for a hold": {newScript().order(1, 7, waiting, manual).deposit(8).confirm(1, 0),
			[]string{"created:waiting_for_funds", "authorized", "succeeded 7-0"}, 1, 0, ""},
		"money does not come": {newScript().deposit(6).order(1, 7, waiting).later(24 * time.Hour),
			[]string{"created:waiting_for_funds", "failed:expired"}, 6, 0, ""},
		"money comes too late": {newScript().order(1, 7, waiting, expires(time.Minute)).later(time.Minute).deposit(7),
			[]string{"created:waiting_for_funds", "failed:expired"}, 7, 0, ""},
		"later debits wait behind": {newScript().deposit(5).withdraw(8, true).order(1, 2).deposit(4),
			[]string{"created:waiting_for_funds", "failed:insufficient_funds"}, 1, 0, ""},
		"goods that come late queue up late": {newScript().order(1, 5, await, waiting).withdraw(8, true).
			stock(1, true).deposit(8).deposit(4),
			[]string{"created:waiting_for_inventory", "created:inventory_completed", "created:waiting_for_funds"}, 4, 0, ""},
		"it does not give up before its time": {newScript().order(1, 7, waiting).later(24*time.Hour - time.Microsecond).
			ask(ledger.Expire{WaitID: id(1)}),
			[]string{"created:waiting_for_funds"}, 0, 0, ""},
		"credits pass": {newScript().deposit(5).order(1, 2, manual).withdraw(8, true).confirm(1, 1).refund(1, 0),
			[]string{"authorized", "succeeded 1-0", "refunded 1-1"}, 5, 0, ""},
		"the head gives up, the next one goes on": {newScript().deposit(5).withdraw(8, true).later(time.Minute).
			order(1, 2).later(24*time.Hour - time.Minute),
			[]string{"created:waiting_for_funds", "succeeded 2-0"}, 3, 0, ""},
		"the head is ended, the next one goes on": {newScript().deposit(5).withdraw(8, true).order(1, 2).end(2),
			[]string{"created:waiting_for_funds", "succeeded 2-0"}, 3, 0, ""},
		"an order's payment is not its client's to end": {newScript().order(1, 7, waiting).end(1),
			[]string{"created:waiting_for_funds"}, 0, 0, ledger.OperationOfOrder},
		"nor when it has ended": {newScript().deposit(7).order(1, 7).end(2), []string{"succeeded 7-0"}, 0, 0,
			ledger.OperationOfOrder},
		"the head is cancelled, the next one goes on": {newScript().deposit(5).order(2, 8, waiting).order(1, 2).cancel(2, 8),
			[]string{"created:waiting_for_funds", "succeeded 2-0"}, 3, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := test.script
			s.check(t)
			s.checkSaga(t)
			if got := s.story(1); !slices.Equal(got, test.story) {
				t.Errorf("the payment went through %q\nwant %q", got, test.story)
			}
			if b := s.money(); b.Actual != test.actual || b.Frozen != test.frozen {
				t.Errorf("%d is left and %d frozen, want %d and %d", b.Actual, b.Frozen, test.actual, test.frozen)
			}
			if op := s.results[len(s.results)-1]; op.Reason != test.last && op.Reason != ledger.WaitingForFunds {
				t.Errorf("the last operation ended with %q, want %q", op.Reason, test.last)
			}
		})
	}
}

// Several steps of one payment in one batch are stored as one change.
func TestManyStepsInOneBatch(t *testing.T) {
	t.Parallel()
	s := newScript().order(1, 7, await, waiting)
	request := func(n int, c ledger.Command) ledger.Request {
		return ledger.Request{ID: id(n), Seq: int64(n), AccountID: id(1), Lane: contract.Lane(id(1)), ReceivedAt: s.at,
			Command: c}
	}
	s.settle([]ledger.Request{
		request(50, ledger.Inventory{OrderID: id(1), InStock: true}), request(51, ledger.Deposit{Currency: "RUB", Amount: 6}),
		request(52, ledger.Cancel{OrderID: id(1), Currency: "RUB", Amount: 7, Capture: contract.CaptureAutomatic}),
	})
	want := []string{"created:waiting_for_inventory", "created:inventory_completed", "created:waiting_for_funds",
		"cancelled:cancelled"}
	if got := s.story(1); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	s.check(t)
	s.checkSaga(t)
}

// The number of a payment's versions has a bound, but a cancellation always finds room.
func TestRefundsAreBounded(t *testing.T) {
	t.Parallel()
	s := newScript().deposit(2000).order(1, 2000)
	for range ledger.MaxVersion {
		s.refund(1, 1)
	}
	if op := s.results[len(s.results)-1]; op.Reason != ledger.TooManyRefunds {
		t.Errorf("%+v", op)
	}
	s.cancel(1, 2000)
	if p := s.orders[id(1)]; p.Status != contract.PaymentCancelled || p.Refunded != 2000 ||
		p.Version != ledger.MaxVersion+1 {
		t.Errorf("%+v", p)
	}
	s.checkSaga(t)
}

// What was earned may be given back, so there is room for it whatever has come in since: a cancellation always takes
// effect.
func TestThereIsRoomForWhatComesBack(t *testing.T) {
	t.Parallel()
	const most = math.MaxInt64
	s := newScript()
	for n := range 4 {
		for amount := int64(most); amount > 0; amount /= 2 {
			s.deposit(amount)
		}
		s.order(n+1, 1).order(100+n, most/8, manual).confirm(100+n, 0)
	}
	for amount := int64(most); amount > 0; amount /= 2 {
		s.deposit(amount)
	}
	for n := range 4 {
		s.cancel(n+1, 1).cancel(100+n, most/8, manual)
		if p, q := s.orders[id(n+1)], s.orders[id(100+n)]; p.Status != contract.PaymentCancelled ||
			q.Status != contract.PaymentCancelled && q.Status != contract.PaymentFailed {
			t.Errorf("%+v, %+v", p, q)
		}
	}
	s.check(t)
	s.checkSaga(t)
}
