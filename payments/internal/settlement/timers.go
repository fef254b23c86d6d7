package settlement

import (
	"context"
	"log/slog"
	"time"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/stage"
)

// expiryInterval is how often deadlines are looked for, and so the longest time by which one is met late, apart from
// what is ahead of it in its account's queue.
const expiryInterval = 500 * time.Millisecond

// Expiry ends the holds and the waiting requests whose time is over. It moves no money: it puts a message into the
// inbox, as everybody does, so that an expiry cannot race with a capture, and calls wake. Any number of instances may
// run.
func Expiry(store *postgres.Store, log *slog.Logger, wake func()) stage.Loop {
	return timer("expiry", log, expiryInterval, wake, func(ctx context.Context) (int, error) {
		return store.Expire(ctx, expire)
	})
}

// expire is the message that ends what has a deadline. Its ID is derived, so that it is one message however often and
// by however many instances the deadline is found.
func expire(d postgres.Deadline) postgres.Message {
	c := ledger.Expire{WaitID: d.ID}
	if d.Hold {
		c = ledger.Expire{HoldID: d.ID}
	}
	id := contract.DerivedID("expiry", d.AccountID, d.ID.String())
	return billing.Message(ledger.Request{ID: id, AccountID: d.AccountID, Command: c}, "")
}

// Retelling tells of each refund a few more times, with growing pauses, the first of which is after. Should a broker
// lose the event after it has acknowledged it, the refund shows on its order all the same. Orders asks by itself for
// everything else. A retelling is a message in the inbox: the order's own once more, marked as a repetition. Any number
// of instances may run.
func Retelling(store *postgres.Store, after time.Duration, log *slog.Logger, wake func()) stage.Loop {
	const rounds, longest = 4, 5 * time.Second // rounds in the first pause, the longest time between two
	return timer("retelling of refunds", log, min(after/rounds, longest), wake, func(ctx context.Context) (int, error) {
		return store.Retell(ctx, after, again)
	})
}

// again asks for a payment's present state, as orders does.
func again(r postgres.Refunded) postgres.Message {
	return billing.Message(ledger.Request{
		By: identity.Reach{Tenant: r.Tenant}, ID: r.OrderID, AccountID: r.AccountID, Command: ledger.Payment{
			OrderID: r.OrderID, Currency: r.Currency, Amount: r.Amount, Capture: r.Capture, Repeated: true,
		},
	}, "")
}

// timer is a loop that stores messages now and then, and calls wake when it has.
func timer(name string, log *slog.Logger, every time.Duration, wake func(),
	store func(context.Context) (stored int, err error)) stage.Loop {
	return stage.Loop{Name: name, Log: log, Every: every, Once: func(ctx context.Context) (int, error) {
		n, err := store(ctx)
		if n > 0 {
			wake()
		}
		return n, err
	}}
}
