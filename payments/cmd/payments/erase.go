package main

import (
	"context"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/platform/service"
)

// erasure is how the personal data of an account is erased.
func erasure(account uuid.UUID) service.Erasure {
	steps := []service.Erasing{func(ctx context.Context, tx *sqlx.Tx, _ int64) (rows, next int64, err error) {
		rows, err = postgres.EraseAccount(ctx, tx, account)
		return rows, 0, err
	}}
	for _, which := range []string{postgres.EraseAsked, postgres.EraseStrange, postgres.ErasePaid} {
		steps = append(steps, func(ctx context.Context, tx *sqlx.Tx, after int64) (rows, next int64, err error) {
			return postgres.EraseOperations(ctx, tx, account, which, after, billing.ClaimedKeys)
		})
	}
	return service.Erasure{
		Steps: steps,
		Rests: service.Rests(
			service.Rest{What: "requests are in the inbox", Query: `
				SELECT count(*) FROM inbox WHERE account_id = $1::text::uuid OR position($1 IN payload) > 0`},
			service.Rest{What: "operations wait for money or goods", Query: `
				SELECT count(*) FROM waits WHERE account_id = $1::text::uuid OR position($1 IN payload) > 0`},
		),
		Tables: []string{"accounts", "operations", "payments", "request_keys"},
	}
}
