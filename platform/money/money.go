// Package money reads and writes exact amounts. An amount is a count of minor units (kopecks, cents, satoshi) in an
// int64; a currency says how many decimal digits its major unit has. No floating point is used anywhere, and nothing is
// rounded: a text that is not exactly a number of minor units is refused.
package money

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The ways in which an amount can be refused. Their texts follow the field's name.
var (
	ErrSyntax = errors.New(
		`must be a decimal number such as "2500.00": digits, with at most one point between them`)
	ErrNotPositive   = errors.New("must be greater than zero")
	ErrTooLarge      = errors.New("is too large")
	ErrTooManyDigits = errors.New("has more decimal digits than its currency")
)

// maxText bounds what Parse looks at: 19 digits, a point and a sign fit well within it.
const maxText = 40

// Decimal is the text of an amount in JSON, taken exactly as it was sent: a request may write it as a string or as a
// number, and a number never passes through a float.
type Decimal string

// UnmarshalJSON takes a JSON string or number. Anything else is ErrSyntax, and so is the empty string: leaving an
// amount out may mean all there is, which nobody should get by an empty text. A number with an exponent, as
// JavaScript and Python write small ones (1e-07), is taken as the number that it stands for (0.0000001).
func (d *Decimal) UnmarshalJSON(data []byte) error {
	data = bytes.TrimSpace(data)
	switch {
	case len(data) == 0 || string(data) == "null":
		return nil
	case data[0] == '"':
		var s string
		if err := json.Unmarshal(data, &s); err != nil {
			return err
		}
		if s == "" {
			return ErrSyntax
		}
		*d = Decimal(s)
		return nil
	case data[0] == '-' || data[0] >= '0' && data[0] <= '9':
		*d = Decimal(plain(string(data)))
		return nil
	}
	return ErrSyntax
}

const (
	maxDecimals = 30                    // more than any currency has
	beyond      = maxDecimals + maxText // an exponent that moves the point beyond all amounts, wherever it was
)

// plain writes a JSON number without exponent. A number whose exponent is beyond all amounts becomes another number
// that is too large or too small as well; one of more than maxText characters stays as it is.
func plain(number string) string {
	i := strings.IndexAny(number, "eE")
	if i < 0 || len(number) > maxText {
		return number
	}
	exponent, err := strconv.Atoi(number[i+1:])
	if errors.Is(err, strconv.ErrSyntax) {
		return number
	}
	exponent = max(-beyond, min(exponent, beyond))
	exact, ok := new(big.Rat).SetString(number[:i] + "e" + strconv.Itoa(exponent))
	if !ok {
		return number
	}
	decimals, _ := exact.FloatPrec()
	return exact.FloatString(min(decimals, maxDecimals))
}

// Parse reads a positive amount of a currency with the given number of digits and returns its minor units. It refuses
// exponents, signs, spaces, superfluous leading zeros, more decimal digits than the currency has (also when they are
// zeros), zero, and what does not fit an int64.
func Parse(text string, digits int) (int64, error) {
	if text == "" || len(text) > maxText {
		if len(text) > maxText && onlyDigits(text) {
			return 0, ErrTooLarge
		}
		return 0, ErrSyntax
	}
	unsigned, negative := strings.CutPrefix(text, "-")
	whole, fraction, point := strings.Cut(unsigned, ".")
	if !onlyDigits(whole) || point && !onlyDigits(fraction) || len(whole) > 1 && whole[0] == '0' {
		return 0, ErrSyntax
	}
	if negative {
		return 0, ErrNotPositive
	}
	if len(fraction) > digits {
		return 0, fmt.Errorf("%w: at most %d", ErrTooManyDigits, digits)
	}
	minor, err := strconv.ParseUint(whole+fraction+strings.Repeat("0", digits-len(fraction)), 10, 64)
	if err != nil || minor > math.MaxInt64 {
		return 0, ErrTooLarge
	}
	if minor == 0 {
		return 0, ErrNotPositive
	}
	return int64(minor), nil
}

// Digits counts the decimal digits that an amount is written with.
func Digits(text string) int {
	_, fraction, _ := strings.Cut(text, ".")
	return len(fraction)
}

// Format writes minor units with exactly the currency's number of digits: Format(250000, 2) is "2500.00".
func Format(minor int64, digits int) string {
	var buf [48]byte
	return string(Append(buf[:0], minor, digits))
}

// Append is Format into a buffer.
func Append(buf []byte, minor int64, digits int) []byte {
	magnitude := uint64(minor)
	if minor < 0 {
		buf = append(buf, '-')
		magnitude = -magnitude
	}
	var text [20]byte
	number := strconv.AppendUint(text[:0], magnitude, 10)
	whole := len(number) - digits
	if whole <= 0 {
		buf = append(buf, '0')
	} else {
		buf = append(buf, number[:whole]...)
	}
	if digits == 0 {
		return buf
	}
	buf = append(buf, '.')
	for ; whole < 0; whole++ {
		buf = append(buf, '0')
	}
	return append(buf, number[len(number)-min(digits, len(number)):]...)
}

func onlyDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

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
