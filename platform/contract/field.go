package contract

import (
	"errors"
	"fmt"
	"strings"
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
