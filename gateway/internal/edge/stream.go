package edge

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/altyn-pay/altyn/gateway/internal/upstream"
	"github.com/altyn-pay/altyn/platform/httpserver"
)

const (
	// maxStreams bounds the open streams of a gateway; one more is told to come again.
	maxStreams = 20_000
	// eventBuffer is room for an event of a usual size. Every open stream holds one.
	eventBuffer = 1 << 10
)

var errTooManyStreams = errors.New("too many streams are open")

// streams passes streams of events on. Such an answer has no end by time: it ends with its client, with its service, or when
// the gateway drains: then in good order, so that the client comes back elsewhere. Other answers on the way pass as any.
type streams struct {
	*proxy
	open atomic.Int64
}

func newStreams(cfg Config, service http.RoundTripper) *streams {
	s := &streams{proxy: newProxy(cfg, service)}
	s.stream = s.detach
	return s
}

func (s *streams) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.open.Load() >= maxStreams {
		httpserver.Error(w, r, httpserver.Unavailable(errTooManyStreams))
		return
	}
	s.proxy.ServeHTTP(w, r)
}

func (s *streams) detach(w http.ResponseWriter, r *http.Request, events *upstream.Stream) error {
	s.open.Add(1)
	defer s.open.Add(-1)
	defer events.Close()
	ctx := httpserver.Draining(r.Context())
	defer context.AfterFunc(ctx, func() { events.Close() })()
	defer context.AfterFunc(r.Context(), func() { events.Close() })()
	out := httpserver.NewStream(w)
	defer out.End()
	w.WriteHeader(200)
	out.Flush()
	_, err := io.CopyBuffer(out, events, make([]byte, eventBuffer))
	if ctx.Err() != nil || r.Context().Err() != nil {
		return nil
	}
	return err
}
