package postgres

import "strings"

// Storable turns a text of any origin, such as an error's, into one that PostgreSQL takes: UTF-8 without U+0000.
func Storable(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}
