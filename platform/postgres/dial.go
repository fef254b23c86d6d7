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

// dialer makes connections on which no read or write waits longer than answer (0: for ever). lib/pq itself waits
// without a bound, and PostgreSQL's own timeouts end nothing on a server that is frozen or cut off.
type dialer struct {
	answer time.Duration
}

func (d dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if probe, ok := ctx.Value(silentKey{}).(*func() bool); ok {
		*probe = silent(conn)
	}
	if d.answer == 0 {
		return conn, nil
	}
	return &boundedConn{Conn: conn, answer: d.answer}, nil
}

// Dial and DialTimeout complete pq.Dialer, which calls neither of them where there is a DialContext.

func (d dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

func (d dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

// boundedConn puts a deadline of its own on each read and write, except while its user has set one.
type boundedConn struct {
	net.Conn
	answer   time.Duration
	deadline bool         // set by the user: lib/pq bounds the whole connecting by one
	until    atomic.Int64 // the deadline that was set last, in nanoseconds of the epoch; reads and writes may overlap
}

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
	until := time.Now().Add(c.answer)
	if until.UnixNano()-c.until.Load() < int64(c.answer/16) {
		return nil
	}
	c.until.Store(until.UnixNano())
	return c.Conn.SetDeadline(until)
}
