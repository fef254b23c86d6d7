package postgres

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// A server that takes connections and then says nothing is like one that is frozen.
func silentServer(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

func TestReadFromFrozenServerEnds(t *testing.T) {
	server := silentServer(t)
	conn, err := dialer{answer: 10 * time.Millisecond}.DialContext(t.Context(), "tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 2 { // the bound is one of each read, not of the connection
		_, err = conn.Read(make([]byte, 1))
		if !errors.Is(err, os.ErrDeadlineExceeded) || !IsUnavailable(err) {
			t.Errorf("got %v", err)
		}
	}
}

func TestDeadlineOfTheUserHolds(t *testing.T) {
	server := silentServer(t)
	conn, err := dialer{answer: time.Hour}.DialContext(t.Context(), "tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
