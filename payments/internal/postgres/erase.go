package postgres

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/idempotency"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// erasePage is how many operations are erased together.
const erasePage = 1000

// EraseAccount erases the owner of an account and its reference. The chain covers the owner by a hash, which tells
// nothing without its salt.
func EraseAccount(ctx context.Context, tx *sqlx.Tx, account uuid.UUID) (rows int64, err error) {
	return changed(tx.ExecContext(ctx, `
		UPDATE accounts SET owner = '', owner_salt = NULL, reference = ''
		WHERE id = $1 AND lane = $2 AND (owner <> '' OR owner_salt IS NOT NULL OR reference <> '')`,
		account, contract.Lane(account)))
}

// The pages of operations that EraseOperations goes through: $1 is the account, $2 its lane, $3 the position, $4 the
// size of a page.
const (
	// EraseAsked are the operations that were asked of the account.
	EraseAsked = `account_id = $1 AND lane = $2 AND NOT stranger`
	// EraseStrange are those of clients who did not reach it. There is no index of them.
	EraseStrange = `account_id = $1 AND lane = $2 AND stranger`
	// ErasePaid are those by which others of its tenant have paid it.
	ErasePaid = `to_account_id = $1 AND account_id <> $1 AND tenant =
		(SELECT tenant FROM accounts a WHERE a.id = $1 AND a.lane = $2)`
)

// eraseOperations are the statements by which the texts of operations go, and the fingerprints, which are made of them:
// without one a repeated request is another one under the same key. Those who have paid the account keep that they did,
// and with which key. Earlier versions stored what the client said of a payment's cancellation as its reason.
var eraseOperations = []string{`
	UPDATE operations SET reference = '', description = '', note = '', fingerprint = NULL,
		subject = CASE WHEN account_id = $3 THEN '' ELSE subject END, key = CASE WHEN account_id = $3 THEN '' ELSE key END
	WHERE id = ANY($1::uuid[]) AND lane = $2 AND (reference <> '' OR description <> '' OR note <> ''
		OR fingerprint IS NOT NULL OR account_id = $3 AND (subject <> '' OR key <> ''))`, `
	UPDATE payments SET note = '', reason = CASE WHEN status = 'cancelled' THEN 'cancelled' ELSE reason END
	WHERE order_id = ANY(SELECT order_id FROM operations WHERE id = ANY($1::uuid[]) AND lane = $2)
		AND lane = $2 AND account_id = $3 AND (note <> '' OR status = 'cancelled' AND reason <> 'cancelled')`,
}

// EraseOperations erases what is personal in a page of an account's operations, and in the payments that they are of.
// What waits stays as it is until it has ended. keys tells the keys of package idempotency under which an operation may
// have come. It returns how many rows have changed, and the position after the page, or 0 at the end.
func EraseOperations(ctx context.Context, tx *sqlx.Tx, account uuid.UUID, which string, after int64,
	keys func(ledger.Operation) []uuid.UUID) (rows, next int64, err error) {
	var page []ledger.Operation
	if err := tx.SelectContext(ctx, &page, `
		SELECT id, lane, seq, operation, tenant, account_id, command_id, subject, key, status FROM operations
		WHERE `+which+` AND seq > $3 ORDER BY seq LIMIT $4`, account, contract.Lane(account), after, erasePage); err != nil {
		return 0, 0, fmt.Errorf("read a page of operations: %w", err)
	}
	ids := make(map[int16]pg.UUIDs) // by lane
	var claimed []uuid.UUID
	for _, op := range page {
		next = op.Seq
		if op.Status == ledger.Created {
			continue
		}
		ids[op.Lane] = append(ids[op.Lane], op.ID)
		claimed = append(claimed, keys(op)...)
	}
	if len(page) < erasePage {
		next = 0
	}
	if rows, err = idempotency.Forget(ctx, tx, claimed); err != nil {
		return 0, 0, err
	}
	for lane, ids := range ids {
		for _, statement := range eraseOperations {
			n, err := changed(tx.ExecContext(ctx, statement, ids, lane, account))
			if err != nil {
				return 0, 0, err
			}
			rows += n
		}
	}
	return rows, next, nil
}

func changed(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, fmt.Errorf("erase: %w", err)
	}
	return result.RowsAffected()
}
