package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/platform/identity"
)

const (
	maxRequests    = 1000
	requestTimeout = 10 * time.Minute
)

// store is what the provider of package op asks: who the clients are, what they have asked for, and which key signs.
// Requests of browsers are kept in memory until they got their token, or for ten minutes.
type store struct {
	op.Storage // nil: what is not below, such as refresh tokens and sessions, is asked by nothing that newHandler routes
	key        key
	lifetime   time.Duration

	mu       sync.Mutex
	requests map[string]request // by ID
}

// request is a browser's request for a token. It is op.AuthRequest.
type request struct {
	oidc.AuthRequest
	id, code string
	who      person
	asked    time.Time
}

// person is whose a token is. It is op.TokenRequest.
type person struct {
	subject, tenant string
	scopes          []string
}

func (p person) GetSubject() string    { return p.subject }
func (p person) GetAudience() []string { return []string{load.Audience} }
func (p person) GetScopes() []string   { return p.scopes }
func (p person) whose() person         { return p }

func (r request) whose() person                      { return r.who }
func (r request) GetSubject() string                 { return r.who.subject }
func (r request) GetAudience() []string              { return r.who.GetAudience() }
func (r request) GetScopes() []string                { return r.Scopes }
func (r request) GetID() string                      { return r.id }
func (r request) GetACR() string                     { return "" }
func (r request) GetAMR() []string                   { return nil }
func (r request) GetAuthTime() time.Time             { return r.asked }
func (r request) GetClientID() string                { return r.ClientID }
func (r request) GetNonce() string                   { return r.Nonce }
func (r request) GetRedirectURI() string             { return r.RedirectURI }
func (r request) GetResponseType() oidc.ResponseType { return r.ResponseType }
func (r request) GetResponseMode() oidc.ResponseMode { return r.ResponseMode }
func (r request) GetState() string                   { return r.State }
func (r request) Done() bool                         { return r.who.subject != "" }

func (r request) GetCodeChallenge() *oidc.CodeChallenge {
	if r.CodeChallenge == "" {
		return nil
	}
	return &oidc.CodeChallenge{Challenge: r.CodeChallenge, Method: r.CodeChallengeMethod}
}

var errUnknown = errors.New("there is no such request any more")

// CreateAuthRequest keeps a browser's request until its page has said who he is.
func (s *store) CreateAuthRequest(_ context.Context, asked *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, r := range s.requests {
		if time.Since(r.asked) > requestTimeout {
			delete(s.requests, id)
		}
	}
	if len(s.requests) >= maxRequests {
		return nil, oidc.ErrServerError().WithDescription("too many requests wait for somebody to say who he is")
	}
	r := request{AuthRequest: *asked, id: uuid.NewString(), asked: time.Now()}
	s.requests[r.id] = r
	return r, nil
}

// AuthRequestByID finds a request.
func (s *store) AuthRequestByID(_ context.Context, id string) (op.AuthRequest, error) {
	r, err := s.find(func(r request) bool { return r.id == id })
	return r, err
}

// AuthRequestByCode finds the request for which a code was given.
func (s *store) AuthRequestByCode(_ context.Context, code string) (op.AuthRequest, error) {
	r, err := s.find(func(r request) bool { return r.code != "" && r.code == code })
	return r, err
}

func (s *store) find(is func(request) bool) (request, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if is(r) && time.Since(r.asked) <= requestTimeout {
			return r, nil
		}
	}
	return request{}, errUnknown
}

func (s *store) change(id string, change func(*request)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.requests[id]
	if !ok {
		return errUnknown
	}
	change(&r)
	s.requests[id] = r
	return nil
}

// SaveAuthCode notes the code that a request got.
func (s *store) SaveAuthCode(_ context.Context, id, code string) error {
	return s.change(id, func(r *request) { r.code = code })
}

// DeleteAuthRequest forgets a request, which has its token: a code serves once.
func (s *store) DeleteAuthRequest(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.requests, id)
	return nil
}

// GetClientByClientID finds the client of a browser. There is one.
func (s *store) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	if id != swaggerUI.id {
		return nil, errors.New("the one client of browsers is " + swaggerUI.id)
	}
	return swaggerUI, nil
}

// ClientCredentials lets everybody in.
//
//nolint:unparam // of an interface
func (s *store) ClientCredentials(_ context.Context, id, _ string) (op.Client, error) {
	return machine(id), nil
}

// ClientCredentialsTokenRequest makes a token's person of a client's ID: SUBJECT@TENANT.
func (s *store) ClientCredentialsTokenRequest(_ context.Context, id string, scopes []string) (op.TokenRequest, error) {
	p := person{subject: id, tenant: identity.DefaultTenant, scopes: scopes}
	if at := strings.LastIndexByte(id, '@'); at >= 0 {
		p.subject, p.tenant = id[:at], id[at+1:]
	}
	if err := p.check(); err != nil {
		return nil, oidc.ErrInvalidClient().WithDescription("the client's ID is a subject, @ and a tenant: %v", err)
	}
	if len(scopes) == 0 {
		return nil, oidc.ErrInvalidScope().WithDescription("there is no scope")
	}
	for _, scope := range scopes {
		if !known(scope) {
			return nil, oidc.ErrInvalidScope().WithDescription("there is no scope %q", scope)
		}
	}
	return p, nil
}

func (p person) check() error {
	if err := identity.CheckSubject(p.subject); err != nil {
		return errors.New("the subject " + err.Error())
	}
	if err := identity.CheckTenant(p.tenant); err != nil {
		return errors.New("the tenant " + err.Error())
	}
	return nil
}

// CreateAccessToken gives a token its ID and its end.
func (s *store) CreateAccessToken(context.Context, op.TokenRequest) (string, time.Time, error) {
	return uuid.NewString(), time.Now().Add(s.lifetime), nil
}

// GetPrivateClaimsFromRequest gives a token its tenant and scopes.
func (s *store) GetPrivateClaimsFromRequest(_ context.Context, asked op.TokenRequest, scopes []string) (map[string]any,
	error) {
	of, ok := asked.(interface{ whose() person })
	if !ok {
		return nil, errUnknown
	}
	return map[string]any{"tenant": of.whose().tenant, "scope": strings.Join(scopes, " ")}, nil
}

func (s *store) SigningKey(context.Context) (op.SigningKey, error) { return s.key, nil }

func (s *store) KeySet(context.Context) ([]op.Key, error) { return []op.Key{public{s.key}}, nil }

func (s *store) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.ES256}, nil
}

func (s *store) Health(context.Context) error { return nil }

// SetUserinfoFromScopes adds nothing to an ID token.
func (s *store) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil
}

// No client has a secret that counts, or a key.
var errNotHere = errors.New("the issuer for development does not do this")

func (s *store) AuthorizeClientIDSecret(context.Context, string, string) error { return errNotHere }

func (s *store) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errNotHere
}

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
