package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

const (
	// smallBody is the largest body that is read before it is passed on: http.Transport can send it again when a kept connection
	// turns out to be closed. Of a larger one so much is read first, so that no service waits for a client that sends nothing; the
	// rest goes through.
	smallBody = 64 << 10
	// usualBody is the size that a body is given at first. Beyond it memory grows as the bytes arrive.
	usualBody = 4 << 10
	// copyBuffer is small because most answers are, and every open stream holds one.
	copyBuffer = 4 << 10
)

// Why the gateway itself ends a request to a service.
var (
	errUpstreamTimeout = errors.New("the service did not answer in time")
	errDraining        = errors.New("the gateway drains")
)

// proxy passes requests on to one service.
type proxy struct {
	timeout time.Duration
	maxBody int64
	service http.RoundTripper
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
	ctx, end := context.WithCancelCause(r.Context())
	defer end(nil)
	request, err := p.withBody(ctx, w, r)
	if err != nil {
		httpserver.Error(w, r, err)
		return
	}
	timer := time.AfterFunc(p.timeout, func() { end(errUpstreamTimeout) })
	defer timer.Stop()
	h := &hop{service: p.service, w: w, r: r, ctx: ctx, end: end, timer: timer}
	(&httputil.ReverseProxy{
		Rewrite: rewrite, Transport: h, ErrorHandler: h.fail, BufferPool: copyBuffers, ErrorLog: silent,
	}).ServeHTTP(w, request)
}

// withBody returns the request as it is passed on, with its body, or the beginning of a large one, in memory.
func (p *proxy) withBody(ctx context.Context, w http.ResponseWriter, r *http.Request) (*http.Request, error) {
	request := r.WithContext(ctx)
	if r.ContentLength == 0 {
		return request, nil
	}
	if r.ContentLength > p.maxBody {
		return nil, httpserver.BodyProblem(&http.MaxBytesError{Limit: p.maxBody})
	}
	rest := http.MaxBytesReader(w, r.Body, p.maxBody)
	begin, whole, err := readBeginning(rest, r.ContentLength)
	if err != nil {
		return nil, httpserver.BodyProblem(err)
	}
	if !whole {
		request.Body = io.NopCloser(&body{io.MultiReader(bytes.NewReader(begin), rest)})
		return request, nil
	}
	request.ContentLength, request.TransferEncoding = int64(len(begin)), nil
	request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(begin)), nil }
	request.Body, err = request.GetBody()
	return request, err
}

// readBeginning reads a body, which has this length if that is not negative, up to smallBody. whole means that this is all of it.
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

// body is a client's body that goes through. It marks what goes wrong while it is read, to tell it from what goes wrong with the
// service.
type body struct{ io.Reader }

type bodyError struct{ error }

func (e *bodyError) Unwrap() error { return e.error }

func (b *body) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = &bodyError{err}
	}
	return n, err
}

// hop is one request on its way to a service, and the answer on its way back.
type hop struct {
	service http.RoundTripper
	w       http.ResponseWriter
	r       *http.Request // the client's
	ctx     context.Context
	end     context.CancelCauseFunc // of ctx
	timer   *time.Timer             // ends it in time
}

// RoundTrip sends the request. Interim answers, which the context of httputil.ReverseProxy would let through, stay here.
func (h *hop) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := h.service.RoundTrip(request.WithContext(h.ctx))
	if err != nil {
		return nil, err
	}
	if response.StatusCode < http.StatusOK { // It was not asked for another protocol.
		response.Body.Close()
		return nil, fmt.Errorf("unexpected answer: %s", response.Status)
	}
	delete(response.Header, "X-Request-Id") // It is there already.
	a := &answer{ReadCloser: response.Body, hop: h}
	if isStream(response) {
		h.timer.Stop()
		a.stop = context.AfterFunc(httpserver.Draining(h.ctx), func() { h.end(errDraining) })
	}
	response.Body = a
	return response, nil
}

// isStream tells a stream of events. It has no end by time: it ends with its client, with its service, or when the gateway drains:
// then in good order, so that the client comes back elsewhere.
func isStream(response *http.Response) bool {
	return response.StatusCode == http.StatusOK && response.ContentLength < 0 &&
		strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream")
}

// fail answers a request that could not be passed on, or logs that its answer broke off, and breaks it off for the client too.
func (h *hop) fail(_ http.ResponseWriter, _ *http.Request, err error) {
	// The context of the request to the service has ended, but not because the client left.
	if context.Cause(h.ctx) == errUpstreamTimeout {
		err = errUpstreamTimeout
	}
	httpserver.Error(h.w, h.r, err)
}

// answer is the body of a service's answer.
type answer struct {
	io.ReadCloser
	hop  *hop
	stop func() bool
}

func (a *answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	switch {
	case err == nil, err == io.EOF:
	case context.Cause(a.hop.ctx) == errDraining:
		err = io.EOF
	default:
		a.hop.fail(nil, nil, err)
	}
	return n, err
}

func (a *answer) Close() error {
	if a.stop != nil {
		a.stop()
	}
	return a.ReadCloser.Close()
}

// rewrite makes the client's headers the gateway's: without those that are between the client and the gateway, and with what
// only the gateway may say of the client and of the way of the request.
func rewrite(pr *httputil.ProxyRequest) {
	pr.Out.Host = "" // The service's own; the client's is X-Forwarded-Host.
	header, ctx := pr.Out.Header, pr.In.Context()
	for name := range header {
		switch {
		case name == "Connection", name == "Upgrade", name == "Te", // what httputil.ReverseProxy leaves of a hop's own
			name == "Origin", strings.HasPrefix(name, "Sec-Fetch-"), // checked here; to the service it is the gateway that asks
			name == "Expect", // The client sends what the service might ask for.
			name == "X-Real-Ip", name == "X-Rewrite-Url",
			strings.HasPrefix(name, "X-Forwarded-"), strings.HasPrefix(name, "X-Original-"):
			delete(header, name)
		}
	}
	pr.SetXForwarded()
	trace := telemetry.Traceparent(ctx)
	if len(header["Traceparent"]) != 1 || header["Traceparent"][0] != trace {
		delete(header, "Tracestate") // It belongs to a trace that ends here.
	}
	header.Set("Traceparent", trace)
	header.Set("X-Request-Id", httpserver.RequestID(ctx))
}

// buffers are those through which answers are copied.
type buffers struct{ sync.Pool }

var copyBuffers = &buffers{sync.Pool{New: func() any { return new([copyBuffer]byte) }}}

func (b *buffers) Get() []byte       { return b.Pool.Get().(*[copyBuffer]byte)[:] }
func (b *buffers) Put(buffer []byte) { b.Pool.Put((*[copyBuffer]byte)(buffer)) }

// silent takes what httputil.ReverseProxy says of answers that break off: they are logged with their request.
var silent = log.New(io.Discard, "", 0)
