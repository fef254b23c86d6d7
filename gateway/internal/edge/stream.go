package edge

import (
	"errors"
	"net/http"
	"sync/atomic"

	"github.com/altyn-pay/altyn/platform/httpserver"
)

// maxStreams bounds the open streams of a gateway; one more is told to come again.
const maxStreams = 20_000

var errTooManyStreams = errors.New("too many streams are open")

// streams passes streams of events on. Other answers on the way pass as any.
type streams struct {
	*proxy
	open atomic.Int64
}

func (s *streams) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.open.Add(-1)
	if s.open.Add(1) > maxStreams {
		httpserver.Error(w, r, httpserver.Unavailable(errTooManyStreams))
		return
	}
	out := httpserver.NewStream(w)
	defer out.End()
	s.proxy.ServeHTTP(out, r)
}
