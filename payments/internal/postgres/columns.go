package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"

	pg "github.com/altyn-pay/altyn/platform/postgres"
)

// columns are those fields of a struct that have a db tag, in their order. They are read by name (sqlx), and written
// as one array for all rows.
type columns[R any] []reflect.StructField

func columnsOf[R any]() (all columns[R]) {
	for _, field := range reflect.VisibleFields(reflect.TypeFor[R]()) {
		if field.Tag.Get("db") != "" {
			all = append(all, field)
		}
	}
	return all
}

// only are those of the columns that are named.
func (c columns[R]) only(names ...string) (some columns[R]) {
	for _, field := range c {
		for _, name := range names {
			if field.Tag.Get("db") == name {
				some = append(some, field)
			}
		}
	}
	if len(some) != len(names) {
		panic(fmt.Sprintf("postgres: %T has not all of the columns %v", *new(R), names))
	}
	return some
}

// list writes something for each column; %[1]s is its name, %[2]d its number from 1 and %[3]s the type of its array.
func (c columns[R]) list(format, separator string) string {
	parts := make([]string, len(c))
	for i, field := range c {
		parts[i] = fmt.Sprintf(format, field.Tag.Get("db"), i+1, arrayType(field))
	}
	return strings.Join(parts, separator)
}

func (c columns[R]) String() string { return c.list("%[1]s", ", ") }

// unnested is the columns of all rows in a SELECT list, which makes the rows one after the other; in FROM each column
// would be a table of its own first, for a quarter of an insert's time.
func (c columns[R]) unnested() string { return c.list("unnest($%[2]d::%[3]s)", ", ") }

// rows is the columns of all rows as the table c.
func (c columns[R]) rows() string {
	return "unnest(" + c.list("$%[2]d::%[3]s", ", ") + ") AS c (" + c.String() + ")"
}

// arrays are the parameters of a statement.
func (c columns[R]) arrays(rows []*R) []any {
	arrays := make([]any, len(c))
	for i, field := range c {
		arrays[i] = arrayOf(field, len(rows), func(row int) reflect.Value {
			return reflect.ValueOf(rows[row]).Elem().FieldByIndex(field.Index)
		})
	}
	return arrays
}

// arrayOf makes the array of a column of n rows. An ID that is uuid.Nil and a time that is zero are NULL.
func arrayOf(field reflect.StructField, n int, value func(row int) reflect.Value) any {
	pointer := func(row int) any { return value(row).Addr().Interface() }
	switch field.Type {
	case reflect.TypeFor[uuid.UUID]():
		return array[pg.OptionalUUIDs](n, func(row int) uuid.UUID { return *pointer(row).(*uuid.UUID) })
	case reflect.TypeFor[uuid.NullUUID]():
		return array[pg.OptionalUUIDs](n, func(row int) uuid.UUID { return pointer(row).(*uuid.NullUUID).UUID })
	case reflect.TypeFor[time.Time]():
		return array[pg.Times](n, func(row int) time.Time { return *pointer(row).(*time.Time) })
	case reflect.TypeFor[sql.NullTime]():
		return array[pg.Times](n, func(row int) time.Time { return pointer(row).(*sql.NullTime).Time })
	}
	switch field.Type.Kind() {
	case reflect.Int16:
		return array[pg.Int16s](n, func(row int) int16 { return int16(value(row).Int()) })
	case reflect.Int64:
		return array[pg.Int64s](n, func(row int) int64 { return value(row).Int() })
	case reflect.String:
		return array[pg.Texts](n, func(row int) string { return value(row).String() })
	}
	panic(fmt.Sprintf("postgres: the column %s cannot be written", field.Name))
}

func array[A ~[]V, V any](n int, value func(i int) V) A {
	values := make(A, n)
	for i := range values {
		values[i] = value(i)
	}
	return values
}

// arrayType is the SQL type of a column's array.
func arrayType(field reflect.StructField) string {
	switch arrayOf(field, 0, nil).(type) {
	case pg.OptionalUUIDs:
		return "uuid[]"
	case pg.Times:
		return "timestamptz[]"
	case pg.Int16s:
		return "smallint[]"
	case pg.Int64s:
		return "bigint[]"
	}
	return "text[]"
}

// statement writes rows, all of them or none.
type statement[R any] struct {
	what    string
	columns columns[R]
	query   string
}

// insert makes a statement that inserts rows; end may say what happens in a conflict.
func insert[R any](table, end string) statement[R] {
	c := columnsOf[R]()
	return statement[R]{"insert into " + table, c,
		"INSERT INTO " + table + " (" + c.String() + ") SELECT " + c.unnested() + " " + end}
}

// update makes a statement that sets columns of the rows with these keys, where a further condition holds.
func update[R any](table string, keys, sets []string, condition string) statement[R] {
	all := columnsOf[R]()
	return statement[R]{"update " + table, all.only(append(keys, sets...)...),
		"UPDATE " + table + " SET " + all.only(sets...).list("%[1]s = c.%[1]s", ", ") +
			" FROM " + all.only(append(keys, sets...)...).rows() +
			" WHERE " + all.only(keys...).list(table+".%[1]s = c.%[1]s", " AND ") + " AND " + condition}
}

// of returns what runs the statement with rows; without rows it does nothing.
func (s statement[R]) of(rows []*R) func(context.Context, *sqlx.Tx) error {
	return func(ctx context.Context, tx *sqlx.Tx) error {
		if len(rows) == 0 {
			return nil
		}
		return pg.ExecExactly(ctx, tx, s.what, len(rows), s.query, s.columns.arrays(rows)...)
	}
}
