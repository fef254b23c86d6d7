package api_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/altyn-pay/altyn/payments/docs"
	"github.com/altyn-pay/altyn/payments/internal/api"
	"github.com/altyn-pay/altyn/platform/operators"
)

// The specification describes exactly what is served, and every answer of it.
func TestSpecificationAndRoutesAgree(t *testing.T) {
	var spec struct {
		Paths map[string]map[string]struct {
			Summary   string                     `json:"summary"`
			Responses map[string]json.RawMessage `json:"responses"`
		} `json:"paths"`
	}
	if err := json.Unmarshal([]byte(docs.SwaggerInfo.ReadDoc()), &spec); err != nil {
		t.Fatal(err)
	}
	var described, served []string
	for path, methods := range spec.Paths {
		for method, operation := range methods {
			described = append(described, strings.ToUpper(method)+" "+path)
			if operation.Summary == "" || len(operation.Responses) == 0 {
				t.Errorf("%s %s is not described", method, path)
			}
		}
	}
	router := chi.NewRouter()
	api.New(nil, nil, nil).Routes(router)
	operators.New(nil).Mount(router)
	if err := chi.Walk(router, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		served = append(served, method+" "+route)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(described)
	slices.Sort(served)
	if !slices.Equal(described, served) {
		t.Errorf("described\n%s\nserved\n%s", strings.Join(described, "\n"), strings.Join(served, "\n"))
	}
}
