package ledger_test

import (
	"math"
	"math/big"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
)

// most is what one operation can move, and what a client can be given: 4.6 units of a currency with 18 digits.
const most = math.MaxInt64 / 2

// What the clients of a lane have together, and what was earned from them, may be far more than an int64 of minor
// units: none of them notices, and nothing wraps.
func TestSystemAccountsAlwaysHaveRoom(t *testing.T) {
	t.Parallel()
	// at the edge, where a vault is needed and where not
	for _, amount := range []int64{most, most - 1, most/2 + 1, most / 2} {
		s := newState()
		seq := int64(0)
		do := func(request, account uuid.UUID, c ledger.Command) {
			t.Helper()
			seq++
			r := ledger.Request{ID: request, AccountID: account, Seq: seq, ReceivedAt: now, Command: c}
			if r.ID == uuid.Nil {
				r.ID = id(int(seq))
			}
			if op := s.settle([]ledger.Request{r})[0]; op.Status != ledger.Success {
				t.Fatalf("%s %s of %d: %s", op.Kind, op.ID, op.Amount, op.Reason)
			}
		}
		const clients, wei = 12, "WEI"
		for c := range clients { // all in lane 0
			client := id(10_000 + c)
			deposit := ledger.Deposit{Currency: wei, Amount: amount}
			do(uuid.Nil, client, ledger.CreateAccount{})
			for range 3 {
				order, hold := id(20_000+int(seq)), id(30_000+int(seq))
				do(uuid.Nil, client, deposit)
				do(order, client, ledger.Payment{Currency: wei, Amount: amount, OrderID: order, Capture: contract.CaptureAutomatic})
				do(uuid.Nil, client, deposit)
				do(hold, client, ledger.HoldFunds{Currency: wei, Amount: amount})
				do(uuid.Nil, client, ledger.Capture{HoldID: hold})
			}
			do(uuid.Nil, client, deposit)
		}
		s.check(t)
		// What is given back may be more than is there since the last vault was filled.
		for _, p := range s.orders {
			do(uuid.Nil, p.AccountID, ledger.Withdrawal{Currency: wei, Amount: amount})
			do(uuid.Nil, p.AccountID, ledger.Cancel{OrderID: p.OrderID, Currency: wei, Amount: amount})
		}
		s.check(t)
		inside, outside, earned := new(big.Int), new(big.Int), new(big.Int)
		for key, balance := range s.balances {
			sum := inside
			if ledger.IsSystem(key.AccountID) {
				sum = outside
				if key.AccountID == ledger.Revenue || key.AccountID[7] == ledger.Revenue[15] {
					sum = earned
				}
			}
			sum.Add(sum, big.NewInt(balance.Actual))
		}
		of := func(n int64) *big.Int { return new(big.Int).Mul(big.NewInt(n), big.NewInt(amount)) }
		if inside.Cmp(of(clients)) != 0 || earned.Cmp(of(3*clients)) != 0 ||
			new(big.Int).Neg(outside).Cmp(of(4*clients)) != 0 {
			t.Errorf("operations of %d: clients have %d, %d was earned, outside is %d", amount, inside, earned, outside)
		}
	}
}

// A client who has too much gets no more, and nothing else waits for that: the cancellation of an order takes effect
// once there is room.
func TestACancellationWaitsForRoom(t *testing.T) {
	t.Parallel()
	s := newScript().deposit(most).order(1, most).deposit(most).order(2, most).deposit(most).cancel(1, most).cancel(2,
		most)
	if p, q := s.orders[id(1)], s.orders[id(2)]; p.Status != contract.PaymentCancelled ||
		q.Status != contract.PaymentSucceeded {
		t.Fatalf("the payments are %s and %s", p.Status, q.Status)
	}
	s.withdraw(most, false).cancel(2, most)
	if q := s.orders[id(2)]; q.Status != contract.PaymentCancelled {
		t.Errorf("with room the payment is %s", q.Status)
	}
	s.check(t)
	s.checkSaga(t)
}

func TestWhatOneOperationCanMove(t *testing.T) {
	t.Parallel()
	s := newScript().deposit(most+1).deposit(most).order(1, 9).deposit(9).cancel(1, 9) // there is more than most now
	s.withdraw(most+1, false).order(2, most+1).order(3, most+1, manual).withdraw(most, false)
	var got []ledger.Reason
	for _, r := range s.requests[1:] {
		if r.Kind() != ledger.KindCancel {
			got = append(got, s.operations[r.ID].Reason)
		}
	}
	large := ledger.BalanceTooLarge
	want := []ledger.Reason{large, "", "", "", large, large, large, ""}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("request %d: %q, want %q", i, got[i], want[i])
		}
	}
	s.check(t)
}
