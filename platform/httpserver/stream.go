package httpserver

import (
	"net/http"
	"time"
)

// streamWriteTimeout bounds each write of a stream; the stream as a whole has no bound.
const streamWriteTimeout = 30 * time.Second

// Stream is the writer of an answer that lasts, such as server-sent events. Each write has 30 s and is sent at once;
// the server's WriteTimeout does not apply. A handler that follows something for a stream ends with its request's
// context, when the client leaves, and with Draining, when the server does.
type Stream struct {
	http.ResponseWriter
	control *http.ResponseController
	end     func()
}

// NewStream returns the stream that answers a request on w. End must be called once, when its last write is done. The
// error is the 429 of a client that has too many streams, see Limits.
func NewStream(w http.ResponseWriter, r *http.Request) (*Stream, error) {
	s := &Stream{ResponseWriter: w, control: http.NewResponseController(w), end: func() {}}
	if x, _ := r.Context().Value(exchangeKey{}).(*exchange); x != nil {
		var err error
		if s.end, err = x.stream(); err != nil {
			return nil, err
		}
	}
	s.bound(time.Time{})
	return s, nil
}

// End gives the end of the answer 30 s.
func (s *Stream) End() {
	s.end()
	s.bound(time.Now().Add(streamWriteTimeout))
}

// Unwrap lets http.ResponseController reach what the server's own writer can do.
func (s *Stream) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// Write sends p at once. An error means that the client has left, or takes nothing; the request's context has ended
// then.
func (s *Stream) Write(p []byte) (int, error) {
	s.bound(time.Now().Add(streamWriteTimeout))
	defer s.bound(time.Time{}) // in HTTP/2 a deadline ends a stream that rests, too
	n, err := s.ResponseWriter.Write(p)
	if err == nil {
		err = s.control.Flush()
	}
	return n, err
}

// bound sets the deadline. A writer that knows none is a test's.
func (s *Stream) bound(deadline time.Time) { _ = s.control.SetWriteDeadline(deadline) }
