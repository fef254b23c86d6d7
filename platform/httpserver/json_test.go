package httpserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// amount is a type with a parser of its own, as money has.
type amount string

func (a *amount) UnmarshalJSON(data []byte) error {
	if len(data) > 20 || bytes.ContainsAny(data, "eE") {
		return errors.New("must be an exact decimal amount")
	}
	if data[0] != '"' {
		*a = amount(data)
		return nil
	}
	return json.Unmarshal(data, (*string)(a))
}

// careless hands encoding/json's own error on.
type careless struct{ n int }

func (c *careless) UnmarshalJSON(data []byte) error { return json.Unmarshal(data, &c.n) }

type base struct {
	Reference string `json:"reference"`
}

type order struct {
	base
	AccountID uuid.UUID         `json:"account_id"`
	Amount    amount            `json:"amount"`
	Quantity  int32             `json:"quantity"`
	Weight    float64           `json:"weight"`
	Urgent    *bool             `json:"urgent,omitempty"`
	At        time.Time         `json:"at"`
	Tags      []string          `json:"tags"`
	Labels    map[string]string `json:"labels"`
	Lines     []order           `json:"lines"`
	Parent    *order            `json:"parent"`
	Careless  careless          `json:"careless"`
	Any       any               `json:"any"`
	Hidden    string            `json:"-"`
	Plain     string
}

// server serves one handler on a router and returns the base URL.
func server(t *testing.T, method, pattern string, serve func(http.ResponseWriter, *http.Request) error) string {
	t.Helper()
	router, _ := testRouter(t, nil)
	router.Method(method, pattern, Handle(serve))
	s := httptest.NewServer(router)
	t.Cleanup(s.Close)
	return s.URL
}

func TestDecodeJSON(t *testing.T) {
	const kilobyte = 1 << 10
	deep := strings.Repeat(`[`, 100_000) + strings.Repeat(`]`, 100_000)
	for _, test := range []struct {
		name, body  string
		contentType string // application/json when empty, none when "-"
		status      int
		code        string
		field       string
	}{
		{name: "whole", body: ` {"amount":12.50,"quantity":1,"reference":"r","urgent":true,"at":"2026-01-02T03:04:05Z","Plain":"p",
			"tags":["a","b"],"labels":{"any":"name"},"lines":[{"amount":"1"},{}],"parent":{"tags":[]},"any":{"x":[1,{"y":2}]},
			"account_id":"018f5e3a-0000-7000-8000-000000000001","weight":1e3,"careless":1} `, status: 200},
		{name: "empty object", body: `{}`, status: 200},
		{name: "nulls", body: `{"amount":null,"tags":null,"parent":null,"lines":[null]}`, status: 200},
		{name: "escaped name", body: `{"\u0071uantity":1}`, status: 200},
		{name: "charset", body: `{}`, contentType: "application/json; charset=UTF-8", status: 200},
		{name: "escaped backslash before u0000", body: `{"reference":"\\u0000"}`, status: 200},
		{name: "surrogate pair", body: `{"reference":"\ud83d\ude00"}`, status: 200},
		{name: "escaped backslash before a surrogate", body: `{"reference":"\\ud800"}`, status: 200},

		{name: "no content type", body: `{}`, contentType: "-", status: 415, code: CodeUnsupportedMediaType},
		{name: "form", body: `a=b`, contentType: "application/x-www-form-urlencoded", status: 415, code: CodeUnsupportedMediaType},
		{name: "other charset", body: `{}`, contentType: "application/json; charset=koi8-r", status: 415, code: CodeUnsupportedMediaType},
		{name: "broken content type", body: `{}`, contentType: "application/json;;;=", status: 415, code: CodeUnsupportedMediaType},
		{name: "too large", body: `{"reference":"` + strings.Repeat("x", 1<<20) + `"}`, status: 413, code: CodeBodyTooLarge},

		{name: "empty", body: "", status: 400, code: CodeInvalidJSON},
		{name: "blank", body: " \n\t ", status: 400, code: CodeInvalidJSON},
		{name: "cut off", body: `{"amount":"1`, status: 400, code: CodeInvalidJSON},
		{name: "trailing data", body: `{} {}`, status: 400, code: CodeInvalidJSON},
		{name: "null", body: `null`, status: 400, code: CodeInvalidJSON},
		{name: "list", body: `[{}]`, status: 400, code: CodeInvalidJSON},
		{name: "string", body: `"{}"`, status: 400, code: CodeInvalidJSON},
		{name: "invalid UTF-8", body: "{\"reference\":\"\xff\"}", status: 400, code: CodeInvalidJSON},
		{name: "NUL", body: `{"reference":"a\u0000b"}`, status: 400, code: CodeInvalidJSON},
		{name: "NUL after an escaped backslash", body: `{"reference":"\\\u0000"}`, status: 400, code: CodeInvalidJSON},
		{name: "high surrogate alone", body: `{"reference":"\ud800"}`, status: 400, code: CodeInvalidJSON},
		{name: "low surrogate alone", body: `{"reference":"x\uDC00y"}`, status: 400, code: CodeInvalidJSON},
		{name: "surrogates in the wrong order", body: `{"reference":"\ude00\ud83d"}`, status: 400, code: CodeInvalidJSON},
		{name: "surrogate before another escape", body: `{"reference":"\ud83d\u0041"}`, status: 400, code: CodeInvalidJSON},
		{name: "surrogate before an escaped backslash", body: `{"reference":"\ud83d\\ude00"}`, status: 400, code: CodeInvalidJSON},
		{name: "surrogate in a name", body: `{"\ud800":1}`, status: 400, code: CodeInvalidJSON},
		{name: "cut off escape", body: `{"reference":"\ud8`, status: 400, code: CodeInvalidJSON},
		{name: "deep", body: deep, status: 400, code: CodeInvalidJSON},
		{name: "deep in a field", body: `{"any":` + deep + `}`, status: 400, code: CodeInvalidJSON},
		{name: "deep but legal", body: `{"any":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`, status: 200},

		{name: "unknown", body: `{"amount":"1","amont":"2"}`, status: 400, code: CodeUnknownField, field: "amont"},
		{name: "other case", body: `{"Amount":"1"}`, status: 400, code: CodeUnknownField, field: "Amount"},
		{name: "hidden", body: `{"Hidden":"1"}`, status: 400, code: CodeUnknownField, field: "Hidden"},
		{name: "unknown within a list", body: `{"lines":[{}, {"parent":{"x.y":1}}]}`, status: 400, code: CodeUnknownField, field: "lines[1].parent.x.y"},
		{name: "unknown before a wrong type", body: `{"quantity":"x","z":1}`, status: 400, code: CodeUnknownField, field: "z"},

		{name: "unknown and long", body: `{"` + strings.Repeat("é", kilobyte) + `":1}`, status: 400, code: CodeUnknownField, field: shown(strings.Repeat("é", kilobyte))},

		{name: "name twice", body: `{"quantity":1,"quantity":2}`, status: 400, code: CodeValidationFailed, field: "quantity"},
		{name: "name twice, equal", body: `{"quantity":1,"quantity":1}`, status: 400, code: CodeValidationFailed, field: "quantity"},
		{name: "name twice, once escaped", body: `{"quantity":1,"\u0071uantity":1}`, status: 400, code: CodeValidationFailed, field: "quantity"},
		{name: "name twice, once null", body: `{"quantity":1,"quantity":null}`, status: 400, code: CodeValidationFailed, field: "quantity"},
		{name: "embedded name twice", body: `{"reference":"a","reference":"b"}`, status: 400, code: CodeValidationFailed, field: "reference"},
		{name: "name twice within a list", body: `{"lines":[{"tags":[]},{"tags":[],"tags":[]}]}`, status: 400, code: CodeValidationFailed, field: "lines[1].tags"},
		{name: "name twice in a map", body: `{"labels":{"a":"1","a":"2"}}`, status: 400, code: CodeValidationFailed, field: "labels.a"},
		{name: "names once in each element", body: `{"lines":[{"quantity":1},{"quantity":1}],"quantity":1}`, status: 200},
		{name: "UUID in braces", body: `{"account_id":"{018f5e3a-0000-7000-8000-000000000001}"}`, status: 400, code: CodeValidationFailed, field: "account_id"},
		{name: "UUID as a URN", body: `{"account_id":"urn:uuid:018f5e3a-0000-7000-8000-000000000001"}`, status: 400, code: CodeValidationFailed, field: "account_id"},
		{name: "UUID without dashes", body: `{"parent":{"account_id":"018f5e3a000070008000000000000001"}}`, status: 400, code: CodeValidationFailed, field: "parent.account_id"},
		{name: "UUID in capitals", body: `{"account_id":"018F5E3A-0000-7000-8000-000000000001"}`, status: 200},
		{name: "UUID with an escape", body: `{"account_id":"\u003018f5e3a-0000-7000-8000-000000000001"}`, status: 200},
		{name: "UUID without dashes, with escapes", body: `{"account_id":"\u003018f5e3a000070008000000000000001"}`, status: 400, code: CodeValidationFailed, field: "account_id"},

		{name: "not a string", body: `{"reference":1}`, status: 400, code: CodeValidationFailed, field: "reference"},
		{name: "not a number", body: `{"quantity":"1"}`, status: 400, code: CodeValidationFailed, field: "quantity"},
		{name: "a fraction", body: `{"quantity":1.5}`, status: 400, code: CodeValidationFailed, field: "quantity"},
		{name: "huge", body: `{"quantity":99999999999}`, status: 400, code: CodeValidationFailed, field: "quantity"},
		{name: "huge float", body: `{"weight":1e999}`, status: 400, code: CodeValidationFailed, field: "weight"},
		{name: "huge in any", body: `{"any":1e999}`, status: 400, code: CodeValidationFailed, field: "any"},
		{name: "huge amount", body: `{"amount":1` + strings.Repeat("0", kilobyte) + `}`, status: 400, code: CodeValidationFailed, field: "amount"},
		{name: "not a bool", body: `{"urgent":0}`, status: 400, code: CodeValidationFailed, field: "urgent"},
		{name: "not a time", body: `{"at":"tomorrow"}`, status: 400, code: CodeValidationFailed, field: "at"},
		{name: "not a UUID", body: `{"account_id":"7"}`, status: 400, code: CodeValidationFailed, field: "account_id"},
		{name: "own parser", body: `{"lines":[{"amount":1e2}]}`, status: 400, code: CodeValidationFailed, field: "lines[0].amount"},
		{name: "careless parser", body: `{"careless":"x"}`, status: 400, code: CodeValidationFailed, field: "careless"},
		{name: "not a list", body: `{"tags":{"a":1}}`, status: 400, code: CodeValidationFailed, field: "tags"},
		{name: "wrong element", body: `{"tags":["a",1]}`, status: 400, code: CodeValidationFailed, field: "tags[1]"},
		{name: "wrong value in a map", body: `{"labels":{"a":1}}`, status: 400, code: CodeValidationFailed, field: "labels.a"},
		{name: "not an object", body: `{"parent":[1]}`, status: 400, code: CodeValidationFailed, field: "parent"},
	} {
		t.Run(test.name, func(t *testing.T) {
			url := server(t, "POST", "/orders", func(w http.ResponseWriter, r *http.Request) error {
				var o order
				if err := DecodeJSON(w, r, &o); err != nil {
					return err
				}
				w.WriteHeader(http.StatusOK)
				return nil
			})
			// Once with a Content-Length, once in chunks.
			for _, body := range []io.Reader{strings.NewReader(test.body), struct{ io.Reader }{strings.NewReader(test.body)}} {
				request, err := http.NewRequestWithContext(t.Context(), "POST", url+"/orders", body)
				if err != nil {
					t.Fatal(err)
				}
				switch test.contentType {
				case "-":
				case "":
					request.Header.Set("Content-Type", "application/json")
				default:
					request.Header.Set("Content-Type", test.contentType)
				}
				response, problem := do(t, request)
				if response.StatusCode != test.status || problem.Code != test.code {
					t.Fatalf("got %d %q (%s); want %d %q", response.StatusCode, problem.Code, problem.Detail, test.status, test.code)
				}
				if test.field != "" && (len(problem.Errors) != 1 || problem.Errors[0].Field != test.field || problem.Errors[0].Detail == "") {
					t.Errorf("errors %v; want the field %s", problem.Errors, test.field)
				}
				text := fmt.Sprint(problem)
				for _, leak := range []string{"Go ", "httpserver.", "uuid.UUID", "int32", "struct", "json:", "reflect"} {
					if strings.Contains(text, leak) {
						t.Errorf("%q leaks into %s", leak, text)
					}
				}
			}
		})
	}
}

// An event may have fields of a later version. What encoding/json would read in another way than most parsers is refused.
func TestUnmarshalEvent(t *testing.T) {
	for body, field := range map[string]string{
		`{"quantity":1,"colour":"red","size":{"x":[1],"x":2}}`:               "",
		`{"lines":[{"colour":{}}]}`:                                          "",
		`{"QUANTITY":1}`:                                                     "QUANTITY",
		`{"quantity":1,"Quantity":2}`:                                        "Quantity",
		`{"lines":[{"Reference":"r"}]}`:                                      "lines[0].Reference",
		`{"tag\u017f":[]}`:                                                   "tagſ", // which folds to tags
		`{"quantity":1,"quantity":2}`:                                        "quantity",
		`{"colour":1,"colour":2}`:                                            "colour",
		`{"account_id":"urn:uuid:018f5e3a-0000-7000-8000-000000000001"}`:     "account_id",
		`{"parent":{"account_id":"{018f5e3a-0000-7000-8000-000000000001}"}}`: "parent.account_id",
		`{"colour":[1,2,"x"],"quantity":"x"}`:                                "quantity",
	} {
		err := UnmarshalEvent([]byte(body), new(order))
		if complains := err != nil && strings.HasPrefix(err.Error(), field+" "); complains != (field != "") || err != nil && !complains {
			t.Errorf("%s: %v, want a complaint about %q", body, err, field)
		}
	}
	for _, body := range []string{`{"colour":"\ud800"}`, `{"colour":"\u0000"}`, `[]`, `null`, ``, "{\"colour\":\"\xff\"}"} {
		if UnmarshalEvent([]byte(body), new(order)) == nil {
			t.Errorf("%q was read", body)
		}
	}
}

// animal is a struct of variants.
type animal struct {
	Kind  string `json:"kind"`
	Legs  int    `json:"legs"`
	Wings *int   `json:"wings"`
}

func (animal) Variant() string                { return "kind" }
func (animal) Has(variant, field string) bool { return variant == "bird" || field != "wings" }

// A field that belongs to another variant is unknown as soon as it is there, whatever its value; null is as if it were not.
func TestVariants(t *testing.T) {
	for body, field := range map[string]string{
		`{"kind":"bird","wings":2}`:                           "",
		`{"wings":2,"kind":"b\u0069rd"}`:                      "",
		`{"kind":"dog","legs":4}`:                             "",
		`{"kind":"dog","wings":null}`:                         "",
		`{"kind":"dog","wings": 0}`:                           "wings",
		`{"wings":"","kind":"dog"}`:                           "wings",
		`{"legs":4,"win\u0067s":2}`:                           "wings",
		`{"kind":["bird"],"wings":2}`:                         "wings",
		`{"kind":"bird","kind":"dog","legs":1}`:               "kind",
		`{"herd":[{"kind":"bird","wings":1},{"wings":1}]}`:    "herd[1].wings",
		`{"herd":[{"kind":"bird","wings":1},{"feathers":1}]}`: "herd[1].feathers",
	} {
		var err error
		if strings.Contains(body, "herd") {
			err = Unmarshal([]byte(body), &struct {
				Herd []animal `json:"herd"`
			}{})
		} else {
			err = Unmarshal([]byte(body), new(animal))
		}
		if fieldOf(err) != field || field == "" && err != nil {
			t.Errorf("%s: %v, want a complaint about %q", body, err, field)
		}
	}
}

func TestDecodeJSONKeepsTheValues(t *testing.T) {
	var got order
	body := []byte(`{"amount":0.10,"quantity":-7,"reference":"№ 1 \"x\"","tags":["a","b"],"lines":[{"quantity":3}],"labels":{"k":"v"}}`)
	if err := Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	want := order{base: base{Reference: `№ 1 "x"`}, Amount: "0.10", Quantity: -7, Tags: []string{"a", "b"},
		Lines: []order{{Quantity: 3}}, Labels: map[string]string{"k": "v"}}
	clear(body) // The body's buffer is used again by the next request.
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestDecodeJSONRefusesACompressedBody(t *testing.T) {
	r := httptest.NewRequest("POST", "/", strings.NewReader("{}"))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Content-Encoding", "gzip")
	var p *Problem
	if err := DecodeJSON(httptest.NewRecorder(), r, &order{}); !errors.As(err, &p) || p.Status != 415 {
		t.Errorf("got %v", err)
	}
}

func TestDecodeOptionalJSON(t *testing.T) {
	url := server(t, "POST", "/cancel", func(w http.ResponseWriter, r *http.Request) error {
		got := order{Quantity: 7}
		if err := DecodeOptionalJSON(w, r, &got); err != nil {
			return err
		}
		return WriteJSON(w, 200, NewList[int](nil, fmt.Sprint(got.Quantity)))
	})
	for _, test := range []struct{ body, contentType, want string }{
		{"", "", `{"items":[],"next_cursor":"7"}`},
		{`{"quantity":8}`, "application/json", `{"items":[],"next_cursor":"8"}`},
	} {
		response, err := http.Post(url+"/cancel", test.contentType, strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if strings.TrimSpace(string(body)) != test.want {
			t.Errorf("%q: %s", test.body, body)
		}
	}
}

// FuzzDecodeJSON: whatever is sent is a problem of status 400 or decoded, and a name that is not one of the type's is never
// accepted.
func FuzzDecodeJSON(f *testing.F) {
	for _, seed := range []string{`{"quantity":1,"lines":[{"parent":{}}]}`, `{"Amount":1}`, `[]`, `{"any":{"a":[1,"\\\"",{}]}}`, `{"\u0061mount":"1"}`, `{"labels":{"":""}}`,
		`{"tags":[],"tags":[]}`, `{"reference":"\ud83d\ude00"}`, `{"account_id":"{018f5e3a-0000-7000-8000-000000000001}"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var got order
		err := Unmarshal(body, &got)
		var p *Problem
		if err != nil && (!errors.As(err, &p) || p.Status != 400) {
			t.Fatalf("%q: %v", body, err)
		}
		if err != nil {
			return
		}
		// What encoding/json refuses is refused here too.
		strict := json.NewDecoder(bytes.NewReader(body))
		strict.DisallowUnknownFields()
		if err := strict.Decode(new(order)); err != nil {
			t.Fatalf("%q was accepted: %v", body, err)
		}
		// What is accepted is read whole, so that reading it as an event makes the same of it.
		var event order
		if err := UnmarshalEvent(body, &event); err != nil || !reflect.DeepEqual(got, event) {
			t.Fatalf("%q is %+v as an event, %v; want %+v", body, event, err, got)
		}
	})
}

func BenchmarkDecodeJSON(b *testing.B) {
	body := []byte(`{"account_id":"018f5e3a-0000-7000-8000-000000000001","amount":"2500.00","quantity":1,"reference":"invoice 17"}`)
	b.ReportAllocs()
	for b.Loop() {
		var o order
		if err := Unmarshal(body, &o); err != nil {
			b.Fatal(err)
		}
	}
}
