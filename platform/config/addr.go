package config

import (
	"net"
	"strconv"
)

// CheckAddr checks a TCP address to listen on, host:port with an optional host. It returns the *Wrong of the variable.
func CheckAddr(name, addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n > 65535 {
		return Invalid(name, "must be host:port or :port, with a port from 0 to 65535")
	}
	return nil
}
