package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/platform/idempotency"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// erasePage is how many orders are erased together.
const erasePage = 1000

// begun are the lines of a history whose reason was the client's note in earlier versions.
const begun = `reason NOT IN ('cancelled', 'restored')
	AND (to_status = 'cancelled' OR to_status = 'cancelling' AND from_status <> 'cancelling')`

// eraseOrders are the statements by which the texts of orders go, who has placed and cancelled them, and the
// fingerprints, which are made of the texts: a repeated request is another one under the same key then.
var eraseOrders = []string{`
	UPDATE orders SET description = '', reference = '', subject = '', key = '', note = '', fingerprint = NULL,
		reason = CASE WHEN status = 'cancelled' THEN 'cancelled' ELSE reason END
	WHERE id = ANY($1::uuid[]) AND (fingerprint IS NOT NULL OR description || reference || subject || key || note <> ''
		OR status = 'cancelled' AND reason <> 'cancelled')`, `
	UPDATE order_history SET note = '', reason = CASE WHEN ` + begun + ` THEN 'cancelled' ELSE reason END
	WHERE order_id = ANY($1::uuid[]) AND (note <> '' OR ` + begun + `)`, `
	UPDATE cancellations SET subject = '', key = '', reason = '', fingerprint = '` + uuid.Nil.String() + `'
	WHERE order_id = ANY($1::uuid[]) AND fingerprint <> '` + uuid.Nil.String() + `'`,
}

// Erase erases what is personal in a page of an account's orders: of those that wait neither for their payment nor for
// their cancellation, since these are announced again as they are. batchKeys tells the keys of the batches in which an
// order may have come. It returns how many rows have changed, and the position after the page, or 0 at the end.
func Erase(ctx context.Context, tx *sqlx.Tx, account uuid.UUID, after int64, batchKeys func(order.Order) []uuid.UUID) (
	rows, next int64, err error) {
	var page []row
	// The IDs are chosen first, and locked in the order in which the status worker locks them.
	if err := tx.SelectContext(ctx, &page, `
		SELECT seq, `+orderColumns.String()+` FROM orders WHERE id IN (
			SELECT id FROM orders WHERE account_id = $1 AND seq > $2 ORDER BY seq LIMIT $3
		) ORDER BY id FOR UPDATE`, account, after, erasePage); err != nil {
		return 0, 0, fmt.Errorf("read a page of orders: %w", err)
	}
	var ids pg.UUIDs
	var keys []uuid.UUID
	for _, r := range page {
		next = max(next, r.Seq)
		if !r.Status.Settled() {
			continue
		}
		if ids = append(ids, r.ID); r.Key != "" {
			keys = append(keys, batchKeys(r.Order)...)
		}
	}
	if len(page) < erasePage {
		next = 0
	}
	if rows, err = idempotency.Forget(ctx, tx, keys); err != nil {
		return 0, 0, err
	}
	for _, statement := range eraseOrders {
		result, err := tx.ExecContext(ctx, statement, ids)
		if err != nil {
			return 0, 0, fmt.Errorf("erase %d orders: %w", len(ids), err)
		}
		n, err := result.RowsAffected()
		if err != nil {
			return 0, 0, err
		}
		rows += n
	}
	return rows, next, nil
}
