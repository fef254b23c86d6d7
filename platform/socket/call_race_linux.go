//go:build linux && race

package socket

import (
	"errors"
	"syscall"
)

// For the race detector a read comes after the writes before it, and only package syscall can tell it so.

func read(fd uintptr, p []byte) (int, syscall.Errno)  { return result(syscall.Read(int(fd), p)) }
func write(fd uintptr, p []byte) (int, syscall.Errno) { return result(syscall.Write(int(fd), p)) }

func result(n int, err error) (int, syscall.Errno) {
	var errno syscall.Errno
	_ = errors.As(err, &errno) // all of its errors are
	return n, errno
}
