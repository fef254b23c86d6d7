package httpserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/config"
)

// decoding is a router that reads a JSON object.
func decoding(memory config.Bytes) chi.Router {
	router := NewRouter(Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		Config: Config{BodyMemory: memory}})
	router.Post("/json", Handle(func(w http.ResponseWriter, r *http.Request) error {
		return DecodeJSON(w, r, new(struct {
			A string `json:"a"`
		}))
	}))
	return router
}

// announce sends the head of a request on a connection of its own and waits until its body is asked for.
func announce(t *testing.T, addr string, length int) net.Conn {
	t.Helper()
	connection, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	fmt.Fprintf(connection, "POST /json HTTP/1.1\r\nHost: localhost\r\nContent-Type: "+
		"application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", length)
	if _, err := io.ReadFull(connection, make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))); err != nil {
		t.Fatal(err)
	}
	return connection
}

func TestBytesThatNeverComeTakeNoMemory(t *testing.T) {
	const connections = 300
	r := start(t, Server{Handler: decoding(0)})
	before := heap()
	for range connections {
		if _, err := io.WriteString(announce(t, r.addr, maxBody), `{"a`); err != nil {
			t.Fatal(err)
		}
	}
	if per := (heap() - before) / connections; per > 32<<10 {
		t.Errorf("a connection that announces 1 MiB and sends 3 bytes takes %d bytes", per)
	}
}

// heap is what lives in memory.
func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func TestBodiesShareTheirRoom(t *testing.T) {
	router := decoding(1 << 20)
	arrived, gone := make(chan struct{}), make(chan struct{})
	large, small := `{"a":"`+strings.Repeat("x", 600<<10)+`"}`, `{"a":"`+strings.Repeat("x", freeBody/2)+`"}`
	router.Post("/hold", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, len(large)))
		close(arrived)
		_, _ = io.Copy(io.Discard, r.Body)
	})
	r := start(t, Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		router.ServeHTTP(w, r)
		if r.URL.Path == "/hold" {
			close(gone)
		}
	})})
	blocked, end := io.Pipe() // never says more
	defer end.Close()
	post := func(body string) (*http.Response, Problem) {
		request := newRequest(t, "POST", r.url+"/json", "Content-Type", "application/json")
		request.Body, request.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		return do(t, request)
	}
	for range 5 { // what has been read is given back
		if response, _ := post(large); response.StatusCode != 200 {
			t.Fatalf("alone: %s", response.Status)
		}
	}
	held := newRequest(t, "POST", r.url+"/hold")
	held.Body, held.ContentLength = io.NopCloser(io.MultiReader(strings.NewReader(large), blocked)), int64(len(large)+1)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	go func() { _, _ = http.DefaultClient.Do(held.WithContext(ctx)) }()
	<-arrived
	if response, problem := post(large); response.StatusCode != 503 || problem.Code != CodeOverloaded ||
		response.Header.Get("Retry-After") == "" {
		t.Errorf("beside another: %s %v", response.Status, problem)
	}
	if response, _ := post(small); response.StatusCode != 200 {
		t.Errorf("a small one beside it: %s", response.Status)
	}
	leave()
	<-gone
	if response, _ := post(large); response.StatusCode != 200 {
		t.Errorf("once the other is gone: %s", response.Status)
	}
}

// Where slow bodies take all the room, one more is refused soon, and what is sent at once goes on.
func TestSlowBodiesStopNobody(t *testing.T) {
	const room = 1 << 20
	r := start(t, Server{Handler: decoding(room)})
	var slow []net.Conn
	for range room / waitingBody {
		slow = append(slow, announce(t, r.addr, 100))
	}
	more := announce(t, r.addr, 100)
	response, err := http.ReadResponse(bufio.NewReader(more), nil)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one more: %s", response.Status)
	}
	for range 10 {
		request := newRequest(t, "POST", r.url+"/json", "Content-Type", "application/json")
		request.Body, request.ContentLength = io.NopCloser(strings.NewReader(`{"a":"b"}`)), 9
		if response, problem := do(t, request); response.StatusCode != 200 {
			t.Fatalf("what is sent at once: %s %v", response.Status, problem)
		}
	}
	for _, connection := range slow {
		if _, err := io.WriteString(connection, strings.Repeat(" ", 100)); err != nil {
			t.Fatal(err)
		}
		if response, err := http.ReadResponse(bufio.NewReader(connection), nil); err != nil || response.StatusCode != 400 {
			t.Fatalf("one that arrives at last: %v %v", response, err)
		}
	}
}

// h2cOver returns a client that speaks HTTP/2 to the server of the listener.
func h2cOver(listener pipes) *http.Transport {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	dial := func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		listener <- server
		return client, nil
	}
	return &http.Transport{Protocols: &protocols, DialContext: dial}
}

// A body over HTTP/2 must arrive in time too.
func TestBodyOverHTTP2MustArriveInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		listener, done := make(pipes), make(chan error, 1)
		go func() {
			done <- Run(ctx, Server{Listener: listener, Handler: decoding(0), H2C: true, Logger: slog.New(slog.DiscardHandler)})
		}()
		transport := h2cOver(listener)
		body, sender := io.Pipe()
		go func() { _, _ = io.WriteString(sender, `{"a`) }()
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/json", body)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		begin := time.Now()
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); response.ProtoMajor != 2 || response.StatusCode != http.StatusRequestTimeout ||
			took != bodyTimeout {
			t.Errorf("HTTP/%d: %s after %s", response.ProtoMajor, response.Status, took)
		}
		response.Body.Close()
		sender.Close()
		transport.CloseIdleConnections()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Headers must come to their end, over HTTP/1.1 and HTTP/2.
func TestHeadersMustArriveInTime(t *testing.T) {
	for name, text := range map[string]string{
		"HTTP/1.1": "POST /json HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
		"HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" +
			"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + // its settings
			"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82", // headers that have no end
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				listener, done := make(pipes), make(chan error, 1)
				go func() {
					done <- Run(ctx, Server{Listener: listener, Handler: decoding(0), H2C: true,
						Logger: slog.New(slog.DiscardHandler)})
				}()
				client, server := net.Pipe()
				listener <- server
				begin := time.Now()
				go func() { _, _ = io.WriteString(client, text) }()
				_, _ = io.Copy(io.Discard, client) // until the server gives it up
				if took := time.Since(begin); took > silence+pingAnswer {
					t.Errorf("it was given up after %s", took)
				}
				client.Close()
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A connection that rests, or never was used, is closed in time, also when a byte comes now and then.
func TestRestingConnectionsAreClosed(t *testing.T) {
	const (
		request = "GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n"
		post    = "POST /json HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
		length  = "Content-Length: 999\r\n\r\n"
		chunked = "Transfer-Encoding: chunked\r\n\r\n"
		inTime  = bodyTimeout + time.Second
	)
	for name, test := range map[string]struct {
		first, drip string
		within      time.Duration
	}{
		"nothing":            {"", "", readHeaderTimeout},
		"headers by bytes":   {"", "GET / HTTP/1.1\r\nX: x", readHeaderTimeout + time.Second},
		"after a request":    {request, "", idleTimeout},
		"a second by bytes":  {request, "GET / HTTP/1.1\r\nX: x", idleTimeout + readHeaderTimeout + time.Second},
		"body by bytes":      {post + length, "{", inTime},
		"chunks by bytes":    {post + chunked, "1\r\n \r\n", inTime},
		"body nobody reads":  {"POST /none HTTP/1.1\r\nHost: localhost\r\n" + length, "x", inTime},
		"chunk of one colon": {post + chunked + "1;", "x", inTime},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				listener, done := make(pipes), make(chan error, 1)
				go func() {
					done <- Run(ctx, Server{Listener: listener, Handler: decoding(0), Logger: slog.New(slog.DiscardHandler)})
				}()
				client, server := net.Pipe()
				listener <- server
				begin := time.Now()
				var writer sync.WaitGroup
				writer.Go(func() {
					_, err := io.WriteString(client, test.first)
					for i := 0; err == nil && test.drip != ""; i++ {
						<-time.After(time.Second) // of the bubble's clock
						_, err = io.WriteString(client, test.drip[i%len(test.drip):i%len(test.drip)+1])
					}
				})
				_, _ = io.Copy(io.Discard, client) // until the server gives it up
				if took := time.Since(begin); took > test.within {
					t.Errorf("it was given up after %s", took)
				}
				client.Close()
				writer.Wait()
				stop()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// readDeadline is a ResponseWriter that keeps the deadline by which a body must come.
type readDeadline struct {
	http.ResponseWriter
	at time.Time
}

func (d *readDeadline) SetReadDeadline(at time.Time) error {
	d.at = at
	return nil
}

// A body takes its room in all of its budgets or in none, with what it takes while it is not whole. Once it is, it may
// be handled for as long as it takes.
func TestABodyTakesItsRoomWhereItIsCounted(t *testing.T) {
	process, tenant := &budget{limit: 1 << 20}, &budget{limit: waitingBody + 8<<10, full: Overloaded("the tenant's")}
	w := &readDeadline{ResponseWriter: httptest.NewRecorder()}
	b := newBody(w, io.NopCloser(strings.NewReader(strings.Repeat("x", 20<<10))), process)
	b.share(tenant)
	taken := func(read int, err error, want int64) {
		t.Helper()
		n, got := io.ReadFull(b, make([]byte, read))
		if !errors.Is(got, err) || err == nil && n != read {
			t.Errorf("%d bytes are read, %v", n, got)
		}
		if p, own := process.taken.Load(), tenant.taken.Load(); p != want || own != want {
			t.Errorf("it takes %d and %d bytes, not %d", p, own, want)
		}
	}
	taken(freeBody, nil, waitingBody)
	taken(8<<10, nil, waitingBody+8<<10)
	taken(1, tenant.full, waitingBody+8<<10)
	if w.at.IsZero() {
		t.Error("it may take for ever to come")
	}
	b.release()
	b = newBody(w, io.NopCloser(strings.NewReader("x")), process)
	if _, err := io.ReadAll(b); err != nil || !w.at.IsZero() || process.taken.Load() != 0 {
		t.Errorf("a whole body: %v, until %s, %d bytes", err, w.at, process.taken.Load())
	}
}
