package strictjson

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
)

// shape is what an object or a list of a Go type may have.
type shape struct {
	fields  map[string]*shape // of a struct, by their JSON names; nil for other types
	elem    *shape            // of a list's elements or a map's values; nil for other types
	variant Variant           // nil where all fields belong to all values

	variants bool // it, or something in it, has a variant; set only by shapeOf
}

// shapes caches by type; a program has as many as it has types of requests.
var shapes sync.Map

func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	parts := make(map[reflect.Type]*shape)
	s := build(t, parts)
	for _, part := range parts {
		s.variants = s.variants || part.variant != nil
	}
	shapes.Store(t, s)
	return s
}

var (
	jsonUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// readsItself tells whether a type has a parser of its own.
func readsItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(jsonUnmarshaler) || p.Implements(textUnmarshaler)
}

// build makes the shape of t; seen has the shapes under way, so that a type may contain itself.
func build(t reflect.Type, seen map[reflect.Type]*shape) *shape {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if s, ok := seen[t]; ok {
		return s
	}
	s := &shape{}
	seen[t] = s
	switch kind := t.Kind(); {
	case readsItself(t):
	case kind == reflect.Struct:
		s.fields = make(map[string]*shape)
		s.addFields(t, seen)
		s.variant, _ = reflect.TypeAssert[Variant](reflect.Zero(t))
	case kind == reflect.Slice, kind == reflect.Array, kind == reflect.Map:
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
				s.fields[name] = build(field.Type, seen)
			}
		}
	}
	for _, t := range embedded {
		s.addFields(t, seen)
	}
}

// misspelt reports whether a name is one of the shape's in another case.
func (s *shape) misspelt(name string) bool {
	for known := range s.fields {
		if strings.EqualFold(known, name) {
			return true
		}
	}
	return false
}
