// Package bearer tells from a token who asks: an OAuth 2 bearer token, a JWT that an issuer has signed. The tokens of
// HTTP, of gRPC and of messages are read alike.
//
// # What a token must have
//
//   - the compact form of a JWS of at most 16 KiB, signed with RS, PS, ES or EdDSA by a key of its issuer: one of those
//     that the issuer publishes, found by its kid. Whatever key or address of keys the token brings along is refused,
//     and so are extensions (crit) and tokens within the token (cty);
//   - typ JWT or at+jwt (RFC 9068), or none. What only ID, refresh and logout tokens have is refused: at_hash, c_hash,
//     s_hash, events, nonce, and a claim typ or token_use that says another kind. An ID token that has none of these is
//     kept out by its audience, which is the client's ID;
//   - iss and aud exactly as in the settings;
//   - exp, which must not have come. There is no leeway;
//   - nbf, or iat where the issuer sends no nbf (Keycloak, Auth0): both must have passed, with a leeway of 10 s for
//     clocks that differ;
//   - sub with 1–200 characters, and the tenant in the claim AUTH_TENANT_CLAIM.
//
// Scopes come from the claim scope, a text with spaces, or scp, a list or a text.
//
// # Keys
//
// They are fetched in the background, and stay valid while the issuer does not answer. Once it publishes others, or
// none, those that it had are valid no more. A process starts without keys, and is not ready until it has those of each
// issuer. A token with an unknown kid has them fetched at once, at most every 10 s.
package bearer

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"

	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
)

const (
	maxToken = 16 << 10 // bytes
	leeway   = 10 * time.Second
)

// ErrNoKeys says that a token cannot be judged, because the keys of its issuer never came. It may be valid.
var ErrNoKeys = errors.New("the issuer's keys could not be fetched yet")

// Verifier tells who asks.
type Verifier struct {
	cfg     Config
	issuers map[string]*issuer
	client  *http.Client
	parser  *jwt.Parser
	memory  memory
}

// New returns the verifier of checked settings. Run gets it the keys.
func New(cfg Config, log *slog.Logger) *Verifier {
	v := &Verifier{cfg: cfg, issuers: make(map[string]*issuer), client: newClient()}
	v.parser = jwt.NewParser(jwt.WithValidMethods(algorithms), jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation())
	if !cfg.On() {
		return v
	}
	for i, name := range cfg.Issuers {
		keySet := ""
		if len(cfg.KeySets) > 0 {
			keySet = cfg.KeySets[i]
		}
		v.issuers[name] = newIssuer(name, keySet, v.client, log, v.memory.clear)
	}
	return v
}

// Run fetches the issuers' keys until ctx ends.
func (v *Verifier) Run(ctx context.Context) error {
	defer v.client.CloseIdleConnections()
	var all sync.WaitGroup
	for _, i := range v.issuers {
		all.Go(func() { i.run(ctx) })
	}
	all.Wait()
	return nil
}

// On reports whether tokens are needed. Without, everybody is identity.Everyone.
func (v *Verifier) On() bool { return v.cfg.On() }

// Ready returns an error until there are keys of each issuer.
func (v *Verifier) Ready(context.Context) error {
	for name, i := range v.issuers {
		if known, failure := i.state(); !known {
			return fmt.Errorf("no keys of %s: %w", name, failure)
		}
	}
	return nil
}

// Fresh returns an error while an issuer does not answer. Tokens that it has issued before are still valid.
func (v *Verifier) Fresh(context.Context) error {
	for name, i := range v.issuers {
		if _, failure := i.state(); failure != nil {
			return fmt.Errorf("no answer of %s: %w", name, failure)
		}
	}
	return nil
}

// Login returns where a person gets a token by the authorization code of OAuth 2: the two URLs of the first issuer
// that has told them, or nothing.
func (v *Verifier) Login() (authorization, token string) {
	for _, name := range v.cfg.Issuers {
		i, ok := v.issuers[name]
		if !ok { // AUTH=none
			continue
		}
		i.mu.Lock()
		authorization, token = i.authorization, i.token
		i.mu.Unlock()
		if checkURL(authorization) == nil && checkURL(token) == nil {
			return authorization, token
		}
	}
	return "", ""
}

// Authenticate is the Authenticate of httpserver.Options: it tells who asks from the header Authorization.
func (v *Verifier) Authenticate(r *http.Request) (identity.Identity, error) {
	return v.Header(r.Context(), r.Header["Authorization"], time.Now())
}

// Header tells who asks from the values of the header authorization, of a request or of a message, at the time at which
// it came. The error is the problem to answer with: 401 unauthenticated; or, with ErrNoKeys as its cause, 503.
func (v *Verifier) Header(ctx context.Context, values []string, at time.Time) (identity.Identity, error) {
	if !v.On() {
		return identity.Everyone, nil
	}
	switch len(values) {
	case 1:
	case 0:
		return identity.Identity{}, httpserver.Unauthenticated("",
			"a token is needed, in the header Authorization as Bearer and the token")
	default:
		return identity.Identity{}, httpserver.Unauthenticated("invalid_request", "the header Authorization must come once")
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return identity.Identity{}, httpserver.Unauthenticated("",
			"the header Authorization must have the word Bearer and a token")
	}
	return v.Verify(ctx, strings.Trim(token, " "), at)
}

// Verify tells who asks with a token at some time. Its errors are those of Header.
func (v *Verifier) Verify(ctx context.Context, token string, at time.Time) (identity.Identity, error) {
	if len(token) > maxToken {
		return identity.Identity{}, httpserver.Unauthenticated("invalid_token", "the token is too long")
	}
	sum := sha256.Sum256([]byte(token))
	who, ok, generation := v.memory.get(sum)
	if ok && who.at(at) {
		return who.Identity, nil
	}
	who, err := v.verify(ctx, token, at)
	switch {
	case errors.Is(err, ErrNoKeys):
		return identity.Identity{}, httpserver.Unavailable(err)
	case err != nil:
		return identity.Identity{}, httpserver.Unauthenticated("invalid_token", "the token is not valid: "+err.Error())
	}
	v.memory.put(sum, who, generation)
	return who.Identity, nil
}

// verify reads a token and checks everything. Its errors are fit to be shown.
func (v *Verifier) verify(ctx context.Context, token string, at time.Time) (verified, error) {
	if err := checkForm(token); err != nil {
		return verified{}, err
	}
	kid, err := checkHeader(token)
	if err != nil {
		return verified{}, err
	}
	var c claims
	if _, _, err := v.parser.ParseUnverified(token, &c); err != nil { // to find the issuer
		return verified{}, shown(err)
	}
	from, ok := v.issuers[c.issuer]
	if !ok {
		return verified{}, errors.New("its issuer is not one of AUTH_ISSUER")
	}
	if known, _ := from.state(); !known {
		from.again(ctx)
	} else if kid != nil && !from.has(ctx, *kid) {
		from.again(ctx)
	}
	if known, _ := from.state(); !known {
		return verified{}, ErrNoKeys
	}
	c = claims{}
	if _, err := v.parser.ParseWithClaims(token, &c, from.keyfunc.KeyfuncCtx(ctx)); err != nil {
		return verified{}, shown(err)
	}
	if err := v.check(&c, from.name, at); err != nil {
		return verified{}, err
	}
	who, err := c.identity(v.cfg.TenantClaim)
	if err != nil {
		return verified{}, err
	}
	notBefore, _ := c.GetNotBefore()
	return verified{who, notBefore.Time}, nil
}

// check checks the claims of a token that its issuer has signed.
func (v *Verifier) check(c *claims, issuer string, at time.Time) error {
	validator := jwt.NewValidator(jwt.WithTimeFunc(func() time.Time { return at }), jwt.WithExpirationRequired(),
		jwt.WithNotBeforeRequired(), jwt.WithIssuedAt(), jwt.WithIssuer(issuer), jwt.WithAudience(v.cfg.Audiences...))
	if err := validator.Validate(c); err != nil {
		return shown(err)
	}
	if kind := c.otherKind(); kind != "" {
		return errors.New("it is no access token, as its claim " + kind + " shows")
	}
	return nil
}

// checkForm refuses what is no JWS in its compact form. Go's base64 would skip line breaks.
func checkForm(token string) error {
	if strings.Count(token, ".") != 2 {
		return errors.New("it is no signed JWT")
	}
	for i := range len(token) {
		c := token[i]
		if c != '.' && c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return errors.New("it is no signed JWT")
		}
	}
	return nil
}

// types are what the header's typ may be, in lower case.
var types = []string{"jwt", "at+jwt", "application/at+jwt"}

// checkHeader checks the header of a token, and returns its kid, if it has one.
func checkHeader(token string) (kid *string, err error) {
	text, err := base64.RawURLEncoding.Strict().DecodeString(token[:strings.IndexByte(token, '.')])
	if err != nil {
		return nil, errors.New("its header is not base64url")
	}
	var header members
	if err := json.Unmarshal(text, &header); err != nil {
		return nil, errors.New("its header cannot be read")
	}
	for _, name := range []string{"crit", "b64", "jku", "jwk", "x5u", "x5c", "cty", "zip", "enc"} {
		if _, ok := header[name]; ok {
			return nil, fmt.Errorf("its header has %s", name)
		}
	}
	kind, err := header.text("typ")
	if _, ok := header["typ"]; err != nil || ok && !slices.Contains(types, strings.ToLower(kind)) {
		return nil, errors.New("its header's typ is not JWT or at+jwt")
	}
	alg, err := header.text("alg")
	if err != nil || !slices.Contains(algorithms, alg) {
		return nil, errors.New("its header's alg is not one of " + strings.Join(algorithms, " "))
	}
	if _, ok := header["kid"]; !ok {
		return nil, nil
	}
	id, err := header.text("kid")
	return &id, err
}

// shown says what is wrong with a token without what libraries say of it.
func shown(err error) error {
	for _, known := range []struct{ is, say error }{
		{jwt.ErrTokenMalformed, errors.New("it cannot be read")},
		{jwt.ErrTokenUnverifiable, errors.New("its issuer has no such key")},
		{jwt.ErrTokenSignatureInvalid, errors.New("its signature is wrong")},
		{jwt.ErrTokenExpired, errors.New("it has expired")},
		{jwt.ErrTokenNotValidYet, errors.New("it is not valid yet")},
		{jwt.ErrTokenUsedBeforeIssued, errors.New("it is not issued yet")},
		{jwt.ErrTokenInvalidAudience, errors.New("its audience is not one of AUTH_AUDIENCE")},
		{jwt.ErrTokenRequiredClaimMissing, errors.New("it lacks exp, or nbf and iat, or aud")},
	} {
		if errors.Is(err, known.is) {
			return known.say
		}
	}
	return errors.New("it cannot be accepted")
}
