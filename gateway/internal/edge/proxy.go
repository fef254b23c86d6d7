package edge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
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
	documentTimeout = 5 * time.Second
	// smallBody is the largest body that is read before it is passed on. From memory the transport sends it together with the
	// headers, one packet instead of two for the service too, and again when a connection from its pool turns out to be
	// closed before anything was sent. A larger one, or one of unknown length, goes through.
	smallBody = 64 << 10
	// copyBuffer is small because most answers are.
	copyBuffer = 8 << 10
)

// errUpstreamTimeout ends a request whose service took too long.
var errUpstreamTimeout = errors.New("the service did not answer in time")

// proxy passes requests on to one service.
type proxy struct {
	timeout time.Duration
	maxBody int64
	reverse httputil.ReverseProxy
}

func newProxy(cfg Config, service http.RoundTripper, logger *slog.Logger) *proxy {
	return &proxy{
		timeout: cfg.UpstreamTimeout,
		maxBody: int64(cfg.MaxBody),
		reverse: httputil.ReverseProxy{
			Rewrite:        rewrite,
			Transport:      service,
			ModifyResponse: modifyResponse,
			ErrorHandler:   fail,
			BufferPool:     &bufferPool{},
			ErrorLog:       slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
		},
	}
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
	// No service upgrades a connection to another protocol.
	delete(r.Header, "Upgrade")

	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	state := &passage{w: w, r: r}
	defer time.AfterFunc(p.timeout, func() { cancel(errUpstreamTimeout) }).Stop()
	request := r.WithContext(context.WithValue(ctx, passageKey{}, state))
	switch {
	case r.ContentLength == 0:
	case r.ContentLength > 0 && r.ContentLength <= smallBody:
		small := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, small); err != nil {
			httpserver.Error(w, r, httpserver.BodyProblem(err))
			return
		}
		state.body = small
		delete(request.Header, "Expect") // The client has sent what the service might ask for.
	default:
		request.Body = &body{http.MaxBytesReader(w, r.Body, p.maxBody)}
	}
	p.reverse.ServeHTTP(w, request)
}

// withTimeout is a context whose end by time is errUpstreamTimeout.
func withTimeout(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, timeout, errUpstreamTimeout)
}

// passage is what the parts of one proxied request share.
type passage struct {
	w    http.ResponseWriter
	r    *http.Request
	body []byte // a small body
}

type passageKey struct{}

func rewrite(pr *httputil.ProxyRequest) {
	header := pr.Out.Header
	// ReverseProxy has dropped what clients say of Forwarded and X-Forwarded-For, -Host and -Proto.
	for name := range header {
		if strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "X-Original-") {
			delete(header, name)
		}
	}
	delete(header, "X-Real-Ip")
	delete(header, "X-Rewrite-Url")
	pr.SetXForwarded()
	pr.Out.Host = "" // The service's own; the client's is X-Forwarded-Host.

	ctx := pr.In.Context()
	trace := telemetry.Traceparent(ctx)
	if len(header["Traceparent"]) != 1 || header["Traceparent"][0] != trace {
		delete(header, "Tracestate") // It belongs to a trace that ends here.
		header["Traceparent"] = []string{trace}
	}
	header["X-Request-Id"] = []string{httpserver.RequestID(ctx)}

	if small := ctx.Value(passageKey{}).(*passage).body; small != nil {
		pr.Out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(small)), nil }
		pr.Out.Body, _ = pr.Out.GetBody() // It never fails.
	}
}

// fail answers a request that could not be passed on.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	if err == errDetached {
		return
	}
	// The context of this request has ended, but not because the client left.
	if context.Cause(r.Context()) == errUpstreamTimeout {
		err = problemOf(errUpstreamTimeout)
	}
	httpserver.Error(w, r, err)
}

// modifyResponse sees each answer before it is passed on.
func modifyResponse(response *http.Response) error {
	delete(response.Header, "X-Request-Id") // The gateway's own answer has it already.
	return nil
}

// body marks what goes wrong while the client's body is read, to tell it from what goes wrong with the service.
type body struct{ io.ReadCloser }

type bodyError struct{ error }

func (e *bodyError) Unwrap() error { return e.error }

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = &bodyError{err}
	}
	return n, err
}

// bufferPool lends the buffers that answers are copied through.
type bufferPool struct{ pool sync.Pool }

func (b *bufferPool) Get() []byte {
	if buffer, ok := b.pool.Get().(*[copyBuffer]byte); ok {
		return buffer[:]
	}
	return make([]byte, copyBuffer)
}

func (b *bufferPool) Put(buffer []byte) { b.pool.Put((*[copyBuffer]byte)(buffer)) }
