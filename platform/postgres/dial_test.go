package postgres

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/lib/pq"
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
	conn, err := dialBounded(10*time.Millisecond).DialContext(t.Context(), "tcp", server.Addr().String())
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
	conn, err := dialBounded(time.Hour).DialContext(t.Context(), "tcp", server.Addr().String())
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

func TestListenersConnectionEnds(t *testing.T) {
	server := silentServer(t)
	ctx, stop := context.WithCancel(t.Context())
	conn, err := dialUntil(ctx, server.Addr().String()).DialContext(t.Context(), "tcp", "203.0.113.1:5432")
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		read <- err
	}()
	stop()
	if err := <-read; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if _, err := dialUntil(ctx, server.Addr().String()).DialContext(t.Context(), "tcp", ""); err == nil {
		t.Error("connected after the end")
	}
}

func TestListenDSN(t *testing.T) {
	cfg := Config{Host: "db.example", Port: 1, SSLMode: "verify-full", SSLRoots: "/with space/ca.pem", Database: "d'b",
		User: `u\`, Password: ` '\' `, Application: "orders"}
	for host, mode := range map[string]pq.SSLMode{"127.0.0.1": pq.SSLModeDisable, "localhost": pq.SSLModeDisable,
		"::1": pq.SSLModeDisable, "10.0.0.1": pq.SSLModeVerifyFull, "db.example": pq.SSLModeVerifyFull} {
		unset := cfg
		unset.Host, unset.SSLMode, unset.SSLRoots = host, "", ""
		if got, err := pq.NewConfig(listenDSN(unset)); err != nil || got.SSLMode != mode {
			t.Errorf("%s: %v: %+v", host, err, got)
		}
	}
	got, err := pq.NewConfig(listenDSN(cfg))
	if err != nil || got.Host != cfg.Host || got.Port != cfg.Port || string(got.SSLMode) != cfg.SSLMode ||
		got.SSLRootCert != cfg.SSLRoots ||
		got.Database != cfg.Database || got.User != cfg.User || got.Password != cfg.Password ||
		got.ApplicationName != cfg.Application ||
		got.ConnectTimeout != connectTimeout {
		t.Errorf("%v: %+v", err, got)
	}
}
