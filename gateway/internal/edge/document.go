package edge

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/altyn-pay/altyn/gateway/internal/upstream"
	"github.com/altyn-pay/altyn/platform/httpserver"
)

const (
	documentTimeout = 5 * time.Second
	// maxDocument bounds a service's specification.
	maxDocument = 8 << 20
	references  = "#/definitions/"
)

// source is where a service's specification comes from, and the prefixes of what the gateway passes on to it.
type source struct {
	name     string
	service  *upstream.Upstream
	prefixes []string
}

// documents serves one specification of what the gateway serves of some services. It names no host and no schemes, so
// that a browser's "Try it out" comes to the gateway. When a service's specification cannot be read, the answer is
// 503, which nobody caches.
func documents(sources ...source) http.HandlerFunc {
	return httpserver.Handle(func(w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), documentTimeout)
		defer cancel()
		whole := document{}
		for _, source := range sources {
			read, err := source.read(ctx)
			if err != nil {
				return &specificationError{source.name, err}
			}
			read.reduce(source.prefixes)
			read.addOwnAnswers()
			whole.add(source.name, read)
		}
		w.Header().Set("Cache-Control", "no-cache")
		return httpserver.WriteJSON(w, http.StatusOK, whole)
	})
}

func (s source) read(ctx context.Context) (document, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "/docs/doc.json", nil)
	if err != nil {
		return nil, err
	}
	response, err := s.service.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, errors.New("it answers " + response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxDocument))
	if err != nil {
		return nil, err
	}
	d := document{}
	if err := json.Unmarshal(body, &d); err != nil {
		return nil, err
	}
	if d["swagger"] != "2.0" {
		return nil, errors.New("it is no Swagger 2.0 document")
	}
	return d, nil
}

// document is a Swagger 2.0 document.
type document map[string]any

// object is a part of a document that is an object; nil where there is none.
func (d document) object(name string) map[string]any {
	part, _ := d[name].(map[string]any)
	return part
}

func (d document) tags() []any {
	tags, _ := d["tags"].([]any)
	return tags
}

// reduce drops everything from a document but what lies under the prefixes, and what that refers to.
func (d document) reduce(prefixes []string) {
	delete(d, "host")
	delete(d, "schemes")
	tags, paths := make(map[any]bool), d.object("paths")
	for path, item := range paths {
		if !under(path, prefixes) {
			delete(paths, path)
			continue
		}
		methods, _ := item.(map[string]any)
		for _, method := range methods {
			operation, _ := method.(map[string]any)
			for _, tag := range document(operation).tags() {
				tags[tag] = true
			}
		}
	}
	d["tags"] = slices.DeleteFunc(d.tags(), func(tag any) bool {
		described, _ := tag.(map[string]any)
		return !tags[described["name"]]
	})

	definitions, needed := d.object("definitions"), make(map[string]any)
	var need func(name string) string
	need = func(name string) string {
		if definition, ok := definitions[name]; ok && needed[name] == nil {
			needed[name] = definition
			eachReference(definition, need)
		}
		return name
	}
	for _, part := range []string{"paths", "parameters", "responses"} {
		eachReference(d[part], need)
	}
	d["definitions"] = needed
}

// addOwnAnswers adds to each operation the answers that the gateway gives when the service gives none.
func (d document) addOwnAnswers() {
	for _, item := range d.object("paths") {
		methods, _ := item.(map[string]any)
		for _, method := range methods {
			operation, _ := method.(map[string]any)
			responses := document(operation).object("responses")
			like, ok := responses["503"].(map[string]any)
			if !ok {
				continue
			}
			for status, code := range map[int]string{
				http.StatusBadGateway:     httpserver.CodeUpstreamUnavailable,
				http.StatusGatewayTimeout: httpserver.CodeUpstreamTimeout,
			} {
				answer := map[string]any{"description": code, "schema": like["schema"]}
				if id := document(like).object("headers")["X-Request-Id"]; id != nil {
					answer["headers"] = map[string]any{"X-Request-Id": id}
				}
				responses[strconv.Itoa(status)] = answer
			}
		}
	}
}

// add adds a service's document. When two definitions of one name differ, the added one gets the service's name as a
// prefix.
func (d document) add(service string, more document) {
	if len(d) == 0 {
		maps.Copy(d, more)
		return
	}
	info := d.object("info")
	info["title"], info["description"] = "Altyn", "Orders and payments, as the gateway serves both."
	definitions := d.object("definitions")
	other := make(map[string]bool) // the names of those that differ
	for changed := true; changed; {
		changed = false
		for name, definition := range more.object("definitions") {
			present, ok := definitions[name]
			if !ok || other[name] {
				continue
			}
			differs := !reflect.DeepEqual(present, definition)
			eachReference(definition, func(name string) string { differs = differs || other[name]; return name })
			if differs {
				other[name], changed = true, true
			}
		}
	}
	renamed := func(name string) string {
		if other[name] {
			return strings.ToUpper(service[:1]) + service[1:] + name
		}
		return name
	}
	eachReference(map[string]any(more), renamed)
	for name, definition := range more.object("definitions") {
		definitions[renamed(name)] = definition
	}
	for _, part := range []string{"paths", "parameters", "responses", "securityDefinitions"} {
		if d[part] == nil {
			d[part] = make(map[string]any)
		}
		maps.Copy(d.object(part), more.object(part))
	}
	d["tags"] = append(d.tags(), more.tags()...)
}

// eachReference visits the names of the definitions that a part of a document refers to, and replaces each by what
// visit returns.
func eachReference(part any, visit func(name string) string) {
	switch part := part.(type) {
	case map[string]any:
		for key, value := range part {
			if text, ok := value.(string); ok && key == "$ref" && strings.HasPrefix(text, references) {
				part[key] = references + visit(strings.TrimPrefix(text, references))
			}
			eachReference(value, visit)
		}
	case []any:
		for _, value := range part {
			eachReference(value, visit)
		}
	}
}
