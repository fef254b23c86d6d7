package money_test

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/altyn-pay/altyn/platform/money"
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		text   string
		digits int
		want   int64
		err    error
	}{
		{"2500.00", 2, 250000, nil},
		{"2500", 2, 250000, nil},
		{"2500.5", 2, 250050, nil},
		{"0.01", 2, 1, nil},
		{"777", 0, 777, nil},
		{"0.000001", 6, 1, nil},
		{"92233720368547758.07", 2, math.MaxInt64, nil},
		{"92233720368547758.08", 2, 0, money.ErrTooLarge},
		{"184467440737095516.15", 2, 0, money.ErrTooLarge},
		{"184467440737095516.16", 2, 0, money.ErrTooLarge},
		{strings.Repeat("9", 60), 2, 0, money.ErrTooLarge},
		{"0", 2, 0, money.ErrNotPositive},
		{"0.00", 2, 0, money.ErrNotPositive},
		{"-1", 2, 0, money.ErrNotPositive},
		{"-0", 2, 0, money.ErrNotPositive},
		{"1.001", 2, 0, money.ErrTooManyDigits},
		{"1.000", 2, 0, money.ErrTooManyDigits},
		{"1.5", 0, 0, money.ErrTooManyDigits},
		{"", 2, 0, money.ErrSyntax},
		{".5", 2, 0, money.ErrSyntax},
		{"5.", 2, 0, money.ErrSyntax},
		{"1e3", 2, 0, money.ErrSyntax},
		{"1E-2", 2, 0, money.ErrSyntax},
		{"+1", 2, 0, money.ErrSyntax},
		{"--1", 2, 0, money.ErrSyntax},
		{"01", 2, 0, money.ErrSyntax},
		{"1,5", 2, 0, money.ErrSyntax},
		{"1 000", 2, 0, money.ErrSyntax},
		{"0x10", 2, 0, money.ErrSyntax},
		{"1_000", 2, 0, money.ErrSyntax},
		{"NaN", 2, 0, money.ErrSyntax},
		{"١٢", 2, 0, money.ErrSyntax},
		{"1.2.3", 2, 0, money.ErrSyntax},
	} {
		got, err := money.Parse(test.text, test.digits)
		if got != test.want || !errors.Is(err, test.err) {
			t.Errorf("Parse(%q, %d) = %d, %v; want %d, %v", test.text, test.digits, got, err, test.want, test.err)
		}
	}
}

func TestFormatIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		minor := rapid.Int64Range(1, math.MaxInt64).Draw(t, "minor")
		digits := rapid.IntRange(0, money.MaxDigits).Draw(t, "digits")
		text := money.Format(minor, digits)
		if _, fraction, point := strings.Cut(text, "."); len(fraction) != digits || point != (digits > 0) {
			t.Fatalf("%q does not have %d digits", text, digits)
		}
		if back, err := money.Parse(text, digits); back != minor || err != nil {
			t.Fatalf("Parse(%q) = %d, %v; want %d", text, back, err, minor)
		}
	})
}

func TestFormatNegative(t *testing.T) {
	for minor, want := range map[int64]string{
		0: "0.00", -1: "-0.01", -100: "-1.00", math.MinInt64: "-92233720368547758.08", math.MaxInt64: "92233720368547758.07",
	} {
		if got := money.Format(minor, 2); got != want {
			t.Errorf("Format(%d, 2) = %q, want %q", minor, got, want)
		}
	}
}

func TestDecimalKeepsTheText(t *testing.T) {
	for body, want := range map[string]string{
		`"2500.00"`: "2500.00", `2500.10`: "2500.10", `"1e3"`: "1e3", `0.1`: "0.1", `null`: "",
		`12345678901234567890.123`: "12345678901234567890.123",
	} {
		var got money.Decimal
		if err := json.Unmarshal([]byte(body), &got); err != nil || string(got) != want {
			t.Errorf("%s read as %q, %v; want %q", body, got, err, want)
		}
	}
	for _, body := range []string{`true`, `{}`, `[]`, `""`} {
		var got money.Decimal
		if err := json.Unmarshal([]byte(body), &got); err == nil {
			t.Errorf("%s read as %q", body, got)
		}
	}
}

// A number with an exponent is what it stands for, whatever its exponent.
func TestNumberWithExponent(t *testing.T) {
	for body, want := range map[string]struct {
		digits int
		minor  int64
		err    error
	}{
		`1e-07`: {8, 10, nil}, `1E-8`: {8, 1, nil}, `1e2`: {2, 10000, nil}, `1.5e+3`: {0, 1500, nil}, `2.50e1`: {0, 25, nil},
		`0.0001e4`: {2, 100, nil}, `100e-2`: {0, 1, nil}, `12.34e0`: {2, 1234, nil},
		`9.223372036854775807e18`: {0, math.MaxInt64, nil},
		`9.223372036854775808e18`: {0, 0, money.ErrTooLarge}, `1e0000000002`: {0, 100, nil},
		`1e-9`: {8, 0, money.ErrTooManyDigits}, `1.001e0`: {2, 0, money.ErrTooManyDigits},
		`-1e2`: {2, 0, money.ErrNotPositive}, `0e5`: {2, 0, money.ErrNotPositive}, `0.0e-5`: {2, 0, money.ErrNotPositive},
		`1e999999999`: {2, 0, money.ErrTooLarge}, `1e9223372036854775807`: {2, 0, money.ErrTooLarge},
		`1e99999999999999999999`: {2, 0, money.ErrTooLarge},
		`1e-999999999`:           {18, 0, money.ErrTooManyDigits}, `1e-9223372036854775808`: {18, 0, money.ErrTooManyDigits},
		`1234567890123456789e-9999999999999999999`:               {18, 0, money.ErrTooManyDigits},
		`1` + strings.Repeat("0", 1000) + `e-1000`:               {2, 0, money.ErrSyntax},
		`1e` + strings.Repeat("9", 1000):                         {2, 0, money.ErrSyntax},
		`0.` + strings.Repeat("0", 30) + `1e31`:                  {0, 1, nil},
		`0.` + strings.Repeat("0", 30) + `1e9223372036854775807`: {0, 0, money.ErrSyntax},
	} {
		var d money.Decimal
		if err := json.Unmarshal([]byte(body), &d); err != nil {
			t.Fatal(err)
		}
		if minor, err := money.Parse(string(d), want.digits); minor != want.minor || !errors.Is(err, want.err) {
			t.Errorf("%.50s, read as %.50q, is %d, %v; want %d, %v", body, d, minor, err, want.minor, want.err)
		}
	}
}

// Wherever the point is, the exponent says where it belongs.
func TestExponentsAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		minor := rapid.Int64Range(1, math.MaxInt64).Draw(t, "minor")
		digits := rapid.IntRange(0, money.MaxDigits).Draw(t, "digits")
		shift := rapid.IntRange(-20, 20).Draw(t, "shift")
		whole, fraction, n := strconv.FormatInt(minor, 10), "", 0
		switch {
		case shift > 0: // zeros on the right
			whole, n = whole+strings.Repeat("0", shift), -shift
		case -shift < len(whole): // the point moves to the left
			whole, fraction, n = whole[:len(whole)+shift], whole[len(whole)+shift:], -shift
		}
		number := whole
		if fraction != "" {
			number += "." + fraction
		}
		number += "e" + strconv.Itoa(n-digits)
		if len(number) > 40 {
			t.Skip("longer than any amount")
		}
		var d money.Decimal
		if err := json.Unmarshal([]byte(number), &d); err != nil {
			t.Fatal(err)
		}
		if got, err := money.Parse(string(d), digits); err != nil || got != minor {
			t.Fatalf("%s, read as %s, is %d, %v; want %d", number, d, got, err, minor)
		}
	})
}

func TestCurrencies(t *testing.T) {
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "currencies.csv")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	table, err := money.LoadCurrencies(write("# ours\nGOLD, 3\nRUB,2 # as shipped\n"))
	if err != nil {
		t.Fatal(err)
	}
	for code, digits := range map[string]int{"RUB": 2, "JPY": 0, "KWD": 3, "CLF": 4, "USDT": 6, "BTC": 8, "GOLD": 3} {
		if c, ok := table.Lookup(code); !ok || c.Digits != digits {
			t.Errorf("%s has %d digits (%v), want %d", code, c.Digits, ok, digits)
		}
	}
	if _, ok := table.Lookup("rub"); ok {
		t.Error("codes are case-sensitive")
	}
	if list := table.List(); len(list) < 170 || list[0].Code != "AED" {
		t.Errorf("%d currencies, the first is %v", len(list), list[0])
	}
	for _, bad := range []string{"RUB,3\n", "gold,2\n", "GOLD\n", "GOLD,-1\n", "GOLD,19\n", "GOLD,two\n"} {
		if _, err := money.LoadCurrencies(write(bad)); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%q was read: %v", bad, err)
		}
	}
	if _, err := money.LoadCurrencies(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing file was read")
	}
}
