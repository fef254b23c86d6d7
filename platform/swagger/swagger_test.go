package swagger

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/altyn-pay/altyn/platform/httpserver"
)

const document = `{"swagger":"2.0","host":"localhost:8080","schemes":["http"],"basePath":"/",` +
	`"paths":{"/api/v1/orders":{"get":{"tags":["orders"],"schema":{"$ref":"#/definitions/Order"}}},` +
	`"/admin/parked":{"get":{"tags":["operators"],"schema":{"$ref":"#/definitions/Item"}}}},` +
	`"tags":[{"name":"operators"},{"name":"orders"}],` +
	`"definitions":{"Order":{"$ref":"#/definitions/Money"},"Money":{},"Item":{"$ref":"#/definitions/Money"}}}`

func orders(path string) bool { return path == "/api/v1/orders" }

func TestRoutes(t *testing.T) {
	router := chi.NewRouter()
	routes, err := Routes("orders", document, orders, noLogin)
	if err != nil {
		t.Fatal(err)
	}
	httpserver.Mount(router, routes...)
	server := httptest.NewServer(router)
	defer server.Close()

	for _, test := range []struct{ path, contentType, contains string }{
		{"/docs", "text/html", `"url":"doc.json"`},
		{"/docs/", "text/html", `"url":"doc.json"`},
		{"/docs/?urls.primaryName=a/b", "text/html", "SwaggerUIBundle("},
		{"/docs/index.html", "text/html", "SwaggerUIBundle("},
		{"/docs/index.html?a=b", "text/html", "SwaggerUIBundle("},
		{"/docs/swagger-ui-bundle.js", "application/javascript", "swagger"},
		{"/docs/swagger-ui.css", "text/css", "swagger-ui"},
		{"/docs/favicon-32x32.png", "image/png", "PNG"},
		{"/docs/doc.json", "application/json", `{"basePath":"/",` +
			`"definitions":{"Money":{},"Order":{"$ref":"#/definitions/Money"}},` +
			`"paths":{"/api/v1/orders":{"get":{"schema":{"$ref":"#/definitions/Order"},"tags":["orders"]}}},` +
			`"swagger":"2.0","tags":[{"name":"orders"}]}`},
	} {
		response, err := http.Get(server.URL + test.path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != 200 ||
			!strings.HasPrefix(response.Header.Get("Content-Type"), test.contentType) ||
			!strings.Contains(string(body), test.contains) {
			t.Errorf("%s: %s %v %v", test.path, response.Status, response.Header, err)
		}
	}
	response, err := http.Get(server.URL + "/docs/nothing.js")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 404 || response.Header.Get("Content-Type") != "application/problem+json" ||
		response.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("a file that is not there: %s %v", response.Status, response.Header)
	}
}

func TestUIOffersSeveralDocuments(t *testing.T) {
	recorder := httptest.NewRecorder()
	UI(Spec{"orders", "orders.json"}, Spec{"payments", "payments.json"}).
		ServeHTTP(recorder, httptest.NewRequest("GET", "/docs/", nil))
	const want = `urls: [{"name":"orders","url":"orders.json"},{"name":"payments","url":"payments.json"}]`
	if !strings.Contains(recorder.Body.String(), want) {
		t.Error(recorder.Body.String())
	}
}

func TestWhatIsNoSpecificationIsRefused(t *testing.T) {
	for _, body := range []string{"", "<html>", "[]", "null", `{"openapi":"3.0"}`} {
		if _, err := Routes("orders", body, orders, noLogin); err == nil {
			t.Errorf("%q was accepted", body)
		}
	}
}

func noLogin() (authorization, token string) { return "", "" }
