package money

import (
	"bufio"
	_ "embed"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// MaxDigits is the largest number of decimal digits a currency may have: with more, an int64 of minor units holds
// less than ten major units.
const MaxDigits = 18

// maxCurrencies bounds a currency file.
const maxCurrencies = 10_000

//go:embed currencies.csv
var builtin string

// Currency is a unit of account and the number of decimal digits of its amounts (RUB 2, JPY 0, USDT 6).
type Currency struct {
	Code   string `json:"code" example:"RUB"`
	Digits int    `json:"digits" example:"2"`
}

// Parse reads a positive amount of this currency, in minor units; see the function Parse.
func (c Currency) Parse(text string) (int64, error) { return Parse(text, c.Digits) }

// Format writes an amount of this currency, given in minor units.
func (c Currency) Format(minor int64) string { return Format(minor, c.Digits) }

// Currencies is the table of known currencies. It does not change after it was read.
type Currencies struct {
	byCode map[string]Currency
	sorted []Currency
}

// LoadCurrencies reads the table that is shipped with the code (ISO 4217 and common tokens) and, where path is not
// empty, the file there, which adds currencies. Each line of it is CODE,DIGITS; # begins a comment. It may not change
// the digits of a shipped currency: amounts that are stored already would change their value.
func LoadCurrencies(path string) (*Currencies, error) {
	table := &Currencies{byCode: make(map[string]Currency, 256)}
	if err := table.read(strings.NewReader(builtin)); err != nil {
		return nil, fmt.Errorf("shipped currencies: %w", err)
	}
	if path != "" {
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("currency file: %w", err)
		}
		defer file.Close()
		if err := table.read(file); err != nil {
			return nil, fmt.Errorf("currency file %s: %w", path, err)
		}
	}
	for _, c := range table.byCode {
		table.sorted = append(table.sorted, c)
	}
	slices.SortFunc(table.sorted, func(a, b Currency) int { return strings.Compare(a.Code, b.Code) })
	return table, nil
}

var codeForm = regexp.MustCompile(`^[A-Z][A-Z0-9]{1,11}$`)

func (t *Currencies) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	for number := 1; lines.Scan(); number++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		c, ok := parseCurrency(line)
		if !ok {
			return fmt.Errorf("line %d: want CODE,DIGITS (2 to 12 capitals or digits, 0 to %d), got %q", number, MaxDigits, line)
		}
		if known, ok := t.byCode[c.Code]; ok && known.Digits != c.Digits {
			return fmt.Errorf("line %d: %s has %d digits already, not %d", number, c.Code, known.Digits, c.Digits)
		}
		if t.byCode[c.Code] = c; len(t.byCode) > maxCurrencies {
			return fmt.Errorf("more than %d currencies", maxCurrencies)
		}
	}
	return lines.Err()
}

// parseCurrency reads CODE,DIGITS.
func parseCurrency(text string) (Currency, bool) {
	code, count, ok := strings.Cut(text, ",")
	digits, err := strconv.Atoi(strings.TrimSpace(count))
	c := Currency{strings.TrimSpace(code), digits}
	return c, ok && err == nil && digits >= 0 && digits <= MaxDigits && codeForm.MatchString(c.Code)
}

// Foreign is an amount in a currency that is unknown here or has other digits here. Its digits are those that the
// amount was written with. Where codes are stored, Name stands for such a currency, and Stored finds it again.
type Foreign struct {
	Currency
	Minor int64
}

// Name is CODE,DIGITS, as in a currency file.
func (c Currency) Name() string { return c.Code + "," + strconv.Itoa(c.Digits) }

// ParseForeign reads a positive amount of any currency.
func ParseForeign(code, text string) (Foreign, error) {
	if !codeForm.MatchString(code) {
		return Foreign{}, fmt.Errorf("currency %q is no code", code)
	}
	c := Currency{code, Digits(text)}
	if c.Digits > MaxDigits {
		return Foreign{}, fmt.Errorf("amount %w: at most %d", ErrTooManyDigits, MaxDigits)
	}
	minor, err := c.Parse(text)
	if err != nil {
		return Foreign{}, fmt.Errorf("amount %w", err)
	}
	return Foreign{c, minor}, nil
}

// Stored finds a stored currency: a known one by its code, a foreign one by its name.
func (t *Currencies) Stored(code string) (Currency, bool) {
	if c, ok := t.byCode[code]; ok {
		return c, true
	}
	return parseCurrency(code)
}

// Lookup finds a currency by its code, which is case-sensitive.
func (t *Currencies) Lookup(code string) (Currency, bool) {
	c, ok := t.byCode[code]
	return c, ok
}

// List returns all currencies, sorted by code. The caller must not change it.
func (t *Currencies) List() []Currency { return t.sorted }
