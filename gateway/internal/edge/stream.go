package edge

import (
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/altyn-pay/altyn/platform/httpserver"
)

// maxStreams bounds the open streams of a gateway; one more is told to come again.
const maxStreams = 20_000

// streams passes streams of events on. Any other answer in place of a stream passes too.
type streams struct {
	*proxy
	open atomic.Int64
}

func (s *streams) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.open.Add(-1)
	if s.open.Add(1) > maxStreams {
		httpserver.Error(w, r, errTooManyStreams)
		return
	}
	out := httpserver.NewStream(w)
	defer out.End()
	s.proxy.ServeHTTP(out, r)
}

// isStream reports whether an answer is a stream of events. It has no time limit: it ends with its client, with its
// service, or when the gateway drains. It then ends in good order, so that the client comes back elsewhere.
func isStream(response *http.Response) bool {
	return response.StatusCode == http.StatusOK && response.ContentLength < 0 &&
		strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream")
}
