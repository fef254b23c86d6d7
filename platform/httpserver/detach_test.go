package httpserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// endless serves a detached answer at /stream.
type endless struct {
	http.Handler
	registry *prometheus.Registry
	mu       sync.Mutex
	log      bytes.Buffer
	failed   chan error // of Detach
}

func (e *endless) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.log.Write(p)
}

// entry is the log line of the request, once it has ended.
func (e *endless) entry(t *testing.T) (entry struct {
	Level, Route, Error string
	Status, Bytes       int
}) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := json.Unmarshal(e.log.Bytes(), &entry); err != nil {
		t.Errorf("%v: %s", err, e.log.String())
	}
	return entry
}

func newEndless(begin string, stream func(ctx context.Context, body io.Writer) error) *endless {
	e := &endless{registry: prometheus.NewRegistry(), failed: make(chan error, 10)}
	logger := slog.New(slog.NewJSONHandler(e, &slog.HandlerOptions{Level: slog.LevelDebug}))
	router := NewRouter(Options{Logger: logger, Registerer: e.registry})
	router.Get("/stream", Handle(func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Content-Length", "17")
		err := Detach(w, r, []byte(begin), stream)
		e.failed <- err
		return err
	}))
	e.Handler = router
	return e
}

func TestDetachedAnswerLastsUntilTheServerDrains(t *testing.T) {
	e := newEndless("one\n", func(ctx context.Context, body io.Writer) error {
		<-ctx.Done()
		if _, err := body.Write(nil); err != nil { // which is not the end
			return err
		}
		_, err := io.WriteString(body, "two\n")
		return err
	})
	// It outlives a write timeout that would end any other answer.
	r := start(t, Server{Handler: e.Handler, WriteTimeout: time.Nanosecond})
	response, err := r.Get(r.url + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.Header.Get("Content-Type") != "text/event-stream" || response.Header.Get("X-Request-Id") == "" ||
		response.ContentLength != -1 || !response.Close || response.Header.Get("Date") == "" {
		t.Errorf("headers %v", response.Header)
	}
	reader := bufio.NewReader(response.Body)
	if line, err := reader.ReadString('\n'); line != "one\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	if n, err := testutil.GatherAndCount(e.registry, "altyn_http_requests_total"); n != 0 || err != nil {
		t.Errorf("counted before its end: %d, %v", n, err)
	}
	r.stop()
	if rest, err := io.ReadAll(reader); err != nil || string(rest) != "two\n" {
		t.Errorf("got %q, %v", rest, err)
	}
	if err := <-r.done; err != nil {
		t.Error(err)
	}
	if got := e.entry(t); got.Level != "DEBUG" || got.Route != "/stream" || got.Status != 200 || got.Bytes != 8 {
		t.Errorf("logged %+v", got)
	}
	if n, err := testutil.GatherAndCount(e.registry, "altyn_http_requests_total"); n != 1 || err != nil {
		t.Errorf("counted %d times, %v", n, err)
	}
}

func TestDetachedAnswerThatFailsIsBrokenOff(t *testing.T) {
	for _, stream := range []func(context.Context, io.Writer) error{
		func(context.Context, io.Writer) error { return errors.New("no more") },
		func(context.Context, io.Writer) error { panic("no more") },
	} {
		e := newEndless("one\n", stream)
		r := start(t, Server{Handler: e.Handler})
		response, err := r.Get(r.url + "/stream")
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(response.Body); !errors.Is(err, io.ErrUnexpectedEOF) || string(body) != "one\n" {
			t.Errorf("got %q, %v", body, err)
		}
		response.Body.Close()
		r.stop()
		<-r.done
		if got := e.entry(t); got.Level != "ERROR" || !strings.Contains(got.Error, "no more") {
			t.Errorf("logged %+v", got)
		}
	}
}

// The client leaves, or says what nobody has asked for.
func TestDetachedAnswerEndsWithItsClient(t *testing.T) {
	for name, leave := range map[string]func(net.Conn){
		"leaves": func(conn net.Conn) { conn.Close() },
		"talks":  func(conn net.Conn) { _, _ = conn.Write(make([]byte, 2*maxIgnored)) },
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan struct{})
			e := newEndless("", func(ctx context.Context, body io.Writer) error {
				<-ctx.Done()
				close(ended)
				return nil
			})
			r := start(t, Server{Handler: e.Handler})
			conn, err := net.Dial("tcp", r.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil { // the headers have come at once
				t.Fatal(err)
			}
			leave(conn)
			<-ended
			r.stop()
			<-r.done
			if got := e.entry(t); got.Level != "DEBUG" {
				t.Errorf("logged %+v", got)
			}
		})
	}
}

func TestDetachedAnswerInHTTP10(t *testing.T) {
	e := newEndless("one\n", func(_ context.Context, body io.Writer) error {
		_, err := io.WriteString(body, "two\n")
		return err
	})
	r := start(t, Server{Handler: e.Handler})
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /stream HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(conn)
	if _, body, _ := strings.Cut(string(text), "\r\n\r\n"); err != nil || body != "one\ntwo\n" ||
		strings.Contains(string(text), "chunked") || strings.Contains(string(text), "Content-Length") {
		t.Errorf("%v: got %q", err, text)
	}
}

func TestWhatIsNotHTTP1CannotBeDetached(t *testing.T) {
	e := newEndless("one\n", nil)
	r := start(t, Server{Handler: e.Handler, H2C: true})
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get(r.url + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if err := <-e.failed; err == nil || response.StatusCode != http.StatusInternalServerError {
		t.Errorf("%v: got %s", err, response.Status)
	}
}

// A client that is there and takes nothing holds a write for so long, and no longer. It is no error of the server.
func TestDetachedAnswerWhoseClientTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := make(chan error, 1)
		e := newEndless("", func(_ context.Context, body io.Writer) error {
			_, err := io.WriteString(body, "one\n")
			failed <- err
			return err
		})
		ctx, stop := context.WithCancel(t.Context())
		listener, done := make(pipes), make(chan error, 1)
		go func() {
			done <- Run(ctx, Server{Listener: listener, Handler: e.Handler, Logger: slog.New(slog.DiscardHandler)})
		}()
		client, server := net.Pipe()
		listener <- server
		if _, err := io.WriteString(client, "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := http.ReadResponse(bufio.NewReader(client), nil); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := <-failed; err == nil || time.Since(began) != streamWriteTimeout {
			t.Errorf("the write ended with %v after %s", err, time.Since(began))
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if got := e.entry(t); got.Level != "DEBUG" {
			t.Errorf("logged %+v", got)
		}
		client.Close()
	})
}

func TestRunCutsOffStreamsThatDoNotEnd(t *testing.T) {
	release, ended := make(chan struct{}), make(chan error)
	e := newEndless("one\n", func(_ context.Context, body io.Writer) error {
		<-release
		_, err := io.WriteString(body, "two\n")
		ended <- err
		return err
	})
	r := start(t, Server{Handler: e.Handler, DrainTimeout: time.Millisecond})
	response, err := r.Get(r.url + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	r.stop()
	if err := <-r.done; err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("got %v", err)
	}
	if body, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("half an answer was taken for a whole one: %s", body)
	}
	close(release)
	if err := <-ended; err == nil {
		t.Error("written after the end")
	}
}
