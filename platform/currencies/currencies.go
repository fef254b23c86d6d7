// Package currencies holds a service to the digits with which its database has the amounts of each currency. Amounts
// are stored in minor units, so that with another number of digits every one of them would be worth something else.
// It is not part of money, which does no I/O.
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

// Disagreement says which currencies of a database are others than those that a service knows.
type Disagreement []string

func (d Disagreement) Error() string { return strings.Join(d, "; ") }

// Agree records the currencies that a service knows from now on. It returns a Disagreement where one has other digits
// in the database, or is used there and not known. One that is not known and was never used is forgotten. tables are
// those that have amounts, each with a column currency.
//
// Any number of instances may start at once. Of two that have different digits for a new currency, one wins.
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
		// Nothing is written where nothing is new. Rows are locked in one order by all instances.
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

// forget deletes a currency that is not used. Where that cannot be found out in time, it may be.
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
