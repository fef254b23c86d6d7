package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/altyn-pay/altyn/gateway/internal/upstream"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

const (
	// smallBody is the largest body that is read before it is passed on: from memory it is sent together with the headers, one
	// packet instead of two for the service too, and again when a connection that was kept turns out to be closed. Of a larger
	// one so much is read first, so that no service waits for a client that sends nothing; the rest goes through.
	smallBody = upstream.MaxMemory
	// usualBody is the size that a body is given at first. Beyond it memory grows as the bytes arrive.
	usualBody = 4 << 10
	// copyBuffer is small because most answers are.
	copyBuffer = 8 << 10
)

// errUpstreamTimeout ends a request whose service took too long.
var errUpstreamTimeout = errors.New("the service did not answer in time")

// proxy passes requests on to one service. It does what httputil.ReverseProxy does, apart from what no service here needs
// (upgrades, trailers, interim answers), without a copy of each request and its headers.
type proxy struct {
	timeout time.Duration
	maxBody int64
	service http.RoundTripper
	// stream goes on with an answer that is a stream of events; only the RoundTripper of such answers needs one.
	stream func(w http.ResponseWriter, r *http.Request, events *upstream.Stream) error
}

func newProxy(cfg Config, service http.RoundTripper) *proxy {
	return &proxy{timeout: cfg.UpstreamTimeout, maxBody: int64(cfg.MaxBody), service: service}
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// A path with dots or empty segments is read differently by different parsers; none of the API has them.
	if clean := path.Clean(r.URL.Path); clean != strings.TrimSuffix(r.URL.Path, "/") {
		httpserver.Error(w, r, httpserver.NewProblem(http.StatusNotFound, httpserver.CodeNotFound, "nothing is served at this path"))
		return
	}
	if r.ContentLength > p.maxBody {
		httpserver.Error(w, r, httpserver.BodyProblem(&http.MaxBytesError{Limit: p.maxBody}))
		return
	}
	ctx, cancel := withTimeout(r.Context(), p.timeout)
	defer cancel()

	request := r.WithContext(ctx)
	request.URL = new(url.URL)
	*request.URL = *r.URL
	request.Host = "" // The service's own; the client's is X-Forwarded-Host.
	request.Close = false
	rewrite(request.Header, r)
	if request.Body = nil; r.ContentLength != 0 {
		delete(request.Header, "Expect") // The client sends what the service might ask for.
		rest := http.MaxBytesReader(w, r.Body, p.maxBody)
		begin, whole, err := readBeginning(rest, r.ContentLength)
		if err != nil {
			httpserver.Error(w, r, httpserver.BodyProblem(err))
			return
		}
		if whole {
			request.ContentLength, request.TransferEncoding = int64(len(begin)), nil
			request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(begin)), nil }
			request.Body, _ = request.GetBody()
		} else {
			through := &body{reader: io.MultiReader(bytes.NewReader(begin), rest)}
			defer through.Close()
			request.Body = through
		}
	}
	response, err := p.service.RoundTrip(request)
	if err == nil && response.StatusCode < http.StatusOK { // It was not asked for another protocol.
		response.Body.Close()
		err = fmt.Errorf("unexpected answer: %s", response.Status)
	}
	if err != nil {
		fail(ctx, w, r, err)
		return
	}
	p.answer(ctx, w, r, response)
}

// readBeginning reads a body to its end, or as much of it as is small. length is what the client announces, -1 where it does
// not.
func readBeginning(from io.Reader, length int64) (begin []byte, whole bool, err error) {
	limit := int64(smallBody)
	if length >= 0 {
		limit = min(limit, length)
	}
	begin = make([]byte, 0, min(limit, usualBody))
	for {
		n, err := from.Read(begin[len(begin):cap(begin)])
		begin = begin[:len(begin)+n]
		switch {
		case err == io.EOF, err == nil && int64(len(begin)) == length:
			return begin, true, nil
		case err != nil:
			return nil, false, err
		case int64(len(begin)) == limit:
			return begin, false, nil
		case len(begin) == cap(begin):
			begin = append(make([]byte, 0, min(limit, int64(2*len(begin)))), begin...)
		}
	}
}

// answer passes the answer on.
func (p *proxy) answer(ctx context.Context, w http.ResponseWriter, r *http.Request, response *http.Response) {
	dropHops(response.Header)
	header := w.Header()
	for name, values := range response.Header {
		if name != "X-Request-Id" { // It is there already.
			header[name] = values
		}
	}
	if events, ok := response.Body.(*upstream.Stream); ok {
		if err := p.stream(w, r, events); err != nil {
			httpserver.Error(w, r, err)
		}
		return
	}
	defer response.Body.Close()
	w.WriteHeader(response.StatusCode)
	buffer := buffers.Get().(*[copyBuffer]byte)
	defer buffers.Put(buffer)
	for {
		n, err := response.Body.Read(buffer[:])
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				panic(http.ErrAbortHandler) // The client has left.
			}
			if response.ContentLength < 0 {
				_ = http.NewResponseController(w).Flush() // The service takes its time; a client that has left is noticed above.
			}
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			fail(ctx, w, r, err)
			panic(http.ErrAbortHandler) // Only a broken connection tells the client that the answer is not whole.
		}
	}
}

var buffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}

// withTimeout is a context whose end by time is errUpstreamTimeout.
func withTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, timeout, errUpstreamTimeout)
}

// fail answers a request that could not be passed on, or logs that its answer broke off.
func fail(ctx context.Context, w http.ResponseWriter, r *http.Request, err error) {
	// The context of the request to the service has ended, but not because the client left.
	if errors.Is(context.Cause(ctx), errUpstreamTimeout) {
		err = errUpstreamTimeout
	}
	httpserver.Error(w, r, err)
}

// rewrite makes the client's headers the gateway's: without those that are between the client and the gateway, and with what
// only the gateway may say of the client and of the way of the request.
func rewrite(header http.Header, r *http.Request) {
	dropHops(header)
	for name := range header {
		switch {
		case name == "Origin", strings.HasPrefix(name, "Sec-Fetch-"): // checked here; to the service it is the gateway that asks
			delete(header, name)
		case name == "Forwarded", name == "X-Real-Ip", name == "X-Rewrite-Url",
			strings.HasPrefix(name, "X-Forwarded-"), strings.HasPrefix(name, "X-Original-"):
			delete(header, name)
		}
	}
	if header["User-Agent"] == nil {
		header["User-Agent"] = nil // http.Transport shall not say its own.
	}
	ctx := r.Context()
	trace := telemetry.Traceparent(ctx)
	if len(header["Traceparent"]) != 1 || header["Traceparent"][0] != trace {
		delete(header, "Tracestate") // It belongs to a trace that ends here.
	}
	client, _, _ := net.SplitHostPort(r.RemoteAddr)
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	values := []string{client, r.Host, scheme, trace, httpserver.RequestID(ctx)}
	for i, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Traceparent", "X-Request-Id"} {
		header[name] = values[i : i+1 : i+1]
	}
}

// dropHops deletes the headers that are for the next hop alone (RFC 9110, 7.6.1).
func dropHops(header http.Header) {
	for _, value := range header["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			header.Del(strings.TrimSpace(name))
		}
	}
	for name := range header {
		switch name {
		case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer",
			"Transfer-Encoding", "Upgrade":
			delete(header, name)
		}
	}
}

// body is a client's body that goes through. It marks what goes wrong while it is read, to tell it from what goes wrong with
// the service, and keeps the transport from reading it when the request is over.
type body struct {
	reader io.Reader
	over   atomic.Bool
}

type bodyError struct{ error }

func (e *bodyError) Unwrap() error { return e.error }

func (b *body) Read(p []byte) (int, error) {
	if b.over.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.reader.Read(p)
	if err != nil && err != io.EOF {
		err = &bodyError{err}
	}
	return n, err
}

func (b *body) Close() error {
	b.over.Store(true)
	return nil
}
