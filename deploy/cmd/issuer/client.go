package main

import (
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/altyn-pay/altyn/platform/identity"
)

// client is a program that asks for tokens: Swagger UI, or one with client credentials. It is op.Client.
type client struct {
	id     string
	method oidc.AuthMethod
	grant  oidc.GrantType
}

// swaggerUI has no secret, because it runs in browsers, so it needs PKCE.
var swaggerUI = client{"swagger-ui", oidc.AuthMethodNone, oidc.GrantTypeCode}

// machine is a client with credentials, of which the secret does not matter.
func machine(id string) client {
	return client{id, oidc.AuthMethodBasic, oidc.GrantTypeClientCredentials}
}

func (c client) GetID() string { return c.id }

// RedirectURIs are the pages of Swagger UI on loopback; of a native client any port will do (RFC 8252, section 7.3).
func (c client) RedirectURIs() []string {
	return []string{"http://127.0.0.1/docs/oauth2-redirect.html", "http://localhost/docs/oauth2-redirect.html"}
}

func (c client) PostLogoutRedirectURIs() []string    { return nil }
func (c client) ApplicationType() op.ApplicationType { return op.ApplicationTypeNative }
func (c client) AuthMethod() oidc.AuthMethod         { return c.method }
func (c client) ResponseTypes() []oidc.ResponseType {
	return []oidc.ResponseType{oidc.ResponseTypeCode}
}
func (c client) GrantTypes() []oidc.GrantType         { return []oidc.GrantType{c.grant} }
func (c client) LoginURL(id string) string            { return loginPath + "?id=" + id }
func (c client) AccessTokenType() op.AccessTokenType  { return op.AccessTokenTypeJWT }
func (c client) IDTokenLifetime() time.Duration       { return time.Hour }
func (c client) DevMode() bool                        { return false }
func (c client) IsScopeAllowed(scope string) bool     { return known(scope) }
func (c client) IDTokenUserinfoClaimsAssertion() bool { return false }
func (c client) ClockSkew() time.Duration             { return 0 }

//nolint:revive // op names it
func (c client) RestrictAdditionalIdTokenScopes() func([]string) []string     { return same }
func (c client) RestrictAdditionalAccessTokenScopes() func([]string) []string { return same }

func same(scopes []string) []string { return scopes }

// known tells whether a scope is one of Altyn's.
func known(scope string) bool { return scope != "" && identity.ParseScopes(scope).String() == scope }
