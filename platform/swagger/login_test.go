package swagger

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/altyn-pay/altyn/platform/httpserver"
)

// TestLogin: once an issuer has told where to get tokens, the document says so, and Authorize goes there.
func TestLogin(t *testing.T) {
	const secured = `{"swagger":"2.0","paths":{"/a":{
		"get":{"security":[{"token":[]}],"x-scopes":["orders:read"]},
		"put":{"security":[{"token":[]}]},
		"post":{"security":[]}}},"securityDefinitions":{"token":{"type":"apiKey"}}}`
	var authorization, token string
	all := func(string) bool { return true }
	routes, err := Routes("orders", secured, all, func() (string, string) { return authorization, token })
	if err != nil {
		t.Fatal(err)
	}
	router := chi.NewRouter()
	httpserver.Mount(router, routes...)
	get := func(path string) string {
		answer := httptest.NewRecorder()
		router.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		return answer.Body.String()
	}
	if got := get("/docs/doc.json"); strings.Contains(got, "login") {
		t.Errorf("without an issuer: %s", got)
	}
	authorization, token = "http://127.0.0.1:8010/authorize", "http://127.0.0.1:8010/oauth/token"
	var got struct {
		Paths map[string]map[string]struct {
			Security []map[string][]string `json:"security"`
		} `json:"paths"`
		Definitions map[string]struct {
			Type, Flow, AuthorizationURL, TokenURL string
			Scopes                                 map[string]string
		} `json:"securityDefinitions"`
	}
	if err := json.Unmarshal([]byte(get("/docs/doc.json")), &got); err != nil {
		t.Fatal(err)
	}
	login := got.Definitions["login"]
	if login.Type != "oauth2" || login.Flow != "accessCode" || login.AuthorizationURL != authorization ||
		login.TokenURL != token || got.Definitions["token"].Type != "apiKey" {
		t.Errorf("%+v", got.Definitions)
	}
	for _, scope := range []string{"orders:read", "orders:read.own", "operator"} {
		if _, ok := login.Scopes[scope]; !ok {
			t.Errorf("the scopes lack %s: %v", scope, login.Scopes)
		}
	}
	for method, want := range map[string][]map[string][]string{
		"get":  {{"login": {"orders:read"}}, {"token": {}}},
		"put":  {{"login": {}}, {"token": {}}},
		"post": {},
	} {
		if security := got.Paths["/a"][method].Security; !reflect.DeepEqual(security, want) {
			t.Errorf("%s: %v", method, security)
		}
	}
	if made := testing.AllocsPerRun(100, func() { get("/docs/doc.json") }); made > 100 {
		t.Errorf("a document that is the same takes %v allocations", made)
	}
	authorization = "http://127.0.0.1:8010/other"
	if got := get("/docs/doc.json"); !strings.Contains(got, authorization) {
		t.Errorf("another issuer: %s", got)
	}
	authorization = ""
	if got := get("/docs/doc.json"); strings.Contains(got, "login") {
		t.Errorf("without an issuer again: %s", got)
	}
	if page := get("/docs/"); !strings.Contains(page, `ui.initOAuth({"clientId":"swagger-ui"`) ||
		!strings.Contains(page, "orders:write") || !strings.Contains(page, `"usePkceWithAuthorizationCodeGrant":true`) {
		t.Error(page)
	}
	if page := get("/docs/oauth2-redirect.html"); !strings.Contains(page, "swaggerUIRedirectOauth2") {
		t.Error(page)
	}
}
