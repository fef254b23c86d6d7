package httpserver

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/rs/cors"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/contract"
)

const defaultBodyMemory = 32 << 20

// Config are the settings of a process that serves HTTP.
type Config struct {
	Open           bool         `env:"ALTYN_OPEN" default:"false" help:"whether everybody who reaches this process may do everything: it listens beyond loopback without AUTH=jwt and TLS only then, and so it takes default passwords for a database on another machine, and connections to others without TLS"`
	AllowedOrigins []string     `env:"ALLOWED_ORIGINS" help:"origins of other sites whose pages may call the API, such as https://shop.example, separated by commas"`
	AllowedHosts   []string     `env:"ALLOWED_HOSTS" help:"hosts, beside localhost, by which clients reach this process: name or name:port, separated by commas; with AUTH=jwt and none named, all"`
	BodyMemory     config.Bytes `env:"HTTP_BODY_MEMORY" default:"32MiB" help:"room for the bodies of the requests in flight; beyond it large ones get 503 overloaded"`
	TLS            TLS
	Limits         Limits
}

// Validate checks the origins, the hosts and the room for bodies.
func (c Config) Validate() error {
	var errs []error
	for _, text := range c.AllowedOrigins {
		if _, err := origin(text); err != nil {
			errs = append(errs, config.Invalid("ALLOWED_ORIGINS",
				"must be origins such as https://shop.example or http://localhost:3000: %q %v", text, err))
		}
	}
	for _, text := range c.AllowedHosts {
		if name, _, ok := splitHost(text); !ok || name == "" || strings.ContainsAny(name, "/*@ ") {
			errs = append(errs, config.Invalid("ALLOWED_HOSTS",
				"must be hosts such as payments or altyn.example:8000: %q is none", text))
		}
	}
	if c.BodyMemory < maxBody {
		errs = append(errs, config.Invalid("HTTP_BODY_MEMORY", "must be at least 1MiB, the largest body"))
	}
	return errors.Join(errs...)
}

// origin returns an origin as browsers write it: in lower case, without the scheme's own port.
func origin(text string) (string, error) {
	text = strings.ToLower(text)
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return "", errors.New("is none")
	case u.User != nil, u.Path != "", u.RawQuery != "", u.Fragment != "", strings.ContainsRune(u.Host, '*'):
		return "", errors.New("has more than a scheme, a host and a port")
	}
	if port := u.Port(); u.Scheme == "http" && port == "80" || u.Scheme == "https" && port == "443" {
		text = strings.TrimSuffix(text, ":"+port)
	}
	return text, nil
}

// splitHost takes a Host header apart; the port may be missing.
func splitHost(text string) (name, port string, ok bool) {
	name = text
	if strings.Contains(text, ":") && !strings.HasSuffix(text, "]") {
		var err error
		if name, port, err = net.SplitHostPort(text); err != nil {
			return "", "", false
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return "", "", false
		}
	} else if strings.HasPrefix(name, "[") {
		name = strings.Trim(name, "[]")
	}
	return strings.TrimSuffix(name, "."), port, true
}

// exposedHeaders are the headers of answers that a page of an allowed origin may read. Those of the last line belong
// to Connect and gRPC-Web.
var exposedHeaders = []string{
	"Location", "Idempotent-Replayed", "Retry-After", "X-Request-Id", "Allow", "WWW-Authenticate",
	"RateLimit", "RateLimit-Policy",
	"Grpc-Status", "Grpc-Message", "Grpc-Status-Details-Bin", "Content-Encoding", "Connect-Content-Encoding",
}

// preflightMaxAge is for how long, in seconds, a browser need not ask again.
const preflightMaxAge = 10 * 60

// probes are the paths at which load balancers and monitoring ask an instance by its address.
var probes = map[string]bool{"/healthz": true, "/readyz": true, "/metrics": true, "/grpc.health.v1.Health/Check": true}

// Guard is a middleware that keeps pages of other sites from calling the API through the browser of somebody who can
// reach it.
//
//   - 403 cross_origin: the request comes from a page of another origin that is not in AllowedOrigins. Pages of an
//     allowed origin get answers to their preflights and may read what they asked for. Clients other than browsers
//     send neither Origin nor Sec-Fetch-Site, and notice nothing.
//   - 421 misdirected_request: the request's Host is neither loopback nor in AllowedHosts. For a browser, a page
//     whose own name resolves to this process (DNS rebinding) has the same origin; only that name gives it away.
//     Probes may use any IP address, because no page can have one as its name.
//   - 400 validation_failed: the header Connection names a header that is meant for the service. A proxy on the way
//     has to drop it, and what was meant to happen once may happen twice.
//
// NewRouter contains it.
func (c Config) Guard(next http.Handler) http.Handler { return c.guard(false, next) }

// guard is Guard. Where requests need tokens, a page whose name is made to lead here has none: then every host is
// served, unless AllowedHosts names some.
func (c Config) guard(tokens bool, next http.Handler) http.Handler {
	g := &guard{
		anyHost: tokens && len(c.AllowedHosts) == 0, hosts: make(map[string]bool), cross: http.NewCrossOriginProtection(),
	}
	for _, text := range c.AllowedHosts {
		if name, port, ok := splitHost(strings.ToLower(text)); ok {
			g.hosts[joinHost(name, port)] = true
		}
	}
	var origins []string
	for _, text := range c.AllowedOrigins {
		if o, err := origin(text); err == nil && g.cross.AddTrustedOrigin(o) == nil {
			origins = append(origins, o)
		}
	}
	if len(origins) > 0 {
		next = cors.New(cors.Options{
			AllowedOrigins: origins, AllowedHeaders: []string{"*"}, ExposedHeaders: exposedHeaders,
			MaxAge: preflightMaxAge, AllowPrivateNetwork: true,
		}).Handler(next)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := g.check(r); err != nil {
			Error(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

type guard struct {
	anyHost bool
	hosts   map[string]bool
	cross   *http.CrossOriginProtection
}

// check returns the error of a request that must not be served.
func (g *guard) check(r *http.Request) error {
	if !g.serves(r) {
		return NewProblem(http.StatusMisdirectedRequest, CodeMisdirectedRequest,
			"requests to this host are not answered here; ALLOWED_HOSTS can name it")
	}
	if err := checkConnection(r.Header["Connection"]); err != nil {
		return err
	}
	// CrossOriginProtection lets any page read, and leaves it to the browser to keep the answer from it. When the page's
	// origin is known, a read is refused like everything else.
	checked := r
	if r.Header["Origin"] != nil {
		checked = &http.Request{Method: http.MethodPost, Header: r.Header, Host: r.Host}
	}
	if err := g.cross.Check(checked); err != nil {
		return NewProblem(http.StatusForbidden, CodeCrossOrigin,
			"pages of this origin may not call the API; ALLOWED_ORIGINS can name it")
	}
	return nil
}

// serves reports whether the request's host is one of this process.
func (g *guard) serves(r *http.Request) bool {
	if r.Host == "" { // Browsers always send one.
		return true
	}
	name, port, ok := splitHost(r.Host)
	if !ok || g.anyHost {
		return ok
	}
	if addr, err := netip.ParseAddr(name); err == nil && (addr.Unmap().IsLoopback() || probes[r.URL.Path]) {
		return true
	}
	name = strings.ToLower(name)
	return name == "localhost" || g.hosts[name] || g.hosts[joinHost(name, port)]
}

func joinHost(name, port string) string {
	if port == "" {
		return name
	}
	return net.JoinHostPort(name, port)
}

// checkConnection refuses a Connection header that names a header meant for the service. Only the names that HTTP
// itself has for this hop, and private ones (X-…), may stand there.
func checkConnection(values []string) error {
	for _, value := range values {
		for name := range strings.SplitSeq(value, ",") {
			name = strings.TrimSpace(name)
			switch lower := strings.ToLower(name); {
			case lower == "", lower == "close", lower == "keep-alive", lower == "upgrade", lower == "http2-settings",
				lower == "te", lower == "trailer", lower == "transfer-encoding",
				strings.HasPrefix(lower, "proxy-"), strings.HasPrefix(lower, "x-") && lower != "x-request-id":
			default:
				return contract.Invalid("Connection", "must not name %q, which a proxy would drop", name)
			}
		}
	}
	return nil
}
