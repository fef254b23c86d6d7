package status

import (
	"context"
	"log/slog"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// refused is a message that has no effect, with the reason.
type refused struct {
	message kafka.Message
	reason  error
}

func (w *Worker) reportParked(parked []refused) {
	w.parked.Add(float64(len(parked)))
	telemetry.LogEach(w.log, slog.LevelError, "event parked: it cannot be applied", "order_id", len(parked), func(i int) (string, []any) {
		m := parked[i].message
		return m.ShortHeader("ce_subject"), []any{"topic", m.Topic, "partition", m.Partition, "offset", m.Offset,
			"ce_id", m.ShortHeader("ce_id"), "error", parked[i].reason}
	})
}

func toPark(list []refused) []postgres.Parked {
	rows := make([]postgres.Parked, len(list))
	for i, r := range list {
		rows[i] = postgres.Parked{Message: r.message, Reason: r.reason.Error()}
	}
	return rows
}

// park keeps messages in a transaction of their own.
func (w *Worker) park(ctx context.Context, list []refused) error {
	if len(list) == 0 {
		return nil
	}
	if err := w.store.InTx(ctx, func(tx *sqlx.Tx) error { return w.store.Park(ctx, tx, toPark(list)) }); err != nil {
		return err
	}
	w.reportParked(list)
	return nil
}

// bury sends messages to the dead letters. What the broker does not take there is parked.
func (w *Worker) bury(ctx context.Context, list []refused) error {
	if len(list) == 0 {
		return nil
	}
	messages, reasons := make([]kafka.Message, len(list)), make([]error, len(list))
	for i, r := range list {
		messages[i], reasons[i] = r.message, r.reason
	}
	parked := 0
	err := w.producer.DeadLetters(ctx, messages, reasons, func(ctx context.Context, messages []kafka.Message, reasons []error) error {
		rejected := make([]refused, len(messages))
		for i := range messages {
			rejected[i] = refused{messages[i], reasons[i]}
		}
		if err := w.park(ctx, rejected); err != nil {
			return err
		}
		parked += len(rejected)
		return nil
	})
	if err == nil {
		w.dead.Add(float64(len(list) - parked))
	}
	return err
}
