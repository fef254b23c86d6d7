package upstream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const noContent = "HTTP/1.1 204 No Content\r\n\r\n"

// service is one whose connections a test plays.
type service struct {
	*Upstream
	connections atomic.Int32 // so far
}

// play starts a service: serve has each connection, of which the first is number 1, and its end closes it.
func play(t *testing.T, serve func(number int32, c *served)) *service {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	upstream, err := New("orders", []string{"http://" + listener.Addr().String()}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := &service{Upstream: upstream}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			number := s.connections.Add(1)
			go func() {
				defer connection.Close()
				serve(number, &served{connection, bufio.NewReader(connection)})
			}()
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		s.Close()
	})
	return s
}

// served is a connection as the service sees it.
type served struct {
	net.Conn
	reader *bufio.Reader
}

// next reads the next request and its body; it is nil when the client has left.
func (c *served) next() (*http.Request, string) {
	request, err := http.ReadRequest(c.reader)
	if err != nil {
		return nil, ""
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, ""
	}
	return request, string(body)
}

func (c *served) say(text string) { _, _ = io.WriteString(c, text) }

// send sends a request and reads its answer to the end.
func (s *service) send(ctx context.Context, method, key, body string) error {
	request, err := http.NewRequestWithContext(ctx, method, "/api/v1/orders?wait=1s", strings.NewReader(body))
	if err != nil {
		return err
	}
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	response, err := s.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.ReadAll(response.Body)
	return err
}

// A request that meets the end of a connection that was used before may have arrived: only what is safe to repeat is
// sent again.
func TestRepetition(t *testing.T) {
	for _, test := range []struct {
		method, key string
		first       string // what the service says to the request before it breaks off
		repeated    bool
	}{
		{"GET", "", "", true}, {"HEAD", "", "", true}, {"OPTIONS", "", "", true}, {"POST", "k", "", true},
		{"POST", "", "", false}, {"DELETE", "", "", false}, {"GET", "", "H", false},
		{"POST", "k", "HTTP/1.1 200 OK\r\n", false},
	} {
		t.Run(test.method+test.key+test.first, func(t *testing.T) {
			var arrived atomic.Int32
			s := play(t, func(number int32, c *served) {
				for n := 1; ; n++ {
					request, body := c.next()
					if request == nil {
						return
					}
					if request.Method == test.method && body != test.method {
						t.Errorf("the body is %q", body)
					}
					if number == 1 && n == 2 {
						arrived.Add(1)
						c.say(test.first)
						return
					}
					c.say(noContent)
				}
			})
			if err := s.send(t.Context(), "PUT", "", ""); err != nil {
				t.Fatal(err)
			}
			err := s.send(t.Context(), test.method, test.key, test.method)
			if (err == nil) != test.repeated || arrived.Load() != 1 {
				t.Errorf("it arrived %d times, %v", arrived.Load(), err)
			}
			if want := map[bool]int32{true: 2, false: 1}[test.repeated]; s.connections.Load() != want {
				t.Errorf("%d connections", s.connections.Load())
			}
		})
	}

}

// What breaks off on a new connection goes to one other address, if it is safe to repeat; to its own never again.
func TestARequestThatBreaksOffGoesElsewhere(t *testing.T) {
	for _, test := range []struct {
		name, method, key string
		first             string // what each address says to the request before it breaks off
		addresses         int
		arrivals          int32
	}{
		{"read", "GET", "", "", 3, 2},
		{"with a key", "POST", "k", "", 3, 2},
		{"half an answer, which nobody has seen", "POST", "k", "HTTP/1.1 200 OK\r\nContent-", 3, 2},
		{"no answer of HTTP", "GET", "", "?\r\n\r\n", 3, 2},
		{"no key", "POST", "", "", 3, 1},
		{"no key, to delete", "DELETE", "", "", 3, 1},
		{"nobody else", "POST", "k", "", 1, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			var arrived atomic.Int32
			breaks := func(_ int32, c *served) {
				if _, body := c.next(); body != "the whole body" {
					t.Errorf("the body is %q", body)
				}
				arrived.Add(1)
				c.say(test.first)
			}
			s := play(t, breaks)
			all := *s.addresses.Load()
			for range test.addresses - 1 {
				all = append(all, *play(t, breaks).addresses.Load()...)
			}
			s.addresses.Store(&all)
			err := s.send(t.Context(), test.method, test.key, "the whole body")
			if err == nil || errors.Is(err, ErrNoAddress) || arrived.Load() != test.arrivals {
				t.Errorf("it arrived %d times, not %d: %v", arrived.Load(), test.arrivals, err)
			}
			for _, a := range all {
				if a.asideUntil.Load() != 0 {
					t.Error("an address that took a connection was put aside")
				}
			}
		})
	}

	ends := play(t, func(_ int32, c *served) { c.next() })
	serves := play(t, func(_ int32, c *served) { c.next(); c.say(noContent) })
	both := append(*ends.addresses.Load(), *serves.addresses.Load()...)
	ends.addresses.Store(&both)
	for range 4 {
		if err := ends.send(t.Context(), "POST", "k", "{}"); err != nil {
			t.Errorf("the other one answers: %v", err)
		}
	}
	both[1] = &address{base: both[1].base, target: "127.0.0.1:1"} // where nobody listens
	for range 2 {
		both[1].asideUntil.Store(0)
		err := ends.send(t.Context(), "POST", "k", "{}")
		if dial := new(dialError); err == nil || errors.As(err, &dial) {
			t.Errorf("it may have been done, whoever else is away: %v", err)
		}
	}
}

// An instance ends while a request is on its way over a kept connection: the request goes to another instance as a
// whole.
func TestARequestMeetsTheEndOfAnInstance(t *testing.T) {
	ending, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		connection, err := ending.Accept()
		if err != nil {
			return
		}
		c := &served{connection, bufio.NewReader(connection)}
		c.next()
		c.say(noContent)
		c.next()
		ending.Close()
		connection.Close()
	}()
	bodies := make(chan string, 4)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what is missing is found below
		bodies <- string(body)
	}))
	defer other.Close()
	other.Config.SetKeepAlivesEnabled(false) // on a kept connection the transport itself would begin the body again
	upstream, err := New("orders", []string{other.URL, "http://" + ending.Addr().String()}, nil,
		slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer upstream.Close()
	s := &service{Upstream: upstream}
	for _, body := range []string{"at the one that ends", "at the other", "at the end", "after the end"} {
		if err := s.send(t.Context(), "POST", "k", body); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
	}
	for _, want := range []string{"at the other", "at the end", "after the end"} {
		if got := <-bodies; got != want {
			t.Errorf("the other one got %q, not %q", got, want)
		}
	}
}

// Where nobody else is left, an instance that was put aside is tried: it may have been started again.
func TestAnInstanceIsBackBeforeItsTime(t *testing.T) {
	var back, ends instance
	back.start(t, "127.0.0.1:0")
	ends.start(t, "127.0.0.1:0")
	upstream, err := New("orders", []string{"http://" + back.addr, "http://" + ends.addr}, nil,
		slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer upstream.Close()
	addresses := *upstream.addresses.Load()
	for _, a := range addresses {
		a.asideUntil.Store(sinceStart() + int64(time.Hour))
	}
	s := &service{Upstream: upstream}
	for range 4 {
		if err := s.send(t.Context(), "POST", "", "{}"); err != nil {
			t.Error(err)
		}
	}
	addresses[0].target = "127.0.0.1:1" // where nobody listens
	addresses[1].target = "127.0.0.1:1"
	if err := s.send(t.Context(), "POST", "", "{}"); !errors.Is(err, ErrNoAddress) {
		t.Errorf("all put aside and away: %v", err)
	}
}

// While a connection was idle the service has closed it, or said what nobody asked for. No request is lost on it.
func TestConnectionsThatEndWhileIdle(t *testing.T) {
	for _, last := range []string{"", "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"} {
		ended := make(chan struct{})
		s := play(t, func(number int32, c *served) {
			for request, _ := c.next(); request != nil; request, _ = c.next() {
				c.say(noContent)
				if number == 1 {
					c.say(last)
					c.Close()
					close(ended)
					return
				}
			}
		})
		for range 3 {
			if err := s.send(t.Context(), "POST", "k", "{}"); err != nil {
				t.Error(err)
			}
		}
		<-ended
		if n := s.connections.Load(); n != 2 {
			t.Errorf("%d connections", n)
		}
	}
}

func TestAnswersAreBounded(t *testing.T) {
	for _, head := range []string{
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxHeader+buffer) + "\r\nContent-Length: 0\r\n\r\n",
		strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", maxHeader/10) + noContent,
	} {
		s := play(t, func(_ int32, c *served) {
			c.next()
			c.say(head)
			c.next() // It is the client who ends the connection.
		})
		if err := s.send(t.Context(), "GET", "", ""); err == nil {
			t.Errorf("a head of %d bytes was read", len(head))
		}
	}
}
