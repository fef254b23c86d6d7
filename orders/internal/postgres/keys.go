package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/idempotency"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Claim makes the key of a batch stand for it, or returns ErrKeyReused. repeated tells that it stood for it before.
func (s *Store) Claim(ctx context.Context, c idempotency.Claim) (repeated bool, err error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	outcomes, err := idempotency.Make(ctx, s.db, []idempotency.Claim{c}, s.Placed)
	if err != nil {
		return false, err
	}
	if outcomes[0].Err != nil {
		return false, ErrKeyReused
	}
	return outcomes[0].Repeated, nil
}

// Placed finds the fingerprints of those of the orders that exist.
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
	if err := s.db.SelectContext(ctx, &rows, `SELECT id, fingerprint FROM orders WHERE id = ANY($1::uuid[])`, pg.UUIDs(ids)); err != nil {
		return nil, fmt.Errorf("look for orders of a key: %w", err)
	}
	found := make(map[uuid.UUID]uuid.UUID, len(rows))
	for _, row := range rows {
		found[row.ID] = row.Fingerprint
	}
	return found, nil
}
