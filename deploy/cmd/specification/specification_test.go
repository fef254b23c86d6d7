package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestReadCodes(t *testing.T) {
	for source, want := range map[string]string{ // what the error says, or "" for the codes below
		`const (
			CodeA = "a" // 404: there is none
			codeB = "b" // 422: it cannot be
			C Reason = "c" // 422: it is too late
			D Reason = "d" // it waits
			Decode = "e"
			Codes = 1
			other = "f"
		)`: "",
		`const CodeA = "a"`:      "needs a comment",
		`const A Reason = "a"`:   "needs a comment",
		`const CodeA = "a" // x`: "needs a comment",
		"const (\nCodeA = \"a\" // 404: x\nCodeB = \"a\" // 422: x\n)": "is 404 and 422",
	} {
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, "x.go"), []byte("package x\n"+source), 0o644); err != nil {
			t.Fatal(err)
		}
		codes, err := readCodes(folder, []string{"."})
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want something about %q", source, err, want)
			}
			continue
		}
		if err != nil || !slices.Equal(codes, []code{{"a", "404", "there is none"}, {"b", "422", "it cannot be"},
			{"c", "422", "it is too late"}, {"d", "", "it waits"}}) {
			t.Errorf("%s: %+v, %v", source, codes, err)
		}
		text := string(page(codes))
		for _, line := range []string{"| 404 | `a` | there is none |\n| 422 | `b` |", "| `d` | it waits |\n"} {
			if !strings.Contains(text, line) {
				t.Errorf("the page lacks %q:\n%s", line, text)
			}
		}
	}
}

const small = `{"swagger": "2.0", "definitions": {
	"httpserver.Problem": {"properties": {"code": {"type": "string"}}},
	"httpserver.List-api_Order": {"properties": {
		"items": {"type": "array", "items": {"$ref": "#/definitions/api.Order"}}
	}},
	"api.Order": {"properties": {
		"id": {"type": "string"}, "created_at": {"type": "string"}, "amount": {"type": "string", "example": "1.00"},
		"note": {"type": "string"}
	}}
}, "paths": {"/orders": {"post": {"operationId": "placeOrder",
	"parameters": [
	{"in": "query", "name": "wait", "type": "string", "example": "5s"},
	{"in": "header", "name": "Idempotency-Key", "type": "string"},
	{"in": "body", "name": "order", "schema": {"$ref": "#/definitions/api.Order"}}
], "responses": {"201": {"description": "Created", "schema": {"$ref": "#/definitions/httpserver.List-api_Order"}}}}}}}`

func TestComplete(t *testing.T) {
	read := func() (spec object) {
		if err := json.Unmarshal([]byte(small), &spec); err != nil {
			t.Fatal(err)
		}
		return spec
	}
	codes := []code{{"b", "422", ""}, {"a", "404", ""}, {"waits", "", ""}}
	spec, err := complete(read(), codes, object{})
	if err != nil {
		t.Fatal(err)
	}
	at := func(keys ...string) (value any) {
		value = spec
		for _, key := range keys {
			value = value.(object)[key]
		}
		return value
	}
	for _, test := range []struct{ got, want any }{
		{at("definitions", "Problem", "properties", "code", "enum"), []string{"a", "b"}},
		{at("definitions", "OrderList", "properties", "items", "items", "$ref"), "#/definitions/Order"},
		{at("definitions", "Order", "properties", "id", "format"), "uuid"},
		{at("definitions", "Order", "properties", "created_at", "format"), "date-time"},
		{at("definitions", "Order", "example"), object{"amount": "1.00", "created_at": "2026-01-02T15:04:05.123456Z"}},
		{at("paths", "/orders", "post", "parameters").([]any)[0],
			object{"in": "query", "name": "wait", "type": "string", "x-example": "5s"}},
		{at("paths", "/orders", "post", "produces"), []any{"application/json", "application/problem+json"}},
		{at("paths", "/orders", "post", "responses", "415", "schema", "$ref"), "#/definitions/Problem"},
		{at("paths", "/orders", "post", "responses", "503", "headers", "Retry-After", "type"), "integer"},
		{at("paths", "/orders", "post", "responses", "201", "headers", "Location", "type"), "string"},
	} {
		if !reflect.DeepEqual(test.got, test.want) {
			t.Errorf("got %v, want %v", test.got, test.want)
		}
	}

	given, err := complete(read(), codes, object{"Order": object{"amount": "2.00"}})
	if err != nil || !reflect.DeepEqual(given["definitions"].(object)["Order"].(object)["example"],
		object{"amount": "2.00"}) {
		t.Errorf("%v: %v", err, given)
	}
	if _, err := complete(read(), codes, object{"Nothing": object{}}); err == nil {
		t.Error("an example of nothing was taken")
	}
	twice := read()
	twice["definitions"].(object)["order.Order"] = object{}
	if _, err := complete(twice, codes, object{}); err == nil {
		t.Error("two schemas have the same name")
	}
	nameless := read()
	delete(nameless["paths"].(object)["/orders"].(object)["post"].(object), "operationId")
	if _, err := complete(nameless, codes, object{}); err == nil {
		t.Error("an operation without a name was taken")
	}
}
