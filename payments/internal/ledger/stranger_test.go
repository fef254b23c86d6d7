package ledger_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
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

// The state of a payment is told again to nobody but its account, and nobody but its tenant.
func TestAPaymentIsToldAgainToItsAccount(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		account uuid.UUID
		tenant  string
		want    int
	}{{id(1), "shop", 1}, {stranger(t), "shop", 0}, {id(1), "other", 0}, {id(1), "", 0}} {
		book := ledger.NewBook(now, 1)
		book.PutOperation(ledger.Operation{ID: id(1), AccountID: id(1), Status: ledger.Success})
		book.PutPayment(ledger.OrderPayment{OrderID: id(1), Tenant: "shop", AccountID: id(1),
			Status: contract.PaymentSucceeded, Version: 1})
		book.Apply(ledger.Request{ID: id(1), By: identity.Reach{Tenant: test.tenant}, AccountID: test.account,
			Command: ledger.Payment{OrderID: id(1), Repeated: true}})
		if got := len(book.Changes().Repeated); got != test.want {
			t.Errorf("asked by %s of %q: told %d times, want %d", test.account, test.tenant, got, test.want)
		}
	}
}

// What another tenant says of an order changes nothing.
func TestOnlyItsTenantMayCancelAnOrder(t *testing.T) {
	t.Parallel()
	for tenant, want := range map[string]string{
		"shop": contract.PaymentCancelled, "other": contract.PaymentAuthorized, "": contract.PaymentAuthorized,
	} {
		s := shop().do(ledger.Request{By: identity.Reach{Tenant: tenant},
			Command: ledger.Cancel{OrderID: id(30), Currency: "RUB", Amount: 10, Capture: contract.CaptureManual}})
		if got := s.orders[id(30)].Status; got != want {
			t.Errorf("%q made it %s, not %s", tenant, got, want)
		}
	}
}

// What others have asked of an account is not there for its owner, as in his lists.
func TestAnOwnerCannotCancelWhatStrangersAskedFor(t *testing.T) {
	t.Parallel()
	for owner, want := range map[string]ledger.Reason{"": ledger.OperationFinal, "alice": ledger.OperationNotFound} {
		s := shop().do(ledger.Request{By: identity.Reach{Tenant: "shop", Owner: "carol"}, ID: id(50),
			Command: ledger.Withdrawal{Currency: "RUB", Amount: 1}})
		s.do(ledger.Request{By: identity.Reach{Tenant: "shop", Owner: owner},
			Command: ledger.CancelOperation{OperationID: id(50)}})
		if got := s.results[len(s.results)-1].Reason; got != want {
			t.Errorf("%q: %s, want %s", owner, got, want)
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
