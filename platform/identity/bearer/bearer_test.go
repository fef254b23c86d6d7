package bearer_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"go.uber.org/goleak"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/identity/bearer"
	"github.com/altyn-pay/altyn/testkit/issuer"
	"github.com/altyn-pay/altyn/testkit/wait"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bundle is an issuer and a verifier that takes its tokens.
type bundle struct {
	*testing.T
	*bearer.Verifier
	issuer *issuer.Issuer
	log    *locked
}

// setup starts a verifier with the issuer's settings and further ones. It does not wait for keys.
func setup(t *testing.T, i *issuer.Issuer, more map[string]string) *bundle {
	return setupPaused(t, i, more, 0)
}

func setupPaused(t *testing.T, i *issuer.Issuer, more map[string]string, pause time.Duration) *bundle {
	t.Helper()
	settings := i.Settings()
	maps.Copy(settings, more)
	cfg, err := config.LoadFrom[bearer.Config](settings)
	if err != nil {
		t.Fatal(err)
	}
	b := &bundle{T: t, issuer: i, log: &locked{}}
	b.Verifier = bearer.New(cfg, slog.New(slog.NewTextHandler(b.log, nil)))
	b.SetPause(pause)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := b.Verifier.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return b
}

// ready waits for the keys.
func (b *bundle) ready() *bundle {
	b.Helper()
	wait.NoError(b, func() error { return b.Ready(b.Context()) })
	return b
}

// refused wants a 401 whose detail contains a text.
func (b *bundle) refused(name, token, why string) {
	b.Helper()
	who, err := b.Verify(b.Context(), token, time.Now())
	var p *httpserver.Problem
	if !errors.As(err, &p) || p.Status != 401 || p.Code != "unauthenticated" || !strings.Contains(p.Detail, why) ||
		who != (identity.Identity{}) {
		b.Errorf("%s: %+v, %v; want it to be refused because %s", name, who, err, why)
	}
}

// accepted wants a token to be valid.
func (b *bundle) accepted(name, token string) identity.Identity {
	b.Helper()
	who, err := b.Verify(b.Context(), token, time.Now())
	if err != nil {
		b.Errorf("%s: %v", name, err)
	}
	return who
}

// locked is a log that may be read while it is written.
type locked struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestWhoATokenIs(t *testing.T) {
	b := setup(t, issuer.New(t), nil).ready()
	exp := time.Now().Add(time.Minute).Truncate(time.Second)
	token := b.issuer.Mint(issuer.Claims{"tenant": "shop", "sub": "alice", "scope": "openid money:in orders:read.own",
		"exp": exp.Unix()}, nil, b.issuer.Key())
	want := identity.Identity{Tenant: "shop", Subject: "alice",
		Scopes: identity.ParseScopes("money:in", "orders:read.own"), Expires: exp}
	for range 2 { // the second time from memory
		if got := b.accepted("a token", token); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	request := httptest.NewRequest("GET", "/", nil)
	for _, scheme := range []string{"Bearer ", "bearer ", "BEARER  "} {
		request.Header.Set("Authorization", scheme+token)
		if got, err := b.Authenticate(request); err != nil || got != want {
			t.Errorf("%s: %+v, %v", scheme, got, err)
		}
	}
}

func TestScopeClaims(t *testing.T) {
	b := setup(t, issuer.New(t), nil).ready()
	for _, test := range []struct {
		name  string
		claim any
		want  string
	}{
		{"scope", "orders:read  money:in", "orders:read money:in"}, {"scope", []string{"money:in", "x"}, "money:in"},
		{"scp", []string{"orders:read", "operator"}, "orders:read operator"}, {"scp", "operator", "operator"},
		{"scope", "", ""}, {"other", "operator", ""},
	} {
		claims := issuer.Claims{"scope": nil}
		claims[test.name] = test.claim
		if got := b.accepted(test.name, b.issuer.Mint(claims, nil, b.issuer.Key())); got.Scopes.String() != test.want {
			t.Errorf("%s %v: %q", test.name, test.claim, got.Scopes)
		}
	}
	for _, claim := range []any{1, true, []any{"operator", 1}, []any{nil}, map[string]any{}} {
		b.refused("scopes of another form", b.issuer.Mint(issuer.Claims{"scope": claim}, nil, b.issuer.Key()), "scope")
	}
}

func TestTenants(t *testing.T) {
	i := issuer.New(t)
	b := setup(t, i, nil).ready()
	for _, tenant := range []any{nil, "", "a b", "a.b", 1, []string{"shop"}, strings.Repeat("x", 65)} {
		b.refused("tenant", i.Mint(issuer.Claims{"tenant": tenant}, nil, i.Key()), "tenant")
	}
	for _, subject := range []any{nil, "", 7, strings.Repeat("x", 201)} {
		b.refused("subject", i.Mint(issuer.Claims{"sub": subject}, nil, i.Key()), "")
	}
	org := setup(t, i, map[string]string{"AUTH_TENANT_CLAIM": "org"}).ready()
	if who := org.accepted("another claim", i.Mint(issuer.Claims{"org": "acme"}, nil, i.Key())); who.Tenant != "acme" {
		t.Errorf("%+v", who)
	}
	one := setup(t, i, map[string]string{"AUTH_TENANT_CLAIM": "none"}).ready()
	if who := one.accepted("no claim", i.Token("shop", "alice", "")); who.Tenant != "default" || who.Subject != "alice" {
		t.Errorf("%+v", who)
	}
}

// TestAlgorithms: each algorithm is taken, with and without a kid.
func TestAlgorithms(t *testing.T) {
	i := issuer.New(t)
	var keys []issuer.Key
	for _, algorithm := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512",
		"EdDSA"} {
		keys = append(keys, issuer.NewKey(t, algorithm))
		i.Publish(keys[len(keys)-1])
	}
	b := setup(t, i, nil).ready()
	for _, key := range keys {
		b.accepted(key.Algorithm, i.Mint(nil, nil, key))
		b.accepted(key.Algorithm+" without kid", i.Mint(nil, issuer.Claims{"kid": nil}, key))
		b.refused("another key's kid", i.Mint(nil, issuer.Claims{"kid": keys[(len(keys)-1)/2].ID}, issuer.NewKey(t, "ES256")),
			"")
	}
}

func TestTypes(t *testing.T) {
	b := setup(t, issuer.New(t), nil).ready()
	for _, typ := range []any{nil, "JWT", "jwt", "at+jwt", "application/at+jwt"} {
		b.accepted("typ", b.issuer.Mint(nil, issuer.Claims{"typ": typ}, b.issuer.Key()))
	}
	for _, typ := range []any{"", "JWE", "id+jwt", "logout+jwt", "dpop+jwt", 1, []string{"JWT"}} {
		b.refused("typ", b.issuer.Mint(nil, issuer.Claims{"typ": typ}, b.issuer.Key()), "typ")
	}
	for name, claims := range map[string]issuer.Claims{
		"Keycloak's":      {"typ": "Bearer"},
		"older Keycloaks": {"typ": "Bearer", "nonce": "x"},
		"Cognito's":       {"token_use": "access"},
	} {
		b.accepted(name, b.issuer.Mint(claims, nil, b.issuer.Key()))
	}
	for name, claims := range map[string]issuer.Claims{
		"Keycloak's ID token": {"typ": "ID"}, "Keycloak's refresh token": {"typ": "Refresh"},
		"Cognito's ID token": {"token_use": "id"}, "an ID token": {"nonce": "x"}, "an ID token with code": {"c_hash": "x"},
		"an ID token with access token": {"at_hash": "x"}, "a logout token": {"events": map[string]any{}},
		"another form": {"typ": 1},
	} {
		b.refused(name, b.issuer.Mint(claims, nil, b.issuer.Key()), "no access token")
	}
}

func TestTimes(t *testing.T) {
	b := setup(t, issuer.New(t), nil).ready()
	now := time.Now()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	b.accepted("without nbf, as Keycloak's", b.issuer.Mint(issuer.Claims{"nbf": nil}, nil, b.issuer.Key()))
	b.accepted("without iat", b.issuer.Mint(issuer.Claims{"iat": nil}, nil, b.issuer.Key()))
	b.accepted("a clock that is fast", b.issuer.Mint(issuer.Claims{"nbf": at(5 * time.Second), "iat": at(5 * time.Second)},
		nil, b.issuer.Key()))
	b.accepted("with a fraction", b.issuer.Mint(issuer.Claims{"exp": float64(at(time.Hour)) + .5}, nil, b.issuer.Key()))
	for name, claims := range map[string]issuer.Claims{
		"expired": {"exp": at(-time.Second)}, "without exp": {"exp": nil}, "without nbf and iat": {"nbf": nil, "iat": nil},
		"not yet": {"nbf": at(15 * time.Second)}, "issued later": {"iat": at(15 * time.Second)},
		"exp as a text": {"exp": "9999999999"}, "exp is huge": {"exp": 1e300}, "exp is negative": {"exp": -1},
		"exp is past the year 9999": {"exp": int64(maxTime + 1)}, "exp is a list": {"exp": []int64{at(time.Hour)}},
		"exp is true": {"exp": true}, "nbf as a text": {"nbf": "1"}, "iat as a text": {"iat": "1"}, "exp is 0": {"exp": 0},
	} {
		b.refused(name, b.issuer.Mint(claims, nil, b.issuer.Key()), "")
	}
}

const maxTime = 253402300799

// TestTheTimeOfAMessage: a token is judged by when it came.
func TestTheTimeOfAMessage(t *testing.T) {
	b := setup(t, issuer.New(t), nil).ready()
	now := time.Now()
	token := b.issuer.Mint(issuer.Claims{"nbf": now.Add(-2 * time.Hour).Unix(), "iat": nil,
		"exp": now.Add(-time.Hour).Unix()}, nil, b.issuer.Key())
	for range 2 { // the second time from memory
		b.refused("now", token, "expired")
		if _, err := b.Header(t.Context(), []string{"Bearer " + token}, now.Add(-90*time.Minute)); err != nil {
			t.Errorf("then: %v", err)
		}
		for _, at := range []time.Time{now.Add(-3 * time.Hour), now.Add(-time.Hour).Truncate(time.Second), // when it expires
			now.Add(-time.Minute)} {
			if _, err := b.Verify(t.Context(), token, at); err == nil {
				t.Errorf("%s: accepted", at)
			}
		}
	}
}

func TestAudiencesAndIssuers(t *testing.T) {
	one, two, other := issuer.New(t), issuer.New(t), issuer.New(t)
	settings := map[string]string{"AUTH_ISSUER": one.URL + ", " + two.URL, "AUTH_AUDIENCE": "altyn,shop"}
	b := setup(t, one, settings).ready()
	for _, audience := range []any{"altyn", "shop", []string{"x", "shop"}} {
		b.accepted("audience", one.Mint(issuer.Claims{"aud": audience}, nil, one.Key()))
		b.accepted("audience", two.Mint(issuer.Claims{"aud": audience}, nil, two.Key()))
	}
	for _, audience := range []any{nil, "", "Altyn", "altyn ", "alty", "altyn,shop", []string{}, []string{"x"},
		[]any{"altyn", 1}, []any{"altyn", nil}, 1, map[string]any{"altyn": true}} {
		b.refused("audience", one.Mint(issuer.Claims{"aud": audience}, nil, one.Key()), "")
	}
	b.refused("a stranger's", other.Token("shop", "alice", ""), "issuer")
	asOne := issuer.Claims{"iss": one.URL}
	b.refused("a stranger's that says it is not", other.Mint(asOne, nil, other.Key()), "no such key")
	b.refused("one that speaks for the other", two.Mint(asOne, nil, two.Key()), "no such key")
	b.refused("with the other's kid", two.Mint(asOne, issuer.Claims{"kid": one.Key().ID}, two.Key()), "signature")
	for _, name := range []any{nil, "", one.URL + "/", strings.ToUpper(one.URL), []string{one.URL}, 1} {
		b.refused("issuer", one.Mint(issuer.Claims{"iss": name}, nil, one.Key()), "")
	}
	// Without discovery each issuer has its URL.
	settings["AUTH_JWKS_URL"] = one.KeySet() + "," + two.KeySet()
	b = setup(t, one, settings).ready()
	b.accepted("the second", two.Token("shop", "alice", ""))
}

// TestAnIssuerThatIsAway: the start does without it, the keys outlast it, and a token of a new key brings them.
func TestAnIssuerThatIsAway(t *testing.T) {
	i := issuer.New(t)
	i.Away(true)
	b := setup(t, i, nil)
	token := i.Token("shop", "alice", "")
	if _, err := b.Verify(t.Context(), token, time.Now()); !errors.Is(err, bearer.ErrNoKeys) ||
		httpserver.AsProblem(err).Status != 503 {
		t.Errorf("without keys: %v", err)
	}
	if err := b.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), i.URL) {
		t.Errorf("ready: %v", err)
	}
	b.refused("a stranger's", issuer.New(t).Token("shop", "alice", ""), "issuer")
	i.Away(false)
	b.ready().accepted("then", token)
	if err := b.Fresh(t.Context()); err != nil {
		t.Errorf("fresh: %v", err)
	}

	i.Away(true)
	i.Rotate()
	b.refused("a new key during an outage", i.Token("shop", "bob", ""), "no such key")
	if err := b.Fresh(t.Context()); err == nil {
		t.Error("nothing says that the issuer is away")
	}
	if err := b.Ready(t.Context()); err != nil {
		t.Errorf("ready in an outage: %v", err)
	}
	b.accepted("an old token in an outage", token)
	if log := b.log.String(); strings.Count(log, "level=WARN") != 2 || strings.Contains(log, token) {
		t.Errorf("logged %s", log)
	}
	i.Away(false)
	b.accepted("the new key", i.Token("shop", "bob", ""))
	b.refused("a key that was withdrawn", token, "no such key") // although it was remembered
}

// TestWithoutAnyKey: an issuer whose only key is stolen withdraws it, before it has another one.
func TestWithoutAnyKey(t *testing.T) {
	i := issuer.New(t)
	var withdrawn atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if withdrawn.Load() {
			_, _ = w.Write([]byte(`{"keys":[]}`))
			return
		}
		http.Redirect(w, r, i.KeySet(), http.StatusFound)
	}))
	defer server.Close()
	b := setup(t, i, map[string]string{"AUTH_JWKS_URL": server.URL}).ready()
	token := i.Token("shop", "alice", "")
	b.accepted("a token", token)
	withdrawn.Store(true)
	b.refused("an unknown key", i.Mint(nil, nil, issuer.NewKey(t, "ES256")), "no such key") // has the keys fetched
	b.refused("a key that was withdrawn", token, "no such key")
	if err := b.Ready(t.Context()); err != nil {
		t.Errorf("ready: %v", err)
	}
	if err := b.Fresh(t.Context()); err == nil {
		t.Error("nothing says that the issuer has no keys")
	}
	withdrawn.Store(false)
	b.accepted("a key that is back", token)
}

// TestUnknownKeysDoNotFetchInALoop: a key may be new once in a while.
func TestUnknownKeysDoNotFetchInALoop(t *testing.T) {
	i := issuer.New(t)
	b := setupPaused(t, i, nil, time.Hour).ready()
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { b.refused("unknown", i.Mint(nil, nil, issuer.NewKey(t, "ES256")), "no such key") })
	}
	all.Wait()
	if n := i.Fetches(); n != 1 {
		t.Errorf("50 unknown keys and the start caused %d fetches", n)
	}
}

func TestKeysThatAreNotFit(t *testing.T) {
	i := issuer.New(t)
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	i.Publish(issuer.Key{ID: "short", Algorithm: "RS256", Private: short})
	b := setup(t, i, nil).ready()
	b.refused("RSA of 1024 bits", i.Token("shop", "alice", ""), "no such key")

	i = issuer.New(t)
	var many []string
	for n := range 65 {
		many = append(many, strings.Replace(key(t, i, "sig"), `"kid":"`, fmt.Sprintf(`"kid":"%d`, n), 1))
	}
	answer := ""
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) })
	server := httptest.NewServer(mux)
	defer server.Close()
	// All addresses of this machine, but not loopback.
	elsewhere := strings.Replace(i.KeySet(), "127.0.0.1", "0.0.0.0", 1)
	mux.Handle("/redirect", http.RedirectHandler(elsewhere, http.StatusFound))
	mux.HandleFunc("/another/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, i.URL, i.KeySet())
	})
	mux.HandleFunc("/insecure/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, server.URL+"/insecure", elsewhere)
	})
	keys := func(answer string) map[string]string { return map[string]string{"AUTH_JWKS_URL": server.URL + answer} }
	for name, test := range map[string]struct {
		answer   string
		settings map[string]string
	}{
		"no set": {`{}`, keys("")}, "an empty set": {`{"keys":[]}`, keys("")}, "no JSON": {`no JSON`, keys("")},
		"a shared secret": {`{"keys":[{"kty":"oct","kid":"a","k":"c2VjcmV0","alg":"HS256"}]}`, keys("")},
		"too many keys":   {`{"keys":[` + strings.Join(many, ",") + `]}`, keys("")},
		"more than 1 MiB": {`{"keys":[` + key(t, i, "sig") + `],"x":"` + strings.Repeat("x", 1<<20) + `"}`, keys("")},
		"a redirect":      {"", keys("/redirect")},
		"another issuer":  {"", map[string]string{"AUTH_ISSUER": server.URL + "/another"}},
		"insecure keys":   {"", map[string]string{"AUTH_ISSUER": server.URL + "/insecure"}},
	} {
		answer = test.answer
		b := setup(t, i, test.settings)
		wait.Until(t, name+": it was asked", func() bool { return strings.Contains(b.log.String(), "cannot be fetched") })
		if err := b.Ready(t.Context()); err == nil {
			t.Errorf("ready with %s", name)
		}
	}
	answer = `{"keys":[` + key(t, i, "enc") + `]}`
	setup(t, i, keys("")).ready().refused("a key to encrypt for", i.Token("shop", "alice", ""), "no such key")
}

// key is the JWK of the key that signs, with a use.
func key(t *testing.T, i *issuer.Issuer, use jwkset.USE) string {
	t.Helper()
	k := i.Key()
	public, err := jwkset.NewJWKFromKey(k.Private.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{
		KID: k.ID, ALG: jwkset.ALG(k.Algorithm), USE: use}})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(public.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestHeaders(t *testing.T) {
	b := setup(t, issuer.New(t), nil).ready()
	token := b.issuer.Token("shop", "alice", "")
	for _, test := range []struct {
		values []string
		kind   string
	}{
		{nil, ""}, {[]string{""}, ""}, {[]string{"Basic YTpi"}, ""}, {[]string{token}, ""}, {[]string{"Bearer"}, ""},
		{[]string{"Bearer " + token, "Bearer " + token}, "invalid_request"},
		{[]string{"Bearer " + token + ", Bearer " + token}, "invalid_token"}, {[]string{"Bearer "}, "invalid_token"},
		{[]string{"Bearer\t" + token}, ""}, {[]string{"Bearer " + token + "\n"}, "invalid_token"},
	} {
		who, err := b.Header(t.Context(), test.values, time.Now())
		p := httpserver.AsProblem(err)
		if p == nil || p.Status != 401 || who != (identity.Identity{}) {
			t.Errorf("%q: %+v, %v", test.values, who, err)
			continue
		}
		recorder := httptest.NewRecorder()
		httpserver.WriteProblem(recorder, p)
		challenge := recorder.Header().Get("WWW-Authenticate")
		if !strings.HasPrefix(challenge, "Bearer ") || strings.Contains(challenge, "error=") != (test.kind != "") ||
			!strings.Contains(challenge, test.kind) {
			t.Errorf("%q: %s", test.values, challenge)
		}
	}
}

func TestWithoutTokens(t *testing.T) {
	v := bearer.New(bearer.Config{}, slog.New(slog.DiscardHandler))
	request := httptest.NewRequest("GET", "/", nil)
	request.Header.Set("Authorization", "Basic whatever")
	if who, err := v.Authenticate(request); err != nil || who != identity.Everyone {
		t.Errorf("%+v, %v", who, err)
	}
	if err := errors.Join(v.Ready(t.Context()), v.Fresh(t.Context()), v.Run(t.Context())); err != nil || v.On() {
		t.Error(err)
	}
}

func TestSettings(t *testing.T) {
	good := map[string]string{"AUTH": "jwt", "AUTH_ISSUER": "https://id.example/realms/shop", "AUTH_AUDIENCE": "altyn"}
	for _, test := range []struct {
		change map[string]string
		want   string // in the error; "" for none
	}{
		{nil, ""}, {map[string]string{"AUTH": "none", "AUTH_ISSUER": ""}, ""}, {map[string]string{"AUTH": "basic"}, "AUTH"},
		{map[string]string{"AUTH_ISSUER": ""}, "AUTH_ISSUER"}, {map[string]string{"AUTH_AUDIENCE": " , "}, "AUTH_AUDIENCE"},
		{map[string]string{"AUTH_ISSUER": "id.example"}, "AUTH_ISSUER"},
		{map[string]string{"AUTH_ISSUER": "http://id.example"}, "AUTH_ISSUER"},
		{map[string]string{"AUTH_ISSUER": "http://localhost:8080"}, ""},
		{map[string]string{"AUTH_ISSUER": "http://issuer.localhost:8010"}, ""},
		{map[string]string{"AUTH_ISSUER": "http://evillocalhost:8010"}, "AUTH_ISSUER"},
		{map[string]string{"AUTH_ISSUER": "https://a.example,https://a.example"}, "AUTH_ISSUER"},
		{map[string]string{"AUTH_ISSUER": "urn:me", "AUTH_JWKS_URL": "https://id.example/keys"}, ""},
		{map[string]string{"AUTH_JWKS_URL": "http://id.example/keys"}, "AUTH_JWKS_URL"},
		{map[string]string{"AUTH_JWKS_URL": "https://a.example,https://b.example"}, "AUTH_JWKS_URL"},
	} {
		settings := maps.Clone(good)
		maps.Copy(settings, test.change)
		_, err := config.LoadFrom[bearer.Config](settings)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want+":") &&
			!strings.Contains(err.Error(), test.want+" ") {
			t.Errorf("%v: %v", test.change, err)
		}
	}
}

// TestAttacks: of 10,000 tokens that were tampered with none is taken.
func TestAttacks(t *testing.T) {
	i := issuer.New(t)
	attacks := i.Attacks(10_000)
	b := setupPaused(t, i, nil, time.Hour).ready()
	for _, attack := range attacks {
		who, err := b.Header(t.Context(), attack.Values, time.Now())
		if p := httpserver.AsProblem(err); p == nil || p.Status != 401 || who != (identity.Identity{}) {
			t.Errorf("%s: %+v, %v: %.300q", attack.Name, who, err, attack.Values)
		}
	}
	b.accepted("a valid token afterwards", i.Token("shop", "alice", ""))
	if i.Fetches() != 1 {
		t.Errorf("the keys were fetched %d times", i.Fetches())
	}
}
