package socket

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// maxCall bounds the bytes of one system call, and so how long it keeps the scheduler, which cannot interrupt it, waiting.
const maxCall = 256 << 10

// direct returns the connection with reads and writes that bypass the scheduler; one that is not TCP as it is.
func direct(conn net.Conn) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return conn
	}
	c := &directConn{TCPConn: tcp, raw: raw}
	c.in.attempt = func(fd uintptr) bool { return c.in.try(read, fd) }
	c.out.attempt = func(fd uintptr) bool { return c.out.try(write, fd) }
	return c
}

// directConn is a TCP connection of which only Read and Write are different; the waiting and the deadlines are the
// runtime's.
type directConn struct {
	*net.TCPConn
	raw     syscall.RawConn
	in, out transfer
}

// transfer is a read or a write under way, one at a time.
type transfer struct {
	mu      sync.Mutex
	attempt func(fd uintptr) bool // calls try; made once, as one for each transfer would be garbage
	buffer  []byte
	n       int
	errno   syscall.Errno
}

// try reads into the buffer or writes from it, and tells whether that could be done without waiting.
func (t *transfer) try(call func(fd uintptr, p []byte) (int, syscall.Errno), fd uintptr) bool {
	for {
		n, errno := call(fd, t.buffer[:min(len(t.buffer), maxCall)])
		switch errno {
		case 0:
			t.n, t.errno = n, 0
			return true
		case syscall.EAGAIN:
			return false
		case syscall.EINTR:
		default:
			t.n, t.errno = 0, errno
			return true
		}
	}
}

func (c *directConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.in.buffer = p
	err := c.raw.Read(c.in.attempt)
	c.in.buffer = nil
	switch {
	case err != nil:
		return 0, err
	case c.in.errno != 0:
		return 0, c.failed("read", c.in.errno)
	case c.in.n == 0:
		return 0, io.EOF
	}
	return c.in.n, nil
}

func (c *directConn) Write(p []byte) (written int, err error) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	defer func() { c.out.buffer = nil }()
	for written < len(p) {
		c.out.buffer = p[written:]
		if err := c.raw.Write(c.out.attempt); err != nil {
			return written, err
		}
		if c.out.errno != 0 {
			return written, c.failed("write", c.out.errno)
		}
		written += c.out.n
	}
	return written, nil
}

// failed is the error that net has for it too.
func (c *directConn) failed(op string, errno syscall.Errno) error {
	return &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
}
