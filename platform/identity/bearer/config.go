package bearer

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/altyn-pay/altyn/platform/config"
)

// Config are the settings of a process that has to know who asks.
type Config struct {
	Auth        Mode     `env:"AUTH" default:"none" help:"none (everyone is tenant default with all rights) or jwt (OAuth 2 bearer tokens)"`
	Issuers     []string `env:"AUTH_ISSUER" help:"issuers whose tokens are valid: the URLs in their claim iss, separated by commas; AUTH=jwt needs one"`
	Audiences   []string `env:"AUTH_AUDIENCE" help:"audiences by which a token is meant for Altyn, separated by commas; AUTH=jwt needs one, which must be no client's ID"`
	KeySets     []string `env:"AUTH_JWKS_URL" help:"URLs of the issuers' keys, one for each in the same order, separated by commas (default: what each issuer's /.well-known/openid-configuration says)"`
	TenantClaim string   `env:"AUTH_TENANT_CLAIM" default:"tenant" help:"claim with the tenant's name; none: everybody is tenant default"`
}

// Mode says how a process knows who asks.
type Mode string

// The modes. The zero Mode is None.
const (
	None Mode = "none"
	JWT  Mode = "jwt"
)

// UnmarshalText reads a mode.
func (m *Mode) UnmarshalText(text []byte) error {
	switch mode := Mode(text); mode {
	case None, JWT:
		*m = mode
		return nil
	}
	return fmt.Errorf("must be %s or %s", None, JWT)
}

// noClaim is the TenantClaim of tokens that have none.
const noClaim = "none"

// On reports whether tokens are needed.
func (c Config) On() bool { return c.Auth == JWT }

// Validate checks that there is what tokens are checked against. A key that came over the network without TLS could be
// anybody's, so http is for loopback alone.
func (c Config) Validate() error {
	if !c.On() {
		return nil
	}
	var errs []error
	if len(c.Issuers) == 0 {
		errs = append(errs, config.Invalid("AUTH_ISSUER", "must name an issuer with AUTH=jwt"))
	}
	if len(c.Audiences) == 0 {
		errs = append(errs, config.Invalid("AUTH_AUDIENCE", "must name an audience with AUTH=jwt"))
	}
	if len(c.KeySets) > 0 && len(c.KeySets) != len(c.Issuers) {
		errs = append(errs, config.Invalid("AUTH_JWKS_URL", "must have one URL for each issuer, in the same order"))
	}
	for _, text := range c.KeySets {
		if err := checkURL(text); err != nil {
			errs = append(errs, config.Invalid("AUTH_JWKS_URL", "must be https URLs (http on loopback): %q %v", text, err))
		}
	}
	seen := make(map[string]bool)
	for _, text := range c.Issuers {
		err := checkURL(text)
		if len(c.KeySets) > 0 { // nothing is fetched from it
			err = nil
		}
		if seen[text] {
			err = errors.New("is there twice")
		}
		seen[text] = true
		if err != nil {
			errs = append(errs, config.Invalid("AUTH_ISSUER", "must be https URLs (http on loopback): %q %v", text, err))
		}
	}
	return errors.Join(errs...)
}

// checkURL returns what is wrong with a URL from which keys are to be fetched.
func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Host == "", u.User != nil, u.Fragment != "", u.Scheme != "https" && u.Scheme != "http":
		return errors.New("is none")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return errors.New("is not on loopback")
	}
	return nil
}

// loopback tells whether a host is this machine. RFC 6761 keeps localhost, and every name below it, for that.
func loopback(host string) bool {
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host).IsLoopback()
}
