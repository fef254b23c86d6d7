package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/altyn-pay/altyn/gateway/internal/upstream"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/swagger"
)

const (
	documentTimeout = 5 * time.Second
	documentAge     = time.Second
	// maxDocument bounds a service's specification.
	maxDocument = 8 << 20
)

// source is a service whose specification the gateway shows, and the prefixes of the paths that it passes on.
type source struct {
	name     string
	service  *upstream.Upstream
	prefixes []string
}

// specification serves what the specifications of services say of the paths that the gateway passes on to them, as one
// document. It names no host and no schemes, so that a browser's "Try it out" comes to the gateway. When a service's
// specification cannot be read, the answer is 503, which nobody caches. The services are asked again after an age: a
// document takes long to make, and whoever has no token may ask for it.
func specification(age time.Duration, sources ...source) http.HandlerFunc {
	var (
		making  sync.Mutex // who comes meanwhile shares what is made
		made    []byte
		failure error
		at      time.Time
	)
	text := func(ctx context.Context) ([]byte, error) {
		making.Lock()
		defer making.Unlock()
		if at.IsZero() || time.Since(at) > age {
			made, failure = wholeDocument(context.WithoutCancel(ctx), sources)
			at = time.Now()
		}
		return made, failure
	}
	return httpserver.Handle(func(w http.ResponseWriter, r *http.Request) error {
		text, err := text(r.Context())
		if err != nil {
			return err
		}
		w.Header().Set("Cache-Control", "no-cache")
		return httpserver.WriteJSON(w, http.StatusOK, json.RawMessage(text))
	})
}

// wholeDocument makes one document of what services say. Its error is a problem.
func wholeDocument(ctx context.Context, sources []source) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, documentTimeout)
	defer cancel()
	var whole document
	for _, s := range sources {
		d, err := readDocument(ctx, s.service)
		if err != nil {
			p := httpserver.Unavailable(fmt.Errorf("specification of %s: %w", s.name, err))
			p.Detail = "the specification of " + s.name + " cannot be read at the moment; try again shortly"
			return nil, p
		}
		swagger.Reduce(d, func(path string) bool { return under(path, s.prefixes) })
		d.addOwnAnswers()
		if whole == nil {
			whole = d
		} else {
			whole.add(d)
		}
	}
	return json.Marshal(whole)
}

// add adds another service's document. What both define under one name is the same thing, of package platform.
func (d document) add(more document) {
	d.object("info")["title"] = "Altyn"
	d.object("info")["description"] = "Orders and payments, as the gateway serves both."
	for _, part := range []string{"paths", "definitions"} {
		maps.Copy(d.object(part), more.object(part))
	}
	tags, _ := d["tags"].([]any)
	added, _ := more["tags"].([]any)
	d["tags"] = append(tags, added...)
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

// addOwnAnswers adds to each operation the answers that the gateway gives when the service gives none.
func (d document) addOwnAnswers() {
	paths := d.object("paths")
	for path := range paths {
		methods := paths.object(path)
		for method := range methods {
			responses := methods.object(method).object("responses")
			like := responses.object("503")
			if like == nil {
				continue
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
		}
	}
}
