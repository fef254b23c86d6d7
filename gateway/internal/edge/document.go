package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/altyn-pay/altyn/gateway/internal/upstream"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/swagger"
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
		swagger.Reduce(d, func(path string) bool { return under(path, prefixes) })
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
