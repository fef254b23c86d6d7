package faults

import (
	"context"
	"net"
	"sync"
)

// Way is a direction in which a link passes bytes on; ways may be added.
type Way int

// The ways, from the one that connects.
const (
	There Way = 1 << iota
	Back
	Both = There | Back
)

func (w Way) String() string {
	return map[Way]string{There: "there", Back: "back", Both: "both ways"}[w]
}

// Link is a TCP proxy between two parts. What is sent while it is cut is held back, as by a network that loses
// packets: nobody is told, and it arrives once the link is whole again.
type Link struct {
	From, To string
	Addr     string // where it listens

	listener net.Listener
	serving  sync.WaitGroup
	ctx      context.Context
	close    context.CancelFunc

	mu     sync.Mutex
	target string
	cut    Way
	whole  chan struct{} // closed with each change of cut
	conns  map[net.Conn]bool
}

// NewLink returns a link that is whole, to whatever listens on target.
func NewLink(from, to, target string) (*Link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &Link{
		From: from, To: to, Addr: listener.Addr().String(), listener: listener, target: target,
		whole: make(chan struct{}), conns: make(map[net.Conn]bool),
	}
	l.ctx, l.close = context.WithCancel(context.Background())
	l.serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			l.serving.Go(func() { l.serve(conn.(*net.TCPConn)) })
		}
	})
	return l, nil
}

// Close ends the link and its connections.
func (l *Link) Close() error {
	l.close()
	err := l.listener.Close()
	l.Reset()
	l.serving.Wait()
	return err
}

// Cut holds back what goes these ways from now on; 0 makes the link whole.
func (l *Link) Cut(ways Way) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = ways
	close(l.whole)
	l.whole = make(chan struct{})
}

// Reset ends all connections. What was held back is lost.
func (l *Link) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for conn := range l.conns {
		conn.Close()
	}
}

// Lead sends new connections to another address, and ends those to the last one.
func (l *Link) Lead(target string) {
	l.mu.Lock()
	l.target = target
	l.mu.Unlock()
	l.Reset()
}

// pass waits until a way is whole, and reports false when the link was closed.
func (l *Link) pass(way Way) bool {
	for {
		l.mu.Lock()
		cut, changed := l.cut&way != 0, l.whole
		l.mu.Unlock()
		if !cut {
			return l.ctx.Err() == nil
		}
		select {
		case <-changed:
		case <-l.ctx.Done():
			return false
		}
	}
}

func (l *Link) keep(conn net.Conn) (target string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[conn] = true
	if l.ctx.Err() != nil { // it has come too late for Close
		conn.Close()
	}
	return l.target
}

func (l *Link) forget(conn net.Conn) {
	conn.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, conn)
}

func (l *Link) serve(client *net.TCPConn) {
	defer l.forget(client)
	target := l.keep(client)
	if !l.pass(There) {
		return
	}
	conn, err := new(net.Dialer).DialContext(l.ctx, "tcp", target)
	if err != nil {
		_ = client.SetLinger(0) // nobody is there: it is refused, as far as it still can be
		return
	}
	server := conn.(*net.TCPConn)
	l.keep(server)
	defer l.forget(server)
	var back sync.WaitGroup
	back.Go(func() { l.forward(server, client, Back) })
	l.forward(client, server, There)
	back.Wait()
}

const linkBuffer = 32 << 10

// forward passes bytes on until their sender ends, or the connection does.
func (l *Link) forward(from, to *net.TCPConn, way Way) {
	buffer := make([]byte, linkBuffer)
	for {
		n, err := from.Read(buffer)
		if !l.pass(way) {
			err = net.ErrClosed
		} else if n > 0 {
			if _, failed := to.Write(buffer[:n]); failed != nil {
				from.Close()
				return
			}
		}
		if err != nil {
			_ = to.CloseWrite()
			return
		}
	}
}
