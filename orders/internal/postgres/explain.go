package postgres

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Whereabouts is what there is of an order beside itself and its history.
type Whereabouts struct {
	Watched     order.Unsettled // zero unless the order is watched
	Undelivered []outbox.Undelivered
	More        bool // the outbox has more than was looked at
	Parked      []ParkedOf
	// Cancellation is the request that began to cancel the order, if there is one; who asked for it is not for everybody.
	Cancellation Cancellation
}

// ParkedOf is an event of the order's payment that could not be applied or, without an attempt, is not known to this
// version.
type ParkedOf struct {
	Type     string
	Attempts int
	At       time.Time
}

// Whereabouts finds what there is of an order that was read.
func (s *Store) Whereabouts(ctx context.Context, of order.Order) (w Whereabouts, err error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	account := of.AccountID
	w.Undelivered, w.More, err = outbox.FindUndelivered(ctx, s.db, contract.Lane(account), contract.TopicOrders,
		account.String(), of.ID.String())
	if err != nil {
		return w, err
	}
	var watched unsettledRow
	err = s.db.GetContext(ctx, &watched, `
		SELECT `+pg.ColumnsOf[unsettledRow]().String()+` FROM unsettled WHERE order_id = $1`, of.ID)
	if err == nil {
		w.Watched = order.Unsettled{Version: watched.Version, Asked: watched.Asked, AskedAt: watched.AskedAt.Time.UTC(),
			DueAt: watched.DueAt.UTC()}
	} else if !errors.Is(err, sql.ErrNoRows) {
		return w, fmt.Errorf("read how order %s is watched: %w", of.ID, err)
	}
	if err := s.db.GetContext(ctx, &w.Cancellation, `
		SELECT `+cancellationColumns.String()+` FROM cancellations WHERE order_id = $1`, of.ID); err != nil &&
		!errors.Is(err, sql.ErrNoRows) {
		return w, fmt.Errorf("read the cancellation of order %s: %w", of.ID, err)
	}
	w.Parked, err = s.parkedOf(ctx, of.ID)
	return w, err
}

// parkedOf finds the parked and the kept events of an order, among as many as Held looks at.
func (s *Store) parkedOf(ctx context.Context, id uuid.UUID) (parked []ParkedOf, err error) {
	var rows []parkedRow
	if err := s.db.SelectContext(ctx, &rows, `
		SELECT `+parkedColumns+` FROM (
			SELECT * FROM parked_events WHERE payload IS NOT NULL LIMIT $2
		) p WHERE position(convert_to($1, 'UTF8') IN payload) > 0 ORDER BY parked_at LIMIT 100`,
		id.String(), oldestRows); err != nil {
		return nil, fmt.Errorf("find parked events of order %s: %w", id, err)
	}
	for _, row := range rows {
		m, err := row.message()
		if err != nil {
			return nil, err
		}
		var payment struct {
			OrderID string `json:"order_id"`
		}
		if json.Unmarshal(m.Value, &payment) != nil || payment.OrderID != id.String() {
			continue // it only mentions the order
		}
		parked = append(parked, ParkedOf{
			Type: pg.Storable(kafka.EventOf(m).Type), Attempts: row.Attempts, At: time.Time(row.ParkedAt).UTC(),
		})
	}
	return parked, nil
}
