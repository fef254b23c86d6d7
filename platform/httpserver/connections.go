package httpserver

import (
	"net"
	"net/netip"
	"sync"

	"golang.org/x/net/netutil"
)

// listener returns a listener that keeps to the limits of connections.
func (l Limits) listener(from net.Listener) net.Listener {
	if l.AddressConnections > 0 {
		each := &addressListener{Listener: from, limit: l.AddressConnections, open: make(map[string]int)}
		for _, text := range l.TrustedProxies {
			if network, err := netip.ParsePrefix(text); err == nil {
				each.exempt = append(each.exempt, network)
			}
		}
		from = each
	}
	if l.Connections > 0 {
		from = netutil.LimitListener(from, l.Connections)
	}
	return from
}

// addressListener bounds the open connections of each address. It closes further ones at once.
type addressListener struct {
	net.Listener
	limit  int
	exempt []netip.Prefix

	mu   sync.Mutex
	open map[string]int
}

func (l *addressListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		ip := peerIP(c.RemoteAddr().String())
		if l.isExempt(ip) {
			return c, nil
		}
		key := addressKey(ip)
		if l.enter(key) {
			return &addressConn{Conn: c, leave: sync.OnceFunc(func() { l.leave(key) })}, nil
		}
		_ = c.Close() // Whoever is told to go has nothing to lose.
	}
}

func (l *addressListener) isExempt(ip netip.Addr) bool {
	for _, network := range l.exempt {
		if network.Contains(ip) {
			return true
		}
	}
	return false
}

func (l *addressListener) enter(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[key] >= l.limit {
		return false
	}
	l.open[key]++
	return true
}

func (l *addressListener) leave(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[key]--; l.open[key] == 0 {
		delete(l.open, key)
	}
}

type addressConn struct {
	net.Conn
	leave func()
}

func (c *addressConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
