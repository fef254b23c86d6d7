package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npaid"

// service is one whose connections a test plays.
type service struct {
	*Upstream
	connections atomic.Int32 // so far
}

// play starts a service: serve has each connection, of which the first is number 1, and its end closes it.
func play(t testing.TB, serve func(number int32, c *served)) *service {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	upstream, err := New("orders", []string{"http://" + listener.Addr().String()}, slog.New(slog.DiscardHandler))
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
		// Whatever became of the requests, each has given back what it held.
		if pool := s.pool(); len(pool.slots) != 0 {
			t.Errorf("%d requests still hold a slot", len(pool.slots))
		}
	})
	return s
}

func (s *service) pool() *pool { return (*s.addresses.Load())[0].pool }

// idle is the number of connections that are kept.
func (s *service) idle() int {
	s.pool().mu.Lock()
	defer s.pool().mu.Unlock()
	return len(s.pool().idle)
}

// served is a connection as the service sees it.
type served struct {
	net.Conn
	*bufio.Reader
}

func (c *served) Read(p []byte) (int, error) { return c.Reader.Read(p) }

// next reads the next request and its body; it is nil when the client has left.
func (c *served) next() (*http.Request, string) {
	request, err := http.ReadRequest(c.Reader)
	if err != nil {
		return nil, ""
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, ""
	}
	return request, string(body)
}

// answer gives the same answer to every request.
func (c *served) answer(text string) {
	for request, _ := c.next(); request != nil; request, _ = c.next() {
		if _, err := io.WriteString(c, text); err != nil {
			return
		}
	}
}

func (s *service) send(ctx context.Context, method, key, body string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, "/api/v1/orders?wait=1s", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
	}
	return s.RoundTrip(request)
}

// get returns the body of the answer to a request, read to its end.
func (s *service) get(ctx context.Context, method, key, body string) (string, error) {
	response, err := s.send(ctx, method, key, body)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

func eventually(t *testing.T, condition func() bool) {
	t.Helper()
	deadline, tick := time.After(10*time.Second), time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it did not come to pass within 10 s")
		}
	}
}

func TestRequestsArriveAsTheyAre(t *testing.T) {
	type seen struct {
		*http.Request
		body string
	}
	requests := make(chan seen, 1)
	s := play(t, func(_ int32, c *served) {
		for request, body := c.next(); request != nil; request, body = c.next() {
			requests <- seen{request, body}
			_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	})
	large := strings.Repeat("x", MaxMemory)
	for _, test := range []struct {
		method, body, length string
	}{
		{"GET", "", ""}, {"HEAD", "", ""}, {"OPTIONS", "", ""}, {"POST", "", "0"}, {"POST", "{}", "2"}, {"DELETE", "{}", "2"},
		{"POST", large, fmt.Sprint(MaxMemory)},
	} {
		request, err := http.NewRequestWithContext(t.Context(), test.method, "/api/v1/orders/a%2Fb?x=%20y&z", strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		if test.method == "HEAD" {
			request.Host = "altyn.example"
		}
		request.Header = http.Header{
			"Idempotency-Key": {"ключ"}, "Accept": {"a", "b"}, "User-Agent": nil,
			"Content-Length": {"77"}, "Transfer-Encoding": {"chunked"}, "Host": {"evil"}, "Trailer": {"X"},
		}
		response, err := s.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(response.Body); err != nil {
			t.Error(err)
		}
		got := <-requests
		if got.Method != test.method || got.RequestURI != "/api/v1/orders/a%2Fb?x=%20y&z" || got.body != test.body ||
			got.Header.Get("Content-Length") != test.length || got.TransferEncoding != nil || got.Header["Trailer"] != nil ||
			got.Header.Get("Idempotency-Key") != "ключ" || len(got.Header["Accept"]) != 2 || got.Header["User-Agent"] != nil {
			t.Errorf("%s: %s %s, %v, %d bytes", test.method, got.Method, got.RequestURI, got.Header, len(got.body))
		}
		if want := map[bool]string{true: "altyn.example", false: (*s.addresses.Load())[0].host}[test.method == "HEAD"]; got.Host != want {
			t.Errorf("host %s; want %s", got.Host, want)
		}
	}
	if n := s.connections.Load(); n != 1 {
		t.Errorf("the requests took %d connections", n)
	}
	for _, header := range []http.Header{{"X": {"a\r\nSmuggled: 1"}}, {"X": {"a\nSmuggled: 1"}}} {
		request, _ := http.NewRequestWithContext(t.Context(), "GET", "/", nil)
		request.Header = header
		if _, err := s.RoundTrip(request); err == nil {
			t.Errorf("%v was sent", header)
		}
	}
	request, _ := http.NewRequestWithContext(t.Context(), "GET", "/", nil)
	request.URL.RawQuery = "a b"
	if _, err := s.RoundTrip(request); err == nil {
		t.Error("a query with a blank was sent")
	}
}

func TestAnswers(t *testing.T) {
	const status = "HTTP/1.1 200 OK\r\n"
	for _, test := range []struct {
		name, method, answer string
		body                 string
		broken               string // "head", or "body" when the answer begins well
		kept                 bool   // the connection can be used again
	}{
		{"whole", "GET", ok, "paid", "", true},
		{"in chunks", "GET", status + "Transfer-Encoding: chunked\r\n\r\n2\r\npa\r\n2\r\nid\r\n0\r\nX-Trailer: 1\r\n\r\n", "paid", "", true},
		{"empty", "GET", status + "Content-Length: 0\r\n\r\n", "", "", true},
		{"to HEAD", "HEAD", status + "Content-Length: 4\r\n\r\n", "", "", true},
		{"204", "POST", "HTTP/1.1 204 No Content\r\n\r\n", "", "", true},
		{"304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", "", "", true},
		{"after others", "POST", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok, "paid", "", true},

		{"the last one", "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\npaid", "paid", "", false},
		{"HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\npaid", "paid", "", false},
		{"to the end of the connection", "GET", status + "\r\npaid", "paid", "", false},
		{"more than announced", "GET", ok + "more", "paid", "", false},
		{"a body of 204", "GET", "HTTP/1.1 204 No Content\r\n\r\nbody", "", "", false},

		{"nothing", "POST", "", "", "head", false},
		{"no HTTP", "GET", "SSH-2.0-OpenSSH_9.7\r\n\r\n", "", "head", false},
		{"cut off in the status", "GET", "HTTP/1.1 20", "", "head", false},
		{"cut off in a header", "GET", status + "Content-Le", "", "head", false},
		{"lengths that differ", "GET", status + "Content-Length: 4\r\nContent-Length: 5\r\n\r\npaid!", "", "head", false},
		{"a length that is none", "GET", status + "Content-Length: -4\r\n\r\npaid", "", "head", false},
		{"another protocol", "GET", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", "", "head", false},
		{"too large a header", "GET", status + "X: " + strings.Repeat("x", maxHeader) + "\r\nContent-Length: 0\r\n\r\n", "", "head", false},
		{"headers without end", "GET", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", maxHeader/10) + ok, "", "head", false},
		{"cut off in the body", "GET", status + "Content-Length: 5\r\n\r\npaid", "paid", "body", false},
		{"cut off in a chunk", "GET", status + "Transfer-Encoding: chunked\r\n\r\n5\r\npaid", "paid", "body", false},
		{"cut off between chunks", "GET", status + "Transfer-Encoding: chunked\r\n\r\n4\r\npaid\r\n", "paid", "body", false},
		{"no chunk", "GET", status + "Transfer-Encoding: chunked\r\n\r\nzz\r\npaid\r\n", "", "body", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := play(t, func(_ int32, c *served) {
				if request, _ := c.next(); request == nil {
					return
				}
				_, _ = io.WriteString(c, test.answer)
				if test.kept {
					c.answer(test.answer)
				} else if test.broken == "" && !strings.HasSuffix(test.name, "end of the connection") {
					c.next() // it is the client who ends the connection
				}
			})
			for range 2 {
				response, err := s.send(t.Context(), test.method, "", "")
				if test.broken == "head" {
					if err == nil {
						t.Fatalf("got %v", response)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(response.Body)
				if string(body) != test.body || (err != nil) != (test.broken == "body") {
					t.Errorf("got %q, %v", body, err)
				}
				if n, err := response.Body.Read(make([]byte, 1)); n != 0 || err == nil {
					t.Errorf("after the end: %d, %v", n, err)
				}
				if (s.idle() == 1) != test.kept {
					t.Errorf("%d connections are kept", s.idle())
				}
				response.Body.Close()
			}
			if n := s.connections.Load(); (n == 1) != test.kept {
				t.Errorf("two requests took %d connections", n)
			}
		})
	}
}

// A service may answer before it has read the request, and break off then.
func TestAnswerBeforeTheRequestWasRead(t *testing.T) {
	for _, size := range []int{100, MaxMemory} {
		s := play(t, func(_ int32, c *served) {
			if _, err := http.ReadRequest(c.Reader); err == nil {
				_, _ = io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 4\r\n\r\nmuch")
			}
			_, _ = io.Copy(io.Discard, c.Conn) // until the client has its answer
		})
		response, err := s.send(t.Context(), "POST", "", strings.Repeat("x", size))
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(response.Body); response.StatusCode != 413 || string(body) != "much" || err != nil {
			t.Errorf("got %s, %q, %v", response.Status, body, err)
		}
		if s.idle() != 0 {
			t.Error("the connection is kept")
		}
	}
}

// While a connection was idle the service has closed it, or said what nobody asked for.
func TestConnectionsThatEndWhileIdle(t *testing.T) {
	for _, last := range []string{"", "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"} {
		more := make(chan struct{})
		s := play(t, func(number int32, c *served) {
			if number > 3 {
				c.answer(ok)
				return
			}
			if request, _ := c.next(); request != nil {
				_, _ = io.WriteString(c, ok)
				<-more
				_, _ = io.WriteString(c, last)
			}
		})
		var answers []*http.Response
		for range 3 { // three connections at once
			response, err := s.send(t.Context(), "POST", "", "{}")
			if err != nil {
				t.Fatal(err)
			}
			answers = append(answers, response)
		}
		for _, response := range answers {
			_, _ = io.ReadAll(response.Body)
		}
		if s.idle() != 3 {
			t.Fatalf("%d connections are kept", s.idle())
		}
		close(more)
		for _, c := range s.pool().idle {
			eventually(t, func() bool { return !c.silent() })
		}
		if body, err := s.get(t.Context(), "POST", "", "{}"); body != "paid" || err != nil {
			t.Errorf("got %q, %v", body, err)
		}
		if n := s.connections.Load(); n != 4 || s.idle() != 1 {
			t.Errorf("%d connections, %d kept", n, s.idle())
		}
	}
}

// A request that meets the end of a connection that was used before may have arrived.
func TestRepetition(t *testing.T) {
	for _, test := range []struct {
		method, key string
		first       string // what the service says to the request before it breaks off
		repeated    bool
	}{
		{"GET", "", "", true}, {"HEAD", "", "", true}, {"OPTIONS", "", "", true}, {"POST", "k", "", true},
		{"POST", "", "", false}, {"DELETE", "", "", false}, {"GET", "", "H", false}, {"POST", "k", "HTTP/1.1 200 OK\r\n", false},
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
					if n == 2 {
						arrived.Add(1)
						_, _ = io.WriteString(c, test.first)
						return
					}
					_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
				}
			})
			if _, err := s.get(t.Context(), "PUT", "", ""); err != nil {
				t.Fatal(err)
			}
			_, err := s.get(t.Context(), test.method, test.key, test.method)
			if (err == nil) != test.repeated || arrived.Load() != 1 {
				t.Errorf("it arrived %d times, %v", arrived.Load(), err)
			}
			if want := map[bool]int32{true: 2, false: 1}[test.repeated]; s.connections.Load() != want {
				t.Errorf("%d connections", s.connections.Load())
			}
		})
	}

	s := play(t, func(_ int32, c *served) { c.next() })
	if _, err := s.get(t.Context(), "GET", "", ""); err == nil || s.connections.Load() != 1 {
		t.Errorf("%v after %d connections: a new connection's request is not repeated", err, s.connections.Load())
	}
	always := play(t, func(number int32, c *served) { // each but the first answer ends its connection and the next one's
		if c.next(); number == 1 {
			_, _ = io.WriteString(c, ok)
			c.next()
		}
	})
	if _, err := always.get(t.Context(), "GET", "", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := always.get(t.Context(), "GET", "", ""); err == nil || always.connections.Load() != 2 {
		t.Errorf("%v after %d connections: it is repeated once", err, always.connections.Load())
	}
}

func TestTheEndOfARequest(t *testing.T) {
	arrived, left := make(chan struct{}), make(chan struct{})
	s := play(t, func(_ int32, c *served) {
		request, _ := c.next()
		if request.Method == "POST" {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npaid")
		}
		arrived <- struct{}{}
		c.next()
		left <- struct{}{}
	})
	leaving := errors.New("leaving")
	for _, method := range []string{"GET", "POST"} { // before the answer, and in the middle
		ctx, leave := context.WithCancelCause(t.Context())
		go func() {
			<-arrived
			leave(leaving)
		}()
		_, err := s.get(ctx, method, "", "")
		if err == nil || method == "GET" && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", method, err)
		}
		<-left
	}

	response, err := s.send(t.Context(), "POST", "", "")
	if err != nil {
		t.Fatal(err)
	}
	<-arrived
	response.Body.Close() // what was not read breaks off
	response.Body.Close()
	<-left
	if s.idle() != 0 {
		t.Errorf("%d connections are kept", s.idle())
	}
	// A request that is over before it begins.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.get(ctx, "GET", "", ""); err == nil {
		t.Error("it was sent")
	}
}

func TestRequestsWaitForASlot(t *testing.T) {
	s := play(t, func(_ int32, c *served) { c.answer(ok) })
	s.pool().slots = make(chan struct{}, 1)
	first, err := s.send(t.Context(), "GET", "", "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.send(ctx, "GET", "", ""); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	second := make(chan error, 1)
	go func() {
		_, err := s.get(t.Context(), "GET", "", "")
		second <- err
	}()
	select {
	case err := <-second:
		t.Fatalf("the second request did not wait: %v", err)
	default:
	}
	if _, err := io.ReadAll(first.Body); err != nil {
		t.Fatal(err)
	}
	if err := <-second; err != nil || s.connections.Load() != 1 {
		t.Errorf("%v, %d connections", err, s.connections.Load())
	}
}

// pipes is a pool whose connections live in memory.
func pipes(serve func(net.Conn)) *pool {
	return newPool(func(context.Context) (net.Conn, error) {
		client, server := net.Pipe()
		go serve(server)
		return client, nil
	})
}

func TestIdleConnectionsAreClosedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan time.Duration, 4)
		start := time.Now()
		p := pipes(func(connection net.Conn) {
			c := &served{connection, bufio.NewReader(connection)}
			c.answer(ok)
			ended <- time.Since(start)
			connection.Close()
		})
		exchange := func(n int) {
			var answers []*http.Response
			for range n {
				request, _ := http.NewRequestWithContext(t.Context(), "GET", "http://orders/", nil)
				response, err := p.roundTrip(request)
				if err != nil {
					t.Fatal(err)
				}
				answers = append(answers, response)
			}
			for _, response := range answers {
				_, _ = io.ReadAll(response.Body)
			}
		}
		exchange(3)
		<-time.After(idleTimeout / 3)
		exchange(1) // uses one of them
		for _, want := range []time.Duration{idleTimeout, idleTimeout, idleTimeout + idleTimeout/3} {
			if got := <-ended; got != want {
				t.Errorf("a connection ended after %v; want %v", got, want)
			}
		}
		exchange(1)
		p.close()
		<-ended
	})
}

func TestTheNumberOfIdleConnectionsIsBounded(t *testing.T) {
	p := pipes(nil)
	defer p.close()
	for range maxIdle + 5 {
		client, server := net.Pipe()
		defer server.Close()
		p.keep(&connection{Conn: client})
	}
	if len(p.idle) != maxIdle {
		t.Errorf("%d connections are kept", len(p.idle))
	}
}

// FuzzAnswer: whatever a service answers, in whatever pieces, is understood as net/http does.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		ok, ok + ok, "HTTP/1.1 100 Continue\r\n\r\n" + ok, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npaid\r\n0\r\n\r\n",
		"HTTP/1.0 200 OK\r\n\r\npaid", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npaid",
	} {
		f.Add([]byte(seed), uint8(3))
	}
	f.Fuzz(func(t *testing.T, answer []byte, piece uint8) {
		p := pipes(func(connection net.Conn) {
			defer connection.Close()
			c := &served{connection, bufio.NewReader(connection)}
			c.next()
			for rest := answer; len(rest) > 0; {
				n := min(int(piece)+1, len(rest))
				if _, err := connection.Write(rest[:n]); err != nil {
					return
				}
				rest = rest[n:]
			}
		})
		defer p.close()
		request, _ := http.NewRequestWithContext(t.Context(), "GET", "http://orders/", nil)
		var got, want []byte
		response, err := p.roundTrip(request)
		if err == nil {
			got, err = io.ReadAll(response.Body)
			response.Body.Close()
		}
		reader := bufio.NewReader(bytes.NewReader(answer))
		theirs, theirErr := http.ReadResponse(reader, request)
		for theirErr == nil && theirs.StatusCode < 200 && theirs.StatusCode != 101 {
			theirs, theirErr = http.ReadResponse(reader, request)
		}
		if theirErr == nil && theirs.StatusCode != 101 {
			want, theirErr = io.ReadAll(theirs.Body)
		} else if theirErr == nil {
			theirErr = errors.New("101")
		}
		if (err == nil) != (theirErr == nil) || err == nil && (response.StatusCode != theirs.StatusCode || !bytes.Equal(got, want)) {
			t.Errorf("got %q, %v; want %q, %v", got, err, want, theirErr)
		}
		if len(p.slots) != 0 {
			t.Error("the slot is not given back")
		}
	})
}
