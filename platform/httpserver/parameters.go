package httpserver

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/strictjson"
)

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
