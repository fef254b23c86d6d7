package httpserver

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/strictjson"
)

const (
	maxIdempotencyKey    = 255
	idempotencyKeyHeader = "Idempotency-Key"
)

// MaxWait is how long a request may ask to wait.
const MaxWait = 30 * time.Second

// IdempotencyKey reads the Idempotency-Key header: "" when there is none, else 1–255 printable characters. A String
// of RFC 8941, as the draft standard of the header has it, is the key that it contains: "k" and k are the same.
func IdempotencyKey(header http.Header) (string, error) {
	values := header.Values(idempotencyKeyHeader)
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 {
		return "", contract.Invalid(idempotencyKeyHeader, "must be sent once")
	}
	key := strings.Trim(values[0], " \t")
	if strings.HasPrefix(key, `"`) {
		var ok bool
		if key, ok = unquote(key); !ok {
			return "", contract.Invalid(idempotencyKeyHeader,
				`must be a String of RFC 8941 when it begins with a quotation mark, such as "k"`)
		}
	}
	if err := CheckKey(idempotencyKeyHeader, key); err != nil {
		return "", err
	}
	return key, nil
}

// SentKey returns the Idempotency-Key header as it was sent when IdempotencyKey takes quotation marks away from it,
// and else "". Earlier versions took the marks for a part of the key, so what they accepted has an ID derived from
// this text.
func SentKey(header http.Header) string {
	if sent := header.Get(idempotencyKeyHeader); strings.HasPrefix(sent, `"`) {
		return sent
	}
	return ""
}

// unquote reads a String of RFC 8941: printable ASCII between quotation marks, in which a backslash comes before each
// quotation mark and each backslash, and nowhere else.
func unquote(text string) (string, bool) {
	key := make([]byte, 0, len(text))
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return string(key), i == len(text)-1
		case c < ' ' || c > '~':
			return "", false
		case c == '\\':
			if i++; i == len(text) || text[i] != '"' && text[i] != '\\' {
				return "", false
			}
		}
		key = append(key, text[i])
	}
	return "", false
}

// CheckKey reports what is wrong with an idempotency key that came in this field: it must have 1–255 printable
// characters.
func CheckKey(field, key string) error {
	if key == "" || !utf8.ValidString(key) || utf8.RuneCountInString(key) > maxIdempotencyKey {
		return contract.Invalid(field, "must have 1 to 255 characters")
	}
	for _, c := range key {
		if !unicode.IsPrint(c) {
			return contract.Invalid(field, "must have printable characters only")
		}
	}
	return nil
}

// Wait reads ?wait=, a duration such as 5s, of at most 30 s; asked tells whether it was there.
func Wait(r *http.Request) (wait time.Duration, asked bool, err error) {
	query := r.URL.Query()
	if !query.Has("wait") {
		return 0, false, nil
	}
	wait, err = time.ParseDuration(query.Get("wait"))
	if err != nil || wait < 0 || wait > MaxWait {
		return 0, false, contract.Invalid("wait", "must be a duration from 0s to 30s, such as 5s")
	}
	return wait, true, nil
}

// PathUUID reads a UUID from the route's path parameter, as ParseID does. Nothing has the ID zero.
func PathUUID(r *http.Request, name string) (uuid.UUID, error) {
	id, err := ParseID(name, chi.URLParam(r, name))
	if err == nil && id == uuid.Nil {
		return uuid.Nil, contract.Invalid(name, "must not be zero")
	}
	return id, err
}

// ParseID reads the UUID that came in this field, in the form of 36 characters.
func ParseID(field, text string) (uuid.UUID, error) {
	id, err := contract.ParseID(text)
	if err != nil {
		return uuid.Nil, contract.Invalid(field, "%v", err)
	}
	return id, nil
}

const (
	defaultLimit = 50
	maxLimit     = 200
	// maxCursor fits the position in a statement of some 200 currencies.
	maxCursor = 8 << 10
)

// checkParameters refuses a query that has anything but the known parameters, each at most once and with a value.
// checkQuery has already refused a query that is no list of parameters.
func checkParameters(query string, known []string) error {
	var seen []string
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name = parameterName(name)
		switch {
		case !slices.Contains(known, name):
			return unknownParameter(name, known)
		case slices.Contains(seen, name):
			return contract.Invalid(name, "must be given once")
		case value == "":
			return contract.Invalid(name, "must not be empty; leave it out instead")
		}
		seen = append(seen, name)
	}
	return nil
}

func unknownParameter(name string, known []string) error {
	takes := "it takes none"
	if len(known) > 0 {
		takes = "it takes " + strings.Join(known, ", ")
	}
	name = strictjson.Shown(name)
	p := NewProblem(http.StatusBadRequest, CodeUnknownParameter, "unknown query parameter "+strconv.Quote(name))
	p.Errors = []contract.FieldError{{Field: name, Detail: "is not a query parameter of this call; " + takes}}
	return p
}

// checkQuery refuses a query that is no list of parameters, or has text that cannot be stored.
func checkQuery(query string) error {
	if !strings.ContainsAny(query, "%;") && storable(query) {
		return nil
	}
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		for _, text := range []string{name, value} {
			switch decoded, err := url.QueryUnescape(text); {
			case strings.Contains(text, ";"):
				return contract.Invalid(strictjson.Shown(parameterName(name)),
					"must have a semicolon written as %%3B; parameters are separated by &")
			case err != nil || !storable(decoded):
				return contract.Invalid(strictjson.Shown(parameterName(name)),
					"must be percent-encoded UTF-8 without the character U+0000")
			}
		}
	}
	return nil
}

// parameterName decodes a name; one that is not encoded well stays as it is.
func parameterName(encoded string) string {
	if name, err := url.QueryUnescape(encoded); err == nil {
		return name
	}
	return encoded
}

// Page reads ?limit= (1–200, default 50) and ?cursor=, and stores the cursor's position in what position points to.
// Without a cursor that stays as it is. The caller still has to check that the position can be one of its list.
func Page(r *http.Request, position any) (limit int, err error) {
	query := r.URL.Query()
	limit = defaultLimit
	if query.Has("limit") {
		if limit, err = strconv.Atoi(query.Get("limit")); err != nil || limit < 1 || limit > maxLimit {
			return 0, contract.Invalid("limit", "must be a whole number from 1 to 200")
		}
	}
	if query.Has("cursor") {
		err = readCursor(r, query.Get("cursor"), position)
	}
	return limit, err
}

// Cursor returns, as opaque text, the position from which the list at the request's path goes on. A list at another
// path refuses it. The position must be the same after a round trip through JSON.
func Cursor(r *http.Request, position any) (string, error) {
	text, err := json.Marshal(position)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(append(listTag(r), text...)), nil
}

// readCursor accepts only what Cursor can have written: a forged cursor is at worst another position of the same list.
func readCursor(r *http.Request, cursor string, position any) error {
	if len(cursor) > maxCursor {
		return BadCursor()
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil {
		return BadCursor()
	}
	text, ok := bytes.CutPrefix(raw, listTag(r))
	nul := bytes.Contains(text, []byte(`\u0000`)) // which PostgreSQL cannot store
	if !ok || nul || string(text) == "null" || json.Unmarshal(text, position) != nil {
		return BadCursor()
	}
	if again, err := json.Marshal(position); err != nil || !bytes.Equal(again, text) {
		return BadCursor()
	}
	return nil
}

// listTag tells lists apart. An ID in the path may be written in either case.
func listTag(r *http.Request) []byte {
	return binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(strings.ToLower(r.URL.Path))))
}

// BadCursor is the error of a cursor that is not of the list.
func BadCursor() error { return contract.Invalid("cursor", "is not a cursor of this list") }

// rfc3339 refuses what time.Parse lets pass: hours of one digit, a comma before the fraction, offsets of a day and
// more.
var rfc3339 = regexp.MustCompile(`^[^T]{10}T[0-9:]{8}(\.[0-9]+)?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`)

// TimeParam reads a time of RFC 3339 and returns it in UTC, truncated to microseconds like every time that is stored;
// nil when there is none.
func TimeParam(r *http.Request, name string) (*time.Time, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return nil, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || !rfc3339.MatchString(text) {
		return nil, contract.Invalid(name,
			"must be a time as in RFC 3339, such as 2026-01-31T12:00:00Z; the + of an offset is written %%2B")
	}
	at = at.UTC().Truncate(time.Microsecond)
	if at.Year() < 1 || at.Year() > 9999 {
		return nil, contract.Invalid(name, "must be a time of the years 1 to 9999 in UTC")
	}
	return &at, nil
}

// TimesParam reads ?from= and ?to= as TimeParam does.
func TimesParam(r *http.Request) (from, to *time.Time, err error) {
	if from, err = TimeParam(r, "from"); err == nil {
		to, err = TimeParam(r, "to")
	}
	return from, to, err
}

// UUIDParam reads a UUID in the canonical form of 36 characters; it is not Valid when there is none.
func UUIDParam(r *http.Request, name string) (uuid.NullUUID, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return uuid.NullUUID{}, nil
	}
	id, err := ParseID(name, text)
	return uuid.NullUUID{UUID: id, Valid: err == nil}, err
}

// TextParam reads a text of at most limit characters; "" when there is none.
func TextParam(r *http.Request, name string, limit int) (string, error) {
	text := r.URL.Query().Get(name)
	if utf8.RuneCountInString(text) > limit {
		return "", contract.Invalid(name, "must have at most %d characters", limit)
	}
	return text, nil
}

const maxBody = 1 << 20

// DecodeJSON reads the request's body, one JSON object, into the struct that dst points to, as strictjson.Unmarshal
// does. Answered with Error, its errors are
//
//   - 415 when the body is not application/json (in UTF-8, not compressed);
//   - 413 when it is larger than 1 MiB, however it is sent; 408 when it takes more than 15 s to arrive;
//   - 400 invalid_json, unknown_field or validation_failed for what strictjson refuses, naming the field where there
//     is one.
func DecodeJSON(w http.ResponseWriter, r *http.Request, dst any) error {
	if err := checkMediaType(r.Header); err != nil {
		return err
	}
	if r.ContentLength > maxBody {
		return BodyProblem(&http.MaxBytesError{Limit: maxBody})
	}
	// Memory is taken for what arrives, not for what is announced.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return BodyProblem(err)
	}
	return strictjson.Unmarshal(body, dst)
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

// WriteJSON answers with v as JSON. When v cannot be encoded it writes nothing, so that the error can still be
// answered.
func WriteJSON(w http.ResponseWriter, status int, v any) error {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false) // The content type and nosniff keep browsers from reading it as HTML.
	if err := encoder.Encode(v); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(buffer.Len()))
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(buffer.Bytes()) // A client that is gone misses nothing.
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
