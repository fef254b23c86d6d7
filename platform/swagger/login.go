package swagger

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/altyn-pay/altyn/platform/identity"
)

type object = map[string]any

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

// withLogin adds a login to a document whose calls name their security: a token can be had by the authorization code,
// at two URLs of an issuer, instead of being pasted.
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
