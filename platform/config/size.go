package config

import (
	"errors"
	"strconv"
	"strings"
)

// Bytes is a size in bytes, written as 512, 64KiB, 1MiB or 2GiB.
type Bytes int64

var units = []struct {
	suffix string
	bytes  Bytes
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1}}

// UnmarshalText reads a size of at least one byte and at most 1024 GiB.
func (b *Bytes) UnmarshalText(text []byte) error {
	for _, unit := range units {
		digits, ok := strings.CutSuffix(string(text), unit.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 1 || Bytes(n) > (1<<40)/unit.bytes {
			break
		}
		*b = Bytes(n) * unit.bytes
		return nil
	}
	return errors.New("must be a size such as 512, 64KiB or 1MiB")
}
