package api

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/inbox"
)

// A single request does not wait for those of the other half of the lanes. The items of a batch are accepted together and in their
// order, whosever they are, so that one may build on another.
func TestHowRequestsAreAccepted(t *testing.T) {
	one, other := uuid.New(), uuid.New()
	for inbox.Half(contract.Lane(other)) == inbox.Half(contract.Lane(one)) {
		other = uuid.New()
	}
	deposit := func(account uuid.UUID) ledger.Request {
		return ledger.Request{ID: uuid.New(), AccountID: account, Kind: ledger.Deposit, Currency: "RUB", Amount: 100}
	}
	synctest.Test(t, func(t *testing.T) {
		var calls [][]uuid.UUID // whose requests came together
		hold := make(chan struct{})
		var door *Door
		door = NewDoor(nil, slog.New(slog.DiscardHandler), func(_ context.Context, messages []inbox.Message) ([]inbox.Arrival, error) {
			arrivals, operations, accounts := make([]inbox.Arrival, len(messages)), []*ledger.Operation{}, []uuid.UUID{}
			for i, m := range messages {
				arrivals[i].Seq = int64(i + 1)
				operations = append(operations, &ledger.Operation{ID: m.ID, Seq: arrivals[i].Seq, Status: ledger.Success})
				accounts = append(accounts, m.AccountID)
			}
			calls = append(calls, accounts)
			if len(calls) == 1 {
				<-hold
			}
			door.Settled(operations)
			return arrivals, nil
		})
		patience := patience{wait: time.Second}
		submit := func(account uuid.UUID) {
			if out, err := door.submit(t.Context(), deposit(account), patience); err != nil || out.replayed || out.operation.Status != ledger.Success {
				t.Errorf("a request of %s: %+v, %v", account, out, err)
			}
		}
		go submit(one)
		synctest.Wait()
		submit(other)
		close(hold)
		synctest.Wait()
		out, err := door.submitAll(t.Context(), []ledger.Request{deposit(one), deposit(other), deposit(one)}, patience)
		if err != nil || len(out) != 3 {
			t.Errorf("a batch: %+v, %v", out, err)
		}
		if want := [][]uuid.UUID{{one}, {other}, {one, other, one}}; !slices.EqualFunc(calls, want, slices.Equal) {
			t.Errorf("accepted together: %v, want %v", calls, want)
		}
	})
}
