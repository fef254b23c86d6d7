package upstream

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/altyn-pay/altyn/platform/socket"
)

// pool sends requests over plain HTTP/1.1 to one address and keeps the connections. The goroutine of a request itself writes
// it and reads the answer. http.Transport has two more for each connection, and waking both for each request costs more than
// the rest of what it does. It is left what needs them: requests whose body is still coming when the answer may come already.
type pool struct {
	dial  func(context.Context) (net.Conn, error)
	slots chan struct{} // each is held by a request until its answer is read

	mu     sync.Mutex
	idle   []*connection // the one used last at the end
	expiry *time.Timer   // runs while there are idle ones
	closed bool
}

// connection is one of a pool.
type connection struct {
	net.Conn
	pool    *pool
	reader  *bufio.Reader
	limited io.LimitedReader // what reader reads
	silent  func() bool
	reused  bool
	since   time.Time // when it became idle
}

func newPool(dial func(context.Context) (net.Conn, error)) *pool {
	return &pool{dial: dial, slots: make(chan struct{}, maxConns)}
}

// roundTrip sends a request that is inMemory. On a connection that was used before it may just have met the connection's end:
// what is safe to repeat is then, once, sent on a new one.
func (p *pool) roundTrip(request *http.Request) (*http.Response, error) {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	text, err := appendRequest((*buffer)[:0], request)
	if err != nil {
		return nil, err
	}
	if cap(text) <= keptBuffer {
		*buffer = text
	}
	ctx := request.Context()
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c, err := p.take(ctx)
	var response *http.Response
	if err == nil {
		response, err = c.exchange(request, text)
		if err != nil && c.reused && c.limited.N == maxHeader && ctx.Err() == nil && repeatable(request) {
			if c, err = p.connect(ctx); err == nil {
				response, err = c.exchange(request, text)
			}
		}
	}
	if err != nil {
		<-p.slots
	}
	return response, err
}

// take returns a connection, a new one when none that is kept is alive.
func (p *pool) take(ctx context.Context) (*connection, error) {
	for {
		p.mu.Lock()
		last := len(p.idle) - 1
		if last < 0 {
			p.mu.Unlock()
			return p.connect(ctx)
		}
		c := p.idle[last]
		p.idle[last], p.idle = nil, p.idle[:last]
		p.mu.Unlock()
		if c.silent() {
			c.reused = true
			return c, nil
		}
		c.Close()
	}
}

func (p *pool) connect(ctx context.Context) (*connection, error) {
	inner, err := p.dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &connection{Conn: inner, pool: p, silent: socket.Silent(inner), limited: io.LimitedReader{R: inner}}
	c.reader = bufio.NewReader(&c.limited)
	return c, nil
}

// keep takes back a connection whose answer was read to its end.
func (p *pool) keep(c *connection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= maxIdle {
		c.Close()
		return
	}
	c.since = time.Now()
	p.idle = append(p.idle, c)
	if p.expiry == nil {
		p.expiry = time.AfterFunc(idleTimeout, p.expire)
	}
}

// expire closes the connections that have been idle for too long.
func (p *pool) expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.idle) && time.Since(p.idle[n].since) >= idleTimeout {
		p.idle[n].Close()
		n++
	}
	p.idle = slices.Delete(p.idle, 0, n)
	p.expiry = nil
	if len(p.idle) > 0 {
		p.expiry = time.AfterFunc(idleTimeout-time.Since(p.idle[0].since), p.expire)
	}
}

// close ends the idle connections; the others end with their answers.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		c.Close()
	}
	p.idle, p.closed = nil, true
	if p.expiry != nil {
		p.expiry.Stop()
	}
}

// exchange sends a request and reads the head of its answer; the answer's body gives the connection back. After an error the
// connection is closed.
func (c *connection) exchange(request *http.Request, text []byte) (*http.Response, error) {
	ctx := request.Context()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	_, sent := c.Write(text)
	// A service may answer what it did not read to its end.
	response, err := readHead(c.reader, &c.limited, request)
	if err != nil {
		stop()
		c.Close()
		return nil, cmp.Or(ctx.Err(), sent, err)
	}
	body := &plainBody{rest: response.Body, connection: c, stop: stop, reusable: sent == nil && !response.Close}
	if response.Body == http.NoBody {
		body.end(io.EOF)
	} else {
		response.Body = body
	}
	return response, nil
}

// plainBody is the body of an answer.
type plainBody struct {
	rest       io.Reader
	connection *connection // nil once it was given back
	stop       func() bool
	reusable   bool
}

func (b *plainBody) Read(p []byte) (int, error) {
	n, err := b.rest.Read(p)
	if err != nil {
		b.end(err)
	}
	return n, err
}

// Close breaks off an answer that was not read to its end.
func (b *plainBody) Close() error {
	b.end(net.ErrClosed)
	return nil
}

// end gives the connection back: it can be used again after an answer that is whole and the last thing that came.
func (b *plainBody) end(err error) {
	c := b.connection
	if c == nil {
		return
	}
	b.connection = nil
	if b.stop() && errors.Is(err, io.EOF) && b.reusable && c.reader.Buffered() == 0 {
		c.pool.keep(c)
	} else {
		c.Close()
	}
	<-c.pool.slots
}
