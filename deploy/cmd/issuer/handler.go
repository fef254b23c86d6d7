package main

import (
	"context"
	"crypto/rand"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"strings"

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

// login is the page on which a person says who he is. Nobody checks it.
type login struct {
	store    *store
	issuer   string
	callback func(ctx context.Context, request string) string // where a request goes on
}

//go:embed login.html
var loginHTML string

var loginPage = template.Must(template.New("login").Parse(loginHTML))

// form is what the page shows.
type form struct {
	ID, Client, Subject, Tenant, Wrong string
	Scopes                             []string
}

func (l *login) welcome(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintf(w, `An issuer of tokens for development. Whoever reaches it gets whatever token he asks for:

  curl -s -u alice@shop:any -d grant_type=client_credentials -d 'scope=orders:write orders:read' %s/oauth/token

What it serves: %[1]s/.well-known/openid-configuration
`, l.issuer)
}

func (l *login) show(w http.ResponseWriter, r *http.Request) {
	l.write(w, http.StatusOK, form{ID: r.FormValue("id"), Subject: "alice", Tenant: "default"})
}

// post takes what the person says, and goes on with the request.
func (l *login) post(w http.ResponseWriter, r *http.Request) {
	f := form{ID: r.PostFormValue("id"), Subject: r.PostFormValue("subject"), Tenant: r.PostFormValue("tenant")}
	who := person{subject: f.Subject, tenant: f.Tenant}
	if err := who.check(); err != nil {
		f.Wrong = err.Error()
		l.write(w, http.StatusUnprocessableEntity, f)
		return
	}
	if err := l.store.change(f.ID, func(r *request) { r.who = who }); err != nil {
		l.gone(w)
		return
	}
	http.Redirect(w, r, l.callback(r.Context(), f.ID), http.StatusSeeOther)
}

func (l *login) write(w http.ResponseWriter, status int, f form) {
	asked, err := l.store.find(func(r request) bool { return r.id == f.ID })
	if err != nil {
		l.gone(w)
		return
	}
	f.Client, f.Scopes = asked.ClientID, asked.Scopes
	var page strings.Builder
	if err := loginPage.Execute(&page, f); err != nil {
		http.Error(w, "the page cannot be written", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	fmt.Fprint(w, page.String())
}

func (l *login) gone(w http.ResponseWriter) {
	http.Error(w, fmt.Sprintf("Nobody waits for this login any more (it has %s): start again where you came from.",
		requestTimeout), http.StatusNotFound)
}
