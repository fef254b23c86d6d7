package httpserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"reflect"
	"strconv"
	"sync"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/altyn-pay/altyn/platform/contract"
)

const (
	maxBody = 1 << 20
	// maxPooled is the largest buffer that is kept for another request.
	maxPooled = 64 << 10
)

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func release(buffer *bytes.Buffer) {
	if buffer.Cap() <= maxPooled {
		buffers.Put(buffer)
	}
}

// DecodeJSON reads the request's body, one JSON object, into the struct that dst points to. It is strict, and every error
// is a *Problem that names the field where there is one:
//
//   - 415 when the body is not application/json (in UTF-8, not compressed);
//   - 413 when it is larger than 1 MiB, however it is sent; 408 when it takes more than 15 s to arrive;
//   - 400 invalid_json when it is empty, no object, not valid JSON or UTF-8, nested too deeply, followed by anything else,
//     or when it contains the character U+0000, which PostgreSQL cannot store, or half of a surrogate pair, which is none;
//   - 400 unknown_field for a name that dst does not have, or does not have in this variant (see Variant). Names match exactly:
//     "Amount" is not "amount";
//   - 400 validation_failed for a name that comes twice, and for a value of the wrong type or out of the type's range. A UUID
//     has the form of 36 characters.
//
// The value null is like a name that does not come. What a field's own UnmarshalJSON or UnmarshalText returns as an error is
// shown to the client.
func DecodeJSON(w http.ResponseWriter, r *http.Request, dst any) error {
	if err := checkMediaType(r.Header); err != nil {
		return err
	}
	buffer := buffers.Get().(*bytes.Buffer)
	buffer.Reset()
	defer release(buffer)
	if err := readBody(w, r, buffer); err != nil {
		return err
	}
	return Unmarshal(buffer.Bytes(), dst)
}

// DecodeOptionalJSON is DecodeJSON for a call whose fields are all optional: without a body it leaves dst as it is.
func DecodeOptionalJSON(w http.ResponseWriter, r *http.Request, dst any) error {
	if r.ContentLength == 0 {
		return nil
	}
	return DecodeJSON(w, r, dst)
}

func checkMediaType(header http.Header) error {
	const detail = "the body must be sent as Content-Type: application/json"
	contentType := header.Get("Content-Type")
	if contentType != "application/json" {
		media, params, err := mime.ParseMediaType(contentType)
		charset := params["charset"]
		if err != nil || media != "application/json" || charset != "" && charset != "utf-8" && charset != "UTF-8" {
			return NewProblem(http.StatusUnsupportedMediaType, CodeUnsupportedMediaType, detail)
		}
	}
	if encoding := header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return NewProblem(http.StatusUnsupportedMediaType, CodeUnsupportedMediaType, detail+" without a Content-Encoding")
	}
	return nil
}

func readBody(w http.ResponseWriter, r *http.Request, buffer *bytes.Buffer) error {
	if r.ContentLength > maxBody {
		return BodyProblem(&http.MaxBytesError{Limit: maxBody})
	}
	// A length that is only announced takes no memory: the buffer grows as the bytes arrive.
	buffer.Grow(int(min(max(r.ContentLength, 0), freeBody)) + bytes.MinRead)
	if _, err := buffer.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
		return BodyProblem(err)
	}
	return nil
}

// BodyProblem is the problem of a body that could not be read: 413 when http.MaxBytesReader ended it, 408 when it took too
// long, 503 when there is no room for it, else 400, as when the client went away.
func BodyProblem(err error) *Problem {
	var large *http.MaxBytesError
	var known *Problem
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &large):
		return NewProblem(http.StatusRequestEntityTooLarge, CodeBodyTooLarge,
			fmt.Sprintf("the body is larger than %d bytes", large.Limit))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return NewProblem(http.StatusRequestTimeout, CodeRequestTimeout, "the body did not arrive in time").Because(err)
	}
	return NewProblem(http.StatusBadRequest, CodeInvalidJSON, "the body could not be read to its end").Because(err)
}

// Unmarshal reads a JSON object as DecodeJSON does, with the same problems; it also serves doors other than HTTP.
func Unmarshal(body []byte, dst any) error { return unmarshal(body, dst, strict) }

// UnmarshalEvent reads a JSON object as Unmarshal does, except that names which dst does not have mean nothing: the sender may
// be a later version, or another system. A name that differs from one of dst only in its case is still refused. The error is no
// problem: nobody is answered.
func UnmarshalEvent(body []byte, dst any) error {
	err := unmarshal(body, dst, lenient)
	var p *Problem
	switch {
	case !errors.As(err, &p):
		return err
	case len(p.Errors) > 0:
		return errors.New(p.Errors[0].Field + " " + p.Errors[0].Detail)
	}
	return errors.New(p.Detail)
}

func unmarshal(body []byte, dst any, mode mode) error {
	notJSON := func(format string, args ...any) error {
		return NewProblem(http.StatusBadRequest, CodeInvalidJSON, fmt.Sprintf(format, args...))
	}
	start := skipSpace(body, 0)
	if start == len(body) {
		return notJSON("the body is empty; it must be a JSON object")
	}
	if !utf8.Valid(body) {
		return notJSON("the body is not valid UTF-8")
	}
	if what := badEscape(body); what != "" {
		return notJSON("the body contains %s", what)
	}

	err := json.Unmarshal(body, dst)
	var syntax *json.SyntaxError
	var misuse *json.InvalidUnmarshalError
	switch {
	case errors.As(err, &misuse):
		return err
	case errors.As(err, &syntax) && !json.Valid(body): // A field's own parser may report a syntax error of its own.
		return notJSON("the body is not valid JSON: %v (at byte %d)", syntax, syntax.Offset)
	case body[start] != '{':
		return notJSON("the body must be a JSON object")
	}

	s := shapeOf(reflect.TypeOf(dst))
	w := walk{body: body, mode: mode}
	if _, bad := w.check(s, start); bad != nil {
		if !w.unknown {
			return invalid(*bad)
		}
		detail := "unknown field " + strconv.Quote(bad.Field)
		if bad.Detail != notAField {
			detail += ": it " + bad.Detail
		}
		p := NewProblem(http.StatusBadRequest, CodeUnknownField, detail)
		p.Errors = []contract.FieldError{*bad}
		return p
	}
	if err == nil {
		return nil
	}
	w.complain = true
	if _, bad := w.check(s, start); bad != nil {
		return invalid(*bad)
	}
	return err // A rule of the whole object, so the name of no field explains it: the fault is in dst's type.
}

// badEscape looks for what can only be written as an escape and stands for no text that can be kept: U+0000, and half of a
// surrogate pair, of which encoding/json makes U+FFFD. Escapes that are not valid are left to the parser.
func badEscape(body []byte) string {
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

// WriteJSON answers with v as JSON. It writes nothing when v cannot be encoded, so that the error can still be answered.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	buffer := buffers.Get().(*bytes.Buffer)
	buffer.Reset()
	defer release(buffer)
	encoder := json.NewEncoder(buffer)
	encoder.SetEscapeHTML(false) // The content type and nosniff keep browsers from reading it as HTML.
	if err := encoder.Encode(v); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(buffer.Len()))
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.Copy(w, buffer) // A client that is gone misses nothing.
	return nil
}

// List is one page of a list.
type List[T any] struct {
	Items []T `json:"items"`
	// NextCursor gets the next page; it is empty on the last one.
	NextCursor string `json:"next_cursor,omitempty"`
}

// NewList returns a page whose items are [] in JSON, not null, when there are none.
func NewList[T any](items []T, nextCursor string) List[T] {
	if items == nil {
		items = []T{}
	}
	return List[T]{Items: items, NextCursor: nextCursor}
}
