package main

import (
	"context"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/orders/internal/placing"
	"github.com/altyn-pay/altyn/orders/internal/postgres"
	"github.com/altyn-pay/altyn/platform/service"
)

// erasure is how the personal data of an account is erased.
func erasure(account uuid.UUID) service.Erasure {
	return service.Erasure{
		Steps: []service.Erasing{func(ctx context.Context, tx *sqlx.Tx, after int64) (rows, next int64, err error) {
			return postgres.Erase(ctx, tx, account, after, placing.BatchKeys)
		}},
		Rests: service.Rests(
			service.Rest{What: "orders are pending or cancelling", Query: `
				SELECT count(*) FROM orders WHERE account_id = $1::uuid AND status IN ('pending', 'cancelling')`},
			service.Rest{What: "events are parked", Query: `
				SELECT count(*) FROM parked_events WHERE position(convert_to($1, 'UTF8') IN payload) > 0
					OR key = convert_to($1, 'UTF8')`},
		),
		Tables: []string{"orders", "order_history", "cancellations", "request_keys"},
	}
}
