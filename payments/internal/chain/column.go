package chain

import (
	"bytes"
	"errors"
	"strings"
)

// Column is a column of a table and its canonical form: that in which PostgreSQL sends the type in binary, which has a
// fixed size; a text, which has no zero byte, ends with one; and before a column that may be NULL stands 1, or 0 alone.
type Column struct {
	sql      string // makes the canonical form
	size     int    // 0 is a text
	optional bool
}

// UUID is a column of the type uuid, given as SQL.
func UUID(sql string) Column { return Column{sql: "uuid_send(" + sql + ")", size: 16} }

// Small is a column of the type smallint, given as SQL.
func Small(sql string) Column { return Column{sql: "int2send(" + sql + ")", size: 2} }

// Big is a column of the type bigint, given as SQL.
func Big(sql string) Column { return Column{sql: "int8send(" + sql + ")", size: 8} }

// Bool is a column of the type boolean, given as SQL.
func Bool(sql string) Column { return Column{sql: "boolsend(" + sql + ")", size: 1} }

// Timestamp is a column of the type timestamptz, given as SQL.
func Timestamp(sql string) Column { return Column{sql: "timestamptz_send(" + sql + ")", size: 8} }

// Text is a column of the type text, given as SQL.
func Text(sql string) Column { return Column{sql: `textsend(` + sql + `) || '\x00'::bytea`} }

// OptionalUUID is a UUID that may be NULL.
func OptionalUUID(sql string) Column { return optional(UUID(sql)) }

// OptionalTimestamp is a Timestamp that may be NULL.
func OptionalTimestamp(sql string) Column { return optional(Timestamp(sql)) }

func optional(c Column) Column {
	return Column{sql: `coalesce('\x01'::bytea || ` + c.sql + `, '\x00'::bytea)`, size: c.size, optional: true}
}

// SQL is an expression for the canonical form of columns. It is NULL if a column is NULL that may not be.
func SQL(columns []Column) string {
	parts := make([]string, len(columns))
	for i, column := range columns {
		parts[i] = column.sql
	}
	return strings.Join(parts, " || ")
}

var errShort = errors.New("a row is not in its canonical form")

// Split splits the columns off what begins with them in their canonical form. It appends their values to values, of a
// NULL nil, and returns the rest.
func Split(values [][]byte, columns []Column, row []byte) (_ [][]byte, rest []byte, err error) {
	for _, column := range columns {
		size, skip := column.size, 0
		switch {
		case column.optional && len(row) > 0 && row[0] == 0:
			values, row = append(values, nil), row[1:]
			continue
		case column.optional && len(row) > 0:
			row = row[1:]
		case size == 0:
			size, skip = bytes.IndexByte(row, 0), 1
		}
		if size < 0 || len(row) < size {
			return nil, nil, errShort
		}
		values, row = append(values, row[:size]), row[size+skip:]
	}
	return values, row, nil
}
