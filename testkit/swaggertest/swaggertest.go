// Package swaggertest checks a running service against its Swagger document: no parameter can cause a fault, exactly
// the documented parameters are taken, the examples work, and every answer is as documented.
package swaggertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
)

// Spec is what the tests need of a document.
type Spec struct {
	Operations  []*Operation
	definitions map[string]any
	schemas     map[string]*jsonschema.Schema
}

// Operation is a documented call.
type Operation struct {
	ID         string `json:"operationId"`
	Method     string
	Path       string
	Tags       []string
	Summary    string
	Consumes   []string
	Produces   []string
	Parameters []Parameter
	Responses  map[string]Response
}

// Parameter of an operation.
type Parameter struct {
	Name, In, Type, Format string
	Required               bool
	Enum                   []string
	Example                any `json:"x-example"`
	Default                any
	Schema                 map[string]any
}

// Response describes the answers with one status.
type Response struct {
	Description string
	Schema      map[string]any
	Headers     map[string]struct{ Type, Description string }
}

// Load reads a document, or panics.
func Load(document string) *Spec {
	var read struct {
		Swagger     string
		Paths       map[string]map[string]*Operation
		Definitions map[string]any
	}
	if err := json.Unmarshal([]byte(document), &read); err != nil || read.Swagger != "2.0" || len(read.Paths) == 0 {
		panic(fmt.Sprintf("the specification cannot be read: %v", err))
	}
	spec := &Spec{definitions: read.Definitions, schemas: compile(document)}
	for _, path := range slices.Sorted(maps.Keys(read.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(read.Paths[path])) {
			operation := read.Paths[path][method]
			operation.Method, operation.Path = strings.ToUpper(method), path
			spec.Operations = append(spec.Operations, operation)
		}
	}
	return spec
}

// In lists the operation's parameters in a place: path, query or header.
func (o *Operation) In(place string) (parameters []Parameter) {
	for _, p := range o.Parameters {
		if p.In == place {
			parameters = append(parameters, p)
		}
	}
	return parameters
}

// Body returns the document's example of the operation's body; "" if it takes none.
func (s *Spec) Body(t testing.TB, o *Operation) string {
	t.Helper()
	bodies := o.In("body")
	if len(bodies) == 0 {
		return ""
	}
	name, _ := strings.CutPrefix(bodies[0].Schema["$ref"].(string), "#/definitions/")
	definition, _ := s.definitions[name].(map[string]any)
	example, ok := definition["example"]
	if !ok {
		t.Fatalf("%s: its body %s has no example", o.ID, name)
	}
	text, err := json.Marshal(example)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fill returns the operation's path with IDs for its parameters.
func (o *Operation) fill(id func(name string) string) string {
	path := o.Path
	for _, p := range o.In("path") {
		path = strings.Replace(path, "{"+p.Name+"}", id(p.Name), 1)
	}
	return path
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) problem() (code, field string) {
	var p struct {
		Code   string
		Errors []struct{ Field, Detail string }
	}
	if a.header.Get("Content-Type") != "application/problem+json" || json.Unmarshal(a.body, &p) != nil {
		return "", ""
	}
	if len(p.Errors) > 0 {
		field = p.Errors[0].Field
	}
	return p.Code, field
}

// send sends a request with its target as it is, even one that is no valid URL.
func send(t testing.TB, method, base, target, body string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, base, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	path, query, _ := strings.Cut(target, "?")
	request.URL.Opaque, request.URL.RawQuery = path, query
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	defer response.Body.Close()
	var read bytes.Buffer
	if _, err := read.ReadFrom(response.Body); err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, read.Bytes()}
}

// CheckRoutes checks that the service's routes and the document's operations are the same.
func CheckRoutes(t *testing.T, s *Spec, routes chi.Routes) {
	var documented, served []string
	for _, o := range s.Operations {
		documented = append(documented, o.Method+" "+o.Path)
		if o.Summary == "" || len(o.Tags) == 0 {
			t.Errorf("%s %s is not described", o.Method, o.Path)
		}
	}
	if err := chi.Walk(routes, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		served = append(served, method+" "+route)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(documented)
	slices.Sort(served)
	if !slices.Equal(documented, served) {
		t.Errorf("documented\n%s\nserved\n%s", strings.Join(documented, "\n"), strings.Join(served, "\n"))
	}
}

// CheckScopes checks that the table below a heading of a page names exactly these routes with what they need.
func CheckScopes(t *testing.T, page, heading string, routes ...httpserver.Route) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n"+heading+"\n")
	section, _, _ = strings.Cut(section, "\n#")
	var documented, served []string
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "| `") {
			documented = append(documented, strings.TrimSpace(line))
		}
	}
	for _, route := range routes {
		served = append(served, "| `"+route.Method+" "+route.Pattern+"` | "+needs(route.Scope)+" |")
	}
	slices.Sort(documented)
	slices.Sort(served)
	if !slices.Equal(documented, served) {
		t.Errorf("%s has below %s\n%s\nserved are\n%s", page, heading, strings.Join(documented, "\n"),
			strings.Join(served, "\n"))
	}
}

func needs(scope identity.Scope) string {
	switch scope {
	case identity.Public:
		return "nothing"
	case identity.Anyone:
		return "any valid token"
	}
	var texts []string
	for _, one := range scope.List() {
		texts = append(texts, "`"+string(one)+"`")
	}
	return strings.Join(texts, " or ")
}
