package ledger_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
)

// What waits takes effect in the order of its acceptance, as far as the money goes, however many there are.
func TestAQueueForMoneyIsFirstInFirstOut(t *testing.T) {
	t.Parallel()
	s := newScript().withdraw(100, true)
	for range 20 {
		s.withdraw(10, false)
	}
	s.deposit(155)
	for i, op := range s.results[1:22] {
		want := ledger.Success
		if i > 5 {
			want = ledger.Error
		}
		if got := s.operations[op.ID]; got.Status != want {
			t.Errorf("withdrawal %d ended with %s %s", i, got.Status, got.Reason)
		}
	}
	s.check(t)
	s.checkSaga(t)
}

// What holds money until a deadline, or brings one itself, waits behind others no longer than that: it would be over
// as soon as it began.
func TestWhatWaitsBehindOthersHasItsOwnDeadline(t *testing.T) {
	t.Parallel()
	const day, year = 24 * time.Hour, 365 * 24 * time.Hour
	for _, test := range []struct {
		command  ledger.Command
		deadline time.Duration
	}{
		{ledger.HoldFunds{Currency: "RUB", Amount: 5, ExpiresIn: time.Minute}, time.Minute},
		{ledger.HoldFunds{Currency: "RUB", Amount: 5}, day},
		{ledger.Withdrawal{Currency: "RUB", Amount: 5, ExpiresIn: time.Minute}, time.Minute},
		{ledger.HoldFunds{Currency: "RUB", Amount: 5, ExpiresIn: year}, ledger.MaxFundsExpiry},
		{ledger.Withdrawal{Currency: "RUB", Amount: 5}, day},
		{ledger.Transfer{Currency: "RUB", Amount: 5, ToAccountID: id(2)}, day},
		{ledger.Payment{Currency: "RUB", Amount: 5, OrderID: id(1), Capture: contract.CaptureManual, AcceptedAt: now}, day},
		// what is settled at once has no AcceptedAt
		{ledger.Payment{Currency: "RUB", Amount: 5, OrderID: id(1), Capture: contract.CaptureAutomatic}, day},
		{ledger.Payment{Currency: "RUB", Amount: 5, OrderID: id(1), Capture: contract.CaptureAutomatic,
			ExpiresAt: now.Add(year)}, ledger.MaxFundsExpiry},
	} {
		// The version before took deadlines of up to a year.
		s := newScript().do(ledger.Request{AccountID: id(2), Command: ledger.CreateAccount{}}).
			ask(ledger.Withdrawal{Currency: "RUB", Amount: 50, WaitForFunds: true, ExpiresIn: year})
		r := ledger.Request{Command: test.command}
		if _, ok := test.command.(ledger.Payment); ok {
			r.ID = id(1)
		}
		s.do(r)
		if s.later(test.deadline - time.Microsecond); s.operations[s.results[3].ID].Status != ledger.Created {
			t.Errorf("%+v ended before its time", test.command)
		}
		s.later(time.Microsecond).deposit(60)
		op := s.operations[s.results[3].ID]
		if op.Status != ledger.Error || op.Reason != ledger.PastDeadline {
			t.Errorf("%+v ended with %s %s", test.command, op.Status, op.Reason)
		}
		s.check(t)
		s.checkSaga(t)
	}
}

// Deadlines go by the clock of the database, which has stored their message: a process whose own clock is behind meets
// them too.
func TestADeadlineIsMetWhateverTheTimeOfTheProcess(t *testing.T) {
	t.Parallel()
	s := newScript().deposit(10).order(1, 7, manual).withdraw(20, true)
	for _, c := range []ledger.Expire{{HoldID: id(1)}, {WaitID: s.results[3].ID}} {
		s.settleAt(now, []ledger.Request{{
			ID: uuid.New(), AccountID: id(1), Lane: contract.Lane(id(1)), ReceivedAt: now.Add(7 * 24 * time.Hour), Command: c,
		}})
	}
	if hold, op := s.holds[id(1)], s.operations[s.results[3].ID]; hold.Status != ledger.Expired ||
		op.Reason != ledger.PastDeadline {
		t.Errorf("%+v, %+v", hold, op)
	}
	s.check(t)
	s.checkSaga(t)
}

// A transfer from an account of another lane resumes what waits.
func TestATransferFromAnotherLaneResumes(t *testing.T) {
	t.Parallel()
	payer := id(2)
	if contract.Lane(payer) == contract.Lane(id(1)) {
		t.Fatal("both accounts are in one lane")
	}
	s := newScript().do(ledger.Request{AccountID: payer, Command: ledger.CreateAccount{}}).
		do(ledger.Request{AccountID: payer, Command: ledger.Deposit{Currency: "RUB", Amount: 9}}).order(1, 7, waiting).
		do(ledger.Request{AccountID: payer, Command: ledger.Transfer{Currency: "RUB", Amount: 9, ToAccountID: id(1)}})
	if got, want := s.story(1), []string{"created:waiting_for_funds", "succeeded 7-0"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A waiting request ends in one way: by a credit, by its deadline or by being cancelled, whatever comes first. The
// record of a cancellation keeps what it has found.
func TestAWaitingOperationEndsOnce(t *testing.T) {
	t.Parallel()
	const never = -1
	for name, test := range map[string]struct {
		script *script
		reason ledger.Reason // with which the operation of request n ended
		n      int
		last   ledger.Reason // of the last request
		actual int64
	}{
		"cancelled": {newScript().deposit(5).withdraw(8, true).end(2), ledger.Cancelled, 2, "", 5},
		"cancelled before money": {newScript().deposit(5).withdraw(8, true).end(2).deposit(5), ledger.Cancelled, 2,
			"", 10},
		"cancelled after money": {newScript().deposit(5).withdraw(8, true).deposit(5).end(2), "", 2,
			ledger.OperationFinal, 2},
		"cancelled after its time": {newScript().withdraw(8, true).later(24 * time.Hour).end(1), ledger.PastDeadline, 1,
			ledger.OperationFinal, 0},
		"its time after being cancelled": {newScript().withdraw(8, true).end(1).later(24 * time.Hour), ledger.Cancelled, 1,
			"", 0},
		"cancelled twice": {newScript().withdraw(8, true).end(1).end(1), ledger.Cancelled, 1,
			ledger.OperationFinal, 0},
		"cancelled behind another one": {newScript().deposit(5).withdraw(8, true).withdraw(2, false).end(3).deposit(3),
			ledger.Cancelled, 3, "", 0},
		"cancelled when it is done": {newScript().deposit(5).withdraw(5, true).end(2), "", 2, ledger.OperationFinal, 0},
		"cancelled when it was refused": {newScript().withdraw(5, false).end(1), ledger.InsufficientFunds, 1,
			ledger.OperationFinal, 0},
		"a cancellation is nothing to cancel": {newScript().withdraw(8, true).end(1).end(2), ledger.Cancelled, 1,
			ledger.OperationNotFound, 0},
		"cancelled by another account": {newScript().withdraw(8, true).do(ledger.Request{
			AccountID: id(2), Command: ledger.CancelOperation{OperationID: id(10_001)}}),
			ledger.WaitingForFunds, 1, ledger.OperationNotFound, 0},
		"nothing": {newScript().ask(ledger.CancelOperation{OperationID: id(3)}), "", never, ledger.OperationNotFound, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := test.script
			s.check(t)
			s.checkSaga(t)
			if test.n != never {
				op := s.operations[s.requests[test.n].ID]
				if op.Reason != test.reason || (op.Note != "") != (op.Reason == ledger.Cancelled) {
					t.Errorf("it ended with %q and the note %q, want %q", op.Reason, op.Note, test.reason)
				}
			}
			if op := s.results[len(s.results)-1]; op.Reason != test.last {
				t.Errorf("the last request ended with %q, want %q", op.Reason, test.last)
			}
			if b := s.money(); b.Actual != test.actual || b.Waiting > 1 {
				t.Errorf("%+v is left, want %d", b, test.actual)
			}
		})
	}
}
