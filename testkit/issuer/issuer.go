// Package issuer is an issuer of tokens for tests: it publishes its keys over HTTP on loopback as an OpenID Connect
// provider does, and mints tokens with whatever claims, headers and keys a test asks for.
package issuer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/identity/bearer"
)

// Audience is that of the tokens.
const Audience = "altyn"

// Claims are the claims of a token, or the members of its header.
type Claims map[string]any

// Key is a key of an issuer.
type Key struct {
	ID, Algorithm string
	Private       crypto.Signer
}

// Issuer is an issuer with one key of ES256. Its server ends with the test.
type Issuer struct {
	URL string

	t       testing.TB
	away    atomic.Bool
	fetches atomic.Int64

	mu   sync.Mutex
	keys []Key // those that are published; the last one signs
}

// New starts an issuer.
func New(t testing.TB) *Issuer {
	i := &Issuer{t: t, keys: []Key{NewKey(t, "ES256")}}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		i.answer(w, map[string]string{"issuer": i.URL, "jwks_uri": i.KeySet()})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		i.fetches.Add(1)
		i.answer(w, i.set())
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	i.URL = server.URL
	return i
}

// answer writes a document, or breaks off.
func (i *Issuer) answer(w http.ResponseWriter, document any) {
	if i.away.Load() {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(document) // a client that is gone misses nothing
}

// set is the published keys as a JWK set.
func (i *Issuer) set() (set jwkset.JWKSMarshal) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, key := range i.keys {
		public, err := jwkset.NewJWKFromKey(key.Private.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{
			KID: key.ID, ALG: jwkset.ALG(key.Algorithm), USE: jwkset.UseSig}})
		if err != nil {
			panic(err) // the key was made here
		}
		set.Keys = append(set.Keys, public.Marshal())
	}
	return set
}

// KeySet is the URL of the published keys.
func (i *Issuer) KeySet() string { return i.URL + "/keys" }

// Settings are the variables of a process that takes this issuer's tokens.
func (i *Issuer) Settings() map[string]string {
	return map[string]string{"AUTH": "jwt", "AUTH_ISSUER": i.URL, "AUTH_AUDIENCE": Audience}
}

// Config is Settings as they are read.
func (i *Issuer) Config() bearer.Config {
	cfg, err := config.LoadFrom[bearer.Config](i.Settings())
	if err != nil {
		panic(err) // they are as they must be
	}
	return cfg
}

// Away makes the issuer break off each request, or has it answer again.
func (i *Issuer) Away(away bool) { i.away.Store(away) }

// Fetches is how often its keys were asked for.
func (i *Issuer) Fetches() int { return int(i.fetches.Load()) }

// Publish adds a key, which signs from now on.
func (i *Issuer) Publish(key Key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append(i.keys, key)
}

// Rotate replaces all keys by a new one, which it returns.
func (i *Issuer) Rotate() Key {
	key := NewKey(i.t, "ES256")
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = []Key{key}
	return key
}

// Key is the key that signs.
func (i *Issuer) Key() Key {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[len(i.keys)-1]
}

// Token mints a token of a subject of a tenant, with scopes separated by spaces; it is valid for an hour.
func (i *Issuer) Token(tenant, subject, scopes string) string {
	return i.Mint(Claims{"tenant": tenant, "sub": subject, "scope": scopes}, nil, i.Key())
}

// Mint mints a token, signed by any key. claims and header replace members of those that Token writes; nil leaves one
// out.
func (i *Issuer) Mint(claims, header Claims, key Key) string {
	now := time.Now()
	payload := jwt.MapClaims(merge(Claims{"iss": i.URL, "aud": Audience, "sub": "alice", "tenant": "default", "scope": "",
		"nbf": now.Add(-time.Minute).Unix(), "iat": now.Add(-time.Minute).Unix(), "exp": now.Add(time.Hour).Unix()}, claims))
	token := jwt.NewWithClaims(jwt.GetSigningMethod(key.Algorithm), payload)
	token.Header = merge(Claims{"typ": "JWT", "alg": key.Algorithm, "kid": key.ID}, header)
	text, err := token.SignedString(key.Private)
	if err != nil {
		i.t.Errorf("mint a token: %v", err)
	}
	return text
}

func merge(base, more Claims) Claims {
	maps.Copy(base, more)
	maps.DeleteFunc(base, func(_ string, value any) bool { return value == nil })
	return base
}

var number atomic.Int64

// rsaKeys are made once, because that takes long.
var rsaKeys = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// NewKey makes a key of an algorithm that nobody publishes yet. All RSA keys of a process are the same.
func NewKey(t testing.TB, algorithm string) Key {
	key := Key{ID: fmt.Sprintf("key-%d", number.Add(1)), Algorithm: algorithm}
	var err error
	switch algorithm {
	case "ES256":
		key.Private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		key.Private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		key.Private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "EdDSA":
		_, key.Private, err = ed25519.GenerateKey(rand.Reader)
	default:
		key.Private, err = rsaKeys()
	}
	if err != nil {
		t.Fatalf("make a key of %s: %v", algorithm, err)
	}
	return key
}
