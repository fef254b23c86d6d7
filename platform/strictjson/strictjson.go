// Package strictjson reads JSON objects that others have sent. It refuses names in another case, names that come twice,
// UUIDs in other forms than the usual one, and text that cannot be stored, and says in which field something is wrong,
// without a word of Go.
package strictjson

import (
	"bytes"
	"encoding"
	v1 "encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
)

// SyntaxError says why a body is no JSON object that can be read.
type SyntaxError struct{ Detail string }

func (e *SyntaxError) Error() string { return "the body " + e.Detail }

// UnknownFieldError names a field that the type does not have.
type UnknownFieldError struct {
	contract.FieldError
	OtherVariant bool // it has the field in another variant
}

func (e *UnknownFieldError) Error() string { return e.Field + " " + e.Detail }

// Variant is a struct with a field whose value decides which of the others belong to it.
type Variant interface {
	// Variant returns the name of the field that decides.
	Variant() string
	// Has reports whether a field belongs to the variant of that value.
	Has(variant, field string) bool
}

// Unmarshal reads a JSON object into the struct that dst points to. Its error is one of
//
//   - *SyntaxError for what is empty, no object, not valid JSON or UTF-8, nested too deeply, or followed by anything
//     else, and for the character U+0000, which PostgreSQL cannot store, and half of a surrogate pair, which is none;
//   - *UnknownFieldError for a name that dst does not have, or does not have in this variant. Names match exactly:
//     "Amount" is not "amount";
//   - contract.FieldErrors for a name that comes twice, and for a value of the wrong type or out of the type's range.
//     A UUID has the form of 36 characters.
//
// The value null is like a name that does not come. What a field's own UnmarshalJSON or UnmarshalText returns as an
// error is the field's Detail.
func Unmarshal(body []byte, dst any) error { return unmarshal(body, dst, false) }

// UnmarshalEvent reads a JSON object as Unmarshal does, except that names which dst does not have mean nothing: the
// sender may be a later version, or another system. A name that differs from one of dst only in its case is still
// refused.
func UnmarshalEvent(body []byte, dst any) error { return unmarshal(body, dst, true) }

func unmarshal(body []byte, dst any, lenient bool) error {
	switch start := bytes.TrimLeft(body, " \t\r\n"); {
	case len(start) == 0:
		return &SyntaxError{"is empty; it must be a JSON object"}
	case start[0] != '{':
		return &SyntaxError{"must be a JSON object"}
	}
	s := shapeOf(reflect.TypeOf(dst))
	err := json.Unmarshal(body, dst, allKnown)
	if err != nil || s.variants {
		w := walk{Decoder: jsontext.NewDecoder(bytes.NewBuffer(body)), lenient: lenient}
		if wrong := w.check(s); wrong != nil {
			err = wrong
		} else if lenient {
			err = json.Unmarshal(body, dst, json.WithUnmarshalers(ids))
		}
	}
	var syntax *jsontext.SyntacticError
	var semantic *json.SemanticError
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName) && errors.As(err, &syntax):
		return contract.Invalid(path(syntax.JSONPointer), "comes twice")
	case errors.As(err, &syntax):
		return &SyntaxError{fmt.Sprintf("is not valid JSON: %v (at byte %d)", syntax.Err, syntax.ByteOffset)}
	case errors.As(err, &semantic) && semantic.JSONPointer != "":
		return contract.Invalid(path(semantic.JSONPointer), "%s", complaint(semantic))
	case err == nil && hasNUL(body):
		return &SyntaxError{"contains the character U+0000"}
	}
	return err
}

// ids reads a UUID in the form that contract.ParseID reads.
var ids = json.UnmarshalFunc(func(value []byte, id *uuid.UUID) (err error) {
	if string(value) == "null" {
		return nil
	}
	var buffer [64]byte
	text, err := jsontext.AppendUnquote(buffer[:0], value)
	if err != nil {
		return contract.ErrID
	}
	*id, err = contract.ParseID(string(text))
	return err
})

var allKnown = json.JoinOptions(json.WithUnmarshalers(ids), json.RejectUnknownMembers(true))

// walk compares the names in a body with a shape. So what is wrong with a name is said before what is wrong with a
// value.
type walk struct {
	*jsontext.Decoder
	lenient bool // Names that the shape does not have mean nothing.
}

// anything is the shape of what is not read.
var anything = &shape{}

// check walks the next value.
func (w *walk) check(s *shape) error {
	switch kind := w.PeekKind(); {
	case kind == '{' && (s.fields != nil || s.elem != nil):
		return w.checkObject(s)
	case kind == '[' && s.elem != nil:
		_, err := w.ReadToken()
		for err == nil && w.PeekKind() != ']' {
			err = w.check(s.elem)
		}
		if err == nil {
			_, err = w.ReadToken()
		}
		return err
	}
	return w.SkipValue()
}

func (w *walk) checkObject(s *shape) error {
	var variant string
	var given []string // the fields that came with a value
	if _, err := w.ReadToken(); err != nil {
		return err
	}
	for w.PeekKind() != '}' {
		token, err := w.ReadToken()
		if err != nil {
			return err
		}
		name := token.String()
		child, known := s.fields[name]
		switch {
		case s.fields == nil:
			child = s.elem
		case !known && !w.lenient:
			return unknownField(w.StackPointer(), "is not a field of this request", false)
		case !known && s.misspelt(name):
			return contract.Invalid(path(w.StackPointer()), "differs from the name of a field only in its case")
		case !known:
			child = anything
		case w.PeekKind() != 'n': // null is like nothing
			given = append(given, name)
		}
		if s.variant != nil && name == s.variant.Variant() && w.PeekKind() == '"' {
			if token, err = w.ReadToken(); err != nil {
				return err
			}
			variant = token.String()
		} else if err := w.check(child); err != nil {
			return err
		}
	}
	for _, name := range given {
		if s.variant != nil && !s.variant.Has(variant, name) {
			field := w.StackPointer().Parent().AppendToken(name)
			return unknownField(field, "is not a field of the "+s.variant.Variant()+" "+Shown(variant), true)
		}
	}
	_, err := w.ReadToken()
	return err
}

func unknownField(field jsontext.Pointer, detail string, otherVariant bool) error {
	return &UnknownFieldError{contract.FieldError{Field: path(field), Detail: detail}, otherVariant}
}

// path writes the pointer /orders/3/amount as orders[3].amount.
func path(pointer jsontext.Pointer) string {
	var text strings.Builder
	for name := range pointer.Tokens() {
		switch {
		case strings.Trim(name, "0123456789") == "" && text.Len() > 0 && name != "":
			fmt.Fprintf(&text, "[%s]", name)
		case text.Len() > 0:
			text.WriteString("." + Shown(name))
		default:
			text.WriteString(Shown(name))
		}
	}
	return text.String()
}

// complaint says in the words of JSON why a value does not fit its type.
func complaint(err *json.SemanticError) string {
	if errors.As(err.Err, new(*time.ParseError)) && err.GoType == reflect.TypeFor[time.Time]() {
		return "must be a time such as 2006-01-02T15:04:05Z"
	}
	switch kind := err.GoType.Kind(); {
	case readsItself(err.GoType):
		// The type explains itself, unless it passes on what encoding/json says, which names Go types.
		if err.Err != nil && !errors.As(err.Err, new(*v1.SyntaxError)) && !errors.As(err.Err, new(*v1.UnmarshalTypeError)) {
			return err.Err.Error()
		}
	case kind == reflect.String:
		return "must be a string"
	case kind == reflect.Bool:
		return "must be true or false"
	case kind >= reflect.Int && kind <= reflect.Uint64:
		return "must be a whole number that is not too large"
	case kind == reflect.Float32, kind == reflect.Float64:
		return "must be a number that is not too large"
	case kind == reflect.Struct, kind == reflect.Map:
		return "must be an object"
	case kind == reflect.Slice, kind == reflect.Array:
		return "must be a list"
	}
	return "has a value of the wrong type"
}

// hasNUL reports whether an escape in valid JSON stands for U+0000.
func hasNUL(body []byte) bool {
	for {
		i := bytes.IndexByte(body, '\\')
		if i < 0 {
			return false
		}
		if body = body[i:]; bytes.HasPrefix(body, []byte(`\u0000`)) {
			return true
		}
		body = body[2:]
	}
}

// maxShown bounds what an error repeats of a name, in characters.
const maxShown = 100

// Shown returns a name that a client has made up in a form that is fit for an answer.
func Shown(name string) string {
	name = strings.ToValidUTF8(strings.ReplaceAll(name, "\x00", "�"), "�")
	if utf8.RuneCountInString(name) > maxShown {
		name = string([]rune(name)[:maxShown]) + "…"
	}
	return name
}

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
	jsonUnmarshaler = reflect.TypeFor[v1.Unmarshaler]()
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
