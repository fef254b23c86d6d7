package settlement

import (
	"context"
	"log/slog"
	"time"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/stage"
)

// expiryInterval is how often deadlines are looked for, and so the longest time by which one is met late, apart from
// what is ahead of it in its account's queue.
const expiryInterval = 500 * time.Millisecond

// Expiry ends the holds and the waiting requests whose time is over. It moves no money: it puts a message into the
// inbox, as everybody does, so that an expiry cannot race with a capture. Any number of instances may run.
type Expiry struct {
	store *postgres.Store
	log   *slog.Logger
	wake  func()
}

// NewExpiry makes an expiry. It calls wake after it has stored messages.
func NewExpiry(store *postgres.Store, log *slog.Logger, wake func()) *Expiry {
	return &Expiry{store: store, log: log, wake: wake}
}

// Run works until ctx ends, then returns nil. It survives the loss of the database.
func (e *Expiry) Run(ctx context.Context) error {
	return stage.Loop{Name: "expiry", Log: e.log, Once: e.runOnce, Every: expiryInterval}.Run(ctx)
}

// runOnce returns how many messages it has stored.
func (e *Expiry) runOnce(ctx context.Context) (int, error) {
	n, err := e.store.Expire(ctx, expire)
	if n > 0 {
		e.wake()
	}
	return n, err
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
