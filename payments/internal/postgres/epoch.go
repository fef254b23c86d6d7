package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
)

// Epoch is the number of the database's epoch: 0 until it is restored for the first time. A database is restored while
// no process uses it, so each process reads it once.
func (s *Store) Epoch(ctx context.Context, tx *sqlx.Tx) (number int64, err error) {
	if known := s.epoch.Load(); known != nil {
		return *known, nil
	}
	if err := tx.GetContext(ctx, &number, `SELECT coalesce(max(number), 0) FROM epochs`); err != nil {
		return 0, fmt.Errorf("read the epoch: %w", err)
	}
	s.epoch.Store(&number)
	return number, nil
}

// BeginEpoch notes that the database has got the state of an earlier moment, and returns the number of the epoch that
// begins. It takes the role of the owner.
func BeginEpoch(ctx context.Context, owner *sqlx.DB, restoredTo time.Time) (number int64, err error) {
	if err := owner.GetContext(ctx, &number, `
		INSERT INTO epochs (number, restored_to)
		SELECT greatest(extract(epoch FROM clock_timestamp())::bigint, (SELECT max(number) FROM epochs) + 1), $1
		RETURNING number`, restoredTo); err != nil {
		return 0, fmt.Errorf("begin an epoch: %w", err)
	}
	return number, nil
}

// Acknowledged has a line for each operation that has succeeded since a time.
const Acknowledged = `
	SELECT format('%s %s account %s, %s %s, key %s, tenant %s',
		operation, id, account_id, amount, currency, to_json(key), tenant)
	FROM operations WHERE status = 'success' AND settled_at >= $1 ORDER BY seq`
