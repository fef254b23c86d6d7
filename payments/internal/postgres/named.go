package postgres

import (
	"context"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/inbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Named says whose queues the holds and operations are in that commands name. What does not exist is not there.
type Named struct {
	Holds, Operations map[uuid.UUID]NamedRecord
}

// NamedRecord is what a command on a hold or an operation needs to know of it.
type NamedRecord struct {
	ID        uuid.UUID `db:"id"`
	AccountID uuid.UUID `db:"account_id"`
	Currency  string    `db:"currency"`
}

// Named finds the holds and operations that commands name, including those whose own messages are still in the inbox.
// One statement sees one moment, in which each of them is in exactly one of its tables.
func (s *Store) Named(ctx context.Context, commands ...contract.Command) (named Named, err error) {
	var holds, operations pg.UUIDs
	for _, c := range commands {
		if c.HoldID != nil {
			holds = append(holds, *c.HoldID)
		}
		if c.OperationID != nil {
			operations = append(operations, *c.OperationID)
		}
	}
	if named.Holds, err = s.named(ctx, holds, `
		SELECT id, account_id, currency FROM holds WHERE id = ANY($1::uuid[])
		UNION ALL
		SELECT id, account_id, currency FROM waits WHERE id = ANY($1::uuid[]) AND kind = 'hold'
		UNION ALL
		SELECT id, account_id, payload::json->>'currency' FROM inbox WHERE id = ANY($1::uuid[]) AND kind = 'hold'`,
	); err != nil {
		return named, err
	}
	var kinds pg.Texts
	for _, kind := range ledger.Operations() {
		kinds = append(kinds, string(kind))
	}
	named.Operations, err = s.named(ctx, operations, `
		SELECT id, account_id FROM operations WHERE id = ANY($1::uuid[]) AND operation <> $3
		UNION ALL
		SELECT id, account_id FROM inbox WHERE id = ANY($1::uuid[]) AND `+inbox.KindSQL+` = ANY($2::text[])`,
		kinds, ledger.KindCancelOperation)
	return named, err
}

func (s *Store) named(ctx context.Context, ids pg.UUIDs, query string, args ...any) (map[uuid.UUID]NamedRecord, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := list[NamedRecord](ctx, s, "find what commands name", query, append([]any{ids}, args...)...)
	named := make(map[uuid.UUID]NamedRecord, len(rows))
	for _, row := range rows {
		named[row.ID] = row
	}
	return named, err
}
