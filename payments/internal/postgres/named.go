package postgres

import (
	"context"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/inbox"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Named has the holds and operations that commands name, as far as they exist.
type Named struct {
	Holds, Operations map[uuid.UUID]NamedRecord
}

// NamedRecord is what a command needs to know of a hold or an operation: above all whether it reaches it, which is so
// if it covers the tenant and the owner.
type NamedRecord struct {
	ID        uuid.UUID `db:"id"`
	Tenant    string    `db:"tenant"`
	Owner     string    `db:"owner"` // of the account; "" where it has none, and of what it has nothing to do with
	AccountID uuid.UUID `db:"account_id"`
	Currency  string    `db:"currency"`
}

// Named finds the holds and operations that commands name, including those whose own messages are still in the inbox.
// One statement sees one moment, in which each of them is in exactly one of its tables. The commands may be of several
// tenants, each of which may look at its own only.
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
		SELECT h.id, a.tenant, a.owner, h.account_id, h.currency FROM holds h
			JOIN accounts a ON a.id = h.account_id AND a.lane = h.lane WHERE h.id = ANY($1::uuid[])
		UNION ALL
		SELECT w.id, a.tenant, a.owner, w.account_id, w.currency FROM waits w
			JOIN accounts a ON a.id = w.account_id AND a.lane = w.lane WHERE w.id = ANY($1::uuid[]) AND w.kind = 'hold'
		UNION ALL
		SELECT i.id, `+inboxTenant+`, coalesce(a.owner, ''), i.account_id, payload::json->>'currency' FROM inbox i
			LEFT JOIN accounts a ON a.id = i.account_id AND a.lane = i.lane AND a.tenant = `+inboxTenant+`
		WHERE i.id = ANY($1::uuid[]) AND i.kind = 'hold'`,
	); err != nil {
		return named, err
	}
	var kinds pg.Texts
	for _, kind := range ledger.Operations() {
		kinds = append(kinds, string(kind))
	}
	named.Operations, err = s.named(ctx, operations, `
		SELECT o.id, o.tenant, CASE WHEN o.stranger THEN '' ELSE coalesce(a.owner, '') END AS owner, o.account_id
		FROM operations o LEFT JOIN accounts a ON a.id = o.account_id AND a.lane = o.lane AND a.tenant = o.tenant
		WHERE o.id = ANY($1::uuid[]) AND o.operation <> $3
		UNION ALL
		SELECT i.id, `+inboxTenant+`, coalesce(a.owner, ''), i.account_id
		FROM inbox i LEFT JOIN accounts a ON a.id = i.account_id AND a.lane = i.lane AND a.tenant = `+inboxTenant+`
		WHERE i.id = ANY($1::uuid[]) AND `+inbox.KindSQL+` = ANY($2::text[])`,
		kinds, ledger.KindCancelOperation)
	return named, err
}

func (s *Store) named(ctx context.Context, ids pg.UUIDs, query string, args ...any) (map[uuid.UUID]NamedRecord, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	rows, err := listWithin[NamedRecord](ctx, s, "find what commands name", query, append([]any{ids}, args...)...)
	named := make(map[uuid.UUID]NamedRecord, len(rows))
	for _, row := range rows {
		named[row.ID] = row
	}
	return named, err
}
