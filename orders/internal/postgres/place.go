package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/platform/idempotency"
	"github.com/altyn-pay/altyn/platform/outbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Placement is an order to be stored, with the event that tells of it.
type Placement struct {
	Order order.Order
	Event order.Event
}

// Placed is the order that the database has under a placement's ID.
type Placed struct {
	Order *order.Order
	// New reports that this placement stored it. Otherwise it was there before, and may be another request's: compare the
	// fingerprints.
	New bool
}

// Place stores orders with their events in one transaction, in the order given, and returns one result for each. When
// an ID is taken, neither the order nor its event is stored, so a placement may be repeated any number of times. After
// an error nothing was stored, unless pg.IsOutcomeUnknown(err).
func (s *Store) Place(ctx context.Context, placements []*Placement) ([]Placed, error) {
	// A second placement under the same ID repeats the first one.
	first := make([]*Placement, 0, len(placements))
	seen := make(map[uuid.UUID]bool, len(placements))
	for _, p := range placements {
		if !seen[p.Order.ID] {
			seen[p.Order.ID] = true
			first = append(first, p)
		}
	}
	var results []Placed
	tries := 0
	if err := pg.UntilKnown(ctx, func() error {
		tries++
		var taken []uuid.UUID
		err := pg.Retry(ctx, func() (err error) {
			taken, err = s.insertOrders(ctx, first)
			return err
		})
		if err != nil {
			return err
		}
		if results, err = s.results(ctx, placements, taken, tries > 1); err != nil {
			return pg.OutcomeUnknown(err) // the others are stored
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("place %d orders: %w", len(placements), err)
	}
	return results, nil
}

// placeOrders stores the orders whose IDs are free and, in place of %s, their events. As a single statement it is a
// transaction of its own. Rows are inserted, and seq is assigned, in the order in which the requests arrived.
var placeOrders = `
	WITH placed AS (
		INSERT INTO orders (` + orderColumns.String() + `) SELECT ` + orderColumns.Unnested() + `
		ON CONFLICT (id) DO NOTHING RETURNING id
	), announced AS (%s)
	SELECT id FROM unnest($1::uuid[]) AS id WHERE id NOT IN (SELECT id FROM placed)`

// insertOrders stores the orders whose IDs are free, and returns the other IDs.
func (s *Store) insertOrders(ctx context.Context, placements []*Placement) (taken []uuid.UUID, err error) {
	orders, events := make([]*order.Order, len(placements)), make([]outbox.Message, len(placements))
	for i, p := range placements {
		orders[i], events[i] = &p.Order, message(p.Event)
	}
	announce, args := outbox.Insertion(events, `subject IN (SELECT id::text FROM placed)`, orderColumns.Arrays(orders))
	if err := pg.InStatement(ctx, s.db, func(conn *sqlx.Conn) error {
		return conn.SelectContext(ctx, &taken, fmt.Sprintf(placeOrders, announce), args...)
	}); err != nil {
		return nil, fmt.Errorf("insert orders: %w", err)
	}
	return taken, nil
}

// results returns the result of each placement after those were stored whose IDs were not taken. tried reports that
// there was a try before, which may have been committed: an order that was placed at the very same time is of that try.
func (s *Store) results(ctx context.Context, placements []*Placement, taken []uuid.UUID, tried bool) ([]Placed, error) {
	var there map[uuid.UUID]order.Order
	if len(taken) > 0 {
		var err error
		if there, err = selectOrders(ctx, s.db, `
			SELECT `+orderColumns.String()+` FROM orders WHERE id = ANY($1::uuid[])`, taken); err != nil {
			return nil, err
		}
		if len(there) < len(taken) {
			return nil, fmt.Errorf("of %d orders that are not new only %d are there", len(taken), len(there))
		}
	}
	results := make([]Placed, len(placements))
	first := make(map[uuid.UUID]*order.Order, len(placements))
	for i, p := range placements {
		if o := first[p.Order.ID]; o != nil {
			results[i] = Placed{Order: o}
			continue
		}
		if o, ok := there[p.Order.ID]; ok {
			results[i] = Placed{Order: &o, New: tried && o.CreatedAt.Equal(p.Order.CreatedAt)}
		} else {
			results[i] = Placed{Order: &p.Order, New: true}
		}
		first[p.Order.ID] = results[i].Order
	}
	return results, nil
}

// Claim makes a key stand for a batch, or returns idempotency.ErrReused. repeated reports that it stood for the batch
// before.
func (s *Store) Claim(ctx context.Context, c idempotency.Claim) (repeated bool, err error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	outcomes, err := idempotency.Make(ctx, s.db, []idempotency.Claim{c}, s.Placed)
	if err != nil {
		return false, err
	}
	if outcomes[0].Err != nil {
		return false, idempotency.ErrReused
	}
	return outcomes[0].Repeated, nil
}

// Placed returns the fingerprints of those of the orders that exist.
func (s *Store) Placed(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]uuid.UUID, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	var rows []struct {
		ID          uuid.UUID `db:"id"`
		Fingerprint uuid.UUID `db:"fingerprint"`
	}
	if err := s.db.SelectContext(ctx, &rows, `
		SELECT id, fingerprint FROM orders WHERE id = ANY($1::uuid[])`, pg.UUIDs(ids)); err != nil {
		return nil, fmt.Errorf("look for orders of a key: %w", err)
	}
	found := make(map[uuid.UUID]uuid.UUID, len(rows))
	for _, row := range rows {
		found[row.ID] = row.Fingerprint
	}
	return found, nil
}
