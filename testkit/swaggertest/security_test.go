package swaggertest

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
)

func TestSecure(t *testing.T) {
	call := `{"responses":{"403":{"description":"cross_origin","schema":{"a":1},"headers":{"X-Request-Id":{"b":1}}}}}`
	text := `{"swagger":"2.0","security":[],"paths":{"/one":{"get":` + call + `,"post":` + call +
		`},"/two":{"get":` + call + `}}}`
	routes := []httpserver.Route{
		httpserver.NewRoute("GET", "/one", identity.AnyOf(identity.MoneyIn, identity.Operator), http.NotFoundHandler()),
		httpserver.NewRoute("POST", "/one", identity.Anyone, http.NotFoundHandler()),
		httpserver.NewRoute("GET", "/two", identity.Public, http.NotFoundHandler()),
	}
	got, err := secure([]byte(text), routes)
	if err != nil {
		t.Fatal(err)
	}
	again, err := secure(got, routes)
	if err != nil || string(again) != string(got) {
		t.Errorf("once more it is\n%s, not\n%s (%v)", again, got, err)
	}
	var document struct {
		Security            []any
		SecurityDefinitions map[string]any
		Paths               map[string]map[string]struct {
			Security  []map[string][]string
			Scopes    []string `json:"x-scopes"`
			Responses map[string]struct {
				Description string
				Headers     map[string]any
				Schema      map[string]int
			}
		}
	}
	if err := json.Unmarshal(got, &document); err != nil || document.Security != nil ||
		document.SecurityDefinitions["token"] == nil {
		t.Fatalf("%v %+v", err, document)
	}
	one, post, two := document.Paths["/one"]["get"], document.Paths["/one"]["post"], document.Paths["/two"]["get"]
	if len(one.Security) != 1 || one.Security[0]["token"] == nil || strings.Join(one.Scopes, " ") != "money:in operator" ||
		!strings.HasSuffix(one.Responses["403"].Description, `scope "money:in" or "money:in.own" or "operator"`) ||
		one.Responses["403"].Headers["WWW-Authenticate"] == nil || one.Responses["401"].Schema["a"] != 1 ||
		len(one.Responses["401"].Headers) != 2 {
		t.Errorf("%+v", one)
	}
	if len(post.Security) != 1 || len(post.Scopes) != 0 || post.Responses["403"].Description != "cross_origin" ||
		post.Responses["401"].Description != "unauthenticated" {
		t.Errorf("%+v", post)
	}
	if two.Security == nil || len(two.Security) != 0 || len(two.Responses) != 1 {
		t.Errorf("%+v", two)
	}
	for _, wrong := range [][]httpserver.Route{routes[1:], append(routes[:3:3], routes[0])} {
		if _, err := secure([]byte(text), wrong); err == nil {
			t.Error("the table and the calls differ, and nobody says so")
		}
	}
}
