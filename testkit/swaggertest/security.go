package swaggertest

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
)

var update = flag.Bool("update", false, "write what the routes need into the specification, as go generate does")

// CheckSecurity checks that the specification in a file says what the routes need; with the flag -update it writes
// that.
func CheckSecurity(t *testing.T, file string, routes ...httpserver.Route) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	now, err := secure(text, routes)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if *update {
		err = os.WriteFile(file, now, 0o644)
	}
	if err != nil || !*update && !bytes.Equal(now, text) {
		t.Errorf("the specification is older than the table of routes: run go generate (%v)", err)
	}
}

type object = map[string]any

// secure writes into a Swagger 2.0 document what its calls need, from the table that is mounted: their security and
// their scopes (x-scopes, because Swagger 2.0 has none for a token of an unnamed issuer), and the answers 401 and 403.
// A call without a route, and a route without a call, is an error.
func secure(text []byte, routes []httpserver.Route) ([]byte, error) {
	var document object
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	document["securityDefinitions"] = object{"token": object{
		"type": "apiKey", "in": "header", "name": "Authorization",
		"description": "With AUTH=jwt: the word Bearer, a blank and an access token. " +
			"Otherwise nobody has to show who they are.",
	}}
	delete(document, "security")
	paths, _ := document["paths"].(object)
	calls := 0
	for path, methods := range paths {
		for method, call := range methods.(object) {
			calls++
			i := slices.IndexFunc(routes, func(r httpserver.Route) bool {
				return r.Pattern == path && strings.EqualFold(r.Method, method)
			})
			if i < 0 {
				return nil, fmt.Errorf("no route is %s %s", method, path)
			}
			secureCall(call.(object), routes[i].Scope)
		}
	}
	if calls != len(routes) {
		return nil, fmt.Errorf("it describes %d of %d routes", calls, len(routes))
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(document)
	return out.Bytes(), err
}

func secureCall(call object, scope identity.Scope) {
	if scope == identity.Public {
		call["security"] = []any{}
		return
	}
	call["security"] = []any{object{"token": []any{}}}
	call["x-scopes"] = scope.List()
	responses := call["responses"].(object)
	forbidden := responses["403"].(object) // cross_origin, as of every call
	unauthenticated := object{
		"description": httpserver.CodeUnauthenticated, "schema": forbidden["schema"],
		"headers": object{"X-Request-Id": forbidden["headers"].(object)["X-Request-Id"]},
	}
	responses["401"] = unauthenticated
	describe(unauthenticated)
	if list := scope.List(); len(list) > 0 {
		forbidden["description"] = fmt.Sprintf("%s, or %s: the call needs the scope %s",
			httpserver.CodeCrossOrigin, httpserver.CodeInsufficientScope, orList(list))
		describe(forbidden)
	}
}

func describe(answer object) {
	answer["headers"].(object)["WWW-Authenticate"] = object{"type": "string",
		"description": "what is wrong with the token, or which scope it lacks (RFC 6750)"}
}

// orList names scopes, those with the ending .own too.
func orList(list []identity.Scope) string {
	var texts []string
	for _, scope := range list {
		texts = append(texts, strconv.Quote(string(scope)))
		if scope.HasOwn() {
			texts = append(texts, strconv.Quote(string(scope)+".own"))
		}
	}
	return strings.Join(texts, " or ")
}
