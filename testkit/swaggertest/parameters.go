package swaggertest

import (
	"encoding/base64"
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/httpserver"
)

// never are values, as written in a URL, that every parameter must refuse.
var never = []string{"", "%zz", "%", "%00", "a%00b", "%ff", "%C0%80", "%ED%A0%80", "1;2", ";"}

// hostile are values that a parameter may take or refuse, but that must not cause a fault.
var hostile = []string{
	"null", "true", "[]", "%7B%7D", "NaN", "-1", "0", "1e9", "0x10", "99999999999999999999", "9223372036854775807",
	"'%22--", "%25s%25n",
	strings.Repeat("x", 8<<10), strings.Repeat("%D1%8B", 201), "%F0%9F%92%B0", "+", "%E2%80%AE",
	// times
	"0001-01-01T00:00:00Z", "0001-01-01T00:00:00%2B23:59", "0001-01-01T00:00:00-23:59", "0000-01-01T00:00:00Z",
	"9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999-23:59", "9999-12-31T23:59:59.999999999%2B23:59",
	"10000-01-01T00:00:00Z", "-0001-01-01T00:00:00Z", "2026-01-01T00:00:00%2B15:59", "2026-01-01T00:00:00-16:00",
	"2026-01-01T00:00:00%2B23:59", "2026-01-01T00:00:00%2B24:00", "2026-01-01T00:00:00%2B99:99",
	"2026-01-01T00:00:00+03:00",
	"2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z", "2026-06-30T23:59:60Z", "2026-01-01", "infinity", "-infinity", "now",
	"epoch",
	// durations
	"5", "-5s", "1000000h", "9223372036854775807ns", "1e3s",
	// UUIDs
	"00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
	"%7B0198c5a7-5f6e-7c3e-9d57-3f1f6a0f8e11%7D",
	"urn:uuid:0198c5a7-5f6e-7c3e-9d57-3f1f6a0f8e11", "0198c5a75f6e7c3e9d573f1f6a0f8e11",
	"0198c5a7-5f6e-7c3e-9d57-3f1f6a0f8e1g",
}

// positions are the contents of forged cursors. Real ones hold numbers, maps of numbers, or times with an ID.
var positions = []string{
	`null`, `true`, `""`, `[]`, `{}`, `-1`, `0`, `1`, `1.5`, `1e400`, `9223372036854775807`, `9223372036854775808`,
	`-9223372036854775808`,
	`"\u0000"`, `{"\u0000":1}`, `{"RUB\u0000":1}`, `{"RUB":-1}`, `{"RUB":0}`, `{"RUB":9223372036854775807}`,
	`{"RUB":1e400}`, `{"RUB":"1"}`,
	`{"RUB":null}`, `{"RUB":1,"RUB":2}`, `{"at":"0001-01-01T00:00:00+23:59","id":"0198c5a7-5f6e-7c3e-9d57-3f1f6a0f8e11"}`,
	`{"at":"2026-01-01T00:00:00-23:59","id":"0198c5a7-5f6e-7c3e-9d57-3f1f6a0f8e11"}`,
	`{"at":"9999-12-31T23:59:59-23:59","id":"0198c5a7-5f6e-7c3e-9d57-3f1f6a0f8e11"}`,
	`{"at":"2026-01-01T00:00:00Z","id":"\u0000"}`,
}

// cursors returns forged cursors, with and without the mark of the list at a path.
func cursors(t testing.TB, path string) (forged []string) {
	for _, position := range positions {
		forged = append(forged, base64.RawURLEncoding.EncodeToString([]byte(position)))
		for _, of := range []string{path, "/elsewhere"} {
			marked, err := httpserver.Cursor(httptest.NewRequest("GET", of, nil), json.RawMessage(position))
			if err != nil {
				t.Fatal(err)
			}
			forged = append(forged, marked, marked+"A", strings.ToLower(marked))
		}
	}
	return forged
}

// CheckParameters sends hostile values for every path and query parameter of every operation: the answer must never
// be a 5xx, and a 400 must name the parameter. The documented query parameters must be taken, and unknown, repeated
// or empty ones refused. base is where an operation is served. exists returns an ID that exists for a path
// parameter, or "".
func CheckParameters(t *testing.T, s *Spec, base func(*Operation) string,
	exists func(o *Operation, name string) string) {
	names := map[string]bool{}
	for _, o := range s.Operations {
		for _, p := range o.In("query") {
			names[p.Name] = true
		}
	}
	for _, o := range s.Operations {
		t.Run(o.ID, func(t *testing.T) {
			t.Parallel()
			body := s.Body(t, o)
			ids := map[string]string{}
			for _, p := range o.In("path") {
				if ids[p.Name] = exists(o, p.Name); ids[p.Name] == "" {
					ids[p.Name] = uuid.NewString()
				}
			}
			path := o.fill(func(name string) string { return ids[name] })
			// refused asks for a 400 with this code that names the parameter.
			refused := func(target, code, field string) {
				t.Helper()
				a := send(t, o.Method, base(o), target, body)
				if gotCode, gotField := a.problem(); a.status != 400 || gotCode != code || gotField != field {
					t.Errorf("%s %.200s: %d %.500s, want %s of %s", o.Method, target, a.status, a.body, code, field)
				}
			}
			// survived asks for anything but a fault or a 400 that names another parameter.
			survived := func(target string, fields ...string) {
				t.Helper()
				a := send(t, o.Method, base(o), target, body)
				if _, field := a.problem(); a.status >= 500 || a.status == 400 && !slices.Contains(fields, field) {
					t.Errorf("%s %.200s: %d %.500s", o.Method, target, a.status, a.body)
				}
			}
			for _, p := range o.In("path") {
				for _, value := range slices.Concat(never, hostile, []string{"%2F", "..%2F..", "%2e%2e", "a/b"}) {
					if _, err := url.PathUnescape(value); err != nil {
						continue // net/http itself refuses such a path
					}
					survived(o.fill(func(name string) string {
						if name == p.Name {
							return value
						}
						return ids[name]
					}), p.Name, "path")
				}
			}
			known := map[string]bool{}
			for _, p := range o.In("query") {
				known[p.Name] = true
				for _, value := range never {
					refused(path+"?"+p.Name+"="+value, "validation_failed", p.Name)
				}
				refused(path+"?"+p.Name, "validation_failed", p.Name)
				refused(path+"?"+p.Name+"=1&"+p.Name+"=1", "validation_failed", p.Name)
				refused(path+"?"+p.Name[:1]+"%"+"5f"+p.Name[1:]+"=1", "unknown_parameter", p.Name[:1]+"_"+p.Name[1:])
				values := hostile
				if p.Name == "cursor" {
					values = slices.Concat(hostile, cursors(t, path))
				}
				for _, value := range values {
					survived(path+"?"+p.Name+"="+value, p.Name)
				}
			}
			for name := range names {
				if !known[name] {
					refused(path+"?"+name+"=1", "unknown_parameter", name)
				}
			}
			for _, name := range []string{"acount_id", "Limit", "id", "%D1%8B", "_", "limit[]", "%20limit"} {
				plain := strings.NewReplacer("%D1%8B", "ы", "%20", " ").Replace(name)
				refused(path+"?"+name+"=1", "unknown_parameter", plain)
			}
			refused(path+"?=1", "unknown_parameter", "")
			refused(path+"?a;b", "validation_failed", "a;b")
			refused(path+"?%zz=1", "validation_failed", "%zz")
		})
	}
}
