package httpserver

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5/middleware"
	"golang.org/x/time/rate"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/identity"
)

// Limits are what each of those who ask may take of a process. 0 is no limit.
type Limits struct {
	TenantRate         int          `env:"LIMIT_TENANT_RATE" default:"0" help:"requests per second of each tenant; beyond, 429 rate_limited; 0: no limit"`
	SubjectRate        int          `env:"LIMIT_SUBJECT_RATE" default:"0" help:"the same of each subject of a tenant"`
	AddressRate        int          `env:"LIMIT_ADDRESS_RATE" default:"0" help:"the same of each client's address, IPv6 by /64; at a service behind a gateway it needs TRUSTED_PROXIES"`
	TenantStreams      int          `env:"LIMIT_TENANT_STREAMS" default:"0" help:"open streams of each tenant; beyond, 429 rate_limited; 0: no limit"`
	SubjectStreams     int          `env:"LIMIT_SUBJECT_STREAMS" default:"0" help:"the same of each subject"`
	AddressStreams     int          `env:"LIMIT_ADDRESS_STREAMS" default:"0" help:"the same of each address"`
	TenantBodies       config.Bytes `env:"LIMIT_TENANT_BODIES" help:"part of HTTP_BODY_MEMORY that each tenant may take, at least 1MiB; beyond, 429 rate_limited (default: no limit)"`
	SubjectBodies      config.Bytes `env:"LIMIT_SUBJECT_BODIES" help:"the same of each subject"`
	AddressBodies      config.Bytes `env:"LIMIT_ADDRESS_BODIES" help:"the same of each address"`
	AddressConnections int          `env:"LIMIT_ADDRESS_CONNECTIONS" default:"0" help:"open connections of each address but those in TRUSTED_PROXIES; further ones are closed at once; 0: no limit"`
	Connections        int          `env:"LIMIT_CONNECTIONS" default:"20000" help:"open connections; further ones wait until one ends; 0: no limit"`
	TrustedProxies     []string     `env:"TRUSTED_PROXIES" help:"networks of the proxies whose X-Forwarded-For is believed, such as 10.0.0.0/8,fd00::/8 (default: none)"`
}

// Validate checks that nothing is negative or too small to let anything through, and the networks.
func (l Limits) Validate() error {
	var errs []error
	for name, value := range map[string]int{
		"LIMIT_TENANT_RATE": l.TenantRate, "LIMIT_SUBJECT_RATE": l.SubjectRate, "LIMIT_ADDRESS_RATE": l.AddressRate,
		"LIMIT_TENANT_STREAMS": l.TenantStreams, "LIMIT_SUBJECT_STREAMS": l.SubjectStreams,
		"LIMIT_ADDRESS_STREAMS": l.AddressStreams, "LIMIT_ADDRESS_CONNECTIONS": l.AddressConnections,
		"LIMIT_CONNECTIONS": l.Connections,
	} {
		if value < 0 {
			errs = append(errs, config.Invalid(name, "must be 0 or more"))
		}
	}
	for name, value := range map[string]config.Bytes{"LIMIT_TENANT_BODIES": l.TenantBodies,
		"LIMIT_SUBJECT_BODIES": l.SubjectBodies, "LIMIT_ADDRESS_BODIES": l.AddressBodies} {
		if value != 0 && value < maxBody {
			errs = append(errs, config.Invalid(name, "must be at least 1MiB, the largest body"))
		}
	}
	for _, text := range l.TrustedProxies {
		if _, err := netip.ParsePrefix(text); err != nil {
			errs = append(errs, config.Invalid("TRUSTED_PROXIES", "must be networks such as 10.0.0.0/8: %q is none", text))
		}
	}
	return errors.Join(errs...)
}

// counters count for those of one kind, such as all tenants. They remember a bounded number of those that have no
// request in flight: they consist of two halves, and forget the older one when the younger is full. Who is forgotten
// may again make as many requests at once as in a second, so the memory must outlast a second of strangers.
type counters struct {
	kind            string
	rate            int
	streams, bodies int64
	policy          string // an item of RateLimit-Policy

	mu           sync.Mutex
	young, older map[string]*counter
}

// counter is what one tenant, subject or address takes.
type counter struct {
	of       *counters
	requests *rate.Limiter
	streams  atomic.Int64
	bodies   budget
	uses     int // requests in flight; of counters.mu
}

// rememberedCounters is how many counters a half has room for, beside those in use.
const rememberedCounters = 16 << 10

func newCounters(kind string, perSecond, streams int, bodies config.Bytes) *counters {
	return &counters{kind: kind, rate: perSecond, streams: int64(streams), bodies: int64(bodies),
		policy: fmt.Sprintf("%q;q=%d;w=1", kind, perSecond)}
}

func (c *counters) on() bool { return c.rate > 0 || c.streams > 0 || c.bodies > 0 }

// use returns a counter, which done must get back.
func (c *counters) use(key string) *counter {
	c.mu.Lock()
	defer c.mu.Unlock()
	one, ok := c.young[key]
	if !ok {
		if one, ok = c.older[key]; !ok {
			one = &counter{of: c, requests: rate.NewLimiter(rate.Limit(c.rate), c.rate)}
			one.bodies = budget{limit: c.bodies, full: c.limited("bodies of its requests take all the room there is for")}
		}
		c.keep(key, one)
	}
	one.uses++
	return one
}

// keep adds a counter to the younger half. mu is held.
func (c *counters) keep(key string, one *counter) {
	if c.young == nil || len(c.young) >= rememberedCounters {
		forgotten := c.older
		c.young, c.older = make(map[string]*counter), c.young
		for key, old := range forgotten {
			if old.uses > 0 && c.older[key] == nil {
				c.older[key] = old
			}
		}
	}
	c.young[key] = one
}

func (c *counters) done(one *counter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one.uses--
}

// limited is the 429 of one who has taken too much.
func (c *counters) limited(what string) *Problem {
	return NewProblem(http.StatusTooManyRequests, CodeRateLimited, what+" this "+c.kind+"; try again in a second")
}

// count counts the request for one of a kind. The error is its 429.
func (x *exchange) count(of *counters, key string) error {
	if !of.on() {
		return nil
	}
	one := of.use(key)
	x.counted = append(x.counted, one)
	if of.rate > 0 {
		now := time.Now()
		allowed := one.requests.AllowN(now, 1)
		x.announce(of, max(int(one.requests.TokensAt(now)), 0))
		if !allowed {
			return of.limited(strconv.Itoa(of.rate) + " requests per second are allowed for")
		}
	}
	if of.bodies > 0 && x.body != nil {
		x.body.share(&one.bodies)
	}
	return nil
}

// announce tells the client of a limit, see draft-ietf-httpapi-ratelimit-headers-11: q requests in w seconds, of which
// r remain, and all again in t seconds, which is a second here: a request was just counted.
func (x *exchange) announce(of *counters, remaining int) {
	join := func(name, item string) {
		header := x.Header()
		if before := header[name]; len(before) > 0 {
			item = before[0] + ", " + item
		}
		header[name] = []string{item}
	}
	join("Ratelimit-Policy", of.policy)
	join("Ratelimit", strconv.Quote(of.kind)+";r="+strconv.Itoa(remaining)+";t=1")
}

// stream counts an open stream for all for whom the request was counted. The error is a 429.
func (x *exchange) stream() (end func(), err error) {
	for i, one := range x.counted {
		if limit := one.of.streams; limit > 0 && one.streams.Add(1) > limit {
			endStreams(x.counted[:i+1])
			return nil, one.of.limited(strconv.FormatInt(limit, 10) + " open streams are allowed for")
		}
	}
	return func() { endStreams(x.counted) }, nil
}

func endStreams(counted []*counter) {
	for _, one := range counted {
		if one.of.streams > 0 {
			one.streams.Add(-1)
		}
	}
}

// countWho counts a request for its subject and its tenant. What a subject does beyond its own limit takes nothing of
// its tenant's.
func (x *exchange) countWho(who identity.Identity) error {
	if who.Subject != "" {
		if err := x.count(x.observer.subjects, who.Tenant+"\x00"+who.Subject); err != nil {
			return err
		}
	}
	return x.count(x.observer.tenants, who.Tenant)
}

// countAddress is a middleware that counts requests for their clients' addresses.
func (o *observer) countAddress(next http.Handler) http.Handler {
	if !o.addresses.on() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := r.Context().Value(exchangeKey{}).(*exchange)
		if err := x.count(o.addresses, addressKey(clientIP(r))); err != nil {
			Error(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// believe returns the middleware that finds the clients behind trusted proxies.
func (l Limits) believe() func(http.Handler) http.Handler {
	if len(l.TrustedProxies) == 0 {
		return func(next http.Handler) http.Handler { return next }
	}
	return middleware.ClientIPFromXFF(l.TrustedProxies...)
}

// ClientAddress is the IP address from which a request comes: that of the connection, or the one that a proxy of
// TRUSTED_PROXIES names.
func ClientAddress(r *http.Request) string {
	if ip := clientIP(r); ip.IsValid() {
		return ip.String()
	}
	return ""
}

func clientIP(r *http.Request) netip.Addr {
	if ip := middleware.GetClientIPAddr(r.Context()); ip.IsValid() {
		return ip
	}
	return peerIP(r.RemoteAddr)
}

// peerIP is the IP address of a connection's address, or the zero Addr.
func peerIP(address string) netip.Addr {
	peer, _ := netip.ParseAddrPort(address)
	return peer.Addr().Unmap().WithZone("")
}

// addressKey tells addresses apart. Whoever has one address of a /64 of IPv6 has all of it.
func addressKey(ip netip.Addr) string {
	bytes := ip.AsSlice()
	return string(bytes[:min(len(bytes), 8)])
}
