package status

import (
	"context"
	"errors"
	"log/slog"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/parked"
	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// park keeps messages for an operator, in a transaction of its own, in which it records which of them are redriven.
func (w *Worker) park(ctx context.Context, list []postgres.Refused, redriven ...event) error {
	if len(list) == 0 {
		return nil
	}
	if err := w.store.InTx(ctx, func(tx *sqlx.Tx) error {
		if err := w.store.Park(ctx, tx, list); err != nil {
			return err
		}
		return record(tx, redriven)
	}); err != nil {
		return err
	}
	w.reportParked(list)
	return nil
}

func (w *Worker) reportParked(list []postgres.Refused) {
	w.parked.Add(float64(len(list)))
	const text = "event parked: it cannot be applied"
	telemetry.LogEach(w.log, slog.LevelError, text, "order_id", len(list),
		func(i int) string { return list[i].Message.ShortHeader("ce_subject") }, func(i int) []any {
			m := list[i].Message
			return telemetry.WithTraceID([]any{"topic", m.Topic, "partition", m.Partition, "offset", m.Offset,
				"ce_id", m.ShortHeader("ce_id"), "error", list[i].Reason}, kafka.EventOf(m).Traceparent)
		})
}

// deadLetter sends messages to the dead-letter topic. It parks those that the broker refuses.
func (w *Worker) deadLetter(ctx context.Context, list []postgres.Refused) error {
	if len(list) == 0 {
		return nil
	}
	messages, reasons := make([]kafka.Message, len(list)), make([]error, len(list))
	for i, r := range list {
		messages[i], reasons[i] = r.Message, r.Reason
	}
	sent := len(list)
	park := func(ctx context.Context, messages []kafka.Message, reasons []error) error {
		sent -= len(messages)
		rejected := make([]postgres.Refused, len(messages))
		for i := range messages {
			rejected[i] = postgres.Refused{Message: messages[i], Reason: reasons[i]}
		}
		return w.park(ctx, rejected)
	}
	err := w.producer.DeadLetters(ctx, messages, reasons, park)
	if err == nil {
		w.dead.Add(float64(sent))
	}
	return err
}

var _ parked.Source = (*Worker)(nil)

// Parked implements parked.Source.
func (w *Worker) Parked(ctx context.Context, after parked.Position, limit int) ([]parked.Item, error) {
	return w.store.ParkedEvents(ctx, after, limit)
}

// Redrive implements parked.Source: it applies the event as if it had just been read. An event that takes effect, or
// that is older than what the order has seen, is no longer parked. Any other one stays parked, with one more attempt
// and its new reason.
func (w *Worker) Redrive(ctx context.Context, id uuid.UUID, record parked.Record) (parked.Item, error) {
	was, message, err := w.store.ParkedEvent(ctx, id)
	if err != nil {
		return parked.Item{}, err
	}
	e := event{message: message, parked: id, record: func(tx *sqlx.Tx) error { return record(ctx, tx, was) }}
	if e.payment, err = w.read(message); err == nil {
		if _, err = w.runOnce(ctx, []event{e}); err != nil && (ctx.Err() != nil || pg.IsTransient(err)) {
			return parked.Item{}, err
		}
	}
	if err != nil {
		if err := w.park(ctx, []postgres.Refused{{Message: message, Reason: err}}, e); err != nil {
			return parked.Item{}, err
		}
	}
	is, _, err := w.store.ParkedEvent(ctx, id)
	if errors.Is(err, parked.ErrNotFound) {
		w.log.Info("parked event applied after all", "id", id, "order_id", message.ShortHeader("ce_subject"),
			"trace_id", telemetry.TraceID(kafka.EventOf(message).Traceparent))
		return was, nil
	}
	return is, err
}

// Discard implements parked.Source: the event is never applied.
func (w *Worker) Discard(ctx context.Context, id uuid.UUID, _ string, record parked.Record) (parked.Item, error) {
	return w.store.DiscardEvent(ctx, id, record)
}
