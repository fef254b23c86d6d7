package stack

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/altyn-pay/altyn/platform/stage"
)

const loopback = "127.0.0.1"

// Free ports come from below the range that systems use for outgoing connections (from 32768 on Linux), because such
// a connection could take a part's port while the part is down.
const (
	firstFreePort = 20_000
	portBlocks    = 60
	portsInBlock  = 200 // the first one is the block's lock
	blockTries    = 200
)

// free are the ports that this process may hand out. A process reserves a block of ports for as long as it lives, by
// listening on its first one. Otherwise two processes that start parts at the same time, such as the tests of two
// packages, could find the same port free.
var free struct {
	sync.Mutex
	locks      []net.Listener
	next, last int
}

// FreePort returns a port of the loopback interface on which nobody listens. It never returns a port twice.
func FreePort() (uint16, error) {
	free.Lock()
	defer free.Unlock()
	for range blockTries {
		for ; free.next < free.last; free.next++ {
			if port := uint16(free.next); checkFree(loopbackAddr(port)) == nil {
				free.next++
				return port, nil
			}
		}
		first := firstFreePort + portsInBlock*rand.IntN(portBlocks)
		if lock, err := net.Listen("tcp", loopbackAddr(uint16(first))); err == nil {
			free.locks = append(free.locks, lock)
			free.next, free.last = first+1, first+portsInBlock
		}
	}
	return 0, fmt.Errorf("none of %d ports from %d on is free", portBlocks*portsInBlock, firstFreePort)
}

func loopbackAddr(port uint16) string { return net.JoinHostPort(loopback, strconv.Itoa(int(port))) }

// checkFree returns an error if somebody listens on the address. Some systems allow a listener on all interfaces
// beside one on the loopback interface, hence the second look. It never looks at one address twice: a process that is
// forked in between inherits the listener until it executes its program.
func checkFree(addr string) error {
	for _, addr := range slices.Compact([]string{addr, dialable(addr)}) {
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

// closingTime is a little longer than the minute for which a system holds the port of a closed connection.
const (
	closingTime     = 65 * time.Second
	closingInterval = 200 * time.Millisecond
)

// CheckPorts returns one error that names every endpoint whose port is taken. It waits for a port that a closed
// outgoing connection still holds, which takes up to a minute (Linux may give PostgreSQL's port to such a
// connection).
func CheckPorts(ctx context.Context, endpoints []Endpoint, progress func(string)) error {
	ctx, cancel := context.WithTimeout(ctx, closingTime)
	defer cancel()
	var errs []error
	for _, e := range endpoints {
		if err := awaitFree(ctx, e, progress); err != nil {
			_, port, _ := net.SplitHostPort(e.Addr)
			errs = append(errs, fmt.Errorf("port %s, which %s needs, is taken (%w): end the program that has it (lsof -i :%s "+
				"names it), or set %s",
				port, e.Part, err, port, e.Variable))
		}
	}
	return errors.Join(errs...)
}

func awaitFree(ctx context.Context, e Endpoint, progress func(string)) error {
	err := checkFree(e.Addr)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	for told := false; errors.Is(err, syscall.EADDRINUSE); err = checkFree(e.Addr) {
		conn, dialErr := net.DialTimeout("tcp", dialable(e.Addr), probeTimeout)
		if dialErr == nil {
			conn.Close()
		}
		if !errors.Is(dialErr, syscall.ECONNREFUSED) { // there is a listener
			return err
		}
		if !told {
			told = true
			progress(fmt.Sprintf("waiting for the port of %s (%s), which a connection holds that was closed", e.Part, e.Addr))
		}
		if !stage.Wait(ctx, closingInterval) {
			return err
		}
	}
	return err
}

// dialable returns an address at which this machine's programs reach the listener of addr.
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
