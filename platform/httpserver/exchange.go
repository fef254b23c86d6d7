package httpserver

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"github.com/altyn-pay/altyn/platform/telemetry"
)

// observer is the middleware that wraps every request.
type observer struct {
	Options
	metrics *metrics
	bodies  budget

	tenants, subjects, addresses *counters
}

type exchangeKey struct{}

// exchange is one request and its answer: the ResponseWriter that handlers see, and what is logged and measured.
type exchange struct {
	middleware.WrapResponseWriter
	observer  *observer
	id, trace string // X-Request-Id, traceparent
	start     time.Time
	body      *body      // nil where there is none
	counted   []*counter // of those who ask

	outcome int   // logged in place of the status, see Outcome; 0 for none
	err     error // the cause of a 5xx
}

func (o *observer) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{
			WrapResponseWriter: middleware.NewWrapResponseWriter(w, r.ProtoMajor),
			observer:           o, id: requestID(r.Header), start: time.Now(),
		}
		w.Header()["X-Request-Id"] = []string{x.id}
		var ok bool
		if x.trace, ok = telemetry.ParseTraceparent(r.Header.Get("Traceparent")); !ok {
			x.trace = telemetry.NewTraceparent()
		}
		ctx := telemetry.WithTraceparent(context.WithValue(r.Context(), exchangeKey{}, x), x.trace)
		r = r.WithContext(ctx)
		if r.ProtoMajor == 1 && len(r.TransferEncoding) > 0 {
			// It may have had a Content-Length too, which net/http does not tell. A proxy that goes by that would take what
			// follows for a part of this request, so nothing may follow (RFC 9112, section 6.3).
			w.Header()["Connection"] = []string{"close"}
		}
		if r.ContentLength != 0 {
			x.body = newBody(w, r.Body, &o.bodies)
			defer x.body.release()
			r.Body = x.body
		}
		defer x.uncount()

		defer func() {
			panicked := recover()
			if panicked != nil && panicked != http.ErrAbortHandler { //nolint:errorlint // net/http compares so too
				x.err = fmt.Errorf("panic: %v\n%s", panicked, debug.Stack())
				if x.Status() == 0 {
					WriteProblem(x, NewProblem(http.StatusInternalServerError, CodeInternal,
						"the request failed for a reason that is not its own"))
					panicked = nil
				}
			}
			if x.Status() == 0 && (panicked != nil || r.Context().Err() != nil) {
				x.outcome = cmp.Or(x.outcome, StatusClientClosedRequest)
			}
			x.finish(r)
			if panicked != nil {
				// The answer has begun: only a broken connection tells the client that it is not whole.
				panic(http.ErrAbortHandler)
			}
		}()

		next.ServeHTTP(x, r)
	})
}

// uncount ends the use of the counters, once the request is over.
func (x *exchange) uncount() {
	for _, one := range x.counted {
		one.of.done(one)
	}
}

// finish measures and logs the request once it is over.
func (x *exchange) finish(r *http.Request) {
	took := time.Since(x.start)
	route := cmp.Or(chi.RouteContext(r.Context()).RoutePattern(), "unmatched")
	status := cmp.Or(x.outcome, x.Status(), http.StatusOK)
	x.observer.metrics.observe(r.Method, route, status, took)

	level := slog.LevelDebug
	switch {
	case route == "/healthz" || route == "/readyz" || route == "/metrics" || status == StatusClientClosedRequest:
	case status >= 500 || x.err != nil:
		level = slog.LevelError
	case status >= 400 && status != http.StatusTooManyRequests: // of which there may be any number
		level = slog.LevelInfo
	}
	ctx := context.Background()
	if !x.observer.Logger.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 10)
	attrs = append(attrs,
		slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.String("route", route),
		slog.Int("status", status), slog.Int("bytes", x.BytesWritten()),
		slog.Float64("duration_ms", float64(took.Microseconds())/1000),
		slog.String("remote", cmp.Or(middleware.GetClientIP(r.Context()), r.RemoteAddr)),
		slog.String("request_id", x.id), slog.String("trace_id", telemetry.TraceID(x.trace)))
	if x.err != nil {
		attrs = append(attrs, slog.Any("error", x.err))
	}
	x.observer.Logger.LogAttrs(ctx, level, "request", attrs...)
}

// requestID returns the ID that came with a request, or a new one.
func requestID(h http.Header) string {
	const maxLen = 128
	id := h.Get("X-Request-Id")
	if id != "" && len(id) <= maxLen && strings.IndexFunc(id, func(c rune) bool { return c <= ' ' || c > '~' }) < 0 {
		return id
	}
	var random [16]byte
	binary.NativeEndian.PutUint64(random[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(random[8:], rand.Uint64())
	return hex.EncodeToString(random[:])
}

// problem returns the problem that answers err, and keeps the cause of a 5xx for the log. It is nil when the client
// has left. x is nil for a request that no router of this package serves.
func (x *exchange) problem(ctx context.Context, err error) *Problem {
	p := AsProblem(err)
	switch {
	case p != nil:
	case ctx.Err() != nil:
		return nil
	default:
		if x != nil && x.observer.Classify != nil {
			p = x.observer.Classify(err)
		}
		if p == nil {
			p = NewProblem(http.StatusInternalServerError, CodeInternal, "the request failed for a reason that is not its own")
		}
	}
	if x != nil && p.Status >= http.StatusInternalServerError {
		x.err = err
	}
	return p
}

// FlushError is what http.ResponseController calls.
func (x *exchange) FlushError() error {
	if x.Status() == 0 {
		x.WriteHeader(http.StatusOK)
	}
	return http.NewResponseController(x.Unwrap()).Flush()
}

// Flush implements http.Flusher.
func (x *exchange) Flush() { _ = x.FlushError() }
