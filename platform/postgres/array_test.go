package postgres_test

import (
	"database/sql"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	pg "github.com/altyn-pay/altyn/platform/postgres"
	"github.com/altyn-pay/altyn/testkit/postgrestest"
)

// Every table is written with one INSERT … SELECT FROM unnest; this is how each type goes there and back.
func TestArraysThroughUnnest(t *testing.T) {
	db := postgrestest.Database(t, "orders").Service
	type row struct {
		UUID     uuid.UUID     `db:"uuid"`
		Optional uuid.NullUUID `db:"optional"`
		Small    int16         `db:"small"`
		Integer  int32         `db:"integer"`
		Big      int64         `db:"big"`
		Flag     bool          `db:"flag"`
		Text     string        `db:"text"`
		Blob     []byte        `db:"blob"`
		Time     sql.NullTime  `db:"time"`
		N        int           `db:"n"`
	}
	id := uuid.New()
	long := strings.Repeat("ж", 10_000)
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901999, time.FixedZone("", 3600))
	sent := []row{
		{uuid.Nil, uuid.NullUUID{}, math.MinInt16, math.MinInt32, math.MinInt64, false, `comma, "quote", back\slash, {brace}`,
			nil, sql.NullTime{}, 1},
		{id, uuid.NullUUID{UUID: id, Valid: true}, math.MaxInt16, math.MaxInt32, math.MaxInt64, true, "NULL",
			[]byte{0, 1, 0xff}, sql.NullTime{Time: at, Valid: true}, 2},
		{id, uuid.NullUUID{}, -1, -1, -1, true, "", []byte{}, sql.NullTime{Time: time.Unix(-1, 0), Valid: true}, 3},
		{id, uuid.NullUUID{}, 0, 0, 0, true, long, []byte(long),
			sql.NullTime{Time: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), Valid: true}, 4},
	}
	var (
		uuids    pg.UUIDs
		optional pg.OptionalUUIDs
		small    pg.Int16s
		integers pg.Int32s
		big      pg.Int64s
		flags    pg.Bools
		texts    pg.Texts
		blobs    pg.Blobs
		times    pg.Times
	)
	for _, r := range sent {
		uuids, optional = append(uuids, r.UUID), append(optional, r.Optional.UUID)
		small, integers, big = append(small, r.Small), append(integers, r.Integer), append(big, r.Big)
		flags, texts, blobs, times = append(flags, r.Flag), append(texts, r.Text), append(blobs, r.Blob),
			append(times, r.Time.Time)
	}
	for _, way := range []string{"prepared", "again"} {
		var got []row
		if err := db.SelectContext(t.Context(), &got, `
			SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::integer[], $5::bigint[], $6::boolean[], $7::text[],
				$8::bytea[], $9::timestamptz[]) WITH ORDINALITY AS t (uuid, optional, small, integer, big, flag, text, blob, time,
					n)
			ORDER BY n`, uuids, optional, small, integers, big, flags, texts, blobs, times); err != nil {
			t.Fatal(err)
		}
		if len(got) != len(sent) {
			t.Fatalf("%s: %d rows", way, len(got))
		}
		for i, want := range sent {
			if !got[i].Time.Time.Equal(want.Time.Time.Truncate(time.Microsecond)) || (got[i].Blob == nil) != (want.Blob == nil) {
				t.Errorf("%s: row %d came back with %v, %v", way, i, got[i].Time, got[i].Blob)
			}
			got[i].Time.Time = want.Time.Time
			if !reflect.DeepEqual(got[i], want) && !(got[i].Blob != nil && len(got[i].Blob)+len(want.Blob) == 0) {
				t.Errorf("%s: row %d came back as %+v", way, i, got[i])
			}
		}
	}
	var count int
	if err := db.GetContext(t.Context(), &count, `SELECT count(*) FROM unnest($1::uuid[])`, pg.UUIDs{}); err != nil ||
		count != 0 {
		t.Errorf("an empty array has %d rows, %v", count, err)
	}
	var missing bool
	if err := db.GetContext(t.Context(), &missing, `SELECT coalesce(cardinality($1::text[]), 0) = 0`,
		pg.Texts(nil)); err != nil || !missing {
		t.Errorf("a nil array has elements, %v", err)
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
