package httpserver

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

// Variant is a struct with a field whose value decides which of the others belong to it.
type Variant interface {
	// Variant returns the name of the field that decides.
	Variant() string
	// Has tells whether a field belongs to the variant of that value.
	Has(variant, field string) bool
}

// shape is what JSON of a Go type looks like. encoding/json matches names without regard to case, takes the last one of two
// that are equal and UUIDs in any form, does not say in which element of a list an unknown name was, and not at all for which
// field a type's own parser failed; walking the body against its shape does.
type shape struct {
	typ     reflect.Type
	fields  map[string]member // of an object; nil for other values
	elem    *shape            // of a list's elements or a map's values; nil for other values
	variant Variant           // nil where all fields belong to all values
}

// member is a field of an object, with its place among the others.
type member struct {
	shape *shape
	name  string
	index int
}

// shapes caches by type; a program has as many as it has types of requests.
var shapes sync.Map

func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	s := build(t, make(map[reflect.Type]*shape))
	shapes.Store(t, s)
	return s
}

var (
	jsonUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// build makes the shape of t; seen keeps a type that contains itself from being built without end.
func build(t reflect.Type, seen map[reflect.Type]*shape) *shape {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if s, ok := seen[t]; ok {
		return s
	}
	s := &shape{typ: t}
	seen[t] = s
	if p := reflect.PointerTo(t); p.Implements(jsonUnmarshaler) || p.Implements(textUnmarshaler) {
		return s
	}
	switch t.Kind() {
	case reflect.Struct:
		s.fields = make(map[string]member)
		s.addFields(t, seen)
		s.variant, _ = reflect.TypeAssert[Variant](reflect.Zero(t))
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() != reflect.Uint8 { // Bytes are a string in base64.
			s.elem = build(t.Elem(), seen)
		}
	case reflect.Map:
		s.elem = build(t.Elem(), seen)
	}
	return s
}

// addFields adds a struct's fields under their JSON names, those of embedded structs after its own.
func (s *shape) addFields(t reflect.Type, seen map[reflect.Type]*shape) {
	var embedded []reflect.Type
	for field := range t.Fields() {
		tag := field.Tag.Get("json")
		name, _, _ := strings.Cut(tag, ",")
		switch {
		case tag == "-":
		case field.Anonymous && name == "" && field.Type.Kind() == reflect.Struct:
			embedded = append(embedded, field.Type)
		case field.IsExported():
			if name == "" {
				name = field.Name
			}
			if _, ok := s.fields[name]; !ok {
				s.fields[name] = member{build(field.Type, seen), name, len(s.fields)}
			}
		}
	}
	for _, t := range embedded {
		s.addFields(t, seen)
	}
}

// mode is what a walk thinks of names that the shape does not have.
type mode bool

const (
	strict  mode = false
	lenient mode = true
)

// walk compares a body, which is valid JSON, with a shape.
type walk struct {
	body     []byte
	mode     mode
	complain bool // about values that do not fit their types
	unknown  bool // what was found is a name that the shape does not have
}

// check walks the value that begins at body[i], and returns the index after it. bad is the first fault.
func (w *walk) check(s *shape, i int) (end int, bad *contract.FieldError) {
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
		return end, &contract.FieldError{Detail: contract.ErrID.Error()}
	}
	if w.complain {
		if detail := s.complaint(w.body[i:end]); detail != "" {
			return end, &contract.FieldError{Detail: detail}
		}
	}
	return end, nil
}

var uuidType = reflect.TypeFor[uuid.UUID]()

// isID tells whether a JSON string, of which encoding/json has made a UUID, has the form that contract.ParseID reads.
func isID(value []byte) bool {
	_, err := contract.ParseID(string(unescaped(value)))
	return err == nil
}

// unescaped is what a JSON string says.
func unescaped(value []byte) []byte {
	if bytes.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1]
	}
	var text string
	_ = json.Unmarshal(value, &text) // It is known to be valid.
	return []byte(text)
}

const notAField = "is not a field of this request"

// anything is the shape of what is not read.
var anything = &shape{typ: reflect.TypeFor[any]()}

// maxFields is how many fields a walk keeps in mind without a map.
const maxFields = 64

func (w *walk) checkObject(s *shape, i int) (int, *contract.FieldError) {
	var (
		body    = w.body
		seen    uint64          // fields that came, by index
		others  map[string]bool // names that came and have no such index
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
			return end, &contract.FieldError{Field: shown(string(name)), Detail: "comes twice"}
		case s.fields == nil:
			child = s.elem
		case !known && w.mode == lenient && s.misspelt(string(name)):
			return end, &contract.FieldError{Field: shown(string(name)), Detail: "differs from the name of a field only in its case"}
		case !known && w.mode == strict:
			w.unknown = true
			return end, &contract.FieldError{Field: shown(string(name)), Detail: notAField}
		case !known:
			child = anything
		case s.variant != nil && body[value] != 'n' && !s.variant.Has(variant, field.name): // null is like nothing
			w.unknown = true
			return end, &contract.FieldError{Field: field.name, Detail: "is not a field of the " + s.variant.Variant() + " " + shown(variant)}
		}
		next, bad := w.check(child, value)
		if bad != nil {
			bad.Field = join(shown(string(name)), bad.Field)
			return next, bad
		}
		if i = skipSpace(body, next); body[i] == ',' {
			i++
		}
	}
	return i + 1, nil
}

// variantOf reads the field of an object that says which variant it is; "" where it is not there.
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

// misspelt tells whether encoding/json would take a name for one of the shape's.
func (s *shape) misspelt(name string) bool {
	for known := range s.fields {
		if strings.EqualFold(known, name) {
			return true
		}
	}
	return false
}

func (w *walk) checkList(s *shape, i int) (int, *contract.FieldError) {
	body := w.body
	i = skipSpace(body, i+1)
	for n := 0; body[i] != ']'; n++ {
		next, bad := w.check(s.elem, i)
		if bad != nil {
			bad.Field = join("["+strconv.Itoa(n)+"]", bad.Field)
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

// complaint says in the words of JSON why a value does not fit its type, or "" when it does.
func (s *shape) complaint(value []byte) string {
	err := json.Unmarshal(value, reflect.New(s.typ).Interface())
	if err == nil {
		return ""
	}
	switch reflect.New(s.typ).Interface().(type) {
	case *uuid.UUID:
		return contract.ErrID.Error()
	case *time.Time:
		return "must be a time such as 2006-01-02T15:04:05Z"
	case json.Unmarshaler, encoding.TextUnmarshaler:
		// The type explains itself, unless it passes on what encoding/json says, which names Go types.
		var syntax *json.SyntaxError
		var mismatch *json.UnmarshalTypeError
		if errors.As(err, &syntax) || errors.As(err, &mismatch) {
			return "has a value of the wrong type"
		}
		return err.Error()
	}
	switch s.typ.Kind() {
	case reflect.String:
		return "must be a string"
	case reflect.Bool:
		return "must be true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "must be a whole number that is not too large"
	case reflect.Float32, reflect.Float64:
		return "must be a number that is not too large"
	case reflect.Struct, reflect.Map:
		return "must be an object"
	case reflect.Slice, reflect.Array:
		return "must be a list"
	}
	return "has a value of the wrong type"
}

// The functions below step over JSON that is known to be valid, so they need not look for its end.

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
