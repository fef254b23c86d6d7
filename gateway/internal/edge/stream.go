package edge

import (
	"context"
	"errors"
	"io"
	"log/slog"
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

var (
	errTooManyStreams = errors.New("too many streams are open")
	// errDetached is no failure: it keeps ReverseProxy from an answer that goes on without it.
	errDetached = errors.New("the answer is a stream")
)

// streams passes streams of events on. Such an answer has no end by time: it ends with its client, with its service, or when
// the gateway drains: then in good order, so that the client comes back elsewhere. Other answers on the way pass as any.
type streams struct {
	*proxy
	open atomic.Int64
}

func newStreams(cfg Config, service http.RoundTripper, logger *slog.Logger) *streams {
	s := &streams{proxy: newProxy(cfg, service, logger)}
	s.reverse.ModifyResponse = s.modifyResponse
	return s
}

func (s *streams) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.open.Load() >= maxStreams {
		httpserver.Error(w, r, httpserver.Unavailable(errTooManyStreams))
		return
	}
	s.proxy.ServeHTTP(w, r)
}

func (s *streams) modifyResponse(response *http.Response) error {
	if err := modifyResponse(response); err != nil {
		return err
	}
	events, ok := response.Body.(*upstream.Stream)
	if !ok {
		return nil
	}
	exchange := response.Request.Context().Value(passageKey{}).(*passage)
	header := exchange.w.Header()
	for name, values := range response.Header {
		header[name] = values
	}
	response.Body = http.NoBody
	s.open.Add(1)
	err := httpserver.Detach(exchange.w, exchange.r, nil, func(ctx context.Context, client io.Writer) error {
		defer s.open.Add(-1)
		defer events.Close()
		defer context.AfterFunc(ctx, func() { events.Close() })()
		_, err := io.CopyBuffer(client, events, make([]byte, eventBuffer))
		if ctx.Err() != nil {
			return nil
		}
		return err
	})
	if err != nil {
		s.open.Add(-1)
		events.Close()
		return err
	}
	return errDetached
}
