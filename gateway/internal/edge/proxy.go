package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"mime"
	"net/http"
	"net/http/httputil"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/altyn-pay/altyn/gateway/internal/upstream"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/telemetry"
)

// Why the gateway itself ends a request to a service. A stream ends in good order when the gateway drains.
var (
	errUpstreamTimeout = errors.New("the service did not answer in time")
	errDraining        = errors.New("the gateway drains")
)

// problemOf is the one table from what can go wrong between a client and a service to what the client sees.
func problemOf(err error) *httpserver.Problem {
	switch {
	case errors.Is(err, upstream.ErrNoAddress):
		return httpserver.Unavailable(err)
	case errors.Is(err, errUpstreamTimeout):
		return httpserver.NewProblem(http.StatusGatewayTimeout, httpserver.CodeUpstreamTimeout,
			"the service did not answer in time; what it was asked for may still happen").Because(err)
	}
	return httpserver.NewProblem(http.StatusBadGateway, httpserver.CodeUpstreamUnavailable,
		"the service could not be reached or broke off its answer; what it was asked for may have happened").Because(err)
}

// proxy passes requests on to one service.
type proxy struct {
	timeout time.Duration
	maxBody int64
	service http.RoundTripper
	tracer  *telemetry.Tracer
}

func newProxy(cfg Config, service http.RoundTripper, tracer *telemetry.Tracer) *proxy {
	return &proxy{timeout: cfg.UpstreamTimeout, maxBody: int64(cfg.MaxBody), service: service, tracer: tracer}
}

var ofClient = trace.WithSpanKind(trace.SpanKindClient)

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// A path with dots or empty segments is read differently by different parsers; none of the API has them.
	if clean := path.Clean(r.URL.Path); clean != strings.TrimSuffix(r.URL.Path, "/") {
		httpserver.NotFound(w, r)
		return
	}
	if err := readBody(w, r, p.maxBody); err != nil {
		httpserver.Error(w, r, err)
		return
	}
	if p.tracer.On() {
		ctx, span := p.tracer.Start(r.Context(), r.Method, ofClient)
		defer span.End()
		r = r.WithContext(ctx)
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	h := &hop{w: w, r: r, ctx: ctx, cancel: cancel, service: p.service}
	h.stop = time.AfterFunc(p.timeout, func() { cancel(errUpstreamTimeout) }).Stop
	defer func() { h.stop() }()
	(&httputil.ReverseProxy{
		Rewrite:      rewrite,
		Transport:    h,
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) { h.fail(err) },
		BufferPool:   buffers,
		ErrorLog:     silent,
	}).ServeHTTP(w, r)
}

// maxStreams bounds the open streams of a gateway; one more is told to come again.
const maxStreams = 20_000

// streams passes streams of events and exports on. Any other answer in place of a stream passes too.
type streams struct {
	*proxy
	open atomic.Int64
}

func (s *streams) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.open.Add(-1)
	if s.open.Add(1) > maxStreams {
		httpserver.Error(w, r, httpserver.Unavailable(errors.New("too many streams are open")))
		return
	}
	out, err := httpserver.NewStream(w, r)
	if err != nil {
		httpserver.Error(w, r, err)
		return
	}
	defer out.End()
	s.proxy.ServeHTTP(out, r)
}

// exports takes the requests for exports, and leaves the others to the proxy.
func (s *streams) exports() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if httpserver.AsksForExport(r) {
			s.ServeHTTP(w, r)
		} else {
			s.proxy.ServeHTTP(w, r)
		}
	})
}

// rewrite makes the client's headers the gateway's: it drops what is between the client and the gateway, and sets
// what only the gateway may say of the client and of the request's way.
func rewrite(pr *httputil.ProxyRequest) {
	pr.Out.Host = "" // The service's own; the client's is X-Forwarded-Host.
	header := pr.Out.Header
	for name := range header {
		switch {
		case name == "Connection", name == "Upgrade", name == "Te", // ReverseProxy passes on requests to switch protocols
			name == "Expect",                                        // The client sends what the service might ask for.
			name == "Origin", strings.HasPrefix(name, "Sec-Fetch-"), // Checked here; to the service it is the gateway that asks.
			name == "X-Real-Ip", name == "X-Rewrite-Url",
			strings.HasPrefix(name, "X-Forwarded-"), strings.HasPrefix(name, "X-Original-"):
			delete(header, name)
		}
	}
	pr.SetXForwarded()
	header["X-Forwarded-For"] = []string{httpserver.ClientAddress(pr.In)}
	telemetry.Inject(pr.In.Context(), header)
	header["X-Request-Id"] = []string{httpserver.RequestID(pr.In.Context())}
}

// hop is one request's way to a service and its answer's way back.
type hop struct {
	w       http.ResponseWriter
	r       *http.Request // the client's
	ctx     context.Context
	cancel  context.CancelCauseFunc // of ctx; its cause is why the gateway itself ends the hop
	stop    func() bool             // of whatever would cancel
	service http.RoundTripper
}

// RoundTrip implements http.RoundTripper for the ReverseProxy, whose own context would let interim answers through.
func (h *hop) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.WithContext(h.ctx)
	if request.GetBody != nil {
		// As it is known to be in memory, http.Transport sends it together with the headers.
		request.Body, _ = request.GetBody()
	}
	span := trace.SpanFromContext(h.ctx)
	response, err := h.service.RoundTrip(request)
	if err != nil {
		telemetry.Fail(span, err)
		return nil, err
	}
	if span.IsRecording() {
		sent := response.Request // to the instance that answered
		span.SetAttributes(semconv.HTTPRequestMethodKey.String(sent.Method), semconv.ServerAddress(sent.URL.Host),
			semconv.URLPath(sent.URL.Path), semconv.HTTPResponseStatusCode(response.StatusCode))
		if response.StatusCode >= http.StatusBadRequest {
			span.SetStatus(codes.Error, "")
		}
	}
	if response.StatusCode < http.StatusOK { // The service was not asked for another protocol.
		response.Body.Close()
		return nil, fmt.Errorf("unexpected answer: %s", response.Status)
	}
	delete(response.Header, "X-Request-Id") // The answer has it already.
	h.keepLimits(response)
	switch { // those have no timeout
	case isExport(response): // when the gateway drains it is cut off with the others: its end says that it is whole
		h.stop()
	case isStream(response):
		h.stop()
		h.stop = context.AfterFunc(httpserver.Draining(h.ctx), func() { h.cancel(errDraining) })
	}
	response.Body = &answer{response.Body, h}
	return response, nil
}

// keepLimits keeps of the limits that the gateway and the service tell of those that the client has to heed: the
// service's where that refuses, else the gateway's where it has any.
func (h *hop) keepLimits(response *http.Response) {
	mine := h.w.Header()
	for _, name := range []string{"Ratelimit", "Ratelimit-Policy"} {
		if response.StatusCode == http.StatusTooManyRequests {
			delete(mine, name)
		} else if mine[name] != nil {
			delete(response.Header, name)
		}
	}
}

// fail answers a request that could not be passed on. When its answer has begun, fail breaks it off.
func (h *hop) fail(err error) {
	if errors.Is(context.Cause(h.ctx), errUpstreamTimeout) {
		err = errUpstreamTimeout
	}
	httpserver.Error(h.w, h.r, err)
}

// answer is the body of a service's answer.
type answer struct {
	io.ReadCloser
	hop *hop
}

func (a *answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	switch {
	case err == nil, err == io.EOF:
	case errors.Is(context.Cause(a.hop.ctx), errDraining):
		err = io.EOF
	default:
		a.hop.fail(err)
	}
	return n, err
}

// isStream reports whether an answer is a stream of events. It has no time limit: it ends with its client, with its
// service, or when the gateway drains. It then ends in good order, so that the client comes back elsewhere.
func isStream(response *http.Response) bool {
	return response.StatusCode == http.StatusOK && response.ContentLength < 0 &&
		strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream")
}

// isExport reports whether an answer is a list or a statement that is streamed: as long as its client takes it.
func isExport(response *http.Response) bool {
	media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	return response.StatusCode == http.StatusOK && response.ContentLength < 0 &&
		(media == httpserver.CSV || media == httpserver.Ledger)
}

// copyBuffer is small because most answers are, and because every open stream holds one.
const copyBuffer = 2 << 10

// pool implements httputil.BufferPool.
type pool struct{ sync.Pool }

var buffers = &pool{sync.Pool{New: func() any { return new([copyBuffer]byte) }}}

func (p *pool) Get() []byte       { return p.Pool.Get().(*[copyBuffer]byte)[:] }
func (p *pool) Put(buffer []byte) { p.Pool.Put((*[copyBuffer]byte)(buffer)) }

// silent drops what ReverseProxy says of answers that break off; they are logged with their request.
var silent = log.New(io.Discard, "", 0)

// smallBody is the largest body that is read before it is passed on: http.Transport can then send it again when a kept
// connection turns out to be closed. Of a larger one this much is read first, so that no service waits for a client
// that sends nothing; the rest goes through.
const smallBody = 64 << 10

// readBody gives the request a body that can be passed on, of at most limit bytes, instead of the client's. All of a
// small one, or the beginning of a large one, is in memory then: as much as has arrived, not what is announced. Its
// error is an *httpserver.Problem.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) error {
	if r.ContentLength == 0 {
		return nil
	}
	if r.ContentLength > limit {
		return httpserver.BodyProblem(&http.MaxBytesError{Limit: limit})
	}
	rest := http.MaxBytesReader(w, r.Body, limit)
	begin, err := io.ReadAll(io.LimitReader(rest, smallBody+1))
	if err != nil {
		return httpserver.BodyProblem(err)
	}
	if len(begin) > smallBody {
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(begin), body{rest}))
		return nil
	}
	r.ContentLength, r.TransferEncoding = int64(len(begin)), nil
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(begin)), nil }
	r.Body, err = r.GetBody()
	return err
}

// body marks what goes wrong while a client's body is read, to tell it from what goes wrong with the service.
type body struct{ io.Reader }

func (b body) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = httpserver.BodyProblem(err)
	}
	return n, err
}
