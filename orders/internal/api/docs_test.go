package api_test

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/altyn-pay/altyn/orders/docs"
	"github.com/altyn-pay/altyn/orders/internal/api"
)

type specification struct {
	BasePath string
	Host     string
	Paths    map[string]map[string]struct {
		Responses map[string]struct {
			Schema struct {
				Ref string `json:"$ref"`
			}
		}
	}
	Definitions map[string]struct {
		Properties map[string]struct{ Example, Default any }
	}
}

func read(t *testing.T) specification {
	t.Helper()
	var spec specification
	if err := json.Unmarshal([]byte(docs.SwaggerInfo.ReadDoc()), &spec); err != nil {
		t.Fatal(err)
	}
	return spec
}

func TestEveryRouteIsDocumentedAndTheOtherWayRound(t *testing.T) {
	spec := read(t)
	if spec.BasePath != "/" || spec.Host != "" {
		t.Errorf("base path %q, host %q", spec.BasePath, spec.Host)
	}
	var documented, routed []string
	for path, methods := range spec.Paths {
		for method, operation := range methods {
			documented = append(documented, strings.ToUpper(method)+" "+path)
			for _, status := range []string{"500", "503"} {
				if operation.Responses[status].Schema.Ref != "#/definitions/httpserver.Problem" {
					t.Errorf("%s %s: the answer %s is not documented", method, path, status)
				}
			}
		}
	}
	b := over(t, nil)
	err := chi.Walk(b.server.Config.Handler.(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		routed = append(routed, method+" "+route)
		return nil
	})
	slices.Sort(documented)
	slices.Sort(routed)
	if err != nil || !slices.Equal(documented, routed) {
		t.Errorf("%v: documented %q\nserved %q", err, documented, routed)
	}
}

// The example that the page offers for "Try it out" is accepted.
func TestTheExampleWorks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	spec := read(t)
	example := map[string]any{}
	properties := spec.Definitions["api.PlaceOrder"].Properties
	for name, property := range properties {
		example[name] = cmp.Or(property.Example, property.Default)
	}
	if names := slices.Sorted(maps.Keys(properties)); len(names) < 8 {
		t.Fatalf("only %q", names)
	}
	sent, err := json.Marshal(example)
	if err != nil {
		t.Fatal(err)
	}
	placed := decode[api.Order](t, b.call(t, "POST", "/api/v1/orders", string(sent)), 201)
	if placed.Amount != example["amount"] || placed.Description == "" {
		t.Errorf("sent %s, got %+v", sent, placed)
	}
}
