package strictjson

import (
	"encoding"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

// shape is what JSON of a Go type looks like.
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

// build makes the shape of t; seen has the shapes under way, so that a type may contain itself.
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

// complaint says in the words of JSON why a value does not fit its type; "" when it does.
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
