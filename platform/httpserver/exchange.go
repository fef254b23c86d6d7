package httpserver

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/altyn-pay/altyn/platform/telemetry"
)

// observer is the middleware that wraps every request.
type observer struct {
	Options
	metrics   *metrics
	bodies    budget
	strangers *rate.Limiter // of lines in the log
	exports   atomic.Int64  // under way

	tenants, subjects, addresses *counters
}

type exchangeKey struct{}

// exchange is one request and its answer: the ResponseWriter that handlers see, and what is logged and measured.
type exchange struct {
	middleware.WrapResponseWriter
	observer *observer
	id       string // X-Request-Id
	span     trace.Span
	start    time.Time
	body     *body      // nil where there is none
	counted  []*counter // of those who ask

	known   bool  // who asks
	outcome int   // logged in place of the status, see Outcome; 0 for none
	err     error // the cause of a 5xx
}

// What nobody known has asked for has at most so many lines a second at the level info, and so many at once.
const (
	strangersLines = 10
	strangersBurst = 100
)

func (o *observer) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{
			WrapResponseWriter: middleware.NewWrapResponseWriter(w, r.ProtoMajor),
			observer:           o, id: requestID(r.Header), start: time.Now(),
		}
		w.Header()["X-Request-Id"] = []string{x.id}
		r = r.WithContext(x.trace(context.WithValue(r.Context(), exchangeKey{}, x), r))
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
	x.observer.metrics.observe(r.Method, route, status, took, x.span)
	x.endSpan(r, route, status)

	level := slog.LevelDebug
	switch {
	case isProbe(route) || status == StatusClientClosedRequest:
	case status >= 500 || x.err != nil:
		level = slog.LevelError
	case status == http.StatusTooManyRequests: // of which there may be any number
	case status >= 400 && (x.known || x.observer.strangers.Allow()):
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
		slog.String("request_id", x.id), slog.String("trace_id", x.span.SpanContext().TraceID().String()))
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

// metrics are of bounded size, because all methods that HTTP does not know count as one, and routes are patterns.
type metrics struct {
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "altyn_http_requests_total",
			Help: "Requests answered, by route pattern; code 499 is a client that left before its answer.",
		}, []string{"method", "route", "code"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "altyn_http_request_duration_seconds",
			Help:    "Time from a request's headers to the end of its answer, streams and ?wait= included.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"method", "route"}),
	}
	var err, other error
	m.requests, err = telemetry.Register(registerer, m.requests)
	if m.durations, other = telemetry.Register(registerer, m.durations); err != nil || other != nil {
		panic(errors.Join(err, other))
	}
	return m
}

func (m *metrics) observe(method, route string, status int, took time.Duration, span trace.Span) {
	if !isMethod(method) {
		method = "other"
	}
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
	telemetry.Observe(m.durations.WithLabelValues(method, route), took, span)
}

func isMethod(name string) bool {
	switch name {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return true
	}
	return false
}

// bodyTimeout bounds the arrival of a request's body.
const bodyTimeout = 15 * time.Second

// freeBody is how much of each body needs no room in the budget, because its connection has a buffer of that size
// anyhow. So small requests pass even when large ones have taken all the room.
const freeBody = 4 << 10

// budget bounds the bytes of requests' bodies that are in memory at a time: of all, or of those of one who asks.
type budget struct {
	limit int64
	full  *Problem // when there is no room
	taken atomic.Int64
}

// take takes n more bytes and reports whether there was room for them. A negative n gives bytes back.
func (b *budget) take(n int64) bool {
	if b.taken.Add(n) > b.limit && n > 0 {
		b.taken.Add(-n)
		return false
	}
	return true
}

// waitingBody is what else a request takes until its body is whole: its goroutine, and the buffers of its connection
// or stream. A connection of HTTP/2 can have hundreds of such requests.
const waitingBody = 16 << 10

// hurry bounds the arrival of a body when there is no room for waiting. A body that was sent together with its
// headers is there by then, so the slow bodies of some stop nobody else.
const hurry = 250 * time.Millisecond

// body is a request's body. It must arrive by a deadline. Until release it takes room in budgets, for what has
// arrived and for waiting until it is whole.
//
// The deadline is the connection's, so it is lifted at the body's end: the server's next read only has to notice that
// the client leaves. It stays when the body is not read to its end, because the server then reads the rest to reuse
// the connection.
type body struct {
	io.ReadCloser
	control *http.ResponseController
	read    int64
	waiting int64    // the room for waiting; 0 where there was none
	late    *Problem // when it is late then

	mu       sync.Mutex // a proxy's transport may still read when the request is over
	budgets  []*budget
	taken    int64 // of each of them
	released bool
}

func newBody(w http.ResponseWriter, from io.ReadCloser, budget *budget) *body {
	b := &body{ReadCloser: from, control: http.NewResponseController(w), waiting: waitingBody, taken: waitingBody}
	_ = b.control.SetReadDeadline(time.Now().Add(bodyTimeout)) // A writer that knows no deadlines is a test's.
	b.share(budget)
	return b
}

// share lets the body take its room in a further budget too, before anything of it is read. Where that has no room for
// waiting, the body must hurry.
func (b *body) share(budget *budget) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !budget.take(b.taken) {
		b.give()
		b.waiting, b.late = 0, budget.full
		_ = b.control.SetReadDeadline(time.Now().Add(hurry))
	}
	b.budgets = append(b.budgets, budget)
}

// give gives back all that the body has taken. mu is held.
func (b *body) give() {
	for _, budget := range b.budgets {
		budget.taken.Add(-b.taken)
	}
	b.taken = 0
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	room := max(b.read-freeBody, 0)
	if err == io.EOF {
		_ = b.control.SetReadDeadline(time.Time{})
	} else {
		room += b.waiting
	}
	if b.late != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, b.late
	}
	if full := b.take(room); full != nil {
		return 0, full
	}
	return n, err
}

// take makes room the number of bytes that the body takes. Where there is no room it returns the problem.
func (b *body) take(room int64) *Problem {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.released {
		return b.budgets[0].full
	}
	for i, budget := range b.budgets {
		if !budget.take(room - b.taken) {
			for _, before := range b.budgets[:i] {
				before.taken.Add(b.taken - room)
			}
			return budget.full
		}
	}
	b.taken = room
	return nil
}

// release gives back what the body took.
func (b *body) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.give()
	b.released = true
}

// BodyProblem returns the problem of a body that could not be read: 413 when http.MaxBytesReader ended it, 408 when
// it took too long, 503 or 429 when there is no room for it, and 400 otherwise, such as when the client went away.
func BodyProblem(err error) *Problem {
	var large *http.MaxBytesError
	var known *Problem
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &large):
		return NewProblem(http.StatusRequestEntityTooLarge, CodeBodyTooLarge,
			fmt.Sprintf("the body is larger than %d bytes", large.Limit))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return NewProblem(http.StatusRequestTimeout, CodeRequestTimeout, "the body did not arrive in time").Because(err)
	}
	return NewProblem(http.StatusBadRequest, CodeInvalidJSON, "the body could not be read to its end").Because(err)
}
