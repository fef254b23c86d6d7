package httpserver

import (
	"net/http"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"
)

const (
	maxIdempotencyKey    = 255
	canonicalUUIDLen     = 36
	idempotencyKeyHeader = "Idempotency-Key"
)

// MaxWait is how long a request may ask to wait.
const MaxWait = 30 * time.Second

// IdempotencyKey reads the Idempotency-Key header: "" when there is none, else 1–255 printable characters.
func IdempotencyKey(r *http.Request) (string, error) {
	values := r.Header.Values(idempotencyKeyHeader)
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 {
		return "", Invalid(idempotencyKeyHeader, "must be sent once")
	}
	if err := CheckKey(idempotencyKeyHeader, values[0]); err != nil {
		return "", err
	}
	return values[0], nil
}

// CheckKey tells what is wrong with an idempotency key that came in this field: it must have 1–255 printable characters.
func CheckKey(field, key string) error {
	if key == "" || !utf8.ValidString(key) || utf8.RuneCountInString(key) > maxIdempotencyKey {
		return Invalid(field, "must have 1 to 255 characters")
	}
	for _, c := range key {
		if !unicode.IsPrint(c) {
			return Invalid(field, "must have printable characters only")
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
		return 0, false, Invalid("wait", "must be a duration from 0s to 30s, such as 5s")
	}
	return wait, true, nil
}

// PathUUID reads a UUID in the canonical form of 36 characters from the route's path parameter. Nothing has the ID zero.
func PathUUID(r *http.Request, name string) (uuid.UUID, error) {
	id, err := parseUUID(name, chi.URLParam(r, name))
	if err == nil && id == uuid.Nil {
		return uuid.Nil, Invalid(name, "must not be zero")
	}
	return id, err
}

func parseUUID(name, text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil || len(text) != canonicalUUIDLen {
		return uuid.Nil, Invalid(name, "must be a UUID")
	}
	return id, nil
}
