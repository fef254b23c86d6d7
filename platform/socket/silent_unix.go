//go:build unix

package socket

import (
	"net"
	"syscall"
)

// Silent returns a function that reports whether an idle connection is open and nothing has come on it, which nobody has
// asked for. It takes one system call that does not wait, whatever deadline the connection has. When it has said no, the
// connection is of no use any more.
func Silent(connection net.Conn) func() bool {
	socket, ok := connection.(syscall.Conn)
	if !ok {
		return func() bool { return true }
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return func() bool { return false }
	}
	var silent bool
	var probe [1]byte
	read := func(fd uintptr) {
		_, err := syscall.Read(int(fd), probe[:])
		silent = err == syscall.EAGAIN
	}
	return func() bool { return raw.Control(read) == nil && silent }
}
