package inbox

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/platform/contract"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// maxTenants is how many tenants get a share of one batch, at most. When more of them wait, they take turns.
const maxTenants = 100

// share is how many messages of a tenant are claimed from a lane.
type share struct {
	Tenant string `db:"tenant"`
	Lane   int16  `db:"lane"`
	N      int64  `db:"n"`
}

// claimShares claims up to limit messages, in equal shares for the tenants that have messages waiting, however long the
// queue of one of them is. A tenant's share comes from the lanes that are free, from a random one on. The first tenant
// is the one whose name follows after; claimShares returns the name after which the next claim begins.
//
// Of a tenant's messages in a lane it always takes the first ones. All messages of an account have the same tenant, so
// the account's order is kept. While it is not known of some message whose it is, nobody gets a share.
func claimShares(ctx context.Context, tx *sqlx.Tx, lanes pg.Lanes, after string, limit int) (
	rows []claimedRow, next string, err error) {
	var tenants pg.Texts
	// Each statement repeats the condition of the index inbox_tenant, without which the index is not used.
	if err := tx.SelectContext(ctx, &tenants, `
		WITH RECURSIVE waiting (tenant, n) AS (
			SELECT $1::text, 0
			UNION ALL
			SELECT found.tenant, n + 1 FROM waiting CROSS JOIN LATERAL (
				SELECT tenant FROM inbox
				WHERE NOT stopped AND tenant IS DISTINCT FROM '' AND tenant > waiting.tenant
					AND `+pg.InLanes("lane", "$3")+`
				ORDER BY tenant LIMIT 1
			) found WHERE n < $2
		) SELECT tenant FROM waiting WHERE n > 0`, after, maxTenants, lanes); err != nil {
		return nil, "", fmt.Errorf("inbox: find tenants: %w", err)
	}
	if len(tenants) == 0 {
		return nil, "", nil
	}
	if len(tenants) == maxTenants {
		next = tenants[maxTenants-1]
	}
	var shares []share
	if err := tx.SelectContext(ctx, &shares, `
		SELECT of.tenant, lane, count(*) AS n FROM unnest($1::text[]) AS of (tenant) CROSS JOIN LATERAL (
			(SELECT lane FROM inbox
			WHERE NOT stopped AND tenant IS DISTINCT FROM '' AND tenant = of.tenant AND lane >= $2
				AND `+pg.InLanes("lane", "$4")+`
			ORDER BY lane, seq LIMIT $3)
			UNION ALL
			(SELECT lane FROM inbox
			WHERE NOT stopped AND tenant IS DISTINCT FROM '' AND tenant = of.tenant AND lane < $2
				AND `+pg.InLanes("lane", "$4")+`
			ORDER BY lane, seq LIMIT $3)
			LIMIT $3
		) first GROUP BY of.tenant, lane`,
		tenants, rand.N[int16](contract.Lanes), limit/len(tenants), lanes); err != nil {
		return nil, "", fmt.Errorf("inbox: find lanes of tenants: %w", err)
	}
	wanted := make(pg.Int16s, len(shares))
	for i, s := range shares {
		wanted[i] = s.Lane
	}
	held, err := lockLanes(ctx, tx, wanted)
	if err != nil {
		return nil, "", err
	}
	shares = slices.DeleteFunc(shares, func(s share) bool { return !slices.Contains(held, s.Lane) })
	of, ofLanes, counts := make(pg.Texts, len(shares)), make(pg.Int16s, len(shares)), make(pg.Int64s, len(shares))
	for i, s := range shares {
		of[i], ofLanes[i], counts[i] = s.Tenant, s.Lane, s.N
	}
	if err := tx.SelectContext(ctx, &rows, `
		SELECT m.*, s.message_id AS stop_message_id, s.probing AS stop_probing
		FROM unnest($1::text[], $2::smallint[], $3::bigint[]) AS share (tenant, lane, n) CROSS JOIN LATERAL (
			SELECT `+columns+` FROM inbox
			WHERE NOT stopped AND tenant IS DISTINCT FROM '' AND tenant = share.tenant AND inbox.lane = share.lane
				AND `+pg.InLanes("inbox.lane", "$4")+`
			ORDER BY seq LIMIT n
		) m LEFT JOIN inbox_stops s ON s.account_id = m.account_id AND s.lane = m.lane AND `+pg.InLanes("s.lane", "$4")+`
		WHERE NOT EXISTS (
			SELECT FROM inbox WHERE NOT stopped AND tenant IS DISTINCT FROM '' AND tenant IS NULL
				AND `+pg.InLanes("lane", "$4")+`)`,
		of, ofLanes, counts, lanes); err != nil {
		return nil, "", fmt.Errorf("inbox: read shares: %w", err)
	}
	return rows, next, nil
}
