package settlement

import (
	"context"
	"log/slog"
	"time"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/stage"
)

// Retelling tells of each refund a few more times, with growing pauses. Should a broker lose the event after it has
// acknowledged it, the refund shows on its order all the same. Orders asks by itself for everything else. A retelling
// is a message in the inbox: the order's own once more, marked as a repetition. Any number of instances may run.
type Retelling struct {
	store *postgres.Store
	after time.Duration
	log   *slog.Logger
	wake  func()
}

// NewRetelling makes a retelling whose first pause is after. It calls wake after it has stored messages.
func NewRetelling(store *postgres.Store, after time.Duration, log *slog.Logger, wake func()) *Retelling {
	return &Retelling{store: store, after: after, log: log, wake: wake}
}

// Run works until ctx ends, then returns nil. It survives the loss of the database.
func (t *Retelling) Run(ctx context.Context) error {
	const rounds, longest = 4, 5 * time.Second // rounds in the first pause, the longest time between two
	every := min(t.after/rounds, longest)
	return stage.Loop{Name: "retelling of refunds", Log: t.log, Once: t.runOnce, Every: every}.Run(ctx)
}

// runOnce returns how many messages it has stored.
func (t *Retelling) runOnce(ctx context.Context) (int, error) {
	n, err := t.store.Retell(ctx, t.after, again)
	if n > 0 {
		t.wake()
	}
	return n, err
}

// again asks for a payment's present state, as orders does.
func again(r postgres.Refunded) postgres.Message {
	return billing.Message(ledger.Request{
		ID: r.OrderID, AccountID: r.AccountID, Command: ledger.Payment{
			OrderID: r.OrderID, Currency: r.Currency, Amount: r.Amount, Capture: r.Capture, Repeated: true,
		},
	}, "")
}
