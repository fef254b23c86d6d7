package settlement

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/outbox"
	"github.com/altyn-pay/altyn/platform/stage"
)

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
