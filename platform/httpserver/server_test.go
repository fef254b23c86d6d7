package httpserver

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/altyn-pay/altyn/testkit/wait"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a server of Run on a free port.
type running struct {
	url  string
	addr string
	stop context.CancelFunc
	done chan error
	*http.Client
}

func start(t *testing.T, server Server) *running {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	listening := make(chan net.Addr, 1)
	server.Name, server.Addr, server.Logger = "test", "127.0.0.1:0", slog.New(slog.DiscardHandler)
	server.Listening = func(addr net.Addr) { listening <- addr }
	transport := &http.Transport{}
	r := &running{stop: stop, done: make(chan error, 1), Client: &http.Client{Transport: transport}}
	go func() { r.done <- Run(ctx, server); close(r.done) }()
	select {
	case addr := <-listening:
		r.addr = addr.String()
		r.url = "http://" + r.addr
	case err := <-r.done:
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(); <-r.done; transport.CloseIdleConnections() })
	return r
}

func TestRunNamesThePortThatIsTaken(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	err = Run(t.Context(), Server{Name: "api", Addr: listener.Addr().String(), Logger: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), listener.Addr().String()) {
		t.Errorf("got %v", err)
	}
}

func TestRunDrains(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	r := start(t, Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-release
		if err := r.Context().Err(); err != nil {
			t.Errorf("the request in flight was cancelled: %v", err)
		}
		_, _ = io.WriteString(w, "done")
	})})
	answer := make(chan string, 1)
	go func() {
		response, err := r.Get(r.url)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		answer <- string(body)
	}()
	<-arrived
	r.stop()
	wait.Until(t, "the listener is closed", func() bool {
		connection, err := net.Dial("tcp", r.addr)
		if err == nil {
			connection.Close()
		}
		return err != nil
	})
	close(release)
	if got := <-answer; got != "done" {
		t.Errorf("the request in flight got %q", got)
	}
	if err := <-r.done; err != nil {
		t.Error(err)
	}
}

func TestRunCutsOffWhatDoesNotEnd(t *testing.T) {
	arrived, ended := make(chan struct{}), make(chan struct{})
	r := start(t, Server{DrainTimeout: time.Millisecond,
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(arrived)
			<-r.Context().Done()
			close(ended)
		})})
	go func() {
		if response, err := r.Get(r.url); err == nil {
			response.Body.Close()
		}
	}()
	<-arrived
	r.stop()
	if err := <-r.done; err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("got %v", err)
	}
	<-ended
}

func TestH2C(t *testing.T) {
	r := start(t, Server{H2C: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
	})})
	for _, test := range []struct {
		http2 bool
		want  string
	}{{false, "HTTP/1.1"}, {true, "HTTP/2.0"}} {
		var protocols http.Protocols
		protocols.SetHTTP1(!test.http2)
		protocols.SetUnencryptedHTTP2(test.http2)
		transport := &http.Transport{Protocols: &protocols}
		response, err := (&http.Client{Transport: transport}).Get(r.url)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		transport.CloseIdleConnections()
		if string(body) != test.want {
			t.Errorf("got %s; want %s", body, test.want)
		}
	}
}

// pipes is a listener whose connections live in memory, so that a server can run on the clock of a synctest bubble.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if connection, ok := <-p; ok {
		return connection, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func TestBodyMustArriveInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		router := NewRouter(Options{Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
		router.Post("/", Handle(func(w http.ResponseWriter, r *http.Request) error {
			return DecodeJSON(w, r, new(struct{}))
		}))
		listener, done := make(pipes), make(chan error, 1)
		go func() {
			done <- Run(ctx, Server{Listener: listener, Handler: router, Logger: slog.New(slog.DiscardHandler)})
		}()

		client, server := net.Pipe()
		listener <- server
		start := time.Now()
		go func() {
			_, _ = io.WriteString(client,
				"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
		}()
		response, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); response.StatusCode != http.StatusRequestTimeout || took != bodyTimeout {
			t.Errorf("got %s after %s", response.Status, took)
		}
		client.Close()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestHeadersAreBounded(t *testing.T) {
	r := start(t, Server{Handler: http.NotFoundHandler()})
	response, err := r.Do(newRequest(t, "GET", r.url, "X-Large", strings.Repeat("x", 64<<10)))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %s", response.Status)
	}
}

func TestProbe(t *testing.T) {
	ready := http.StatusOK
	r := start(t, Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			w.WriteHeader(ready)
		}
	})})
	_, port, err := net.SplitHostPort(r.addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{r.addr, ":" + port, "0.0.0.0:" + port} {
		if err := Probe(t.Context(), addr, false); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	ready = http.StatusServiceUnavailable
	if err := Probe(t.Context(), r.addr, false); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("not ready: %v", err)
	}
	if err := Probe(t.Context(), "nonsense", false); err == nil {
		t.Error("an address without a port was accepted")
	}
}
