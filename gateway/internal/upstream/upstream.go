// Package upstream is a service as the gateway sees it: some addresses, any of which may be away. Requests go in turn
// to those that are ready (Watch), and to the others when none is. An address that refuses connections is put aside for
// a second, and the request goes to the next one, which is safe for any request, because nothing of it was sent. Those
// that are put aside are tried when nobody else is left: one may have been started again. What breaks off without an
// answer may have been done. If it is safe to repeat (GET, HEAD, OPTIONS, and what has an Idempotency-Key), it goes to
// another address, once; else repeating it is for the client to decide. (On a kept connection that turns out to be
// closed, http.Transport repeats the same ones by itself.)
package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/tlsfiles"
)

const (
	dialTimeout = time.Second
	// tlsTimeout bounds a connection with its handshake.
	tlsTimeout = 2 * time.Second
	// asideFor is how long an address gets no requests after it refused a connection.
	asideFor = time.Second
	// idleTimeout is shorter than the services keep idle connections (2 min), so that a request never meets one that is
	// just being closed.
	idleTimeout = 90 * time.Second
	maxIdle     = 512 // connections kept to one address
	// maxConns bounds the requests in flight to one address, open streams included. More of them wait until their time
	// is over.
	maxConns = 32_000
	// buffer is the size of each connection's two buffers. A usual request and its answer fit; an open stream holds both.
	buffer     = 2 << 10
	maxHeader  = 64 << 10
	probeBytes = 64 << 10
)

// ErrNoAddress means that every address of the service is put aside.
var ErrNoAddress = errors.New("no address of the service can be reached")

// Upstream is a service behind the gateway. It is an http.RoundTripper whose requests need no host.
type Upstream struct {
	name      string
	bases     []*base
	addresses atomic.Pointer[[]*address]
	turn      atomic.Uint32
	logger    *slog.Logger
	lookup    func(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// base is a base URL. It has connections of its own, because those by TLS are to servers that have shown its name.
type base struct {
	scheme, host string
	transport    *http.Transport
}

// address is one instance of the service, or several of which only the common name is known.
type address struct {
	*base                   // requests name its host
	target     string       // what is connected to: the host, or one of its IP addresses
	asideUntil atomic.Int64 // in nanoseconds since the start; see sinceStart
	unready    atomic.Bool
}

// A request goes to the addresses that are ready, then to the others, then to those that were put aside before.
const (
	passReady = iota
	passUnready
	passAside
	passes
)

// pass is the one in which a request of that time goes to the address.
func (a *address) pass(now int64) int {
	switch {
	case a.asideUntil.Load() > now:
		return passAside
	case a.unready.Load():
		return passUnready
	}
	return passReady
}

// New returns the service with the given base URLs, such as https://10.0.0.7:8080. trust is for those with https; each
// instance must have a certificate for its URL's host. Close ends the idle connections.
func New(name string, urls []string, trust *tlsfiles.Source, logger *slog.Logger) (*Upstream, error) {
	parsed, err := parse(urls)
	if err != nil {
		return nil, err
	}
	u := &Upstream{name: name, logger: logger, lookup: net.DefaultResolver.LookupNetIP}
	var addresses []*address
	for _, one := range parsed {
		b := &base{scheme: one.Scheme, host: one.Host, transport: newTransport(trust, one.Hostname())}
		u.bases = append(u.bases, b)
		addresses = append(addresses, &address{base: b, target: b.host})
	}
	u.addresses.Store(&addresses)
	return u, nil
}

func newTransport(trust *tlsfiles.Source, host string) *http.Transport {
	return &http.Transport{
		DialContext: marked((&net.Dialer{Timeout: dialTimeout}).DialContext),
		DialTLSContext: marked(func(ctx context.Context, network, addr string) (net.Conn, error) {
			dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: tlsTimeout}, Config: trust.Client(host)}
			return dialer.DialContext(ctx, network, addr)
		}),
		DisableCompression:     true, // What the client accepts is between it and the service.
		MaxIdleConns:           0,    // Bounded for each address.
		MaxIdleConnsPerHost:    maxIdle,
		MaxConnsPerHost:        maxConns,
		IdleConnTimeout:        idleTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxHeader,
		ReadBufferSize:         buffer,
		WriteBufferSize:        buffer,
	}
}

type dial = func(ctx context.Context, network, addr string) (net.Conn, error)

// marked marks the errors of a dial.
func marked(dial dial) dial {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		connection, err := dial(ctx, network, addr)
		if err != nil {
			return nil, &dialError{err}
		}
		return connection, nil
	}
}

// dialError is a failure before anything of a request was sent.
type dialError struct{ error }

func (e *dialError) Unwrap() error { return e.error }

// Check reports what is wrong with a list of base URLs. On other machines http is allowed only where all is open.
func Check(urls []string, open bool) error {
	parsed, err := parse(urls)
	for _, u := range parsed {
		if u.Scheme == "http" && !open && !httpserver.Loopback(u.Hostname()) {
			return fmt.Errorf("%q must be https, because it is on another machine; ALTYN_OPEN=true lifts that", u)
		}
	}
	return err
}

// parse reads base URLs, each once.
func parse(urls []string) (parsed []*url.URL, err error) {
	if len(urls) == 0 {
		return nil, errors.New("at least one URL is needed")
	}
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
			return nil, fmt.Errorf("%q is no URL such as http://127.0.0.1:8080", text)
		}
		if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return nil, fmt.Errorf("%q must consist of a scheme, a host and a port only", u.Redacted())
		}
		same := func(other *url.URL) bool { return other.Scheme == u.Scheme && other.Host == u.Host }
		if !slices.ContainsFunc(parsed, same) {
			parsed = append(parsed, u)
		}
	}
	return parsed, nil
}

// RoundTrip sends the request to the next address that can be reached, trying each at most once. It returns
// ErrNoAddress when all were put aside before, and none is back; what broke off counts more, for it may have been done.
// Unlike other RoundTrippers it writes to the request, which is the gateway's own: the address into the URL, and the
// host where it names none. It does not close the body, which has to outlive an attempt that could not connect.
func (u *Upstream) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Body != nil && request.Body != http.NoBody {
		request.Body = io.NopCloser(request.Body)
	}
	host, err := request.Host, ErrNoAddress
	now := sinceStart()
	addresses := *u.addresses.Load()
	// Looked at once, so that an address which becomes ready or is put aside meanwhile is tried all the same, and once.
	var few [8]int
	pass := few[:0]
	for _, a := range addresses {
		pass = append(pass, a.pass(now))
	}
	first, again, sent := int(u.turn.Add(1)), false, false
	for i := range passes * len(addresses) {
		n := (first + i) % len(addresses)
		if pass[n] != i/len(addresses) {
			continue
		}
		a := addresses[n]
		if again && request.GetBody != nil { // http.Transport may have read it, on a kept connection that was closed
			request.Body, _ = request.GetBody()
		}
		again = true
		request.URL.Scheme, request.URL.Host, request.Host = a.scheme, a.target, cmp.Or(host, a.host)
		response, failure := a.transport.RoundTrip(request)
		if failure == nil || request.Context().Err() != nil {
			return response, failure
		}
		var dial *dialError
		if !errors.As(failure, &dial) {
			if sent || !repeatable(request) {
				return nil, failure
			}
			sent, err = true, failure
			request = request.Clone(request.Context()) // http.Transport may still read the one that broke off
			continue
		}
		if pass[n] != passAside && !sent {
			err = failure
		}
		if a.asideUntil.Swap(sinceStart()+int64(asideFor)) <= now {
			u.logger.Warn("address put aside: no connection", "upstream", u.name, "address", a.target, "error", dial.error)
		}
	}
	return nil, err
}

// repeatable reports whether a request may be sent again though it may have been done: by the rule of http.Transport.
func repeatable(r *http.Request) bool {
	if r.Body != nil && r.Body != http.NoBody && r.GetBody == nil {
		return false
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return true
	}
	return r.Header.Get("Idempotency-Key") != ""
}

// sinceStart is a time that, unlike the time of day, never runs backwards: else an address could be put aside for as
// long as a clock is set back.
func sinceStart() int64 { return int64(time.Since(start)) }

var start = time.Now()

// Ready reports whether at least one address answers its /readyz with 200. It asks all at once; ctx bounds it.
func (u *Upstream) Ready(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx) // The first yes ends the other probes.
	defer cancel()
	addresses := *u.addresses.Load()
	answers := make(chan error, len(addresses))
	for _, a := range addresses {
		go func() { answers <- u.probe(ctx, a) }()
	}
	var errs []error
	for range addresses {
		err := <-answers
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (u *Upstream) probe(ctx context.Context, a *address) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.scheme+"://"+a.target+"/readyz", nil)
	if err != nil {
		return err
	}
	request.Host = a.host
	response, err := a.transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("%s: %w", a.target, err)
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, probeBytes) // Read to its end, the connection can be used again.
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: /readyz answers %s", a.target, response.Status)
	}
	return nil
}

// Close ends the idle connections.
func (u *Upstream) Close() {
	for _, b := range u.bases {
		b.transport.CloseIdleConnections()
	}
}
