package postgres

import (
	"context"

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

// Accepted finds the fingerprints of those of the requests that were accepted, also while they are still in the inbox.
func (s *Store) Accepted(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]uuid.UUID, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	// One statement sees one moment, in which a request is in exactly one of the tables.
	rows, err := list[struct {
		ID          uuid.UUID     `db:"id"`
		Fingerprint uuid.NullUUID `db:"fingerprint"`
	}](ctx, s, "look for requests of keys", `
		SELECT id, fingerprint FROM operations WHERE id = ANY($1::uuid[])
		UNION ALL
		SELECT id, fingerprint FROM inbox WHERE id = ANY($1::uuid[])`, pg.UUIDs(ids))
	found := make(map[uuid.UUID]uuid.UUID, len(rows))
	for _, row := range rows {
		found[row.ID] = row.Fingerprint.UUID
	}
	return found, err
}
