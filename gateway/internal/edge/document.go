package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/altyn-pay/altyn/gateway/internal/upstream"
	"github.com/altyn-pay/altyn/platform/httpserver"
)

const (
	documentTimeout = 5 * time.Second
	// maxDocument bounds a service's specification.
	maxDocument = 8 << 20
)

// specification serves what the specification of a service says of the paths under the prefixes. It names no host and
// no schemes, so that a browser's "Try it out" comes to the gateway. When the service's specification cannot be read,
// the answer is 503, which nobody caches.
func specification(name string, service *upstream.Upstream, prefixes []string) http.HandlerFunc {
	return httpserver.Handle(func(w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), documentTimeout)
		defer cancel()
		d, err := readDocument(ctx, service)
		if err != nil {
			p := httpserver.Unavailable(fmt.Errorf("specification of %s: %w", name, err))
			p.Detail = "the specification of " + name + " cannot be read at the moment; try again shortly"
			return p
		}
		d.reduce(prefixes)
		d.addOwnAnswers()
		w.Header().Set("Cache-Control", "no-cache")
		return httpserver.WriteJSON(w, http.StatusOK, d)
	})
}

func readDocument(ctx context.Context, service *upstream.Upstream) (document, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "/docs/doc.json", nil)
	if err != nil {
		return nil, err
	}
	response, err := service.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, errors.New("it answers " + response.Status)
	}
	d := document{}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxDocument)).Decode(&d); err != nil {
		return nil, err
	}
	if d["swagger"] != "2.0" {
		return nil, errors.New("it is no Swagger 2.0 document")
	}
	return d, nil
}

// document is a Swagger 2.0 document, or an object in it.
type document map[string]any

// object is a part of a document that is an object; nil where there is none.
func (d document) object(name string) document {
	part, _ := d[name].(map[string]any)
	return part
}

// eachOperation visits the operations of all paths.
func (d document) eachOperation(visit func(operation document)) {
	paths := d.object("paths")
	for path := range paths {
		methods := paths.object(path)
		for method := range methods {
			visit(methods.object(method))
		}
	}
}

// reduce drops everything from a document but what lies under the prefixes, and what that refers to.
func (d document) reduce(prefixes []string) {
	delete(d, "host")
	delete(d, "schemes")
	maps.DeleteFunc(d.object("paths"), func(path string, _ any) bool { return !under(path, prefixes) })

	used := make(map[any]bool)
	d.eachOperation(func(operation document) {
		tags, _ := operation["tags"].([]any)
		for _, tag := range tags {
			used[tag] = true
		}
	})
	tags, _ := d["tags"].([]any)
	d["tags"] = slices.DeleteFunc(tags, func(tag any) bool {
		described, _ := tag.(map[string]any)
		return !used[described["name"]]
	})

	needed := make(map[string]any)
	for _, part := range []string{"paths", "parameters", "responses"} {
		d.need(d[part], needed)
	}
	d["definitions"] = needed
}

var reference = regexp.MustCompile(`"#/definitions/([^"]+)"`)

// need adds the definitions that a part of the document refers to, and those that they refer to.
func (d document) need(part any, needed map[string]any) {
	text, _ := json.Marshal(part) // It was decoded from JSON.
	for _, match := range reference.FindAllSubmatch(text, -1) {
		name := string(match[1])
		if definition, ok := d.object("definitions")[name]; ok && needed[name] == nil {
			needed[name] = definition
			d.need(definition, needed)
		}
	}
}

// addOwnAnswers adds to each operation the answers that the gateway gives when the service gives none.
func (d document) addOwnAnswers() {
	d.eachOperation(func(operation document) {
		responses := operation.object("responses")
		like := responses.object("503")
		if like == nil {
			return
		}
		for status, code := range map[int]string{
			http.StatusBadGateway:     httpserver.CodeUpstreamUnavailable,
			http.StatusGatewayTimeout: httpserver.CodeUpstreamTimeout,
		} {
			answer := map[string]any{"description": code, "schema": like["schema"]}
			if id := like.object("headers")["X-Request-Id"]; id != nil {
				answer["headers"] = map[string]any{"X-Request-Id": id}
			}
			responses[strconv.Itoa(status)] = answer
		}
	})
}
