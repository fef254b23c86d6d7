package edge

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/altyn-pay/altyn/gateway/internal/upstream"
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
	for name, definition := range own["orders"].object("definitions") {
		if other := own["payments"].object("definitions")[name]; other != nil && !reflect.DeepEqual(definition, other) {
			t.Errorf("the definitions of %s in orders and payments differ", name)
		}
	}
	for page, services := range map[string][]string{
		"orders.json": {"orders"}, "payments.json": {"payments"}, "doc.json": {"orders", "payments"},
	} {
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
				for method := range item.(map[string]any) {
					responses := read.object("paths").object(path).object(method).object("responses")
					for _, status := range []string{"400", "502", "503", "504"} { // the gateway's own answers too
						if responses[status] == nil {
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
		for _, match := range regexp.MustCompile(`"#/definitions/([^"]+)"`).FindAllStringSubmatch(body, -1) {
			if used[match[1]] = true; definitions[match[1]] == nil {
				t.Errorf("%s has no %s", page, match[1])
			}
		}
		if len(definitions) != len(used) {
			t.Errorf("%s: of %d definitions %d are used", page, len(definitions), len(used))
		}
	}
}

// However often strangers ask for a document, the services make it once.
func TestADocumentIsMadeOnce(t *testing.T) {
	var asked, answers atomic.Int64
	url := service(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(int(answers.Load()))
		_, _ = w.Write([]byte(`{"swagger": "2.0"}`))
	})
	orders, err := upstream.New("orders", []string{url}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer orders.Close()
	for _, status := range []int{http.StatusServiceUnavailable, http.StatusOK} {
		asked.Store(0)
		answers.Store(int64(status))
		serve := specification(time.Hour, source{"orders", orders, ordersPaths})
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				answer := httptest.NewRecorder()
				if serve(answer, httptest.NewRequest("GET", "/docs/orders.json", nil)); answer.Code != status {
					t.Errorf("%d %s", answer.Code, answer.Body)
				}
			})
		}
		all.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("%d: the service was asked %d times", status, n)
		}
	}
}
