package httpserver

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	// streamWriteTimeout bounds each write to a stream; the stream as a whole has no bound.
	streamWriteTimeout = 30 * time.Second
	// maxIgnored is how much a client may send during a stream, where it has nothing to say. One that says more is cut off.
	maxIgnored = 64 << 10
)

// Detach answers with status 200, the headers of w, and a body whose rest stream writes after the handler has returned. It is
// for answers that last, such as server-sent events: a handler that waits keeps its stack, its request and the server's
// buffers, some 40 KB in all, a detached stream keeps 12. begin is the beginning of the body, which may be empty; it is sent
// together with the headers, at once.
//
// ctx ends when the client leaves or the server drains. Each write is sent at once and has 30 s. When stream returns nil, the
// answer ends in good order; after an error its connection is broken off, so that the client knows that it is not whole.
//
// After an error of Detach itself nothing was sent and stream is not called: the connection is not one of HTTP/1. After nil
// the handler must not use w any more.
func Detach(w http.ResponseWriter, r *http.Request, begin []byte, stream func(ctx context.Context, body io.Writer) error) error {
	life := lifetimeOf(r.Context())
	life.streams.Add(1) // before the server forgets the connection
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		life.streams.Done()
		return fmt.Errorf("detach: %w", err)
	}
	d := &detached{conn: conn, chunked: r.ProtoAtLeast(1, 1), entry: entry{status: http.StatusOK}}
	text := d.frame(head(w.Header(), d.chunked), begin)
	if x, ok := r.Context().Value(exchangeKey{}).(*exchange); ok {
		d.entry = x.detach(r)
	}
	d.entry.bytes = int64(len(begin))
	go d.run(life, text, stream) // nothing of the request is kept alive by it
	return nil
}

// head is the beginning of an answer whose length is not known. It is the last one on its connection.
func head(header http.Header, chunked bool) []byte {
	header.Del("Content-Length")
	header.Set("Connection", "close")
	header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	if chunked {
		header.Set("Transfer-Encoding", "chunked")
	}
	var text bytes.Buffer
	text.WriteString("HTTP/1.1 200 OK\r\n")
	_ = header.Write(&text) // a buffer takes everything
	text.WriteString("\r\n")
	return text.Bytes()
}

// detached is an answer that goes on without its handler.
type detached struct {
	conn    net.Conn
	chunked bool
	lost    bool // a write has failed
	entry   entry
}

func (d *detached) run(life *lifetime, begin []byte, stream func(ctx context.Context, body io.Writer) error) {
	defer life.streams.Done()
	ctx, cancel := context.WithCancel(life.draining)
	cutOff := context.AfterFunc(life.base, func() { d.conn.Close() })
	var reader sync.WaitGroup
	reader.Go(func() {
		defer cancel()
		d.awaitClient()
	})
	err := d.call(ctx, begin, stream)
	switch {
	case d.lost: // the client has left, or takes nothing: that is no error
	case err == nil:
		d.end()
	default:
		d.entry.err = err
	}
	cutOff()
	d.conn.Close()
	reader.Wait()
	if d.entry.observer != nil {
		d.entry.observer.finish(&d.entry)
	}
}

func (d *detached) call(ctx context.Context, begin []byte, stream func(ctx context.Context, body io.Writer) error) (err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("panic: %v\n%s", panicked, debug.Stack())
		}
	}()
	if err := d.send(begin); err != nil {
		return err
	}
	return stream(ctx, d)
}

// awaitClient returns when the client leaves.
func (d *detached) awaitClient() {
	ignored := make([]byte, 64)
	for total := 0; total < maxIgnored; {
		n, err := d.conn.Read(ignored)
		if err != nil {
			return
		}
		total += n
	}
}

// Write sends p at once.
func (d *detached) Write(p []byte) (int, error) {
	if err := d.send(d.frame(nil, p)); err != nil {
		return 0, err
	}
	d.entry.bytes += int64(len(p))
	return len(p), nil
}

// frame appends a part of the body in the form in which it is sent.
func (d *detached) frame(text, part []byte) []byte {
	switch {
	case len(part) == 0: // as a chunk it would be the end
		return text
	case !d.chunked:
		return append(text, part...)
	}
	text = slices.Grow(text, len(part)+16)
	text = strconv.AppendInt(text, int64(len(part)), 16)
	text = append(text, "\r\n"...)
	text = append(text, part...)
	return append(text, "\r\n"...)
}

// end tells the client that the answer is whole.
func (d *detached) end() {
	if d.chunked {
		_ = d.send([]byte("0\r\n\r\n")) // a client that is gone misses nothing
	}
}

func (d *detached) send(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	err := d.conn.SetWriteDeadline(time.Now().Add(streamWriteTimeout))
	if err == nil {
		_, err = d.conn.Write(text)
	}
	if err != nil {
		d.lost = true
	}
	return err
}
