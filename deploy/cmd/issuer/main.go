// Command issuer is an issuer of tokens for development. Whoever reaches it gets whatever token he asks for: it knows
// no users and no passwords. Apart from that it is a provider of OpenID Connect like any other (package op of
// zitadel/oidc): discovery, published keys, the authorization code with PKCE, which Swagger UI uses, and client
// credentials, which `make token` uses.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/altyn-pay/altyn/deploy/load"
	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

const about = `issuer is an issuer of tokens for development: whoever reaches it gets whatever token he asks for, so it
listens on loopback only. Its key is kept in a file, so that tokens outlive it.`

func main() { os.Exit(program().Main()) }

func program() config.Program {
	return config.Program{Name: "issuer", About: about, Default: "serve", Commands: []config.Command{
		config.NewCommand("serve", "run the issuer until SIGTERM", serve),
		config.NewCommand("token", "print a token of the running issuer", token),
		config.NewCommand("health", "ask the issuer on this machine whether it is ready", health),
	}}
}

// settings of the issuer.
type settings struct {
	Addr      string        `env:"ISSUER_ADDR" default:"127.0.0.1:8010" help:"address to listen on, on loopback"`
	URL       string        `env:"ISSUER_URL" default:"http://127.0.0.1:8010" help:"URL by which services and browsers reach it; the claim iss"`
	KeyFile   string        `env:"ISSUER_KEY_FILE" default:".altyn/data/issuer.pem" help:"file of the key that signs; made where there is none"`
	Lifetime  time.Duration `env:"ISSUER_TOKEN_LIFETIME" default:"12h" help:"how long a token is valid"`
	Open      bool          `env:"ALTYN_OPEN" default:"false" help:"whether it may listen on other addresses than loopback: in a container whose port is published on loopback"`
	HTTP      httpserver.Config
	Telemetry telemetry.Config
}

// Validate checks the addresses and the lifetime.
func (s settings) Validate() error {
	errs := []error{config.CheckAddr("ISSUER_ADDR", s.Addr)}
	if host, _, err := net.SplitHostPort(s.Addr); err == nil && !s.Open && host != "localhost" &&
		!net.ParseIP(host).IsLoopback() {
		errs = append(errs, config.Invalid("ISSUER_ADDR", "must be on loopback: whoever reaches the issuer has all rights"))
	}
	if u, err := url.Parse(s.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" ||
		u.Path != "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		errs = append(errs, config.Invalid("ISSUER_URL", "must be a URL without a path, such as http://127.0.0.1:8010"))
	}
	if s.Lifetime < time.Second || s.Lifetime > 30*24*time.Hour {
		errs = append(errs, config.Invalid("ISSUER_TOKEN_LIFETIME", "must be 1s to 720h"))
	}
	return errors.Join(errs...)
}

func serve(ctx context.Context, s settings) error {
	log := telemetry.NewLogger(os.Stderr, s.Telemetry, "issuer")
	slog.SetDefault(log) // which the provider logs to
	config.Announce(log, s)
	key, err := loadKey(s.KeyFile)
	if err != nil {
		return err
	}
	handler, err := newHandler(s, key)
	if err != nil {
		return err
	}
	log.Warn("for development only: whoever reaches this issuer gets whatever token he asks for", "issuer", s.URL)
	return httpserver.Run(ctx, httpserver.Server{Name: "issuer", Addr: s.Addr, Handler: handler, Logger: log})
}

func health(ctx context.Context, s settings) error { return httpserver.Probe(ctx, s.Addr, false) }

// wanted is a token to print. The variables are what `make token` passes on.
type wanted struct {
	Subject string `flag:"sub" env:"SUB" value:"NAME" default:"developer" help:"whose token: the claim sub"`
	Tenant  string `flag:"tenant" env:"TENANT" value:"NAME" default:"default" help:"the tenant that it belongs to"`
	Scope   string `flag:"scope" env:"SCOPE" value:"SCOPES" help:"what it allows, with blanks between (default: all but operator)"`
	URL     string `env:"ISSUER_URL" default:"http://127.0.0.1:8010" help:"URL of the issuer"`
}

// Validate checks what the issuer would refuse.
func (t wanted) Validate() error {
	var errs []error
	if err := identity.CheckSubject(t.Subject); err != nil {
		errs = append(errs, config.Invalid("--sub", "%v", err))
	}
	if err := identity.CheckTenant(t.Tenant); err != nil {
		errs = append(errs, config.Invalid("--tenant", "%v", err))
	}
	for scope := range strings.FieldsSeq(t.Scope) {
		if !known(scope) {
			errs = append(errs, config.Invalid("--scope",
				"must name scopes such as orders:read or money:out.own, not %q", scope))
		}
	}
	return errors.Join(errs...)
}

// token prints a token and nothing else.
func token(ctx context.Context, t wanted) error {
	scopes := strings.Fields(t.Scope)
	if len(scopes) == 0 {
		scopes = load.Scopes()
	}
	text, err := load.Token(ctx, t.URL, t.Subject, t.Tenant, scopes...)
	if err != nil {
		return fmt.Errorf("%w (is the stack running with an issuer? make start AUTH=dev)", err)
	}
	_, err = fmt.Println(text)
	return err
}
