package httpserver

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// order is a request with variants.
type order struct {
	Kind     string `json:"kind"`
	Quantity int32  `json:"quantity"`
	Gift     bool   `json:"gift"`
}

func (order) Variant() string                { return "kind" }
func (order) Has(variant, field string) bool { return variant == "large" || field != "gift" }

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
	for _, test := range []struct {
		name, body  string
		contentType string // application/json when empty, none when "-"
		status      int
		code        string
		detail      string
		field       string
	}{
		{name: "whole", body: ` {"kind":"large","quantity":1,"gift":true} `, status: 200},
		{name: "charset", body: `{}`, contentType: "application/json; charset=UTF-8", status: 200},

		{name: "no content type", body: `{}`, contentType: "-", status: 415, code: CodeUnsupportedMediaType},
		{name: "form", body: `a=b`, contentType: "application/x-www-form-urlencoded", status: 415,
			code: CodeUnsupportedMediaType},
		{name: "other charset", body: `{}`, contentType: "application/json; charset=koi8-r", status: 415,
			code: CodeUnsupportedMediaType},
		{name: "broken content type", body: `{}`, contentType: "application/json;;;=", status: 415,
			code: CodeUnsupportedMediaType},
		{name: "too large", body: `{"kind":"` + strings.Repeat("x", 1<<20) + `"}`, status: 413, code: CodeBodyTooLarge},

		{name: "empty", status: 400, code: CodeInvalidJSON, detail: "the body is empty; it must be a JSON object"},
		{name: "list", body: `[{}]`, status: 400, code: CodeInvalidJSON, detail: "the body must be a JSON object"},
		{name: "cut off", body: `{"kind":"a`, status: 400, code: CodeInvalidJSON,
			detail: "the body is not valid JSON: unexpected EOF (at byte 10)"},
		{name: "unknown", body: `{"Kind":"a"}`, status: 400, code: CodeUnknownField, field: "Kind",
			detail: `unknown field "Kind"`},
		{name: "of another variant", body: `{"kind":"small","gift":true}`, status: 400, code: CodeUnknownField, field: "gift",
			detail: `unknown field "gift": it is not a field of the kind small`},
		{name: "name twice", body: `{"quantity":1,"quantity":2}`, status: 400, code: CodeValidationFailed, field: "quantity",
			detail: "the request is not valid: quantity comes twice"},
		{name: "not a number", body: `{"quantity":"1"}`, status: 400, code: CodeValidationFailed, field: "quantity",
			detail: "the request is not valid: quantity must be a whole number that is not too large"},
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
				if test.field != "" && (len(problem.Errors) != 1 || problem.Errors[0].Field != test.field ||
					problem.Errors[0].Detail == "") {
					t.Errorf("errors %v; want the field %s", problem.Errors, test.field)
				}
				if test.detail != "" && problem.Detail != test.detail {
					t.Errorf("got %q; want %q", problem.Detail, test.detail)
				}
			}
		})
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
