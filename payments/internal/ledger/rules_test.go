package ledger_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
)

func TestRules(t *testing.T) {
	const rub, most = "RUB", math.MaxInt64 / 2
	request := func(account uuid.UUID, c ledger.Command) ledger.Request {
		return ledger.Request{AccountID: account, Command: c}
	}
	open := func(account uuid.UUID) ledger.Request { return request(account, ledger.CreateAccount{}) }
	deposit := func(account uuid.UUID, amount int64) ledger.Request {
		return request(account, ledger.Deposit{Currency: rub, Amount: amount})
	}
	withdraw := func(account uuid.UUID, amount int64) ledger.Request {
		return request(account, ledger.Withdrawal{Currency: rub, Amount: amount})
	}
	pay := func(account uuid.UUID, amount int64) ledger.Request {
		return request(account, ledger.Payment{Currency: rub, Amount: amount})
	}
	hold := func(account uuid.UUID, amount int64) ledger.Request {
		return request(account, ledger.HoldFunds{Currency: rub, Amount: amount})
	}
	transfer := func(from, to uuid.UUID, amount int64) ledger.Request {
		return request(from, ledger.Transfer{Currency: rub, Amount: amount, ToAccountID: to})
	}
	// Of the hold that request n makes.
	capture := func(account uuid.UUID, n int, amount int64) ledger.Request {
		return request(account, ledger.Capture{HoldID: id(100 + n), Amount: amount})
	}
	release := func(account uuid.UUID, n int) ledger.Request {
		return request(account, ledger.Release{HoldID: id(100 + n)})
	}
	a, b, stranger := id(1), id(2), id(3)
	type requests = []ledger.Request
	type reasons = []ledger.Reason // of each request; "" is success
	for name, test := range map[string]struct {
		requests requests
		reasons  reasons
		a, b     int64 // what is left
	}{
		"a deposit and a payment": {requests{open(a), deposit(a, 100), pay(a, 60)}, reasons{"", "", ""}, 40, 0},
		"to the last unit": {requests{open(a), deposit(a, 100), pay(a, 100), pay(a, 1)},
			reasons{"", "", "", ledger.InsufficientFunds}, 0, 0},
		"more than there is": {requests{open(a), deposit(a, 100), withdraw(a, 101)},
			reasons{"", "", ledger.InsufficientFunds}, 100, 0},
		"in the order of arrival": {requests{open(a), pay(a, 1), deposit(a, 1)},
			reasons{"", ledger.InsufficientFunds, ""}, 1, 0},
		"an account that is not open": {requests{deposit(stranger, 1), pay(stranger, 1)},
			reasons{ledger.AccountNotFound, ledger.AccountNotFound}, 0, 0},
		"opened twice": {requests{open(a), open(a)}, reasons{"", ledger.AccountExists}, 0, 0},
		"the example of four commands": {requests{open(a), open(b), deposit(a, 77700), transfer(a, b, 11100)},
			reasons{"", "", "", ""}, 66600, 11100},
		"a transfer to nobody": {requests{open(a), deposit(a, 5), transfer(a, stranger, 5)},
			reasons{"", "", ledger.AccountNotFound}, 5, 0},
		"a transfer to oneself": {requests{open(a), deposit(a, 5), transfer(a, a, 5)},
			reasons{"", "", ledger.SameAccount}, 5, 0},
		"a balance beyond the most": {requests{open(a), deposit(a, most), deposit(a, 1)},
			reasons{"", "", ledger.BalanceTooLarge}, most, 0},
		"a transfer beyond the most": {requests{open(a), open(b), deposit(a, 1), deposit(b, most), transfer(a, b, 1)},
			reasons{"", "", "", "", ledger.BalanceTooLarge}, 1, most},
		"what is held cannot be spent": {requests{open(a), open(b), deposit(a, 100), hold(a, 60), withdraw(a, 41),
			hold(a, 41), transfer(a, b, 41), withdraw(a, 40)},
			reasons{"", "", "", "", ledger.InsufficientFunds, ledger.InsufficientFunds, ledger.InsufficientFunds, ""}, 0, 0},
		"a hold is captured whole": {requests{open(a), deposit(a, 100), hold(a, 60), capture(a, 2, 0), release(a, 2)},
			reasons{"", "", "", "", ledger.HoldNotOpen}, 40, 0},
		"a hold is captured in part": {requests{open(a), deposit(a, 100), hold(a, 60), capture(a, 2, 61), capture(a, 2, 25),
			capture(a, 2, 1)},
			reasons{"", "", "", ledger.AmountExceedsHold, "", ledger.HoldNotOpen}, 75, 0},
		"a hold is released": {requests{open(a), deposit(a, 100), hold(a, 60), release(a, 2), capture(a, 2, 0)},
			reasons{"", "", "", "", ledger.HoldNotOpen}, 100, 0},
		"another's hold": {requests{open(a), open(b), deposit(a, 100), hold(a, 60), capture(b, 3, 0), release(b, 9)},
			reasons{"", "", "", "", ledger.HoldNotFound, ledger.HoldNotFound}, 40, 0},
		"no room for what may come back": {requests{open(a), deposit(a, most), hold(a, 10), deposit(a, 1), release(a, 2)},
			reasons{"", "", "", ledger.BalanceTooLarge, ""}, most, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newState()
			for i := range test.requests {
				r := &test.requests[i]
				r.ID, r.Lane, r.Seq = id(100+i), contract.Lane(r.AccountID), int64(i+1)
				if c, ok := r.Command.(ledger.Payment); ok {
					c.OrderID = r.ID
					r.Command = c
				}
			}
			for i, op := range s.settle(test.requests) {
				if op.Reason != test.reasons[i] || (op.Status == ledger.Success) != (op.Reason == "") {
					t.Errorf("request %d ended with %s %q, want %q", i, op.Status, op.Reason, test.reasons[i])
				}
			}
			s.check(t)
			for account, want := range map[uuid.UUID]int64{a: test.a, b: test.b} {
				key := ledger.Key{AccountID: account, Currency: rub, Lane: contract.Lane(account)}
				if got := s.balances[key].Actual; got != want {
					t.Errorf("%d is left, want %d", got, want)
				}
			}
		})
	}
}

// Whoever comes first ends a hold; an expiry that comes second leaves no trace.
func TestExpiryAndCapture(t *testing.T) {
	a := id(1)
	request := func(n int, c ledger.Command) ledger.Request {
		return ledger.Request{ID: id(n), AccountID: a, Lane: contract.Lane(a), ReceivedAt: now, Command: c}
	}
	capture, expire := request(13, ledger.Capture{HoldID: id(12)}), request(14, ledger.Expire{HoldID: id(12)})
	begin := []ledger.Request{
		request(10, ledger.CreateAccount{}), request(11, ledger.Deposit{Currency: "RUB", Amount: 10}),
		request(12, ledger.HoldFunds{Currency: "RUB", Amount: 10, ExpiresIn: time.Minute}),
	}

	captured := newState()
	captured.settle(append(begin, capture, expire))
	if h := captured.holds[id(12)]; h.Status != ledger.Captured || h.Captured != 10 ||
		!h.ExpiresAt.Equal(now.Add(time.Minute)) || len(captured.operations) != 4 {
		t.Errorf("captured first: %+v, %d operations", h, len(captured.operations))
	}
	expired := newState()
	expired.settle(append(begin, expire))
	if h := expired.holds[id(12)]; h.Status != ledger.Open {
		t.Errorf("before its time: %+v", h)
	}
	expired.settleAt(now.Add(time.Minute), []ledger.Request{expire, capture})
	if h, op := expired.holds[id(12)], expired.operations[id(14)]; h.Status != ledger.Expired ||
		op.Kind != ledger.KindRelease || op.Status != ledger.Success ||
		expired.operations[id(13)].Reason != ledger.HoldNotOpen {
		t.Errorf("expired first: %+v, %+v", h, op)
	}
	for _, s := range []*state{captured, expired} {
		s.check(t)
	}
}

func TestPaymentTellsItsOrder(t *testing.T) {
	s := newState()
	a := id(1)
	pay := func(n int, amount int64) ledger.Request {
		return ledger.Request{ID: id(n), AccountID: a, Lane: contract.Lane(a), Command: ledger.Payment{
			OrderID: id(n), Currency: "RUB", Amount: amount, Capture: contract.CaptureAutomatic,
		}}
	}
	s.settle([]ledger.Request{
		{ID: id(10), AccountID: a, Lane: contract.Lane(a), Command: ledger.CreateAccount{}},
		{ID: id(11), AccountID: a, Lane: contract.Lane(a), Command: ledger.Deposit{Currency: "RUB", Amount: 10}},
		pay(12, 7), pay(13, 7), pay(12, 7),
	})
	want := []ledger.OrderPayment{
		{Status: contract.PaymentSucceeded, Captured: 7, OrderID: id(12)},
		{Status: contract.PaymentFailed, Reason: ledger.InsufficientFunds, OrderID: id(13)},
	}
	for i := range want {
		p := &want[i]
		p.Tenant, p.AccountID, p.Lane, p.Currency, p.Amount = identity.DefaultTenant, a, contract.Lane(a), "RUB", 7
		p.Capture, p.Version = contract.CaptureAutomatic, 1
		p.CreatedAt, p.UpdatedAt = now, now
	}
	if !slices.Equal(s.payments, want) {
		t.Errorf("payments %+v\nwant %+v", s.payments, want)
	}
}
