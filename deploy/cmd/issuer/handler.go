package main

import (
	"crypto/rand"
	"fmt"
	"net/http"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/altyn-pay/altyn/deploy/load"
)

const (
	loginPath = "/login"
	maxForm   = 64 << 10 // bytes
)

// newHandler serves the provider, and the page on which a person says who he is. As everywhere, pages of other sites
// are refused unless ALLOWED_ORIGINS names them, so that none gets a token by the browser of whoever develops.
func newHandler(s settings, k key) (http.Handler, error) {
	st := &store{key: k, lifetime: s.Lifetime, requests: make(map[string]request)}
	cfg := &op.Config{CodeMethodS256: true, SupportedScopes: append([]string{oidc.ScopeOpenID}, load.Scopes()...),
		SupportedClaims: []string{"sub", "tenant", "scope"}}
	if _, err := rand.Read(cfg.CryptoKey[:]); err != nil { // of codes, which do not outlive the process either
		return nil, err
	}
	provider, err := op.NewProvider(cfg, st, op.StaticIssuer(s.URL), op.WithAllowInsecure(), op.WithCORSOptions(nil))
	if err != nil {
		return nil, fmt.Errorf("start the provider: %w", err)
	}
	page := &login{store: st, issuer: s.URL, callback: op.AuthCallbackURL(provider)}
	authorization := provider.AuthorizationEndpoint().Relative()

	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /{$}", page.welcome)
	mux.HandleFunc("GET "+loginPath, page.show)
	mux.HandleFunc("POST "+loginPath, page.post)
	mux.HandleFunc("GET "+oidc.DiscoveryEndpoint, func(w http.ResponseWriter, r *http.Request) {
		op.Discover(w, discovery(op.CreateDiscoveryConfig(op.ContextWithIssuer(r.Context(), s.URL), provider, st)))
	})
	for _, path := range []string{provider.KeysEndpoint().Relative(), authorization, authorization + "/callback",
		provider.TokenEndpoint().Relative()} {
		mux.Handle(path, provider)
	}
	return http.MaxBytesHandler(s.HTTP.Guard(mux), maxForm), nil
}

// discovery leaves out what the provider could do but this issuer does not.
func discovery(all *oidc.DiscoveryConfiguration) *oidc.DiscoveryConfiguration {
	return &oidc.DiscoveryConfiguration{
		Issuer: all.Issuer, AuthorizationEndpoint: all.AuthorizationEndpoint, TokenEndpoint: all.TokenEndpoint,
		JwksURI: all.JwksURI, ScopesSupported: all.ScopesSupported, ClaimsSupported: all.ClaimsSupported,
		ResponseTypesSupported:            []string{string(oidc.ResponseTypeCode)},
		GrantTypesSupported:               []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeClientCredentials},
		SubjectTypesSupported:             all.SubjectTypesSupported,
		IDTokenSigningAlgValuesSupported:  all.IDTokenSigningAlgValuesSupported,
		TokenEndpointAuthMethodsSupported: []oidc.AuthMethod{oidc.AuthMethodNone, oidc.AuthMethodBasic, oidc.AuthMethodPost},
		CodeChallengeMethodsSupported:     all.CodeChallengeMethodsSupported,
	}
}
