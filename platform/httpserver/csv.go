package httpserver

import (
	"fmt"
	"iter"
	"reflect"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// CSVPieces writes items as CSV (RFC 4180), a piece for each page of them: first a line with the names of the columns,
// which are those of the items' JSON, then a line for each item, or one for each element of an item's list. What is
// left out of JSON is empty. next returns the next page, and whether there are more.
//
// A text that a spreadsheet could take for a formula comes with an apostrophe before it, and so does one that begins
// with an apostrophe: who takes one away has the text as it was.
func CSVPieces[Item any](next func() (page []Item, more bool, err error)) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		columns := csvColumns(reflect.TypeFor[Item]())
		var piece []byte
		for i, column := range columns {
			piece = appendCell(piece, i, column.name)
		}
		piece = append(piece, "\r\n"...)
		for more := true; more; {
			var page []Item
			var err error
			if page, more, err = next(); err == nil {
				for _, item := range page {
					piece = appendLines(piece, columns, reflect.ValueOf(item))
				}
			}
			if !yield(piece, err) || err != nil {
				return
			}
			piece = piece[:0]
		}
	}
}

// csvColumn is a column: a field of an item, or of the elements of its list.
type csvColumn struct {
	name  string
	index []int
	list  []int // where the list is; nil for a field of the item
}

// csvColumns are the fields that JSON has of a struct. A list of structs gives its elements' fields.
func csvColumns(item reflect.Type) (columns []csvColumn) {
	for _, field := range reflect.VisibleFields(item) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case name == "" || name == "-":
		case field.Type.Kind() == reflect.Slice:
			for _, inner := range csvColumns(field.Type.Elem()) {
				inner.list = field.Index
				columns = append(columns, inner)
			}
		default:
			columns = append(columns, csvColumn{name: name, index: field.Index})
		}
	}
	return columns
}

// appendLines writes the lines of an item.
func appendLines(buf []byte, columns []csvColumn, item reflect.Value) []byte {
	lines := 1
	for _, c := range columns {
		if c.list != nil {
			lines = max(lines, item.FieldByIndex(c.list).Len())
		}
	}
	for line := range lines {
		for i, c := range columns {
			text := ""
			if c.list == nil {
				text = cellOf(item.FieldByIndex(c.index))
			} else if list := item.FieldByIndex(c.list); line < list.Len() {
				text = cellOf(list.Index(line).FieldByIndex(c.index))
			}
			buf = appendCell(buf, i, text)
		}
		buf = append(buf, "\r\n"...)
	}
	return buf
}

// cellOf returns a field as JSON has it, without quotation marks.
func cellOf(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		v = v.Elem()
	}
	switch value := v.Interface().(type) {
	case uuid.UUID:
		if value == uuid.Nil {
			return ""
		}
		return value.String()
	case interface {
		fmt.Stringer
		IsZero() bool
	}: // a time
		if value.IsZero() {
			return ""
		}
		return value.String()
	}
	switch v.Kind() {
	case reflect.String:
		return v.String()
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10)
	}
	panic(fmt.Sprintf("httpserver: no form in CSV for %s", v.Type()))
}

// formulas begin what a spreadsheet evaluates (OWASP, CSV injection), the wide forms included.
const formulas = "=+-@\t\r\n＝＋－＠'"

// appendCell writes the cell at index i of a line.
func appendCell(buf []byte, i int, text string) []byte {
	if i > 0 {
		buf = append(buf, ',')
	}
	first := strings.IndexAny(text, formulas)
	guarded := first == 0 && !isAmount(text)
	if !guarded && !strings.ContainsAny(text, "\",;\r\n") {
		return append(buf, text...)
	}
	buf = append(buf, '"')
	if guarded {
		buf = append(buf, '\'')
	}
	buf = append(buf, strings.ReplaceAll(text, `"`, `""`)...)
	return append(buf, '"')
}

// isAmount reports whether a text is a decimal number, which is no formula although it may begin with a minus.
func isAmount(text string) bool {
	whole, fraction, found := strings.Cut(strings.TrimPrefix(text, "-"), ".")
	digits := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	return digits(whole) && (!found || digits(fraction))
}
