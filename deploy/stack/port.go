package stack

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

const loopback = "127.0.0.1"

// Free ports are taken from below the ranges out of which systems serve outgoing connections (from 32768 on Linux): while a
// part is down, such a connection could take its port.
const (
	firstFreePort = 20_000
	lastFreePort  = 31_999
	freePortTries = 100
)

// freePort returns a port of the loopback interface on which nobody listens.
func freePort() (uint16, error) {
	for range freePortTries {
		port := uint16(firstFreePort + rand.IntN(lastFreePort-firstFreePort+1))
		if checkFree(loopbackAddr(port)) == nil {
			return port, nil
		}
	}
	return 0, errors.New("no free port between 20000 and 31999")
}

func loopbackAddr(port uint16) string { return net.JoinHostPort(loopback, strconv.Itoa(int(port))) }

// checkFree returns an error when somebody listens on the address. Some systems allow a listener of all interfaces beside one
// of the loopback interface, hence the second look.
func checkFree(addr string) error {
	for _, addr := range []string{addr, dialable(addr)} {
		listener, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		if err := listener.Close(); err != nil {
			return err
		}
	}
	return nil
}

// Endpoint is an address on which a part of the stack will listen.
type Endpoint struct {
	Part     string // such as orders
	Addr     string // such as :8080
	Variable string // that sets it
}

// CheckPorts names every endpoint whose port is taken, in one error.
func CheckPorts(endpoints []Endpoint) error {
	var errs []error
	for _, e := range endpoints {
		if err := checkFree(e.Addr); err != nil {
			_, port, _ := net.SplitHostPort(e.Addr)
			errs = append(errs, fmt.Errorf("port %s, which %s needs, is taken (%w); end the program that listens there (lsof -i :%s names it), or set %s",
				port, e.Part, err, port, e.Variable))
		}
	}
	return errors.Join(errs...)
}

// dialable is an address at which this machine's programs reach the listener of addr.
func dialable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = loopback
	}
	return net.JoinHostPort(host, port)
}
