package audit

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// However small the slices are, and wherever rows lie, a sift leaves the rules each ID that is wrong, and few that are
// right.
func TestSiftLeavesWhatIsWrong(t *testing.T) {
	t.Parallel()
	db := postgrestest.Database(t, "audit", Migrations())
	for _, statement := range []string{
		`CREATE TABLE things (id uuid PRIMARY KEY, n int, filler text)`,
		`CREATE TABLE parts (thing uuid, filler text)`,
		`CREATE TABLE rare (thing uuid)`,
		`CREATE INDEX ON parts (thing)`,
		`CREATE INDEX ON rare (thing)`,
		`INSERT INTO things SELECT gen_random_uuid(), n, repeat('x', 100) FROM generate_series(1, 3000) n`,
		`INSERT INTO parts SELECT id, repeat('x', 300) FROM things ORDER BY n`,
		`INSERT INTO rare SELECT id FROM things WHERE n % 1000 = 0 ORDER BY n`,
		`GRANT SELECT ON things, parts, rare TO PUBLIC`,
	} {
		db.Owner.MustExec(statement)
	}
	books := Books{
		Tables: []Table{
			{Name: "things", Sifted: true, Of: `id = ANY($1::uuid[])`, Rules: []Rule{{Name: "parts", Query: `
				SELECT id, '' FROM {slice} t WHERE (SELECT count(*) FROM parts WHERE thing = id) <> 1`}}},
			{Name: "parts", Sifted: true, Of: `thing = ANY($1::uuid[])`, Rules: []Rule{{Name: "thing", Query: `
				SELECT thing, '' FROM {slice} p WHERE NOT EXISTS (SELECT FROM things WHERE id = thing)`}}},
			{Name: "rare", Of: `thing = ANY($1::uuid[])`},
		},
		Sifts: []Sift{{Tables: []string{"things", "parts", "rare"}, ID: "id", Query: `
			SELECT coalesce(t.id, p.thing, r.thing) FROM {things} t
				FULL JOIN (SELECT thing, count(*) AS n FROM {parts} s GROUP BY 1) p ON p.thing = t.id
				FULL JOIN {rare} r ON r.thing = t.id
			WHERE (p.n = 1 AND t.id IS NOT NULL) IS NOT TRUE`}},
		Head: func(context.Context, sqlx.QueryerContext) (int64, error) { return 0, nil },
	}
	pass := func() (wrong []string, rows int64) {
		t.Helper()
		var r Result
		a := auditor{Books: books, db: db.Service}
		steps := 0
		for at := begin(books.steps()[0], 0); at.Table != ""; steps++ {
			a.n = 1
			var err error
			if at, err = a.pass(t.Context(), at, &r); err != nil {
				t.Fatal(err)
			}
		}
		if steps < 20 {
			t.Errorf("a pass has %d steps", steps)
		}
		for _, f := range r.Findings {
			wrong = append(wrong, fmt.Sprint(f.Rule, " ", f.ID))
		}
		slices.Sort(wrong)
		return slices.Compact(wrong), r.Rows
	}
	const all = 3000 + 3000 + 3
	if wrong, rows := pass(); len(wrong) > 0 || rows < all || rows > 3*all {
		t.Errorf("of right books %d rows were looked at, %v are wrong", rows, wrong)
	}
	var want []string
	spoil := func(rule string, n int, statement string) {
		t.Helper()
		var id uuid.UUID
		if err := db.Owner.Get(&id, `SELECT id FROM things WHERE n = $1`, n); err != nil {
			t.Fatal(err)
		}
		db.Owner.MustExec(statement, id)
		want = append(want, fmt.Sprint(rule, " ", id))
	}
	for n := 1; n <= 3000; n += 97 { // wherever the borders of slices are
		spoil("parts", n, `INSERT INTO parts SELECT $1, ''`)
		spoil("parts", n+1, `DELETE FROM parts WHERE thing = $1`)
		spoil("thing", n+2, `DELETE FROM things WHERE id = $1`)
		// It lies elsewhere, and is right.
		db.Owner.MustExec(`UPDATE parts SET filler = repeat('y', 300)
			WHERE thing = (SELECT id FROM things WHERE n = $1)`, n+3)
	}
	slices.Sort(want)
	if wrong, rows := pass(); !slices.Equal(wrong, want) || rows > 3*all {
		t.Errorf("%d are found wrong of %d, %d rows were looked at", len(wrong), len(want), rows)
	}
}
