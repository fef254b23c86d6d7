package postgres

import (
	"context"
	"net"
	"sync/atomic"
	"time"
)

// silentKey is the key of a context under which the dialer leaves what silent says of the connection that it makes:
// lib/pq does not hand it out.
type silentKey struct{}

// dialer completes a function as a pq.Dialer, which calls neither Dial nor DialTimeout where there is a DialContext.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

func (d dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return d(ctx, network, address)
}

func (d dialer) Dial(network, address string) (net.Conn, error) {
	return d(context.Background(), network, address)
}

func (d dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d(ctx, network, address)
}

// dialBounded makes connections on which no read or write waits longer than answer (0: for ever). lib/pq itself waits
// without a bound, and PostgreSQL's own timeouts end nothing on a server that is frozen or cut off.
func dialBounded(answer time.Duration) dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if probe, ok := ctx.Value(silentKey{}).(*func() bool); ok {
			*probe = silent(conn)
		}
		if answer == 0 {
			return conn, nil
		}
		return &boundedConn{Conn: conn, answer: answer}, nil
	}
}

// boundedConn puts a deadline of its own on each read and write, except while its user has set one.
type boundedConn struct {
	net.Conn
	answer   time.Duration
	deadline bool         // set by the user: lib/pq bounds the whole connecting by one
	until    atomic.Int64 // the deadline that was set last, in nanoseconds since the start; reads and writes may overlap
}

// start is what deadlines are counted from: unlike the time of day, what has passed since then never runs backwards.
var start = time.Now()

func (c *boundedConn) SetDeadline(t time.Time) error {
	c.deadline = !t.IsZero()
	c.until.Store(0)
	return c.Conn.SetDeadline(t)
}

func (c *boundedConn) Read(p []byte) (int, error) {
	if err := c.bound(); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *boundedConn) Write(p []byte) (int, error) {
	if err := c.bound(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// bound renews the deadline once a sixteenth of its time has passed: setting it costs as much as a small read.
func (c *boundedConn) bound() error {
	if c.deadline {
		return nil
	}
	until := time.Since(start) + c.answer
	if until-time.Duration(c.until.Load()) < c.answer/16 {
		return nil
	}
	c.until.Store(int64(until))
	return c.Conn.SetDeadline(start.Add(until))
}
