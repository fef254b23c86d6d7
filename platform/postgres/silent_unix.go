//go:build unix

package postgres

import (
	"net"
	"syscall"
)

// silent returns a function that reports whether an idle connection is open and has nothing to read, which nobody would
// have asked for. It makes one system call that does not wait, whatever the connection's deadline. Once it has returned
// false, the connection is of no use.
func silent(conn net.Conn) func() bool {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return func() bool { return true }
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return func() bool { return false }
	}
	var nothing bool
	var probe [1]byte
	read := func(fd uintptr) {
		_, err := syscall.Read(int(fd), probe[:])
		nothing = err == syscall.EAGAIN
	}
	return func() bool { return raw.Control(read) == nil && nothing }
}
