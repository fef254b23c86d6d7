// Package strictjson reads JSON objects that others have sent. encoding/json alone is too lenient for that: it
// matches names in any case, takes the last one of two that are equal, and reads UUIDs in many forms and half of a
// surrogate pair as U+FFFD. It also does not say in which element of a list something is wrong. So a body is first
// read by encoding/json, and then walked beside the shape of its Go type.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

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
	start := skipSpace(body, 0)
	switch bad := BadEscape(body); {
	case start == len(body):
		return &SyntaxError{"is empty; it must be a JSON object"}
	case !utf8.Valid(body):
		return &SyntaxError{"is not valid UTF-8"}
	case bad != "":
		return &SyntaxError{"contains " + bad}
	}

	err := json.Unmarshal(body, dst)
	var syntax *json.SyntaxError
	var misuse *json.InvalidUnmarshalError
	switch {
	case errors.As(err, &misuse):
		return err
	case errors.As(err, &syntax) && !json.Valid(body): // A field's own parser may report a syntax error of its own.
		return &SyntaxError{fmt.Sprintf("is not valid JSON: %v (at byte %d)", syntax, syntax.Offset)}
	case body[start] != '{':
		return &SyntaxError{"must be a JSON object"}
	}

	s := shapeOf(reflect.TypeOf(dst))
	w := walk{body: body, lenient: lenient}
	if _, bad := w.check(s, start); bad != nil {
		return bad.err()
	}
	if err == nil {
		return nil
	}
	w.complain = true
	if _, bad := w.check(s, start); bad != nil {
		return bad.err()
	}
	return err // A rule of the whole object, so the name of no field explains it: the fault is in dst's type.
}

// BadEscape names an escape in JSON that stands for no text that can be kept: U+0000, and half of a surrogate pair.
// It returns "" when there is none. Escapes that are not valid are left to the parser.
func BadEscape(body []byte) string {
	for {
		i := bytes.IndexByte(body, '\\')
		if i < 0 || i+1 == len(body) {
			return ""
		}
		unit, ok := escapedUnit(body[i:])
		if !ok {
			body = body[i+2:]
			continue
		}
		body = body[i+6:]
		switch {
		case unit == 0:
			return "the character U+0000"
		case utf16.IsSurrogate(unit):
			low, _ := escapedUnit(body)
			if utf16.DecodeRune(unit, low) == utf8.RuneError {
				return fmt.Sprintf("half of a surrogate pair, \\u%04x", unit)
			}
			body = body[6:]
		}
	}
}

// escapedUnit reads an escape such as \u00e9.
func escapedUnit(body []byte) (unit rune, ok bool) {
	if len(body) < 6 || body[0] != '\\' || body[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(body[2:6]), 16, 16)
	return rune(n), err == nil
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
