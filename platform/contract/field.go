package contract

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
)

// FieldError says what is wrong with one field of a request: a path in its body such as orders[3].amount, a query
// parameter or a header. Clients see both texts.
type FieldError struct {
	Field  string `json:"field"`
	Detail string `json:"detail"`
}

// FieldErrors is the error of a request that is not valid: all that is known to be wrong with it, at least one field.
type FieldErrors []FieldError

// Invalid returns the FieldErrors of one field.
func Invalid(field, format string, args ...any) error {
	return FieldErrors{{Field: field, Detail: fmt.Sprintf(format, args...)}}
}

func (e FieldErrors) Error() string {
	texts := make([]string, len(e))
	for i, f := range e {
		texts[i] = f.Field + " " + f.Detail
	}
	return strings.Join(texts, ", ")
}

// Within puts a prefix such as "orders[3]." before the fields that err names. Other errors stay as they are.
func Within(prefix string, err error) error {
	var fields FieldErrors
	if !errors.As(err, &fields) {
		return err
	}
	within := make(FieldErrors, len(fields))
	for i, f := range fields {
		within[i] = FieldError{Field: prefix + f.Field, Detail: f.Detail}
	}
	return within
}

// ErrID says that a text is no ID. It follows the field's name.
var ErrID = errors.New("must be a UUID")

// idLength is that of a UUID as 8-4-4-4-12 hexadecimal digits.
const idLength = 36

// ParseID reads a UUID of 36 characters, the only form that is accepted. uuid.Parse also takes braces, urn:uuid: and no
// dashes.
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

// CheckText returns what is wrong with a free text: more than limit characters, or the character U+0000, which
// PostgreSQL cannot store. The error follows the field's name.
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
