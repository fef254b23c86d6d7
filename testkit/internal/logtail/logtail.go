// Package logtail keeps the end of a server's log, which says why the server has failed.
package logtail

import (
	"io"
	"sync"
)

// Tail passes a log on to Next, which may be nil, and remembers its end.
type Tail struct {
	Next io.Writer

	mu  sync.Mutex
	end []byte
}

const maxBytes = 4 << 10

// Write never fails: a log that cannot be written must not stop the server.
func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, p...)
	t.end = t.end[max(0, len(t.end)-maxBytes):]
	if t.Next != nil {
		_, _ = t.Next.Write(p)
	}
	return len(p), nil
}

// String is the end of the log, at most 4 KiB.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.end)
}
