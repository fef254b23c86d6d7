package strictjson

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

// fault is the first thing that is wrong with a body, and the path of the field.
type fault struct {
	field, detail string
	unknown       bool // The shape does not have the field,
	variant       bool // or does not have it in this variant.
}

func (f *fault) err() error {
	field := contract.FieldError{Field: f.field, Detail: f.detail}
	if f.unknown {
		return &UnknownFieldError{field, f.variant}
	}
	return contract.FieldErrors{field}
}

// walk compares a body, which is valid JSON, with a shape.
type walk struct {
	body     []byte
	lenient  bool // Names that the shape does not have mean nothing.
	complain bool // Values must fit their types.
}

// check walks the value that begins at body[i] and returns the index after it.
func (w *walk) check(s *shape, i int) (end int, bad *fault) {
	i = skipSpace(w.body, i)
	switch {
	case s.fields != nil && w.body[i] == '{':
		return w.checkObject(s, i)
	case s.elem != nil && s.typ.Kind() == reflect.Map && w.body[i] == '{':
		return w.checkObject(s, i)
	case s.elem != nil && s.typ.Kind() != reflect.Map && w.body[i] == '[':
		return w.checkList(s, i)
	}
	end = skipValue(w.body, i)
	if s.typ == uuidType && w.body[i] == '"' && !isID(w.body[i:end]) {
		return end, &fault{detail: contract.ErrID.Error()}
	}
	if w.complain {
		if detail := s.complaint(w.body[i:end]); detail != "" {
			return end, &fault{detail: detail}
		}
	}
	return end, nil
}

var uuidType = reflect.TypeFor[uuid.UUID]()

// isID reports whether a JSON string, which encoding/json has read as a UUID, has the form that contract.ParseID reads.
func isID(value []byte) bool {
	_, err := contract.ParseID(string(unescaped(value)))
	return err == nil
}

// unescaped returns what a JSON string says.
func unescaped(value []byte) []byte {
	if bytes.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1]
	}
	var text string
	_ = json.Unmarshal(value, &text) // It is known to be valid.
	return []byte(text)
}

// anything is the shape of what is not read.
var anything = &shape{typ: reflect.TypeFor[any]()}

// maxFields is how many fields of an object a walk remembers without a map.
const maxFields = 64

func (w *walk) checkObject(s *shape, i int) (int, *fault) {
	var (
		body    = w.body
		seen    uint64          // the fields that came, by index
		others  map[string]bool // the names that came and have no such index
		variant string
	)
	if s.variant != nil {
		variant = w.variantOf(s.variant.Variant(), i)
	}
	for i = skipSpace(body, i+1); body[i] != '}'; i = skipSpace(body, i) {
		end := skipString(body, i)
		name := unescaped(body[i:end])
		value := skipSpace(body, skipSpace(body, end)+1) // +1: the colon
		field, known := s.fields[string(name)]
		twice := false
		if known && field.index < maxFields {
			twice = seen&(1<<field.index) != 0
			seen |= 1 << field.index
		} else {
			if others == nil {
				others = make(map[string]bool)
			}
			twice = others[string(name)]
			others[string(name)] = true
		}
		child := field.shape
		switch {
		case twice:
			return end, &fault{field: Shown(string(name)), detail: "comes twice"}
		case s.fields == nil:
			child = s.elem
		case !known && !w.lenient:
			return end, &fault{field: Shown(string(name)), detail: "is not a field of this request", unknown: true}
		case !known && s.misspelt(string(name)):
			return end, &fault{field: Shown(string(name)), detail: "differs from the name of a field only in its case"}
		case !known:
			child = anything
		case s.variant != nil && body[value] != 'n' && !s.variant.Has(variant, field.name): // null is like nothing
			detail := "is not a field of the " + s.variant.Variant() + " " + Shown(variant)
			return end, &fault{field: field.name, detail: detail, unknown: true, variant: true}
		}
		next, bad := w.check(child, value)
		if bad != nil {
			bad.field = join(Shown(string(name)), bad.field)
			return next, bad
		}
		if i = skipSpace(body, next); body[i] == ',' {
			i++
		}
	}
	return i + 1, nil
}

// variantOf reads the field that says which variant the object at body[i] is; "" when it is not there.
func (w *walk) variantOf(field string, i int) string {
	body := w.body
	for i = skipSpace(body, i+1); body[i] != '}'; i = skipSpace(body, i) {
		end := skipString(body, i)
		value := skipSpace(body, skipSpace(body, end)+1) // +1: the colon
		next := skipValue(body, value)
		if body[value] == '"' && string(unescaped(body[i:end])) == field {
			return string(unescaped(body[value:next]))
		}
		if i = skipSpace(body, next); body[i] == ',' {
			i++
		}
	}
	return ""
}

// misspelt reports whether encoding/json would take a name for one of the shape's.
func (s *shape) misspelt(name string) bool {
	for known := range s.fields {
		if strings.EqualFold(known, name) {
			return true
		}
	}
	return false
}

func (w *walk) checkList(s *shape, i int) (int, *fault) {
	body := w.body
	i = skipSpace(body, i+1)
	for n := 0; body[i] != ']'; n++ {
		next, bad := w.check(s.elem, i)
		if bad != nil {
			bad.field = join("["+strconv.Itoa(n)+"]", bad.field)
			return next, bad
		}
		if i = skipSpace(body, next); body[i] == ',' {
			i++
		}
		i = skipSpace(body, i)
	}
	return i + 1, nil
}

func join(outer, inner string) string {
	if inner == "" || inner[0] == '[' {
		return outer + inner
	}
	return outer + "." + inner
}

// The functions below step over JSON that is known to be valid, so they need not look for the end of the body.

func skipSpace(body []byte, i int) int {
	for i < len(body) && (body[i] == ' ' || body[i] == '\n' || body[i] == '\r' || body[i] == '\t') {
		i++
	}
	return i
}

func skipString(body []byte, i int) int {
	for i++; body[i] != '"'; i++ {
		if body[i] == '\\' {
			i++
		}
	}
	return i + 1
}

func skipValue(body []byte, i int) int {
	depth := 0
	for ; i < len(body); i++ {
		switch body[i] {
		case '"':
			i = skipString(body, i) - 1
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // The end of what contains this number, true, false or null.
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\n', '\r', '\t':
			if depth == 0 {
				return i
			}
		}
	}
	return i
}
