package swagger

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
)

type object = map[string]any

// Secure writes into a Swagger 2.0 document what its calls need, from the table that is mounted: their security and
// their scopes (x-scopes, because Swagger 2.0 has none for a token of an unnamed issuer), and the answers 401 and 403.
// A call without a route, and a route without a call, is an error.
func Secure(file string, routes ...httpserver.Route) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if text, err = secure(text, routes); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, text, 0o644)
}

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

// ClientID is that of these pages at an issuer of tokens, where nobody enters another one. It is a public client, with
// the authorization code, PKCE and the page's oauth2-redirect.html.
const ClientID = "swagger-ui"

// initOAuth is what a page's Authorize starts with. It asks for all scopes but that of operators.
func initOAuth() string {
	var scopes []string
	for _, scope := range identity.All() {
		if scope != identity.Operator {
			scopes = append(scopes, string(scope))
		}
	}
	options, err := json.Marshal(map[string]any{"clientId": ClientID, "scopes": strings.Join(scopes, " "),
		"usePkceWithAuthorizationCodeGrant": true})
	if err != nil {
		panic(err) // A map of texts can always be encoded.
	}
	return fmt.Sprintf("ui.initOAuth(%s)", options)
}

// withLogin adds to a document of Secure that a token can be had by the authorization code, at two URLs of an issuer,
// instead of being pasted.
func withLogin(document []byte, authorization, token string) []byte {
	var spec object
	_ = json.Unmarshal(document, &spec) // It was read before.
	definitions, _ := spec["securityDefinitions"].(object)
	if definitions == nil {
		return document
	}
	scopes := object{}
	for _, scope := range identity.All() {
		scopes[string(scope)] = "what is the tenant's"
		if scope.HasOwn() {
			scopes[string(scope)+".own"] = "what is the subject's own, and nothing else"
		}
	}
	definitions["login"] = object{"type": "oauth2", "flow": "accessCode", "authorizationUrl": authorization,
		"tokenUrl": token, "scopes": scopes}
	paths, _ := spec["paths"].(object)
	for _, methods := range paths {
		for _, call := range methods.(object) {
			call := call.(object)
			if security, _ := call["security"].([]any); len(security) > 0 {
				needed := call["x-scopes"]
				if needed == nil {
					needed = []any{}
				}
				call["security"] = append([]any{object{"login": needed}}, security...)
			}
		}
	}
	text, _ := json.Marshal(spec) // It was decoded from JSON.
	return text
}
