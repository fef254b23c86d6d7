package status

import (
	"context"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/kafka"
)

// refused is a message that has no effect, with the reason.
type refused struct {
	message kafka.Message
	reason  error
}

func (w *Worker) reportParked(parked []refused) {
	w.parked.Add(float64(len(parked)))
	for _, r := range parked {
		w.log.Error("event parked: it cannot be applied", "topic", r.message.Topic, "partition", r.message.Partition,
			"offset", r.message.Offset, "ce_id", r.message.Header("ce_id"), "error", r.reason)
	}
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

// bury sends messages to the dead letters. What the broker does not take there for good is parked.
func (w *Worker) bury(ctx context.Context, list []refused) error {
	for len(list) > 0 {
		letters := make([]kafka.Message, len(list))
		for i, r := range list {
			letters[i] = kafka.DeadLetter(r.message, r.reason.Error())
		}
		var rejected, skipped []refused
		for i, err := range w.producer.Produce(ctx, letters) {
			switch {
			case err == nil:
				w.dead.Inc()
				w.log.Error("message sent to the dead letters", "topic", list[i].message.Topic, "partition", list[i].message.Partition,
					"offset", list[i].message.Offset, "reason", list[i].reason)
			case kafka.Permanent(err):
				rejected = append(rejected, refused{list[i].message, fmt.Errorf("%w; no dead letter: %w", list[i].reason, err)})
			case errors.Is(err, kafka.ErrSkipped):
				skipped = append(skipped, list[i])
			default:
				return fmt.Errorf("send dead letters: %w", err)
			}
		}
		if len(skipped) == len(list) {
			return fmt.Errorf("send dead letters: %w", kafka.ErrSkipped)
		}
		if err := w.park(ctx, rejected); err != nil {
			return err
		}
		list = skipped // behind a rejected one of the same key
	}
	return nil
}
