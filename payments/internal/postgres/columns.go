package postgres

import (
	"time"

	"github.com/google/uuid"

	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// Statements that write a batch take each column as one array. These make the arrays: element i is value(i).

func uuids(n int, value func(i int) uuid.UUID) pg.UUIDs { return column[pg.UUIDs](n, value) }
func optionalUUIDs(n int, value func(i int) uuid.UUID) pg.OptionalUUIDs {
	return column[pg.OptionalUUIDs](n, value)
}
func texts(n int, value func(i int) string) pg.Texts     { return column[pg.Texts](n, value) }
func smallints(n int, value func(i int) int16) pg.Int16s { return column[pg.Int16s](n, value) }
func bigints(n int, value func(i int) int64) pg.Int64s   { return column[pg.Int64s](n, value) }
func times(n int, value func(i int) time.Time) pg.Times  { return column[pg.Times](n, value) }

func column[A ~[]V, V any](n int, value func(i int) V) A {
	values := make(A, n)
	for i := range values {
		values[i] = value(i)
	}
	return values
}
