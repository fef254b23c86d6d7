package settlement

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/outbox"
	"github.com/altyn-pay/altyn/platform/stage"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// expiryInterval is how often deadlines are looked for, and so how late one is met at most, apart from what is ahead of
// it in its account's queue.
const expiryInterval = 500 * time.Millisecond

// Expiry ends holds and waiting requests whose time is over. It moves no money: like everybody else it puts messages
// into the inbox, so an expiry cannot race with a capture. Then it calls wake. Any number of instances may run.
//
// What has waited goes on in the trace in which it began. The end of a hold has one of its own, see Settlement.
func Expiry(store *postgres.Store, tracer *telemetry.Tracer, log *slog.Logger, wake func()) stage.Loop {
	return timer("expiry", log, expiryInterval, wake, func(ctx context.Context) (int, error) {
		return store.Expire(ctx, func(d postgres.Deadline) postgres.Message {
			m := expire(d)
			if d.Hold {
				trace, span := tracer.Start(context.Background(), "expire hold")
				span.End()
				m.Traceparent = telemetry.Traceparent(trace)
			}
			return m
		})
	})
}

// expire is the message that ends what has a deadline. Its ID is derived, so it is one message however often, and by
// however many instances, the deadline is found.
func expire(d postgres.Deadline) postgres.Message {
	c := ledger.Expire{WaitID: d.ID}
	if d.Hold {
		c = ledger.Expire{HoldID: d.ID}
	}
	id := contract.DerivedID("expiry", d.AccountID, d.ID.String())
	m := billing.Message(ledger.Request{ID: id, AccountID: d.AccountID, Command: c}, "")
	m.Tenant = d.Tenant
	return m
}

// Retelling tells of each refund a few more times, with growing pauses, the first of which is after. So a refund shows
// on its order even if the broker has lost the event that it had acknowledged. About everything else orders asks by
// itself. A retelling is a message in the inbox: the order's own once more, marked as a repetition. Any number of
// instances may run.
func Retelling(store *postgres.Store, after time.Duration, log *slog.Logger, wake func()) stage.Loop {
	const rounds, longest = 4, 5 * time.Second // rounds in the first pause, the longest time between two
	return timer("retelling of refunds", log, min(after/rounds, longest), wake, func(ctx context.Context) (int, error) {
		return store.Retell(ctx, after, again)
	})
}

// Announcing tells of payments again at an operator's wish, and then calls wake.
func Announcing(store *postgres.Store, wake func()) func(context.Context, []uuid.UUID) (int, error) {
	return func(ctx context.Context, ids []uuid.UUID) (int, error) {
		n, err := store.Announce(ctx, ids, again)
		if n > 0 {
			wake()
		}
		return n, err
	}
}

// again asks for a payment's present state, as orders does.
func again(r postgres.Told) postgres.Message {
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

const (
	linkInterval = time.Second // how often what batches have written becomes a link of the chain
	headInterval = time.Hour   // how often the chain's head is published
)

// Chain links what batches have written, publishes the chain's head now and then, and calls wake when it has. Any
// number of instances may run.
func Chain(store *postgres.Store, log *slog.Logger, wake func()) stage.Loop {
	return stage.Loop{
		Name: "chain", Log: log, Every: linkInterval, Full: postgres.MaxLinked,
		Once: func(ctx context.Context) (batches int, err error) {
			batches, published, err := store.Link(ctx, headInterval, headMessage)
			if published {
				wake()
			}
			return batches, err
		},
	}
}

// headMessage is the message that tells of a head.
func headMessage(head contract.LedgerHead) (outbox.Message, error) {
	payload, err := json.Marshal(head)
	if err != nil {
		return outbox.Message{}, fmt.Errorf("encode head %d: %w", head.Number, err)
	}
	return outbox.Message{
		ID: contract.EventID(contract.LedgerHeadType, uuid.Nil, head.Number), Type: contract.LedgerHeadType,
		Topic: contract.TopicHeads, Key: contract.LedgerHeadType,
		Payload: string(payload),
	}, nil
}
