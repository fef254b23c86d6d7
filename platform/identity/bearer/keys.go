package bearer

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
)

const (
	// keysEvery is how often an issuer's keys are fetched. A key that it withdraws is valid for so long.
	keysEvery = time.Minute
	// keysPause is the least time between two fetches that tokens with an unknown key cause.
	keysPause = 10 * time.Second
	// keysPatience is how long such a token waits for the keys.
	keysPatience = 2 * time.Second
	fetchTimeout = 10 * time.Second
	retryFirst   = 500 * time.Millisecond
	retryLast    = 30 * time.Second

	maxDocument = 1 << 20 // bytes
	maxKeys     = 64
	minRSABits  = 2048
	maxRSABits  = 8192
)

// issuer is one whose tokens are valid, with the keys that it had when it last answered.
type issuer struct {
	name, keySet string // keySet is "" for discovery
	client       *http.Client
	log          *slog.Logger
	changed      func() // called when there are other keys than before
	keys         *jwkset.MemoryJWKSet
	keyfunc      keyfunc.Keyfunc
	nudged       chan struct{}
	pause        time.Duration

	mu    sync.Mutex
	known string // the keys as a text; "" until they first came
	// Where persons get tokens, as its last discovery said.
	authorization, token string
	failure              error // of the last fetch
	tried                time.Time
	trying               bool
	done                 chan struct{} // closed when the fetch that runs, or the next one, ends
}

func newIssuer(name, keySet string, client *http.Client, log *slog.Logger, changed func()) *issuer {
	i := &issuer{name: name, keySet: keySet, client: client, log: log, changed: changed,
		keys: jwkset.NewMemoryStorage(), nudged: make(chan struct{}, 1), pause: keysPause,
		done: make(chan struct{}), failure: errors.New("not asked yet")}
	var err error
	i.keyfunc, err = keyfunc.New(keyfunc.Options{Storage: i.keys, UseWhitelist: []jwkset.USE{jwkset.UseSig, ""}})
	if err != nil {
		panic(err) // there is a storage
	}
	return i
}

// run fetches the keys again and again until ctx ends. When the issuer does not answer, the keys stay as they are.
func (i *issuer) run(ctx context.Context) {
	retry := retryFirst
	for {
		next := keysEvery
		if err := i.fetch(ctx); err != nil {
			next, retry = retry, min(2*retry, retryLast)
		} else {
			retry = retryFirst
		}
		timer := time.NewTimer(next)
		select {
		case <-timer.C:
		case <-i.nudged:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// again has the keys fetched and waits for them, unless they were fetched a moment ago.
func (i *issuer) again(ctx context.Context) {
	i.mu.Lock()
	if !i.trying && time.Since(i.tried) < i.pause {
		i.mu.Unlock()
		return
	}
	done := i.done
	if !i.trying {
		select {
		case i.nudged <- struct{}{}:
		default:
		}
	}
	i.mu.Unlock()
	timer := time.NewTimer(keysPatience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// fetch fetches the keys once.
func (i *issuer) fetch(ctx context.Context) error {
	i.mu.Lock()
	i.trying = true
	i.mu.Unlock()
	keys, text, err := i.read(ctx)
	if err == nil {
		err = i.keys.KeyReplaceAll(ctx, keys)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if err == nil && text != i.known && (i.known != "" || len(keys) > 0) {
		i.known = text
		i.changed()
	}
	if err == nil && len(keys) == 0 { // those that it had are withdrawn all the same
		err = errors.New("it publishes no usable key")
	}
	switch {
	case ctx.Err() != nil:
	case err != nil && i.failure == nil, err != nil && i.tried.IsZero():
		i.log.Warn("the keys of an issuer cannot be fetched; those that are known stay valid", "issuer", i.name, "error", err)
	case err == nil && i.failure != nil:
		i.log.Info("fetched the keys of an issuer", "issuer", i.name, "keys", len(keys))
	}
	i.failure, i.tried, i.trying = err, time.Now(), false
	close(i.done)
	i.done = make(chan struct{})
	return err
}

// state tells whether there are keys, and why the last fetch failed.
func (i *issuer) state() (known bool, failure error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.known != "", i.failure
}

// read asks the issuer for its keys. Those that are not fit to verify a token are left out.
func (i *issuer) read(ctx context.Context) (keys []jwkset.JWK, text string, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	keySet := i.keySet
	if keySet == "" {
		if keySet, err = i.discover(ctx); err != nil {
			return nil, "", err
		}
	}
	var set jwkset.JWKSMarshal
	if err := i.get(ctx, keySet, &set); err != nil {
		return nil, "", err
	}
	for _, one := range set.Keys {
		key, err := jwkset.NewJWKFromMarshal(one, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
		if err == nil && fit(key.Key()) {
			keys = append(keys, key)
		}
	}
	if set.Keys == nil || len(keys) > maxKeys {
		return nil, "", fmt.Errorf("%s is no set of at most %d usable keys", keySet, maxKeys)
	}
	canonical, err := json.Marshal(set)
	return keys, string(canonical), err
}

// fit tells whether a key can verify tokens. One of HMAC cannot: who verifies could sign.
func fit(key any) bool {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return key.N.BitLen() >= minRSABits && key.N.BitLen() <= maxRSABits
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false
}

// discover asks the issuer where its keys are (OpenID Connect Discovery 1.0, section 4).
func (i *issuer) discover(ctx context.Context) (string, error) {
	var document struct {
		Issuer        string `json:"issuer"`
		Keys          string `json:"jwks_uri"`
		Authorization string `json:"authorization_endpoint"`
		Token         string `json:"token_endpoint"`
	}
	if err := i.get(ctx, strings.TrimSuffix(i.name, "/")+"/.well-known/openid-configuration", &document); err != nil {
		return "", err
	}
	if document.Issuer != i.name {
		return "", fmt.Errorf("the issuer calls itself %.200q", document.Issuer)
	}
	if err := checkURL(document.Keys); err != nil {
		return "", fmt.Errorf("its jwks_uri %.200q %w", document.Keys, err)
	}
	i.mu.Lock()
	i.authorization, i.token = document.Authorization, document.Token
	i.mu.Unlock()
	return document.Keys, nil
}

// get reads a JSON document.
func (i *issuer) get(ctx context.Context, url string, document any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/json")
	response, err := i.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, response.Status)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxDocument)).Decode(document); err != nil {
		return fmt.Errorf("%s is not what it should be: %w", url, err)
	}
	return nil
}

// newClient returns a client that follows no redirect to where it would not have been sent.
func newClient() *http.Client {
	return &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone(),
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 3 {
				return errors.New("too many redirects")
			}
			return checkURL(r.URL.String())
		}}
}

// algorithms are those by which a token may be signed: none with a shared secret, and not none.
var algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// has tells whether the issuer has a key with this ID.
func (i *issuer) has(ctx context.Context, kid string) bool {
	keys, err := i.keys.KeyReadAll(ctx)
	return err == nil && slices.ContainsFunc(keys, func(key jwkset.JWK) bool { return key.Marshal().KID == kid })
}
