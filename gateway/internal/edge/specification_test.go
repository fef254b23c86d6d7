package edge

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
)

// The pages of the gateway show what it passes on, and nothing else: no path of operators, and every definition that is
// referred to is there.
func TestSpecificationsAreThoseOfTheGateway(t *testing.T) {
	own := make(map[string]document)
	serve := func(name string) string {
		text, err := os.ReadFile("../../../" + name + "/docs/swagger.json")
		if err != nil {
			t.Fatal(err)
		}
		read := document{}
		if err := json.Unmarshal(text, &read); err != nil {
			t.Fatal(err)
		}
		own[name] = read
		return service(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(text) })
	}
	orders, payments := serve("orders"), serve("payments")
	g := setup(t, func(cfg *Config) { cfg.Payments = []string{payments} }, orders)
	for page, services := range map[string][]string{"orders.json": {"orders"}, "payments.json": {"payments"},
		"doc.json": {"orders", "payments"}} {
		response, body, _ := g.do(t, newRequest(t, "GET", g.url+"/docs/"+page, nil))
		read := document{}
		if err := json.Unmarshal([]byte(body), &read); err != nil || response.StatusCode != 200 ||
			response.Header.Get("Cache-Control") != "no-cache" {
			t.Fatalf("%s: %s %v %v", page, response.Status, response.Header, err)
		}
		if strings.Contains(body, "/admin") || strings.Contains(body, `"operators"`) || read["host"] != nil ||
			read["schemes"] != nil || read["swagger"] != "2.0" {
			t.Errorf("%s shows what the gateway does not serve", page)
		}
		want := 0
		for _, name := range services {
			for path, item := range own[name].object("paths") {
				if !strings.HasPrefix(path, "/api/v1/") {
					continue
				}
				want++
				shown, _ := read.object("paths")[path].(map[string]any)
				for method := range item.(map[string]any) {
					operation, _ := shown[method].(map[string]any)
					for _, status := range []string{"400", "502", "503", "504"} { // the gateway's own answers too
						if document(operation).object("responses")[status] == nil {
							t.Errorf("%s lacks %s %s, or its answer %s", page, method, path, status)
						}
					}
				}
			}
		}
		if got := len(read.object("paths")); got != want {
			t.Errorf("%s has %d paths, want %d", page, got, want)
		}
		definitions, used := read.object("definitions"), make(map[string]bool)
		eachReference(map[string]any(read), func(name string) string {
			if used[name] = true; definitions[name] == nil {
				t.Errorf("%s has no %s", page, name)
			}
			return name
		})
		if len(definitions) != len(used) {
			t.Errorf("%s: of %d definitions %d are used", page, len(definitions), len(used))
		}
	}
}

func TestDefinitionsOfTheSameNameStayApart(t *testing.T) {
	parse := func(text string) document {
		d := document{}
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	whole := parse(`{"info":{},"paths":{"/a":{"get":{"x":{"$ref":"#/definitions/Outer"}}}},
		"definitions":{"Same":{"type":"string"},"Item":{"type":"string"},"Outer":{"items":{"$ref":"#/definitions/Item"}}}}`)
	whole.add("payments", parse(`{"info":{},
		"paths":{"/b":{"get":{"x":[{"$ref":"#/definitions/Outer"},{"$ref":"#/definitions/Same"}]}}},
		"definitions":{"Same":{"type":"string"},"Item":{"type":"number"},"Outer":{"items":{"$ref":"#/definitions/Item"}}}}`))
	var names []string
	for name := range whole.object("definitions") {
		names = append(names, name)
	}
	slices.Sort(names)
	if want := []string{"Item", "Outer", "PaymentsItem", "PaymentsOuter", "Same"}; !slices.Equal(names, want) {
		t.Errorf("the definitions are %q, want %q", names, want)
	}
	text, err := json.Marshal(whole)
	if err != nil || !strings.Contains(string(text),
		`"/b":{"get":{"x":[{"$ref":"#/definitions/PaymentsOuter"},{"$ref":"#/definitions/Same"}]}}`) ||
		!strings.Contains(string(text), `"PaymentsOuter":{"items":{"$ref":"#/definitions/PaymentsItem"}}`) {
		t.Errorf("%s, %v", text, err)
	}
}
