package status

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/parked"
)

var _ parked.Source = (*Worker)(nil)

// Parked implements parked.Source.
func (w *Worker) Parked(ctx context.Context, after parked.Position, limit int) ([]parked.Item, error) {
	return w.store.ParkedEvents(ctx, after, limit)
}

// Redrive implements parked.Source: the event is applied as if it had just been read. It is parked no longer when it took
// effect or when the order has seen a newer one meanwhile; otherwise it stays parked, with one more attempt and the reason
// of this one.
func (w *Worker) Redrive(ctx context.Context, id uuid.UUID) (parked.Item, error) {
	was, message, err := w.store.ParkedEvent(ctx, id)
	if err != nil {
		return parked.Item{}, err
	}
	var failed []refused
	if payment, err := w.read(message); err != nil {
		failed = []refused{{message, err}}
	} else if failed, err = w.apply(ctx, []event{{message: message, payment: payment, parked: id}}); err != nil {
		return parked.Item{}, err
	}
	// What would have gone to the dead letters stays where it is.
	if err := w.park(ctx, failed); err != nil {
		return parked.Item{}, err
	}
	is, _, err := w.store.ParkedEvent(ctx, id)
	if errors.Is(err, parked.ErrNotFound) {
		w.log.Info("parked event applied after all", "id", id, "order_id", message.ShortHeader("ce_subject"))
		return was, nil
	}
	return is, err
}

// Discard implements parked.Source: the event is never applied.
func (w *Worker) Discard(ctx context.Context, id uuid.UUID, _ string) (parked.Item, error) {
	return w.store.DiscardEvent(ctx, id)
}
