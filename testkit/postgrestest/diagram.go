package postgrestest

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
)

// Diagram draws a database's tables with their columns and primary keys, as Mermaid's entity diagram.
func Diagram(t testing.TB, db *sqlx.DB) string {
	t.Helper()
	var columns []struct {
		Table string `db:"table_name"`
		Name  string `db:"column_name"`
		Type  string `db:"data_type"`
		Key   bool   `db:"key"`
	}
	if err := db.SelectContext(t.Context(), &columns, `
		SELECT c.relname AS table_name, a.attname AS column_name,
			format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL) AS data_type,
			coalesce(a.attnum = ANY(i.indkey), false) AS key
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		JOIN pg_type t ON t.oid = a.atttypid -- of a domain, what it is made of
		LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
		WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND c.relname NOT LIKE '%\_migrations'
		ORDER BY c.relname, a.attnum`); err != nil {
		t.Fatal(err)
	}
	types := strings.NewReplacer("timestamp with time zone", "timestamptz", " ", "_")
	var out strings.Builder
	out.WriteString("erDiagram\n")
	for i, c := range columns {
		if i == 0 || columns[i-1].Table != c.Table {
			fmt.Fprintf(&out, "    %s {\n", c.Table)
		}
		fmt.Fprintf(&out, "        %s %s", types.Replace(c.Type), c.Name)
		if c.Key {
			out.WriteString(" PK")
		}
		out.WriteString("\n")
		if i == len(columns)-1 || columns[i+1].Table != c.Table {
			out.WriteString("    }\n")
		}
	}
	return out.String()
}

// CheckDiagram expects a document to contain the diagram of a database, so that it cannot go stale.
func CheckDiagram(t testing.TB, db *sqlx.DB, document string) {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if diagram := Diagram(t, db); !strings.Contains(string(text), diagram) {
		t.Errorf("%s does not have the diagram of the schema as it is; replace it by\n\n%s", document, diagram)
	}
}
