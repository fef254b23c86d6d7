package contract

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
)

// ErrID refuses what is no ID. Its text is made to be shown beside the field's name.
var ErrID = errors.New("must be a UUID")

// idLength is that of a UUID as 8-4-4-4-12 hexadecimal digits.
const idLength = 36

// ParseID reads a UUID in the one form that is taken anywhere, that of 36 characters. uuid.Parse also takes braces,
// urn:uuid: and no dashes.
func ParseID(text string) (uuid.UUID, error) {
	if len(text) != idLength {
		return uuid.Nil, ErrID
	}
	id, err := uuid.Parse(text)
	if err != nil {
		return uuid.Nil, ErrID
	}
	return id, nil
}

// CheckText tells what is wrong with a free text of at most limit characters: its length, or the character U+0000,
// which PostgreSQL cannot store. The error's text is made to be shown beside the field's name.
func CheckText(text string, limit int) error {
	switch {
	case len(text) > limit && utf8.RuneCountInString(text) > limit:
		return fmt.Errorf("must have at most %d characters", limit)
	case strings.IndexByte(text, 0) >= 0:
		return fmt.Errorf("must not contain the character U+0000")
	case !utf8.ValidString(text):
		return fmt.Errorf("must be UTF-8")
	}
	return nil
}
