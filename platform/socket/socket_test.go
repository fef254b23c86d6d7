package socket_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/altyn-pay/altyn/platform/socket"
)

// pair returns both ends of a connection, each made the way that the services make theirs.
func pair(t *testing.T) (dialed, accepted net.Conn) {
	t.Helper()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	got := make(chan net.Conn, 1)
	go func() {
		conn, err := socket.Listener(plain).Accept()
		if err != nil {
			t.Error(err)
		}
		got <- conn
	}()
	dialed, err = new(socket.Dialer).DialContext(t.Context(), "tcp", plain.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted = <-got
	t.Cleanup(func() { dialed.Close(); accepted.Close() })
	return dialed, accepted
}

func TestMuchGoesBothWaysAtOnce(t *testing.T) {
	a, b := pair(t)
	const size = 32 << 20 // many times what the kernel buffers, and what one call moves
	var work sync.WaitGroup
	for i, way := range [][2]net.Conn{{a, b}, {b, a}} {
		data := make([]byte, size)
		source := rand.NewChaCha8([32]byte{byte(i)})
		_, _ = source.Read(data)
		want := sha256.Sum256(data)
		work.Go(func() {
			if n, err := way[0].Write(data); n != size || err != nil {
				t.Errorf("way %d: %d bytes written, %v", i, n, err)
			}
			if err := way[0].(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Error(err)
			}
		})
		work.Go(func() {
			got, err := io.ReadAll(way[1]) // until the end of the stream, which is io.EOF
			if err != nil || sha256.Sum256(got) != want {
				t.Errorf("way %d: %d bytes read, %v; the right ones: %t", i, len(got), err, bytes.Equal(got, data))
			}
		})
	}
	work.Wait()
}

func TestNothingIsReadIntoNothing(t *testing.T) {
	a, b := pair(t)
	if n, err := a.Read(nil); n != 0 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
	if n, err := a.Write(nil); n != 0 || err != nil {
		t.Errorf("wrote %d, %v", n, err)
	}
	b.Close()
	if n, err := a.Read(nil); n != 0 || err != nil { // as with net
		t.Errorf("read %d, %v after the end", n, err)
	}
}

func TestDeadlines(t *testing.T) {
	a, _ := pair(t)
	full := make([]byte, 16<<20) // more than the kernel takes while nobody reads
	for name, wait := range map[string]func() error{
		"read":  func() error { _, err := a.Read(make([]byte, 1)); return err },
		"write": func() error { _, err := a.Write(full); return err },
	} {
		t.Run(name, func(t *testing.T) {
			for _, when := range []string{"before", "during"} {
				if when == "before" {
					_ = a.SetDeadline(time.Now().Add(-time.Second))
				} else {
					_ = a.SetDeadline(time.Time{})
					time.AfterFunc(10*time.Millisecond, func() { _ = a.SetDeadline(time.Unix(1, 0)) })
				}
				err := wait()
				var timeout net.Error
				if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
					t.Errorf("deadline %s the %s: %v", when, name, err)
				}
			}
			_ = a.SetDeadline(time.Time{})
		})
	}
}

func TestTheEndOfAConnection(t *testing.T) {
	t.Run("closed while it is read", func(t *testing.T) {
		a, _ := pair(t)
		time.AfterFunc(10*time.Millisecond, func() { a.Close() })
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read: %v", err)
		}
		if _, err := a.Write([]byte{1}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write: %v", err)
		}
	})
	t.Run("reset by the other end", func(t *testing.T) {
		a, b := pair(t)
		if err := b.(interface{ SetLinger(int) error }).SetLinger(0); err != nil {
			t.Fatal(err)
		}
		b.Close()
		var op *net.OpError
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) || !errors.As(err, &op) || op.Op != "read" {
			t.Errorf("read: %v", err)
		}
		if _, err := a.Write([]byte{1}); !errors.Is(err, syscall.EPIPE) || !errors.As(err, &op) || op.Op != "write" {
			t.Errorf("write: %v", err)
		}
	})
}

// A server notices that a client is gone by a read beside the handler, which it ends by a deadline once there is an answer.
func TestHTTP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			<-r.Context().Done()
			close(gone)
			return
		}
		body, err := io.ReadAll(r.Body)
		fmt.Fprint(w, string(body), err)
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(socket.Listener(listener)) }()
	client := &http.Client{Transport: &http.Transport{DialContext: new(socket.Dialer).DialContext}}

	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			for n := range 50 {
				text := fmt.Sprintf("%d/%d", i, n)
				response, err := client.Post("http://"+listener.Addr().String(), "text/plain", bytes.NewReader([]byte(text)))
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(response.Body)
				response.Body.Close()
				if want := text + "<nil>"; string(body) != want || err != nil {
					t.Errorf("%q, %v; want %q", body, err, want)
				}
			}
		})
	}
	clients.Wait()

	ctx, leave := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listener.Addr().String()+"/wait", nil)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(10*time.Millisecond, leave)
	if _, err := client.Do(request); !errors.Is(err, context.Canceled) {
		t.Errorf("the client that left: %v", err)
	}
	<-gone
	client.CloseIdleConnections()
	if err := server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}
