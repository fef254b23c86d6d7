package swaggertest

import (
	"bytes"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// undocumented are headers that any server's answers may have.
var undocumented = map[string]bool{
	"Content-Type": true, "Content-Length": true, "Date": true, "Cache-Control": true, "Vary": true,
	"X-Content-Type-Options": true, "X-Accel-Buffering": true,
}

// compile makes schemas of the definitions. They are stricter than the document: a field that is not described is an
// error, and times have six digits.
func compile(document string) map[string]*jsonschema.Schema {
	const address = "mem:///swagger.json"
	tree, err := jsonschema.UnmarshalJSON(strings.NewReader(document))
	if err != nil {
		panic(err)
	}
	definitions := tree.(map[string]any)["definitions"].(map[string]any)
	for _, definition := range definitions {
		definition := definition.(map[string]any)
		properties, _ := definition["properties"].(map[string]any)
		definition["additionalProperties"] = false
		for _, property := range properties {
			if property := property.(map[string]any); property["format"] == "date-time" {
				property["pattern"] = `\.[0-9]{6}Z$`
			}
		}
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft4)
	compiler.AssertFormat()
	if err := compiler.AddResource(address, map[string]any{"definitions": definitions}); err != nil {
		panic(err)
	}
	schemas := map[string]*jsonschema.Schema{}
	for name := range definitions {
		if schemas[name], err = compiler.Compile(address + "#/definitions/" + name); err != nil {
			panic(err)
		}
	}
	return schemas
}

// find returns the operation that serves a path, or nil. It ignores the query.
func (s *Spec) find(method, path string) *Operation {
	path, _, _ = strings.Cut(path, "?")
	parts := strings.Split(path, "/")
	var found *Operation
	for _, o := range s.Operations {
		pattern := strings.Split(o.Path, "/")
		if o.Method != method || len(pattern) != len(parts) {
			continue
		}
		fits := true
		for i, part := range pattern {
			fits = fits && (part == parts[i] || strings.HasPrefix(part, "{"))
		}
		if fits && (found == nil || !strings.Contains(o.Path, "{")) { // …/batch rather than …/{id}
			found = o
		}
	}
	return found
}

// Check checks an answer against the document, which must describe its status, media type, headers and body. Paths
// that are not in the document are ignored.
func (s *Spec) Check(t testing.TB, method, path string, status int, header http.Header, body []byte) {
	t.Helper()
	o := s.find(method, path)
	if o == nil {
		return
	}
	response, ok := o.Responses[strconv.Itoa(status)]
	if !ok {
		t.Errorf("%s: an answer %d is not documented: %.300s", o.ID, status, body)
		return
	}
	for name := range header {
		same := func(documented string) bool { return http.CanonicalHeaderKey(documented) == name }
		if !slices.ContainsFunc(slices.Collect(maps.Keys(response.Headers)), same) && !undocumented[name] {
			t.Errorf("%s: the header %s of %d is not documented: only %v", o.ID, name, status,
				slices.Sorted(maps.Keys(response.Headers)))
		}
	}
	if len(body) == 0 {
		return
	}
	media, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	if !slices.Contains(o.Produces, media) {
		t.Errorf("%s: it produces %q, documented are %q", o.ID, media, o.Produces)
	}
	if strings.HasPrefix(media, "text/") { // the document has no schema for streams
		return
	}
	ref, _ := response.Schema["$ref"].(string)
	name, _ := strings.CutPrefix(ref, "#/definitions/")
	if code, _ := (answer{header: header, body: body}).problem(); code != "" &&
		!slices.Contains(words(response.Description), code) {
		t.Errorf("%s: the code %s of %d is not documented there: %s", o.ID, code, status, response.Description)
	}
	if (name == "Problem") != (media == "application/problem+json") {
		t.Errorf("%s: an answer %d of %s is documented as a %s", o.ID, status, media, name)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err == nil && s.schemas[name] == nil {
		t.Errorf("%s: the answer %d has no schema", o.ID, status)
		return
	}
	if err == nil {
		err = s.schemas[name].Validate(value)
	}
	if err != nil {
		t.Errorf("%s: an answer %d: %v\n%.1000s", o.ID, status, err, body)
	}
}

func words(text string) []string {
	return strings.FieldsFunc(text, func(c rune) bool { return c != '_' && !unicode.IsLetter(c) })
}

// CheckExamples sends each operation as the document shows it, in the order of paths and methods: with the example of
// its body, and those of its parameters. prepare is called before an operation and returns the IDs that no document
// can know. base is where an operation is served. Each must succeed with an answer as documented.
func CheckExamples(t *testing.T, s *Spec, base func(*Operation) string,
	prepare func(o *Operation, parameter string) string) {
	for _, o := range s.Operations {
		path := o.fill(func(name string) string {
			for _, p := range o.In("path") {
				if p.Name == name && p.Example != nil {
					return p.Example.(string)
				}
			}
			return prepare(o, name)
		})
		if strings.Contains(path, "//") {
			continue // there is nothing to do it with
		}
		var query strings.Builder
		for _, p := range o.In("query") {
			if example, ok := p.Example.(string); ok {
				query.WriteString("&" + p.Name + "=" + strings.ReplaceAll(example, "+", "%2B"))
			}
		}
		if query.String() != "" {
			path += "?" + query.String()[1:]
		}
		a := send(t, o.Method, base(o), path, s.Body(t, o))
		if a.status >= 300 {
			t.Errorf("%s: %s %s %s: %d %s", o.ID, o.Method, path, s.Body(t, o), a.status, a.body)
		}
		s.Check(t, o.Method, path, a.status, a.header, a.body)
	}
}
