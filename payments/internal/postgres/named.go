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
	Holds      map[uuid.UUID]NamedHold
	Operations map[uuid.UUID]uuid.UUID // accounts
}

// NamedHold is what a command on a hold needs to know of it.
type NamedHold struct {
	AccountID uuid.UUID
	Currency  string
}

// Named finds the holds and operations that commands name, including those whose own messages are still in the inbox.
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
	if named.Holds, err = s.namedHolds(ctx, holds); err != nil {
		return named, err
	}
	named.Operations, err = s.accountsOf(ctx, operations)
	return named, err
}

func (s *Store) namedHolds(ctx context.Context, ids pg.UUIDs) (map[uuid.UUID]NamedHold, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	// One statement sees one moment, in which a hold is in exactly one of the tables.
	rows, err := list[struct {
		ID        uuid.UUID `db:"id"`
		AccountID uuid.UUID `db:"account_id"`
		Currency  string    `db:"currency"`
	}](ctx, s, "find holds", `
		SELECT id, account_id, currency FROM holds WHERE id = ANY($1::uuid[])
		UNION ALL
		SELECT id, account_id, currency FROM waits WHERE id = ANY($1::uuid[]) AND kind = 'hold'
		UNION ALL
		SELECT id, account_id, payload::json->>'currency' FROM inbox WHERE id = ANY($1::uuid[]) AND kind = 'hold'`, ids)
	holds := make(map[uuid.UUID]NamedHold, len(rows))
	for _, row := range rows {
		holds[row.ID] = NamedHold{AccountID: row.AccountID, Currency: row.Currency}
	}
	return holds, err
}

// accountsOf says in whose queues operations are.
func (s *Store) accountsOf(ctx context.Context, operations pg.UUIDs) (map[uuid.UUID]uuid.UUID, error) {
	if len(operations) == 0 {
		return nil, nil
	}
	var kinds pg.Texts
	for _, kind := range ledger.Operations() {
		kinds = append(kinds, string(kind))
	}
	// One statement sees one moment, in which an operation is in exactly one of the tables.
	rows, err := list[struct {
		ID        uuid.UUID `db:"id"`
		AccountID uuid.UUID `db:"account_id"`
	}](ctx, s, "find operations", `
		SELECT id, account_id FROM operations WHERE id = ANY($1::uuid[]) AND operation <> $3
		UNION ALL
		SELECT id, account_id FROM inbox WHERE id = ANY($1::uuid[]) AND `+inbox.KindSQL+` = ANY($2::text[])`,
		operations, kinds, ledger.KindCancelOperation)
	accounts := make(map[uuid.UUID]uuid.UUID, len(rows))
	for _, row := range rows {
		accounts[row.ID] = row.AccountID
	}
	return accounts, err
}
