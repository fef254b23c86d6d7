package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"golang.org/x/oauth2"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/identity/bearer"
	"github.com/altyn-pay/altyn/platform/swagger"
)

// start runs an issuer until the test ends, or until stop is called.
func start(t *testing.T, change func(*settings)) (address string, stop func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := settings{URL: "http://" + listener.Addr().String(), KeyFile: filepath.Join(t.TempDir(), "keys", "issuer.pem"),
		Lifetime: time.Hour}
	s.HTTP.AllowedOrigins = []string{"http://127.0.0.1:8000"}
	if change != nil {
		change(&s)
	}
	key, err := loadKey(s.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	handler, err := newHandler(s, key)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- httpserver.Run(ctx, httpserver.Server{Name: "issuer", Listener: listener, Handler: handler,
			Logger: slog.New(slog.DiscardHandler)})
	}()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return s.URL, stop
}

// verify reads a token as the services do, which find the keys by themselves.
func verify(t *testing.T, issuer, token string) (identity.Identity, error) {
	t.Helper()
	return verifyBy(t, issuer, "", token)
}

func verifyBy(t *testing.T, issuer, keys, token string) (identity.Identity, error) {
	t.Helper()
	cfg := bearer.Config{Auth: bearer.JWT, Issuers: []string{issuer}, Audiences: []string{load.Audience},
		TenantClaim: "tenant"}
	if keys != "" {
		cfg.KeySets = []string{keys}
	}
	v := bearer.New(cfg, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	defer func() {
		cancel()
		<-done
	}()
	return v.Verify(t.Context(), token, time.Now())
}

func TestTokensAreTakenByTheServices(t *testing.T) {
	t.Parallel()
	issuer, _ := start(t, nil)
	for _, who := range []identity.Identity{
		{Tenant: "shop", Subject: "alice", Scopes: identity.ParseScopes("orders:write", "orders:read")},
		{Tenant: "default", Subject: "alice@example.com", Scopes: identity.ParseScopes("money:in.own")},
		{Tenant: "a-b_c", Subject: "auth0|1 %2:x", Scopes: identity.ParseScopes(load.Scopes()...)},
	} {
		token, err := load.Token(t.Context(), issuer, who.Subject, who.Tenant, strings.Fields(who.Scopes.String())...)
		if err != nil {
			t.Fatal(err)
		}
		got, err := verify(t, issuer, token)
		if got.Expires.Before(time.Now().Add(59*time.Minute)) || got.Expires.After(time.Now().Add(time.Hour)) {
			t.Errorf("expires %s", got.Expires)
		}
		got.Expires = time.Time{}
		if err != nil || got != who {
			t.Errorf("%+v, %v; want %+v", got, err, who)
		}
	}
}

// The key is kept: a token of before a restart is valid after it.
func TestTokensOutliveTheIssuer(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "issuer.pem")
	keep := func(s *settings) { s.KeyFile = file }
	issuer, stop := start(t, keep)
	token, err := load.Token(t.Context(), issuer, "alice", "shop", "orders:read")
	if err != nil {
		t.Fatal(err)
	}
	stop()
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info, err)
	}
	again, _ := start(t, keep)
	if got, err := verifyBy(t, issuer, again+"/keys", token); err != nil || got.Subject != "alice" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestKeysThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "nonsense", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		file := filepath.Join(t.TempDir(), "issuer.pem")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadKey(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// browser follows no redirect.
var browser = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// visit sends a request and returns the answer's status, where it leads, and its body.
func visit(t *testing.T, request *http.Request, err error) (status int, to *url.URL, body string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	response, err := browser.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	to, err = response.Location()
	if err != nil && !errors.Is(err, http.ErrNoLocation) {
		t.Fatal(err)
	}
	return response.StatusCode, to, string(text)
}

func get(t *testing.T, address string) (status int, to *url.URL, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	return visit(t, request, err)
}

func post(t *testing.T, address string, values url.Values) (status int, to *url.URL, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(values.Encode()))
	if err == nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return visit(t, request, err)
}

// page is what Swagger UI does at an address.
func page(issuer, at string, scopes ...string) *oauth2.Config {
	return &oauth2.Config{ClientID: swagger.ClientID, RedirectURL: at + "/docs/oauth2-redirect.html", Scopes: scopes,
		Endpoint: oauth2.Endpoint{AuthURL: issuer + "/authorize", TokenURL: issuer + "/oauth/token",
			AuthStyle: oauth2.AuthStyleInParams}}
}

// logIn goes from the authorization endpoint to the page that gets the code.
func logIn(t *testing.T, address, subject, tenant string) *url.URL {
	t.Helper()
	status, login, body := get(t, address)
	if status != http.StatusFound || login.Path != loginPath {
		t.Fatalf("%d, to %s: %s", status, login, body)
	}
	if status, _, body = get(t, login.String()); status != http.StatusOK || !strings.Contains(body, swagger.ClientID) {
		t.Fatalf("%d %s", status, body)
	}
	id := login.Query().Get("id")
	login.RawQuery = ""
	status, to, body := post(t, login.String(), url.Values{"id": {id}, "subject": {subject}, "tenant": {tenant}})
	if status != http.StatusSeeOther {
		t.Fatalf("%d %s", status, body)
	}
	status, to, body = get(t, to.String())
	if status != http.StatusFound {
		t.Fatalf("%d %s", status, body)
	}
	return to
}

func TestAuthorizationCode(t *testing.T) {
	t.Parallel()
	issuer, _ := start(t, nil)
	for _, at := range []string{"http://127.0.0.1:8000", "http://localhost:8081"} {
		cfg, verifier := page(issuer, at, "orders:read", "orders:write.own", "nonsense"), oauth2.GenerateVerifier()
		to := logIn(t, cfg.AuthCodeURL("state", oauth2.S256ChallengeOption(verifier)), "bob", "shop")
		if to.Host != strings.TrimPrefix(at, "http://") || to.Query().Get("state") != "state" {
			t.Errorf("it leads to %s", to)
		}
		code := to.Query().Get("code")
		if _, err := cfg.Exchange(t.Context(), code, oauth2.VerifierOption(oauth2.GenerateVerifier())); err == nil {
			t.Error("another verifier is taken")
		}
		if _, err := cfg.Exchange(t.Context(), code); err == nil {
			t.Error("no verifier is needed")
		}
		token, err := cfg.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
		if err != nil {
			t.Fatal(err)
		}
		got, err := verify(t, issuer, token.AccessToken)
		got.Expires = time.Time{}
		want := identity.Identity{Tenant: "shop", Subject: "bob",
			Scopes: identity.ParseScopes("orders:read", "orders:write.own")}
		if err != nil || got != want {
			t.Errorf("%+v, %v", got, err)
		}
		if id, _ := token.Extra("id_token").(string); id == "" {
			t.Error("there is no ID token")
		} else if got, err := verify(t, issuer, id); err == nil {
			t.Errorf("the ID token passes for %+v", got)
		}
		if _, err := cfg.Exchange(t.Context(), code, oauth2.VerifierOption(verifier)); err == nil {
			t.Error("the code serves twice")
		}
	}
	cfg := page(issuer, "http://127.0.0.1:8000", "orders:read")
	code := logIn(t, cfg.AuthCodeURL("state"), "bob", "shop").Query().Get("code")
	if _, err := cfg.Exchange(t.Context(), code); err == nil {
		t.Error("a client without a secret needs no PKCE")
	}
}

func TestWhatIsRefused(t *testing.T) {
	t.Parallel()
	issuer, _ := start(t, nil)
	challenge := oauth2.S256ChallengeOption(oauth2.GenerateVerifier())
	elsewhere := page(issuer, "http://evil.example:8000", "orders:read")
	otherPath := page(issuer, "http://127.0.0.1:8000", "orders:read")
	otherPath.RedirectURL = "http://127.0.0.1:8000/evil"
	stranger := page(issuer, "http://127.0.0.1:8000", "orders:read")
	stranger.ClientID = "stranger"
	for name, cfg := range map[string]*oauth2.Config{"site": elsewhere, "path": otherPath, "client": stranger} {
		if status, to, body := get(t, cfg.AuthCodeURL("state", challenge)); status != http.StatusBadRequest || to != nil {
			t.Errorf("another %s: %d, to %s: %s", name, status, to, body)
		}
	}

	credentials := func(id, scope string) url.Values {
		return url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {"any"}, "scope": {scope}}
	}
	for name, values := range map[string]url.Values{
		"no scope": credentials("alice@shop", ""), "an unknown scope": credentials("alice@shop", "orders:read admin"),
		"no subject": credentials("@shop", "orders:read"), "a bad tenant": credentials("alice@a.b", "orders:read"),
		"a long subject":   credentials(strings.Repeat("x", 201), "orders:read"),
		"refresh":          {"grant_type": {"refresh_token"}, "refresh_token": {"x"}, "client_id": {swagger.ClientID}},
		"no grant":         {},
		"assertion":        {"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {"a.b.c"}},
		"exchange":         {"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}},
		"a code of nobody": {"grant_type": {"authorization_code"}, "code": {"x"}, "client_id": {swagger.ClientID}},
	} {
		if status, _, body := post(t, issuer+"/oauth/token", values); status != 400 && status != 401 ||
			strings.Contains(body, "access_token") {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}

	for name, change := range map[string]func(*http.Request){
		"a page of another site": func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
		"a form of another site": func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		"another name":           func(r *http.Request) { r.Host = "evil.example" },
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, issuer+"/oauth/token",
			strings.NewReader(credentials("alice@shop", "orders:read").Encode()))
		if err == nil {
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			change(request)
		}
		if status, _, body := visit(t, request, err); status != 403 && status != 421 {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	for _, path := range []string{"/userinfo", "/oauth/introspect", "/revoke", "/end_session", "/device_authorization",
		"/login?id=nobody"} {
		if status, _, body := get(t, issuer+path); status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

// A page of Swagger UI may read the answers.
func TestSwaggerUIMayAsk(t *testing.T) {
	t.Parallel()
	issuer, _ := start(t, nil)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, issuer+"/oauth/token", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Origin", "http://127.0.0.1:8000")
	request.Header.Set("Access-Control-Request-Method", "POST")
	request.Header.Set("Access-Control-Request-Headers", "x-requested-with")
	response, err := browser.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.Header.Get("Access-Control-Allow-Origin") != "http://127.0.0.1:8000" {
		t.Errorf("%s %v", response.Status, response.Header)
	}
}

func TestLoginSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	issuer, _ := start(t, nil)
	cfg := page(issuer, "http://127.0.0.1:8000", "orders:read")
	_, login, _ := get(t, cfg.AuthCodeURL("state", oauth2.S256ChallengeOption(oauth2.GenerateVerifier())))
	status, _, body := post(t, issuer+loginPath,
		url.Values{"id": {login.Query().Get("id")}, "subject": {`"><script>`}, "tenant": {"a.b"}})
	if status != http.StatusUnprocessableEntity || !strings.Contains(body, "the tenant must have") ||
		strings.Contains(body, "<script>") {
		t.Errorf("%d %s", status, body)
	}
}

func TestRequestsAreBounded(t *testing.T) {
	t.Parallel()
	s := &store{requests: make(map[string]request)}
	for range maxRequests {
		if _, err := s.CreateAuthRequest(t.Context(), new(oidc.AuthRequest), ""); err != nil {
			t.Fatal(err)
		}
	}
	asked := new(oidc.AuthRequest)
	if _, err := s.CreateAuthRequest(t.Context(), asked, ""); err == nil || len(s.requests) != maxRequests {
		t.Errorf("%v, %d requests", err, len(s.requests))
	}
	for id, r := range s.requests {
		r.asked = time.Now().Add(-requestTimeout - time.Second)
		s.requests[id] = r
		if _, err := s.AuthRequestByID(t.Context(), id); err == nil {
			t.Error("an old request is found")
		}
		break
	}
	if _, err := s.CreateAuthRequest(t.Context(), asked, ""); err != nil || len(s.requests) != maxRequests {
		t.Errorf("%v, %d requests", err, len(s.requests))
	}
}

// docs/configuration.md has the variables that are the issuer's alone.
func TestVariablesAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range program().Commands[0].Variables() {
		if strings.HasPrefix(v.Name, "ISSUER_") && !strings.Contains(string(text), "\n"+v.Row()+"\n") {
			t.Errorf("docs/configuration.md lacks\n%s", v.Row())
		}
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for variables, want := range map[string]string{
		"ISSUER_ADDR=:8010": "ISSUER_ADDR", "ISSUER_ADDR=0.0.0.0:8010": "ISSUER_ADDR", "ISSUER_ADDR=[::]:8010": "ISSUER_ADDR",
		"ISSUER_ADDR=8010": "ISSUER_ADDR", "ISSUER_URL=127.0.0.1:8010": "ISSUER_URL", "ISSUER_URL=http://a/b": "ISSUER_URL",
		"ISSUER_TOKEN_LIFETIME=0s":                                      "ISSUER_TOKEN_LIFETIME",
		"ISSUER_KEY_FILE=/dev/null/x":                                   "/dev/null/x",
		"ISSUER_ADDR=:8010 ALTYN_OPEN=true ISSUER_KEY_FILE=/dev/null/x": "/dev/null/x",
	} {
		p := program()
		var out bytes.Buffer
		p.Env, p.Stdout, p.Stderr = make(map[string]string), &out, &out
		for variable := range strings.FieldsSeq(variables) {
			name, value, _ := strings.Cut(variable, "=")
			p.Env[name] = value
		}
		if code := p.Run(t.Context(), []string{"serve"}); code == 0 || !strings.Contains(out.String(), want) {
			t.Errorf("%s: exit code %d, %s", variables, code, out.String())
		}
	}
	for args, want := range map[string]string{
		"--scope admin": "--scope", "--tenant a.b": "--tenant", "--sub ": "--sub",
	} {
		p := program()
		var out bytes.Buffer
		p.Env, p.Stdout, p.Stderr = map[string]string{}, &out, &out
		if code := p.Run(t.Context(), append([]string{"token"}, strings.Split(args, " ")...)); code != 2 ||
			!strings.Contains(out.String(), want) {
			t.Errorf("%s: exit code %d, %s", args, code, out.String())
		}
	}
	if !slices.Contains(swaggerUI.GrantTypes(), "authorization_code") || swaggerUI.id != swagger.ClientID {
		t.Errorf("Swagger UI is %+v, and asks as %s", swaggerUI, swagger.ClientID)
	}
}
