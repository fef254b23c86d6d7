package postgres

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

var editSeed = flag.Uint64("edits.seed", 1, "of the random edits of the ledger")

// uncovered are the columns that a change of which is not found, with the reasons.
var uncovered = map[string]string{
	"accounts.reference":      "a client's text",
	"accounts.seq":            "the order of lists",
	"balances.entered_at":     "keeps times in order",
	"operations.reference":    "a client's text",
	"operations.description":  "a client's text",
	"operations.note":         "a client's text",
	"operations.fingerprint":  "made of a client's texts",
	"operations.traceparent":  "for operators only",
	"operations.published_at": "for operators only",
	"operations.subject":      "who asked for it: personal",
	"operations.key":          "a client's text",
	"operations.cancelled_by": "leads to who cancelled it, which is personal",
	"payments.note":           "a client's text",
	"chain_unlinked.at":       "", // is covered where the batch has entries
}

// Every change of a covered column, every deletion, every insertion and every swap is found, and named first.
func TestEveryEditIsFound(t *testing.T) {
	postgrestest.NotOnCitus(t, "it chooses rows by their places, which several shards have")
	b := setup(t)
	b.everything()
	b.intact()
	// Whoever owns the tables is held up by nothing. A balance without entries is no more than a row to be locked.
	b.exec(`DO $$ DECLARE c record; BEGIN
		FOR c IN SELECT conrelid::regclass AS name, conname FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0 LOOP
			EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.name, c.conname);
		END LOOP;
	END $$`)
	b.exec(`DELETE FROM balances WHERE entries = 0 AND waiting = 0`)
	e := newEditor(b)
	for e.edits < 1000 || !e.all() {
		name, ids, statement := e.next()
		found, changed, err := b.edited(statement)
		if err != nil || !changed {
			if e.refused++; e.refused > 20_000 {
				t.Fatalf("%d edits were refused, the last one %s: %v", e.refused, statement, err)
			}
			continue
		}
		e.edits++
		e.seen[name]++
		table, _, _ := strings.Cut(name, ".")
		_, open := uncovered[name]
		named := func(d Difference) bool {
			return slices.ContainsFunc(ids, func(id string) bool { return strings.Contains(d.ID, id) })
		}
		switch {
		case name == "chain_unlinked.at":
		case open && len(found) > 0:
			t.Errorf("found, though not covered: %s: %+v", statement, found)
		case open:
		case len(found) == 0:
			t.Errorf("not found: %s", statement)
		case table == "chain_unlinked" || name == "chain.deletion" && found[0].Table != table: // it was the last link
		case found[0].Table != table || !slices.ContainsFunc(found, named):
			t.Errorf("%s of %v is named as %+v", statement, ids, found)
		}
	}
	t.Logf("%d edits, %d more changed nothing or were refused by the database", e.edits, e.refused)
}

// A row is seen that lacks a value which every row has, once whoever owns the tables lets it.
func TestARowWithoutAValueIsFound(t *testing.T) {
	b := setup(t)
	b.everything()
	id := uuid.NewString()
	for _, row := range []struct{ table, column, key string }{
		{"accounts", "created_at", `"id": "` + id + `", "seq": 1000000`}, {"holds", "captured", `"id": "` + id + `"`},
		{"operations", "amount", `"id": "` + id + `", "seq": 1000000`}, {"payments", "version", `"order_id": "` + id + `"`},
		{"entries", "amount", `"number": 1000000`}, {"balances", "actual", `"currency": "EUR", "entries": 0`},
	} {
		b.exec(`ALTER TABLE ` + row.table + ` ALTER ` + row.column + ` DROP NOT NULL`)
		found, _, err := b.edited(`INSERT INTO ` + row.table + ` OVERRIDING SYSTEM VALUE SELECT (jsonb_populate_record(t,
			'{` + row.key + `, "` + row.column + `": null}')).* FROM ` + row.table + ` t LIMIT 1`)
		if err != nil || len(found) != 1 || found[0].Table != row.table || !strings.Contains(found[0].What, "no value") {
			t.Errorf("%s without %s: %+v, %v", row.table, row.column, found, err)
		}
	}
	b.intact()
}

// editor makes random edits of the ledger's tables.
type editor struct {
	*bundle
	*rand.Rand
	columns        []editedColumn
	rows           map[string]int
	edits, refused int
	seen           map[string]int // edits by what they change
}

type editedColumn struct {
	Table string `db:"table_name"`
	Name  string `db:"column_name"`
	Type  string `db:"data_type"`
}

func newEditor(b *bundle) *editor {
	e := &editor{bundle: b, Rand: rand.New(rand.NewPCG(*editSeed, 2)), rows: make(map[string]int),
		seen: make(map[string]int)}
	b.must(b.Owner.Select(&e.columns, `
		SELECT table_name, column_name, data_type FROM information_schema.columns
		WHERE table_name IN ('accounts', 'balances', 'entries', 'holds', 'operations', 'payments', 'chain', 'chain_unlinked')
			AND is_identity = 'NO' AND (table_name, column_name) <> ('chain_unlinked', 'lane') -- says where the row is stored
		ORDER BY table_name, ordinal_position`))
	for _, c := range e.columns {
		if e.rows[c.Table] == 0 {
			e.rows[c.Table] = b.count(`SELECT count(*) FROM ` + c.Table)
		}
	}
	return e
}

// all tells whether every column was changed.
func (e *editor) all() bool {
	return !slices.ContainsFunc(e.columns, func(c editedColumn) bool { return e.seen[c.Table+"."+c.Name] == 0 })
}

// next returns an edit: what it changes, IDs of which the report must name one, and the statement.
func (e *editor) next() (name string, ids []string, statement string) {
	c := e.columns[e.IntN(len(e.columns))]
	id := map[string]string{"entries": "operation_id", "payments": "order_id", "balances": "account_id", "chain": "number",
		"chain_unlinked": "at"}[c.Table]
	if id == "" {
		id = "id"
	}
	row := func() string {
		return fmt.Sprintf("(SELECT ctid FROM %s ORDER BY ctid OFFSET %d LIMIT 1)", c.Table, e.IntN(e.rows[c.Table]))
	}
	one, other := row(), row()
	e.must(e.Owner.Select(&ids, `SELECT `+id+`::text FROM `+c.Table+` WHERE ctid IN (`+one+`, `+other+`)`))
	switch kind := e.IntN(12); {
	case kind == 0:
		return c.Table + ".deletion", ids, `DELETE FROM ` + c.Table + ` WHERE ctid = ` + one
	case kind == 1 && c.Table != "chain_unlinked": // a copy under another key
		key, value := id, "'"+uuid.New().String()+"'"
		switch c.Table {
		case "balances":
			key, value = "currency", "'EUR'"
		case "entries":
			key, value = "number", "number + 1000000"
		case "chain":
			value = "number + 1000"
		default:
			ids = []string{strings.Trim(value, "'")}
		}
		var names []string
		for _, other := range e.columns {
			if other.Table == c.Table {
				names = append(names, other.Name)
			}
		}
		values := slices.Clone(names)
		values[slices.Index(values, key)] = value
		if c.Table == "chain" { // links that would come before it are missing
			ids = append(ids, fmt.Sprint(e.rows[c.Table]+1))
		}
		return c.Table + ".insertion", ids, `INSERT INTO ` + c.Table + ` (` + strings.Join(names, ", ") + `) SELECT ` +
			strings.Join(values, ", ") + ` FROM ` + c.Table + ` WHERE ctid = ` + one
	case kind == 2:
		name := c.Table + "." + c.Name
		if name == "chain_unlinked.items" { // the same as an exchange of their times
			name = "chain_unlinked.at"
		}
		return name, ids, fmt.Sprintf(`UPDATE %[1]s t SET %[2]s = o.%[2]s FROM %[1]s o
			WHERE (t.ctid = %[3]s AND o.ctid = %[4]s OR t.ctid = %[4]s AND o.ctid = %[3]s)
				AND t.%[2]s IS DISTINCT FROM o.%[2]s`, c.Table, c.Name, one, other)
	}
	value := e.value(c)
	return c.Table + "." + c.Name, ids, fmt.Sprintf(`UPDATE %[1]s SET %[2]s = %[4]s
		WHERE ctid = %[3]s AND %[2]s IS DISTINCT FROM %[4]s`, c.Table, c.Name, one, value)
}

// value is SQL for another value of a column.
func (e *editor) value(c editedColumn) string {
	switch c.Type {
	case "uuid":
		return "'" + uuid.New().String() + "'"
	case "bytea":
		return `'\x` + strings.ReplaceAll(uuid.New().String(), "-", "") + `'`
	case "boolean":
		return "NOT " + c.Name
	case "timestamp with time zone":
		return fmt.Sprintf("coalesce(%s, now()) + interval '%d microseconds'", c.Name, 1+e.IntN(1e9))
	case "text":
		texts := []string{
			"created", "success", "error", "captured", "released", "succeeded", "deposit", "USDT", "manual", "automatic",
			"x", "",
		}
		return "'" + texts[e.IntN(len(texts))] + "'"
	}
	return fmt.Sprintf("%s + %d", c.Name, 1+e.IntN(3))
}

// edited makes an edit as the owner of the tables, compares, and takes it back.
func (b *bundle) edited(statement string) (found []Difference, changed bool, err error) {
	b.Helper()
	tx, err := b.Owner.BeginTxx(b.Context(), nil)
	b.must(err)
	defer func() { b.must(tx.Rollback()) }()
	result, err := tx.Exec(statement)
	if err != nil {
		return nil, false, err
	}
	n, err := result.RowsAffected()
	b.must(err)
	c := comparison{Verifying: Verifying{Sealings: 1}, txs: []*sqlx.Tx{tx}, shards: pg.Shards(b.Owner, 0)}
	v, err := c.verify(b.Context())
	b.must(err)
	return v.Differences, n > 0, nil
}
