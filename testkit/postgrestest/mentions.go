package postgrestest

import (
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
)

// Mentions are the tables with a row in which a text stands, in any column, as text or as bytes, and the columns whose
// statistics have it. db is the owner's.
func Mentions(t testing.TB, db *sqlx.DB, text string) (found []string) {
	t.Helper()
	var tables []string
	if err := db.SelectContext(t.Context(), &tables, `
		SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename`); err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		var there bool
		if err := db.GetContext(t.Context(), &there, `SELECT EXISTS (
			SELECT FROM `+pq.QuoteIdentifier(table)+` t
			WHERE position($1 IN t::text) > 0 OR position(encode(convert_to($1, 'UTF8'), 'hex') IN t::text) > 0)`,
			text); err != nil {
			t.Fatal(err)
		}
		if there {
			found = append(found, table)
		}
	}
	var statistics []string
	if err := db.SelectContext(t.Context(), &statistics, `
		SELECT 'statistics of ' || tablename || '.' || attname FROM pg_stats
		WHERE schemaname = 'public' AND position($1 IN concat(most_common_vals, histogram_bounds)) > 0`,
		text); err != nil {
		t.Fatal(err)
	}
	return append(found, statistics...)
}
