package contract

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// CheckText tells what is wrong with a free text of at most limit characters: its length, or the character U+0000, which
// PostgreSQL cannot store. The error's text is made to be shown beside the field's name.
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
