package swaggertest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/swagger"
)

// CheckScopes checks that the table below a heading of a page names exactly these routes with what they need.
func CheckScopes(t *testing.T, page, heading string, routes ...httpserver.Route) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n"+heading+"\n")
	section, _, _ = strings.Cut(section, "\n#")
	var documented, served []string
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "| `") {
			documented = append(documented, strings.TrimSpace(line))
		}
	}
	for _, route := range routes {
		served = append(served, "| `"+route.Method+" "+route.Pattern+"` | "+needs(route.Scope)+" |")
	}
	slices.Sort(documented)
	slices.Sort(served)
	if !slices.Equal(documented, served) {
		t.Errorf("%s has below %s\n%s\nserved are\n%s", page, heading, strings.Join(documented, "\n"),
			strings.Join(served, "\n"))
	}
}

// CheckSecurity checks that the committed document says what the routes need, as swagger.Secure writes it.
func CheckSecurity(t *testing.T, document string, routes ...httpserver.Route) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "swagger.json")
	if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := swagger.Secure(file, routes...); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != document {
		t.Errorf("the specification is older than the table of routes: run go generate (%v)", err)
	}
}

func needs(scope identity.Scope) string {
	switch scope {
	case identity.Public:
		return "nothing"
	case identity.Anyone:
		return "any valid token"
	}
	var texts []string
	for _, one := range scope.List() {
		texts = append(texts, "`"+string(one)+"`")
	}
	return strings.Join(texts, " or ")
}
