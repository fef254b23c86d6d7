// Package socket makes TCP connections cheaper for processes that wait for them most of the time. Before each system call
// Go's scheduler gets ready for one that lasts: it wakes a thread that watches over the call, and gives the processor's turn to
// another thread when it takes longer than some 20 µs, as sending to the same machine does. A socket that never blocks needs
// neither. Where a transaction has a dozen round trips to the database that is nearly half of all context switches.
package socket

import (
	"context"
	"net"
	"time"
)

// Dialer makes direct connections.
type Dialer struct {
	Timeout time.Duration // of connecting; 0: as long as its context lasts
}

// DialContext connects as net.Dialer does.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: d.Timeout}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return direct(conn), nil
}

// Listener returns a listener whose connections are direct.
func Listener(l net.Listener) net.Listener {
	return listener{l}
}

type listener struct {
	net.Listener
}

func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return direct(conn), nil
}
