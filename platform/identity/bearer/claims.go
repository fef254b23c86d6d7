package bearer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"github.com/altyn-pay/altyn/platform/identity"
)

// members is a JSON object of a token. Names are told apart by case, as encoding/json does not do for structs: a claim
// that users may choose must not pass for another one. Names that come twice, and what is not UTF-8, are refused.
type members map[string]jsontext.Value

// text reads a string; "" where there is none.
func (m members) text(name string) (string, error) {
	var text string
	value, ok := m[name]
	if !ok {
		return "", nil
	}
	if value.Kind() != '"' || json.Unmarshal(value, &text) != nil {
		return "", fmt.Errorf("%s is no text", name)
	}
	return text, nil
}

// texts reads a string, or a list of strings.
func (m members) texts(name string) (list []string, one bool, err error) {
	value, ok := m[name]
	if !ok {
		return nil, false, nil
	}
	if value.Kind() == '"' {
		text, err := m.text(name)
		return []string{text}, true, err
	}
	var items []*string
	if value.Kind() != '[' || json.Unmarshal(value, &items) != nil || slices.Contains(items, nil) {
		return nil, false, fmt.Errorf("%s is no text and no list of texts", name)
	}
	for _, item := range items {
		list = append(list, *item)
	}
	return list, false, nil
}

// maxTime is the end of the year 9999.
const maxTime = 253402300799

// time reads seconds since 1970, which may have a fraction; nil where there is none.
func (m members) time(name string) (*jwt.NumericDate, error) {
	value, ok := m[name]
	if !ok {
		return nil, nil
	}
	seconds, err := strconv.ParseFloat(string(value), 64) // a text is in quotation marks
	if err != nil || !(seconds >= 0 && seconds <= maxTime) {
		return nil, fmt.Errorf("%s is no time", name)
	}
	return &jwt.NumericDate{Time: time.Unix(int64(seconds), 0)}, nil
}

// claims are those of an access token, for the checks of package jwt.
type claims struct {
	members
	issuer    string
	subject   string
	audiences []string
	expires   *jwt.NumericDate
	notBefore *jwt.NumericDate
	issued    *jwt.NumericDate
}

// UnmarshalJSON reads the payload of a token.
func (c *claims) UnmarshalJSON(text []byte) error {
	if err := json.Unmarshal(text, &c.members); err != nil {
		return err
	}
	errs := make([]error, 6)
	c.issuer, errs[0] = c.text("iss")
	c.subject, errs[1] = c.text("sub")
	c.audiences, _, errs[2] = c.texts("aud")
	c.expires, errs[3] = c.time("exp")
	c.notBefore, errs[4] = c.time("nbf")
	c.issued, errs[5] = c.time("iat")
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.expires, nil }
func (c *claims) GetIssuer() (string, error)                   { return c.issuer, nil }
func (c *claims) GetSubject() (string, error)                  { return c.subject, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return c.audiences, nil }

// GetIssuedAt allows for the leeway, and GetNotBefore too.
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error) { return early(c.issued), nil }

// GetNotBefore takes the time of issue where the issuer sends no nbf: Keycloak and others do not.
func (c *claims) GetNotBefore() (*jwt.NumericDate, error) {
	if c.notBefore != nil {
		return early(c.notBefore), nil
	}
	return early(c.issued), nil
}

func early(at *jwt.NumericDate) *jwt.NumericDate {
	if at == nil {
		return nil
	}
	return &jwt.NumericDate{Time: at.Add(-leeway)}
}

// otherKind names what an access token does not have; "" where there is nothing. An ID token says to a client who
// somebody is, not what the client may do here.
func (c *claims) otherKind() string {
	for _, name := range []string{"at_hash", "c_hash", "s_hash", "events"} { // of ID tokens and of logout tokens
		if _, ok := c.members[name]; ok {
			return name
		}
	}
	keycloak, ok := c.says("typ", "Bearer")
	if !ok {
		return "typ"
	}
	if _, ok := c.says("token_use", "access"); !ok { // Cognito's
		return "token_use"
	}
	if _, ok := c.members["nonce"]; ok && !keycloak { // which older Keycloaks repeat in access tokens
		return "nonce"
	}
	return ""
}

// says looks at a claim by which an issuer names the kind of its tokens. ok is false where it says another one.
func (c *claims) says(name, want string) (there, ok bool) {
	if _, there = c.members[name]; !there {
		return false, true
	}
	text, err := c.text(name)
	return true, err == nil && strings.EqualFold(text, want)
}

// scopes reads the claim scope, a text with spaces as OAuth has it, or scp, as others write it.
func (c *claims) scopes() (identity.Scopes, error) {
	name := "scope"
	if _, ok := c.members[name]; !ok {
		name = "scp"
	}
	list, one, err := c.texts(name)
	if one {
		list = strings.Split(list[0], " ")
	}
	return identity.ParseScopes(list...), err
}

// identity reads who asks.
func (c *claims) identity(tenantClaim string) (identity.Identity, error) {
	who := identity.Identity{Tenant: identity.DefaultTenant, Subject: c.subject, Expires: c.expires.Time}
	if err := identity.CheckSubject(c.subject); err != nil {
		return who, fmt.Errorf("the claim sub %w", err)
	}
	var err error
	if who.Scopes, err = c.scopes(); err != nil {
		return who, fmt.Errorf("the claim %w", err)
	}
	if tenantClaim == noClaim {
		return who, nil
	}
	if who.Tenant, err = c.text(tenantClaim); err != nil {
		return who, fmt.Errorf("the claim %w", err)
	}
	if err := identity.CheckTenant(who.Tenant); err != nil {
		return who, fmt.Errorf("the claim %s, which names the tenant, %w", tenantClaim, err)
	}
	return who, nil
}
