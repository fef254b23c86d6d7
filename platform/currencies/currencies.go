// Package currencies makes sure that a service and its database agree on how many digits each currency has. Amounts
// are stored in minor units: with another number of digits every one of them would be worth something else. The
// package is not part of money because that does no I/O.
package currencies

import (
	"context"
	"embed"
	"fmt"
	"strings"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"github.com/lib/pq/pqerror"

	"github.com/altyn-pay/altyn/platform/money"
	pg "github.com/altyn-pay/altyn/platform/postgres"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations creates the table currencies. It comes after the tables that have amounts.
func Migrations() pg.Migrations { return pg.Embedded("currencies", files) }

// Disagreement says in what the currencies of a database differ from those that the service knows.
type Disagreement []string

func (d Disagreement) Error() string { return strings.Join(d, "; ") }

// Agree records the currencies that the service knows. It returns a Disagreement if one of them has other digits in
// the database, or if the database uses one that is not known. It forgets a recorded currency that is neither known
// nor used. tables are those that have amounts, each with a column currency.
//
// Any number of instances may start at once. Of two that give a new currency different digits, one wins.
func Agree(ctx context.Context, db *sqlx.DB, known *money.Currencies, tables ...string) error {
	list := known.List()
	codes, digits := make(pg.Texts, len(list)), make(pg.Int16s, len(list))
	for i, c := range list {
		codes[i], digits[i] = c.Code, int16(c.Digits)
	}
	var recorded []struct {
		Code   string `db:"code"`
		Digits int    `db:"digits"`
	}
	err := pg.InTx(ctx, db, func(tx *sqlx.Tx) error {
		// Writes only what is new. All instances lock the rows in one order.
		if _, err := tx.ExecContext(ctx, `
			INSERT INTO currencies (code, digits)
			SELECT code, digits FROM unnest($1::text[], $2::smallint[]) AS known (code, digits)
			WHERE NOT EXISTS (SELECT FROM currencies c WHERE c.code = known.code AND c.digits IS NOT NULL)
			ORDER BY code
			ON CONFLICT (code) DO UPDATE SET digits = coalesce(currencies.digits, excluded.digits)`, codes, digits); err != nil {
			return err
		}
		return tx.SelectContext(ctx, &recorded, `SELECT code, coalesce(digits, -1) AS digits FROM currencies ORDER BY code`)
	})
	if err != nil {
		return fmt.Errorf("record currencies: %w", err)
	}
	var wrong Disagreement
	for _, r := range recorded {
		switch c, ok := known.Lookup(r.Code); {
		case ok && c.Digits != r.Digits:
			wrong = append(wrong, fmt.Sprintf("%s has %d digits here and %d in the database", r.Code, c.Digits, r.Digits))
		case !ok:
			used, err := forget(ctx, db, r.Code, tables)
			if err != nil {
				return err
			}
			if used {
				wrong = append(wrong, fmt.Sprintf("%s is missing and used in the database", r.Code))
			}
		}
	}
	if len(wrong) > 0 {
		return wrong
	}
	return nil
}

// forget deletes a currency unless it is used. If that cannot be found out in time, it counts as used.
func forget(ctx context.Context, db *sqlx.DB, code string, tables []string) (used bool, err error) {
	conditions := make([]string, len(tables))
	for i, table := range tables {
		conditions[i] = ` AND NOT EXISTS (SELECT FROM ` + pq.QuoteIdentifier(table) + ` WHERE currency = $1)`
	}
	_, err = db.ExecContext(ctx, `DELETE FROM currencies WHERE code = $1`+strings.Join(conditions, ""), code)
	if pq.As(err, pqerror.QueryCanceled) != nil {
		return true, nil
	}
	if err == nil { // another instance may have deleted it
		err = db.GetContext(ctx, &used, `SELECT EXISTS (SELECT FROM currencies WHERE code = $1)`, code)
	}
	if err != nil {
		return false, fmt.Errorf("look whether %s is used: %w", code, err)
	}
	return used, nil
}
