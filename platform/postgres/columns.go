package postgres

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq/oid"
)

// Columns are those fields of a struct that have a db tag, in their order. They are read by name (sqlx), and written
// as one array for all rows.
type Columns[R any] []column

type column struct {
	reflect.StructField
	parameter int // its number in the statement
}

func (c column) name() string { return c.Tag.Get("db") }

func (c column) isLane() bool { return c.name() == "lane" }

// ColumnsOf returns all columns of R, as the first parameters of a statement.
func ColumnsOf[R any]() (all Columns[R]) {
	for _, field := range reflect.VisibleFields(reflect.TypeFor[R]()) {
		if field.Tag.Get("db") != "" {
			all = append(all, column{field, len(all) + 1})
		}
	}
	return all
}

// Only returns those of the columns that are named, as the first parameters of a statement.
func (c Columns[R]) Only(names ...string) (some Columns[R]) {
	for _, column := range c {
		if slices.Contains(names, column.name()) {
			some = append(some, column)
		}
	}
	if len(some) != len(names) {
		panic(fmt.Sprintf("postgres: %T has not all of the columns %v", *new(R), names))
	}
	return some.After(0)
}

// After returns the columns as the parameters after the first n.
func (c Columns[R]) After(n int) Columns[R] {
	c = slices.Clone(c)
	for i := range c {
		c[i].parameter = n + i + 1
	}
	return c
}

// list writes something for each column; %[1]s is its name, %[2]d its parameter and %[3]s the type of its array.
func (c Columns[R]) list(format, separator string) string {
	parts := make([]string, len(c))
	for i, column := range c {
		parts[i] = fmt.Sprintf(format, column.name(), column.parameter, arrayType(column))
	}
	return strings.Join(parts, separator)
}

// Next is the parameter after those of the columns.
func (c Columns[R]) Next() string { return "$" + strconv.Itoa(c[len(c)-1].parameter+1) }

func (c Columns[R]) String() string { return c.list("%[1]s", ", ") }

// Unnested is the columns of all rows in a SELECT list, which makes the rows one after the other; in FROM each column
// would be a table of its own first, for a quarter of an insert's time.
func (c Columns[R]) Unnested() string { return c.list("unnest($%[2]d::%[3]s)", ", ") }

// Rows is the columns of all rows as the table c.
func (c Columns[R]) Rows() string {
	return "unnest(" + c.list("$%[2]d::%[3]s", ", ") + ") AS c (" + c.String() + ")"
}

// Arrays are the columns' parameters of a statement. An ID that is uuid.Nil and a time that is zero are NULL.
func (c Columns[R]) Arrays(rows []*R) []any {
	arrays := make([]any, len(c))
	for i, column := range c {
		arrays[i] = arrayOf(column, len(rows), func(row int) reflect.Value {
			return reflect.ValueOf(rows[row]).Elem().FieldByIndex(column.Index)
		})
	}
	return arrays
}

// arrayOf makes the array of a column of n rows.
func arrayOf(column column, n int, value func(row int) reflect.Value) any {
	pointer := func(row int) any { return value(row).Addr().Interface() }
	switch column.Type {
	case reflect.TypeFor[uuid.UUID]():
		return collect[OptionalUUIDs](n, func(row int) uuid.UUID { return *pointer(row).(*uuid.UUID) })
	case reflect.TypeFor[uuid.NullUUID]():
		return collect[OptionalUUIDs](n, func(row int) uuid.UUID { return pointer(row).(*uuid.NullUUID).UUID })
	case reflect.TypeFor[time.Time]():
		return collect[Times](n, func(row int) time.Time { return *pointer(row).(*time.Time) })
	case reflect.TypeFor[*time.Time]():
		return collect[Times](n, func(row int) time.Time {
			if at := *pointer(row).(**time.Time); at != nil {
				return *at
			}
			return time.Time{}
		})
	case reflect.TypeFor[sql.NullTime]():
		return collect[Times](n, func(row int) time.Time { return pointer(row).(*sql.NullTime).Time })
	}
	switch column.Type.Kind() {
	case reflect.Bool:
		return collect[Bools](n, func(row int) bool { return value(row).Bool() })
	case reflect.Int:
		return collect[Int32s](n, func(row int) int32 { return int32(value(row).Int()) })
	case reflect.Int16:
		return collect[Int16s](n, func(row int) int16 { return int16(value(row).Int()) })
	case reflect.Int64:
		return collect[Int64s](n, func(row int) int64 { return value(row).Int() })
	case reflect.String:
		return collect[Texts](n, func(row int) string { return value(row).String() })
	}
	panic(fmt.Sprintf("postgres: the column %s cannot be written", column.Name))
}

func collect[A ~[]V, V any](n int, value func(i int) V) A {
	values := make(A, n)
	for i := range values {
		values[i] = value(i)
	}
	return values
}

// arrayType is the SQL type of a column's array.
func arrayType(column column) string {
	switch arrayOf(column, 0, nil).(type) {
	case Bools:
		return "boolean[]"
	case Int32s:
		return "integer[]"
	case OptionalUUIDs:
		return "uuid[]"
	case Times:
		return "timestamptz[]"
	case Int16s:
		return "smallint[]"
	case Int64s:
		return "bigint[]"
	}
	return "text[]"
}

// Statement writes rows, all of them or none.
type Statement[R any] struct {
	What    string // it does, for its errors
	Columns Columns[R]
	Query   string
	// InLanes says that the parameter after those of the columns is the Lanes of the rows, which have a column "lane".
	InLanes bool
}

// Insert makes a statement that inserts rows; end may say what happens in a conflict.
func Insert[R any](table, end string) Statement[R] {
	c := ColumnsOf[R]()
	return Statement[R]{What: "insert into " + table, Columns: c,
		Query: "INSERT INTO " + table + " (" + c.String() + ") SELECT " + c.Unnested() + " " + end}
}

// Update makes a statement that sets columns of the rows with these keys, where a further condition holds.
func Update[R any](table string, keys, sets []string, condition string) Statement[R] {
	all := ColumnsOf[R]()
	both := all.Only(append(keys, sets...)...)
	s := Statement[R]{What: "update " + table, Columns: both, InLanes: slices.Contains(keys, "lane"),
		Query: "UPDATE " + table + " SET " + all.Only(sets...).list("%[1]s = c.%[1]s", ", ") + " FROM " + both.Rows() +
			" WHERE " + all.Only(keys...).list(table+".%[1]s = c.%[1]s", " AND ") + " AND " + condition}
	if s.InLanes {
		s.Query += " AND " + InLanes(table+".lane", both.Next())
	}
	return s
}

// Of returns what runs the statement with rows; without rows it does nothing.
func (s Statement[R]) Of(rows []*R) func(context.Context, *sqlx.Tx) error {
	return func(ctx context.Context, tx *sqlx.Tx) error {
		if len(rows) == 0 {
			return nil
		}
		args := s.Columns.Arrays(rows)
		if s.InLanes {
			args = append(args, Lanes(args[slices.IndexFunc(s.Columns, column.isLane)].(Int16s)))
		}
		return ExecExactly(ctx, tx, s.What, len(rows), s.Query, args...)
	}
}

// Pointers returns pointers to all rows.
func Pointers[R any](rows []R) []*R {
	pointers := make([]*R, len(rows))
	for i := range rows {
		pointers[i] = &rows[i]
	}
	return pointers
}

// The columns of many rows, as parameters of one statement: INSERT … SELECT FROM unnest($1::uuid[], $2::bigint[],
// …). They are sent in the server's binary form, so that neither side writes or parses text. So the parameter must
// have exactly the type named here.
type (
	UUIDs         []uuid.UUID // uuid[]
	OptionalUUIDs []uuid.UUID // uuid[]; uuid.Nil is sent as NULL
	Int16s        []int16     // smallint[]
	Int32s        []int32     // integer[]
	Int64s        []int64     // bigint[]
	Bools         []bool      // boolean[]
	Texts         []string    // text[]
	Blobs         [][]byte    // bytea[]; nil is sent as NULL
	Times         []time.Time // timestamptz[], to the microsecond; the zero time is sent as NULL
)

// BinaryValue and its namesakes are called by lib/pq.
func (a UUIDs) BinaryValue() ([]byte, error) {
	return array(a, oid.T_uuid, 16*len(a), func(b []byte, id uuid.UUID) []byte { return append(b, id[:]...) }, nil)
}

func (a OptionalUUIDs) BinaryValue() ([]byte, error) {
	return array(a, oid.T_uuid, 16*len(a), func(b []byte, id uuid.UUID) []byte { return append(b, id[:]...) },
		func(id uuid.UUID) bool { return id == uuid.Nil })
}

func (a Int16s) BinaryValue() ([]byte, error) {
	return array(a, oid.T_int2, 2*len(a), func(b []byte, n int16) []byte {
		return binary.BigEndian.AppendUint16(b, uint16(n))
	}, nil)
}

func (a Int32s) BinaryValue() ([]byte, error) {
	return array(a, oid.T_int4, 4*len(a), func(b []byte, n int32) []byte {
		return binary.BigEndian.AppendUint32(b, uint32(n))
	}, nil)
}

func (a Int64s) BinaryValue() ([]byte, error) {
	return array(a, oid.T_int8, 8*len(a), func(b []byte, n int64) []byte {
		return binary.BigEndian.AppendUint64(b, uint64(n))
	}, nil)
}

func (a Bools) BinaryValue() ([]byte, error) {
	return array(a, oid.T_bool, len(a), func(b []byte, yes bool) []byte {
		if yes {
			return append(b, 1)
		}
		return append(b, 0)
	}, nil)
}

func (a Texts) BinaryValue() ([]byte, error) {
	return array(a, oid.T_text, total(a), func(b []byte, text string) []byte { return append(b, text...) }, nil)
}

func (a Blobs) BinaryValue() ([]byte, error) {
	return array(a, oid.T_bytea, total(a), func(b []byte, blob []byte) []byte { return append(b, blob...) },
		func(blob []byte) bool { return blob == nil })
}

func total[T string | []byte](elements []T) (bytes int) {
	for _, e := range elements {
		bytes += len(e)
	}
	return bytes
}

// epoch is where PostgreSQL's time begins.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

func (a Times) BinaryValue() ([]byte, error) {
	return array(a, oid.T_timestamptz, 8*len(a), func(b []byte, t time.Time) []byte {
		return binary.BigEndian.AppendUint64(b, uint64(t.UnixMicro()-epoch))
	}, time.Time.IsZero)
}

// array writes what array_recv of PostgreSQL's arrayfuncs.c reads: the number of dimensions, whether there are NULLs,
// the type of the elements, the length and lower bound of the only dimension, and each element after its length,
// which is -1 for NULL. bytes is the size of all elements together.
func array[T any](elements []T, element oid.Oid, bytes int, encode func([]byte, T) []byte, null func(T) bool) (
	[]byte, error) {
	const header, length = 20, 4
	b := make([]byte, 0, header+len(elements)*length+bytes)
	dimensions, nulls := uint32(1), uint32(0)
	if len(elements) == 0 {
		dimensions = 0
	}
	if null != nil {
		nulls = 1 // there may be
	}
	b = binary.BigEndian.AppendUint32(b, dimensions)
	b = binary.BigEndian.AppendUint32(b, nulls)
	b = binary.BigEndian.AppendUint32(b, uint32(element))
	if len(elements) == 0 {
		return b, nil
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(elements)))
	b = binary.BigEndian.AppendUint32(b, 1)
	for _, e := range elements {
		size := len(b)
		b = append(b, 0xff, 0xff, 0xff, 0xff)
		if null != nil && null(e) {
			continue
		}
		b = encode(b, e)
		binary.BigEndian.PutUint32(b[size:], uint32(len(b)-size-4))
	}
	return b, nil
}
