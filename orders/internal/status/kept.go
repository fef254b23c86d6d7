package status

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/stage"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

const (
	// takeUpInterval is how often a worker looks for events that another version did not know.
	takeUpInterval = time.Second
	maxTakenUp     = 100 // at a time
)

// keep keeps events that this version does not know. Later ones of their orders are applied meanwhile: each carries the
// whole state, and whichever has the highest version counts in the end.
func (w *Worker) keep(ctx context.Context, list []postgres.Refused) error {
	if err := w.store.Keep(ctx, list); err != nil {
		return err
	}
	telemetry.LogEach(w.log, slog.LevelWarn, "event is not known to this version; it is kept for one that knows it",
		"order_id", len(list), func(i int) string { return list[i].Message.ShortHeader("ce_subject") },
		func(i int) []any {
			m := list[i].Message
			return telemetry.WithTraceID([]any{"ce_type", m.ShortHeader("ce_type"), "ce_id", m.ShortHeader("ce_id"),
				"reason", list[i].Reason}, kafka.EventOf(m).Traceparent)
		})
	return nil
}

// TakeUp applies the events that an earlier version has kept and that this one knows, at its start and as they come,
// until ctx ends.
func (w *Worker) TakeUp(ctx context.Context) error {
	var after kafka.Message
	return stage.Loop{Name: "kept events", Log: w.log, Every: takeUpInterval, Full: maxTakenUp,
		Once: func(ctx context.Context) (int, error) { return w.takeUp(ctx, &after) }}.Run(ctx)
}

// takeUp looks at a page of the events that are kept, those after a message, which it sets for the next call, and
// returns how many it has taken up. An event that turns out to be wrong is parked.
func (w *Worker) takeUp(ctx context.Context, after *kafka.Message) (int, error) {
	kept, err := w.store.Kept(ctx, contract.TopicPayments, after.Partition, after.Offset-1, maxTakenUp)
	if err != nil {
		return 0, err
	}
	var events []event
	var wrong []postgres.Refused
	for _, k := range kept {
		payment, err := w.read(k.Message)
		switch {
		case errors.Is(err, order.ErrUnknown):
		case err != nil:
			wrong = append(wrong, postgres.Refused{Message: k.Message, Reason: err})
		default:
			events = append(events, event{message: k.Message, payment: payment, parked: k.ID})
		}
	}
	if _, err := w.apply(ctx, events); err != nil {
		return 0, err
	}
	if err := w.park(ctx, wrong); err != nil {
		return 0, err
	}
	*after = kafka.Message{}
	if len(kept) == maxTakenUp {
		last := kept[maxTakenUp-1].Message
		after.Partition, after.Offset = last.Partition, last.Offset+1
	}
	return len(events) + len(wrong), nil
}
