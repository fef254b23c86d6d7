package httpserver

import (
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
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
