package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/idempotency"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Claim makes keys stand for their requests; see idempotency.Make.
func (s *Store) Claim(ctx context.Context, claims ...idempotency.Claim) ([]idempotency.Outcome, error) {
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	return idempotency.Make(ctx, s.db, claims, s.Accepted)
}

// Accepted finds the fingerprints of those of the requests that were accepted, be it that they are still waiting.
func (s *Store) Accepted(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]uuid.UUID, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	ctx, cancel := pg.Detached(ctx)
	defer cancel()
	var rows []struct {
		ID          uuid.UUID     `db:"id"`
		Fingerprint uuid.NullUUID `db:"fingerprint"`
	}
	// One statement sees one moment: a request is in the one table or in the other.
	if err := s.db.SelectContext(ctx, &rows, `
		SELECT id, fingerprint FROM operations WHERE id = ANY($1::uuid[])
		UNION ALL
		SELECT id, fingerprint FROM inbox WHERE id = ANY($1::uuid[])`, pg.UUIDs(ids)); err != nil {
		return nil, fmt.Errorf("look for requests of keys: %w", err)
	}
	found := make(map[uuid.UUID]uuid.UUID, len(rows))
	for _, row := range rows {
		found[row.ID] = row.Fingerprint.UUID
	}
	return found, nil
}
