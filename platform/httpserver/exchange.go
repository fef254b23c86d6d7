package httpserver

import (
	"context"
	"net/http"
	"time"
)

type exchangeKey struct{}

// exchange is one request and its answer: the ResponseWriter that handlers see, and what the log will say.
type exchange struct {
	http.ResponseWriter
	entry
}

// entry is what is logged and measured of a request.
type entry struct {
	observer                        *observer
	method, path, route, remote, id string
	trace                           string // traceparent
	start                           time.Time

	status  int // 0 until the answer begins
	outcome int // logged in place of the status, see Outcome; 0 for none
	bytes   int64
	err     error // the cause of a 5xx
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

// Unwrap lets http.ResponseController reach what the server's own writer can do.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

func (x *exchange) WriteHeader(status int) {
	final := status >= 200 || status == http.StatusSwitchingProtocols
	if final && x.status == 0 {
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

func (x *exchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	n, err := x.ResponseWriter.Write(p)
	x.bytes += int64(n)
	return n, err
}

// FlushError is what http.ResponseController calls.
func (x *exchange) FlushError() error {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	return http.NewResponseController(x.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (x *exchange) Flush() { _ = x.FlushError() }
