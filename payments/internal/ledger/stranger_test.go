package ledger_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
)

// stranger is another account in the lane of account a: what one lane has is loaded for both.
func stranger(t *testing.T) uuid.UUID {
	t.Helper()
	for n := 2; n < 10_000; n++ {
		if contract.Lane(id(n)) == contract.Lane(id(1)) {
			return id(n)
		}
	}
	t.Fatal("no other account is in the lane")
	return uuid.Nil
}

func TestOnlyItsAccountMayEndAPayment(t *testing.T) {
	t.Parallel()
	other := stranger(t)
	for _, command := range []ledger.Command{
		ledger.Confirm{OrderID: id(1)}, ledger.Confirm{OrderID: id(1), Amount: 3}, ledger.Reject{OrderID: id(1)},
		ledger.Refund{OrderID: id(1)},
	} {
		s := newScript().do(ledger.Request{AccountID: other, Command: ledger.CreateAccount{}}).deposit(10).
			order(1, 7, manual).do(ledger.Request{AccountID: other, Command: command})
		if got := s.results[len(s.results)-1]; got.Status != ledger.Error || got.Reason != ledger.PaymentNotFound {
			t.Errorf("%+v of another account ended with %s %s", command, got.Status, got.Reason)
		}
		if got := s.orders[id(1)].Status; got != contract.PaymentAuthorized {
			t.Errorf("%+v of another account made it %s", command, got)
		}
	}
}

// The state of a payment is told again to nobody but its account.
func TestAPaymentIsToldAgainToItsAccount(t *testing.T) {
	t.Parallel()
	for account, want := range map[uuid.UUID]int{id(1): 1, stranger(t): 0} {
		book := ledger.NewBook(now, 1)
		book.PutOperation(ledger.Operation{ID: id(1), AccountID: id(1), Status: ledger.Success})
		book.PutPayment(ledger.OrderPayment{OrderID: id(1), AccountID: id(1), Status: contract.PaymentSucceeded, Version: 1})
		book.Apply(ledger.Request{ID: id(1), AccountID: account, Command: ledger.Payment{OrderID: id(1), Repeated: true}})
		if got := len(book.Changes().Repeated); got != want {
			t.Errorf("asked by %s: told %d times, want %d", account, got, want)
		}
	}
}

// The clocks of two processes may differ, but a payment's times never run backwards.
func TestAPaymentsTimesNeverRunBackwards(t *testing.T) {
	t.Parallel()
	s := newScript().deposit(10).order(1, 7)
	s.at = now.Add(-time.Hour)
	s.refund(1, 2)
	if p := s.orders[id(1)]; p.Version != 2 || !p.UpdatedAt.Equal(now) {
		t.Errorf("version %d of %s, want 2 of %s", p.Version, p.UpdatedAt, now)
	}
}

// A request with the key of one that waits, but with other contents, gets no claim to that one's reply.
func TestAnotherRequestWithTheKeyOfAWaitingOneIsNotAnswered(t *testing.T) {
	t.Parallel()
	first, second := uuid.NullUUID{UUID: id(21), Valid: true}, uuid.NullUUID{UUID: id(22), Valid: true}
	for fingerprint, want := range map[uuid.NullUUID]int{first: 1, second: 0} {
		r := ledger.Request{ID: id(7), AccountID: id(1), Lane: contract.Lane(id(1)), Fingerprint: first,
			Command: ledger.Withdrawal{Currency: "RUB", Amount: 5, WaitForFunds: true}}
		book := ledger.NewBook(now, 1)
		book.PutOperation(ledger.Operation{ID: r.ID, AccountID: r.AccountID, Status: ledger.Created, Fingerprint: first})
		book.PutWait(ledger.Wait{Request: r, For: ledger.WaitingForFunds})
		r.Fingerprint, r.Reply = fingerprint, []byte(`{}`)
		book.Apply(r)
		if got := len(book.Changes().Waits); got != want {
			t.Errorf("fingerprint %s: asked %d times, want %d", fingerprint.UUID, got, want)
		}
	}
}
