package httpserver

import (
	"maps"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestQueriesAreStrict(t *testing.T) {
	for query, want := range map[string][2]string{ // the code and the field of the problem
		"":                          {},
		"limit=5":                   {},
		"limit=5&cursor=a%3Db&":     {},
		"l%69mit=5":                 {},
		"limit=5&Limit=5":           {CodeUnknownParameter, "Limit"},
		"limt=5":                    {CodeUnknownParameter, "limt"},
		"limit%5B%5D=5":             {CodeUnknownParameter, "limit[]"},
		"=5":                        {CodeUnknownParameter, ""},
		"limit=5&limit=5":           {CodeValidationFailed, "limit"},
		"limit=5&l%69mit=5":         {CodeValidationFailed, "limit"},
		"limit=":                    {CodeValidationFailed, "limit"},
		"limit":                     {CodeValidationFailed, "limit"},
		"cursor=%zz":                {CodeValidationFailed, "cursor"},
		"cursor=%00":                {CodeValidationFailed, "cursor"},
		"cursor=%ff":                {CodeValidationFailed, "cursor"},
		"limit=5;cursor=a":          {CodeValidationFailed, "limit"},
		strings.Repeat("x", 10_000): {CodeUnknownParameter, strings.Repeat("x", 100) + "…"},
	} {
		err := checkQuery(query)
		if err == nil {
			err = checkParameters(query, []string{"limit", "cursor"})
		}
		var got [2]string
		if p := AsProblem(err); p != nil {
			got = [2]string{p.Code, p.Errors[0].Field}
		}
		if got != want {
			t.Errorf("%.100s: %q, want %q", query, got, want)
		}
	}
}

func TestCursorsComeBackAtTheirListOnly(t *testing.T) {
	list := httptest.NewRequest("GET", "/accounts/0198C5A7/entries?limit=1", nil)
	position := map[string]int64{"RUB": 17, "USDT": 1 << 60}
	cursor, err := Cursor(list, position)
	if err != nil {
		t.Fatal(err)
	}
	for path, same := range map[string]bool{"/accounts/0198c5a7/entries": true, "/accounts/0198C5A8/entries": false,
		"/accounts": false} {
		read := map[string]int64{}
		_, err := Page(httptest.NewRequest("GET", path+"?cursor="+cursor, nil), &read)
		if same != (err == nil) || same && !maps.Equal(read, position) {
			t.Errorf("%s: %v, %v", path, read, err)
		}
	}
}

func TestTimes(t *testing.T) {
	for text, want := range map[string]string{
		"2026-01-31T12:00:00.123456999+23:59": "2026-01-30T12:01:00.123456Z",
		"2026-01-31T12:00:00.000000999Z":      "2026-01-31T12:00:00Z",
		"0001-01-01T00:00:00Z":                "0001-01-01T00:00:00Z",
		"1969-12-31T23:59:59.9999999Z":        "1969-12-31T23:59:59.999999Z",
		"9999-12-31T23:59:59.999999999Z":      "9999-12-31T23:59:59.999999Z",
		"0001-01-01T00:00:00+00:01":           "",
		"9999-12-31T23:59:59-00:01":           "",
		"0000-12-31T23:59:59Z":                "",
		"2026-01-31T12:00:00+24:00":           "",
		"2026-01-31T12:00:00,5Z":              "",
		"2026-01-31T1:00:00Z":                 "",
		"2026-01-31T12:00:00 03:00":           "",
		"2026-01-31":                          "",
	} {
		at, err := TimeParam(httptest.NewRequest("GET", "/?at="+url.QueryEscape(text), nil), "at")
		if want == "" && (fieldOf(err) != "at" || at != nil) ||
			want != "" && (err != nil || at.Format(time.RFC3339Nano) != want) {
			t.Errorf("%s: %v, %v, want %s", text, at, err, want)
		}
	}
	if at, err := TimeParam(httptest.NewRequest("GET", "/", nil), "at"); at != nil || err != nil {
		t.Errorf("none: %v, %v", at, err)
	}
}
