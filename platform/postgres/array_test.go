package postgres_test

import (
	"database/sql"
	"slices"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/altyn-pay/altyn/platform/postgrestest"
)

// Every table is written with one INSERT … SELECT FROM unnest; this is how each type goes there and back.
func TestArraysThroughUnnest(t *testing.T) {
	db := postgrestest.Database(t, "orders").Service

	ids := []string{"0192d4e0-7b1c-7cc3-a6d2-0d6f0f5d3a11", "0192d4e0-7b1c-7cc3-a6d2-0d6f0f5d3a12"}
	amounts := []int64{-9223372036854775808, 9223372036854775807}
	texts := []string{`comma, "quote", back\slash, {brace}`, "NULL"}
	times := []time.Time{time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC), time.Date(1970, 1, 1, 0, 0, 0, 0, time.FixedZone("", 3600))}
	flags := []bool{true, false}
	documents := []string{`{"a": [1, "x"]}`, `null`}
	bodies := [][]byte{{0, 1, 0xff}, {}}
	maybeIDs := []sql.NullString{{String: ids[0], Valid: true}, {}}
	maybeAmounts := []sql.NullInt64{{Int64: 7, Valid: true}, {}}
	maybeTexts := []sql.NullString{{String: "", Valid: true}, {}}
	maybeTimes := []sql.NullTime{{Time: times[0], Valid: true}, {}}

	type row struct {
		ID          string         `db:"id"`
		Amount      int64          `db:"amount"`
		Text        string         `db:"text"`
		Time        time.Time      `db:"time"`
		Flag        bool           `db:"flag"`
		Document    string         `db:"document"`
		Body        []byte         `db:"body"`
		MaybeID     sql.NullString `db:"maybe_id"`
		MaybeAmount sql.NullInt64  `db:"maybe_amount"`
		MaybeText   sql.NullString `db:"maybe_text"`
		MaybeTime   sql.NullTime   `db:"maybe_time"`
		N           int            `db:"n"`
	}
	var rows []row
	err := db.SelectContext(t.Context(), &rows, `
		SELECT * FROM unnest(
			$1::uuid[], $2::bigint[], $3::text[], $4::timestamptz[], $5::boolean[], $6::jsonb[], $7::bytea[],
			$8::uuid[], $9::bigint[], $10::text[], $11::timestamptz[]
		) WITH ORDINALITY AS t (id, amount, text, time, flag, document, body, maybe_id, maybe_amount, maybe_text, maybe_time, n)
		ORDER BY n`,
		pq.Array(ids), pq.Array(amounts), pq.Array(texts), pq.Array(times), pq.Array(flags), pq.Array(documents), pq.Array(bodies),
		pq.Array(maybeIDs), pq.Array(maybeAmounts), pq.Array(maybeTexts), pq.Array(maybeTimes))
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 2 {
		t.Fatalf("%d rows", len(rows))
	}
	for i, got := range rows {
		switch {
		case got.ID != ids[i], got.Amount != amounts[i], got.Text != texts[i], !got.Time.Equal(times[i]),
			got.Flag != flags[i], got.Document != documents[i], !slices.Equal(got.Body, bodies[i]),
			got.MaybeID != maybeIDs[i], got.MaybeAmount != maybeAmounts[i], got.MaybeText != maybeTexts[i],
			got.MaybeTime.Valid != maybeTimes[i].Valid, !got.MaybeTime.Time.Equal(maybeTimes[i].Time), got.N != i+1:
			t.Errorf("row %d came back as %+v", i, got)
		}
	}

	var back []string
	if err := db.GetContext(t.Context(), pq.Array(&back), `SELECT array_agg(id ORDER BY id) FROM unnest($1::uuid[]) AS id`, pq.Array(ids)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(back, ids) {
		t.Errorf("the array came back as %v", back)
	}

	var count int
	if err := db.GetContext(t.Context(), &count, `SELECT count(*) FROM unnest($1::uuid[])`, pq.Array([]string{})); err != nil || count != 0 {
		t.Errorf("an empty array has %d rows, %v", count, err)
	}
}

// JSON goes as a string: a []byte would arrive as bytea.
func TestJSONParameter(t *testing.T) {
	db := postgrestest.Database(t, "orders").Service
	var value string
	if err := db.GetContext(t.Context(), &value, `SELECT $1::jsonb ->> 'a'`, `{"a": "b"}`); err != nil || value != "b" {
		t.Errorf("got %q, %v", value, err)
	}
}
