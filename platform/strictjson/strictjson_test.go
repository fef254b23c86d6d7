package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/platform/contract"
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

// The kinds of errors.
const (
	syntax  = "syntax"
	unknown = "unknown"
	invalid = "invalid"
)

// kindOf returns the kind of an error of Unmarshal and the field that it names; "" of none.
func kindOf(t *testing.T, err error) (kind, field string) {
	t.Helper()
	var noJSON *SyntaxError
	var notThere *UnknownFieldError
	var fields contract.FieldErrors
	switch {
	case err == nil:
		return "", ""
	case errors.As(err, &noJSON):
		return syntax, ""
	case errors.As(err, &notThere) && notThere.Detail != "":
		return unknown, notThere.Field
	case errors.As(err, &fields) && len(fields) == 1 && fields[0].Detail != "":
		return invalid, fields[0].Field
	}
	t.Fatalf("%T: %v", err, err)
	return "", ""
}

func TestUnmarshal(t *testing.T) {
	const kilobyte = 1 << 10
	deep := strings.Repeat(`[`, 100_000) + strings.Repeat(`]`, 100_000)
	for _, test := range []struct {
		name, body  string
		want, field string
	}{
		{name: "whole", body: ` {"amount":12.50,"quantity":1,"reference":"r","urgent":true,"at":"2026-01-02T03:04:05Z",
			"Plain":"p",
			"tags":["a","b"],"labels":{"any":"name"},"lines":[{"amount":"1"},{}],"parent":{"tags":[]},"any":{"x":[1,{"y":2}]},
			"account_id":"018f5e3a-0000-7000-8000-000000000001","weight":1e3,"careless":1} `},
		{name: "empty object", body: `{}`},
		{name: "nulls", body: `{"amount":null,"tags":null,"parent":null,"lines":[null]}`},
		{name: "escaped name", body: `{"\u0071uantity":1}`},
		{name: "escaped backslash before u0000", body: `{"reference":"\\u0000"}`},
		{name: "surrogate pair", body: `{"reference":"\ud83d\ude00"}`},
		{name: "escaped backslash before a surrogate", body: `{"reference":"\\ud800"}`},

		{name: "empty", body: "", want: syntax},
		{name: "blank", body: " \n\t ", want: syntax},
		{name: "cut off", body: `{"amount":"1`, want: syntax},
		{name: "trailing data", body: `{} {}`, want: syntax},
		{name: "null", body: `null`, want: syntax},
		{name: "list", body: `[{}]`, want: syntax},
		{name: "string", body: `"{}"`, want: syntax},
		{name: "invalid UTF-8", body: "{\"reference\":\"\xff\"}", want: syntax},
		{name: "NUL", body: `{"reference":"a\u0000b"}`, want: syntax},
		{name: "NUL after an escaped backslash", body: `{"reference":"\\\u0000"}`, want: syntax},
		{name: "high surrogate alone", body: `{"reference":"\ud800"}`, want: syntax},
		{name: "low surrogate alone", body: `{"reference":"x\uDC00y"}`, want: syntax},
		{name: "surrogates in the wrong order", body: `{"reference":"\ude00\ud83d"}`, want: syntax},
		{name: "surrogate before another escape", body: `{"reference":"\ud83d\u0041"}`, want: syntax},
		{name: "surrogate before an escaped backslash", body: `{"reference":"\ud83d\\ude00"}`, want: syntax},
		{name: "surrogate in a name", body: `{"\ud800":1}`, want: syntax},
		{name: "cut off escape", body: `{"reference":"\ud8`, want: syntax},
		{name: "deep", body: deep, want: syntax},
		{name: "deep in a field", body: `{"any":` + deep + `}`, want: syntax},
		{name: "deep but legal", body: `{"any":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`},

		{name: "unknown", body: `{"amount":"1","amont":"2"}`, want: unknown, field: "amont"},
		{name: "other case", body: `{"Amount":"1"}`, want: unknown, field: "Amount"},
		{name: "hidden", body: `{"Hidden":"1"}`, want: unknown, field: "Hidden"},
		{name: "unknown within a list", body: `{"lines":[{}, {"parent":{"x.y":1}}]}`, want: unknown,
			field: "lines[1].parent.x.y"},
		{name: "unknown before a wrong type", body: `{"quantity":"x","z":1}`, want: unknown, field: "z"},

		{name: "unknown and long", body: `{"` + strings.Repeat("é", kilobyte) + `":1}`, want: unknown,
			field: Shown(strings.Repeat("é", kilobyte))},

		{name: "name twice", body: `{"quantity":1,"quantity":2}`, want: invalid, field: "quantity"},
		{name: "name twice, equal", body: `{"quantity":1,"quantity":1}`, want: invalid, field: "quantity"},
		{name: "name twice, once escaped", body: `{"quantity":1,"\u0071uantity":1}`, want: invalid, field: "quantity"},
		{name: "name twice, once null", body: `{"quantity":1,"quantity":null}`, want: invalid, field: "quantity"},
		{name: "embedded name twice", body: `{"reference":"a","reference":"b"}`, want: invalid, field: "reference"},
		{name: "name twice within a list", body: `{"lines":[{"tags":[]},{"tags":[],"tags":[]}]}`, want: invalid,
			field: "lines[1].tags"},
		{name: "name twice in a map", body: `{"labels":{"a":"1","a":"2"}}`, want: invalid, field: "labels.a"},
		{name: "names once in each element", body: `{"lines":[{"quantity":1},{"quantity":1}],"quantity":1}`},
		{name: "UUID in braces", body: `{"account_id":"{018f5e3a-0000-7000-8000-000000000001}"}`, want: invalid,
			field: "account_id"},
		{name: "UUID as a URN", body: `{"account_id":"urn:uuid:018f5e3a-0000-7000-8000-000000000001"}`, want: invalid,
			field: "account_id"},
		{name: "UUID without dashes", body: `{"parent":{"account_id":"018f5e3a000070008000000000000001"}}`, want: invalid,
			field: "parent.account_id"},
		{name: "UUID in capitals", body: `{"account_id":"018F5E3A-0000-7000-8000-000000000001"}`},
		{name: "UUID with an escape", body: `{"account_id":"\u003018f5e3a-0000-7000-8000-000000000001"}`},
		{name: "UUID without dashes, with escapes", body: `{"account_id":"\u003018f5e3a000070008000000000000001"}`,
			want: invalid, field: "account_id"},

		{name: "not a string", body: `{"reference":1}`, want: invalid, field: "reference"},
		{name: "not a number", body: `{"quantity":"1"}`, want: invalid, field: "quantity"},
		{name: "a fraction", body: `{"quantity":1.5}`, want: invalid, field: "quantity"},
		{name: "huge", body: `{"quantity":99999999999}`, want: invalid, field: "quantity"},
		{name: "huge float", body: `{"weight":1e999}`, want: invalid, field: "weight"},
		{name: "huge in any", body: `{"any":1e999}`, want: invalid, field: "any"},
		{name: "huge amount", body: `{"amount":1` + strings.Repeat("0", kilobyte) + `}`, want: invalid, field: "amount"},
		{name: "not a bool", body: `{"urgent":0}`, want: invalid, field: "urgent"},
		{name: "not a time", body: `{"at":"tomorrow"}`, want: invalid, field: "at"},
		{name: "not a UUID", body: `{"account_id":"7"}`, want: invalid, field: "account_id"},
		{name: "own parser", body: `{"lines":[{"amount":1e2}]}`, want: invalid, field: "lines[0].amount"},
		{name: "careless parser", body: `{"careless":"x"}`, want: invalid, field: "careless"},
		{name: "not a list", body: `{"tags":{"a":1}}`, want: invalid, field: "tags"},
		{name: "wrong element", body: `{"tags":["a",1]}`, want: invalid, field: "tags[1]"},
		{name: "wrong value in a map", body: `{"labels":{"a":1}}`, want: invalid, field: "labels.a"},
		{name: "not an object", body: `{"parent":[1]}`, want: invalid, field: "parent"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := Unmarshal([]byte(test.body), new(order))
			if kind, field := kindOf(t, err); kind != test.want || field != test.field {
				t.Fatalf("got %q %q (%v); want %q %q", kind, field, err, test.want, test.field)
			}
			for _, leak := range []string{"Go ", "strictjson.", "uuid.UUID", "int32", "struct", "json:", "reflect"} {
				if err != nil && strings.Contains(err.Error(), leak) {
					t.Errorf("%q leaks into %v", leak, err)
				}
			}
		})
	}
}

// An event may have fields of a later version. What encoding/json would read in another way than most parsers is
// refused.
func TestUnmarshalEvent(t *testing.T) {
	for body, field := range map[string]string{
		`{"quantity":1,"colour":"red","size":{"x":[1],"y":2}}`:               "",
		`{"quantity":1,"size":{"x":[1],"x":2}}`:                              "size.x",
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
		if complains := err != nil && strings.HasPrefix(err.Error(), field+" "); complains != (field != "") ||
			err != nil && !complains {
			t.Errorf("%s: %v, want a complaint about %q", body, err, field)
		}
	}
	for _, body := range []string{`{"colour":"\ud800"}`, `{"colour":"\u0000"}`, `[]`, `null`, ``,
		"{\"colour\":\"\xff\"}"} {
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

// A field that belongs to another variant is unknown as soon as it is there, whatever its value; null is as if it
// were not.
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
		if _, got := kindOf(t, err); got != field || field == "" && err != nil {
			t.Errorf("%s: %v, want a complaint about %q", body, err, field)
		}
	}
}

func TestUnmarshalKeepsTheValues(t *testing.T) {
	var got order
	body := []byte(`{"amount":0.10,"quantity":-7,"reference":"№ 1 ` +
		`\"x\"","tags":["a","b"],"lines":[{"quantity":3}],"labels":{"k":"v"}}`)
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

// FuzzUnmarshal: whatever is sent is refused with an error that says what is wrong, or read, and a name that is not
// one of the type's is never accepted.
func FuzzUnmarshal(f *testing.F) {
	for _, seed := range []string{`{"quantity":1,"lines":[{"parent":{}}]}`, `{"Amount":1}`, `[]`,
		`{"any":{"a":[1,"\\\"",{}]}}`, `{"\u0061mount":"1"}`, `{"labels":{"":""}}`,
		`{"tags":[],"tags":[]}`, `{"reference":"\ud83d\ude00"}`, `{"account_id":"{018f5e3a-0000-7000-8000-000000000001}"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var got order
		err := Unmarshal(body, &got)
		if kind, _ := kindOf(t, err); kind != "" {
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

func BenchmarkUnmarshal(b *testing.B) {
	body := []byte(`{"account_id":"018f5e3a-0000-7000-8000-000000000001","amount":"2500.00",` +
		`"quantity":1,"reference":"invoice 17"}`)
	b.ReportAllocs()
	for b.Loop() {
		var o order
		if err := Unmarshal(body, &o); err != nil {
			b.Fatal(err)
		}
	}
}
