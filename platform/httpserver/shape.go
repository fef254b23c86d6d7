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
)

// shape is what JSON of a Go type looks like. encoding/json matches names without regard to case, does not say in which
// element of a list an unknown name was, and not at all for which field a type's own parser failed; walking the body
// against its shape does.
type shape struct {
	typ    reflect.Type
	fields map[string]*shape // of an object; nil for other values
	elem   *shape            // of a list's elements or a map's values; nil for other values
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
		s.fields = make(map[string]*shape)
		s.addFields(t, seen)
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
	for i := range t.NumField() {
		field := t.Field(i)
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
			if s.fields[name] == nil {
				s.fields[name] = build(field.Type, seen)
			}
		}
	}
	for _, t := range embedded {
		s.addFields(t, seen)
	}
}

// check walks the value that begins at body[i], which is valid JSON, and returns the index after it. bad is the first name
// that the shape does not have, or the first value of which complain has something to say.
func (s *shape) check(body []byte, i int, complain func(s *shape, value []byte) string) (end int, bad *FieldError) {
	i = skipSpace(body, i)
	switch {
	case s.fields != nil && body[i] == '{':
		return s.checkObject(body, i, complain)
	case s.elem != nil && s.typ.Kind() == reflect.Map && body[i] == '{':
		return s.checkObject(body, i, complain)
	case s.elem != nil && s.typ.Kind() != reflect.Map && body[i] == '[':
		return s.checkList(body, i, complain)
	}
	end = skipValue(body, i)
	if complain != nil {
		if detail := complain(s, body[i:end]); detail != "" {
			return end, &FieldError{Detail: detail}
		}
	}
	return end, nil
}

func (s *shape) checkObject(body []byte, i int, complain func(*shape, []byte) string) (int, *FieldError) {
	for i = skipSpace(body, i+1); body[i] != '}'; i = skipSpace(body, i) {
		end := skipString(body, i)
		name := body[i+1 : end-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			var unescaped string
			_ = json.Unmarshal(body[i:end], &unescaped) // It is known to be valid.
			name = []byte(unescaped)
		}
		child := s.elem
		if s.fields != nil {
			if child = s.fields[string(name)]; child == nil {
				return end, &FieldError{Field: string(name), Detail: "is not a field of this request"}
			}
		}
		next, bad := child.check(body, skipSpace(body, end)+1, complain) // +1: the colon
		if bad != nil {
			bad.Field = join(string(name), bad.Field)
			return next, bad
		}
		if i = skipSpace(body, next); body[i] == ',' {
			i++
		}
	}
	return i + 1, nil
}

func (s *shape) checkList(body []byte, i int, complain func(*shape, []byte) string) (int, *FieldError) {
	i = skipSpace(body, i+1)
	for n := 0; body[i] != ']'; n++ {
		next, bad := s.elem.check(body, i, complain)
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
		return "must be a UUID"
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
