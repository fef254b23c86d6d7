// Package swagger serves Swagger UI: the pages come from http-swagger, the specifications are named by their URLs. It
// is not part of httpserver because a program that imports it carries the pages' files, some megabytes.
package swagger

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	swaggerFiles "github.com/swaggo/files/v2"
	httpSwagger "github.com/swaggo/http-swagger/v2"

	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
)

// Spec is a Swagger 2.0 document that the page offers. The URL may be relative to the page, such as "doc.json".
type Spec struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

// UI serves the page and its files below the folder at which it is mounted, which ends in a slash, such as
// router.Handle("/docs/*", swagger.UI(…)). The documents are served by the caller, whose routes win over the
// wildcard.
func UI(specs ...Spec) http.Handler {
	urls, err := json.Marshal(specs)
	if err != nil {
		panic(err) // A list of strings can always be encoded.
	}
	ui := httpSwagger.Handler(
		httpSwagger.URL(specs[0].URL),
		httpSwagger.UIConfig(map[string]string{"urls": string(urls), "displayRequestDuration": "true"}),
		httpSwagger.AfterScript(initOAuth()),
	)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// http-swagger looks at the RequestURI alone, query included, redirects a folder to a path with two slashes, and
		// knows no HEAD; net/http leaves the body out of an answer to HEAD by itself.
		page := r.Clone(r.Context())
		page.Method = http.MethodGet
		page.RequestURI = r.URL.Path
		if strings.HasSuffix(page.RequestURI, "/") {
			page.RequestURI += "index.html"
		}
		if name := path.Base(page.RequestURI); name != "index.html" {
			if _, err := fs.Stat(swaggerFiles.FS, name); err != nil {
				httpserver.NotFound(w, r)
				return
			}
			w.Header().Set("Cache-Control", "public, max-age=3600")
		}
		ui(w, page)
	})
}

// Routes are the pages of a service's API, or of its operators' plane: /docs/ with Swagger UI for its one document,
// /docs/doc.json with what the document says of the paths to keep (Reduce), and /docs, which leads to them. The
// document is Swagger 2.0. The page's Authorize gets tokens at login; of empty URLs there is none.
func Routes(name, document string, keep func(string) bool,
	login func() (authorization, token string)) ([]httpserver.Route, error) {
	var spec map[string]any
	if err := json.Unmarshal([]byte(document), &spec); err != nil {
		return nil, fmt.Errorf("read the specification: %w", err)
	}
	if spec["swagger"] != "2.0" {
		return nil, fmt.Errorf("read the specification: it is no Swagger 2.0 document")
	}
	Reduce(spec, keep)
	reduced, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	var (
		making sync.Mutex
		text   = reduced
		told   [2]string // where it says that tokens are got
	)
	// Whoever has no token may ask for it, and it takes long to make: it is made when the login changes.
	current := func() []byte {
		authorization, token := login()
		making.Lock()
		defer making.Unlock()
		if now := [2]string{authorization, token}; now != told {
			if told, text = now, reduced; authorization != "" {
				text = withLogin(reduced, authorization, token)
			}
		}
		return text
	}
	page := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(current()) // A client that is gone misses nothing.
	}
	return []httpserver.Route{
		httpserver.NewRoute("GET", "/docs", identity.Public, http.RedirectHandler("/docs/", http.StatusMovedPermanently)),
		httpserver.NewRoute("GET", "/docs/*", identity.Public, UI(Spec{Name: name, URL: "doc.json"})),
		httpserver.NewRoute("GET", "/docs/doc.json", identity.Public, http.HandlerFunc(page)),
	}, nil
}

// Reduce drops everything from a Swagger 2.0 document but the paths to keep, and what they refer to. It makes the
// document speak of the server that it is read from: without host and schemes, a browser sends "Try it out" to the
// origin of the page.
func Reduce(document map[string]any, keep func(string) bool) {
	delete(document, "host")
	delete(document, "schemes")
	paths, _ := document["paths"].(map[string]any)
	maps.DeleteFunc(paths, func(at string, _ any) bool { return !keep(at) })

	used := make(map[any]bool)
	for _, methods := range paths {
		operations, _ := methods.(map[string]any)
		for _, operation := range operations {
			described, _ := operation.(map[string]any)
			tags, _ := described["tags"].([]any)
			for _, tag := range tags {
				used[tag] = true
			}
		}
	}
	tags, _ := document["tags"].([]any)
	document["tags"] = slices.DeleteFunc(tags, func(tag any) bool {
		described, _ := tag.(map[string]any)
		return !used[described["name"]]
	})

	definitions, _ := document["definitions"].(map[string]any)
	needed := make(map[string]any)
	for _, part := range []string{"paths", "parameters", "responses"} {
		need(definitions, document[part], needed)
	}
	document["definitions"] = needed
}

var reference = regexp.MustCompile(`"#/definitions/([^"]+)"`)

// need adds the definitions that a part of a document refers to, and those that they refer to.
func need(definitions map[string]any, part any, needed map[string]any) {
	text, _ := json.Marshal(part) // It was decoded from JSON.
	for _, match := range reference.FindAllSubmatch(text, -1) {
		name := string(match[1])
		if definition, ok := definitions[name]; ok && needed[name] == nil {
			needed[name] = definition
			need(definitions, definition, needed)
		}
	}
}
