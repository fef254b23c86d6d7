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

// endless serves a stream at /stream.
type endless struct {
	http.Handler
	registry *prometheus.Registry
	mu       sync.Mutex
	log      bytes.Buffer
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

func newEndless(stream func(ctx context.Context, body io.Writer) error) *endless {
	e := &endless{registry: prometheus.NewRegistry()}
	logger := slog.New(slog.NewJSONHandler(e, &slog.HandlerOptions{Level: slog.LevelDebug}))
	router := NewRouter(Options{Logger: logger, Registerer: e.registry})
	router.Get("/stream", Handle(func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Content-Type", "text/event-stream")
		out, err := NewStream(w, r)
		if err != nil {
			return err
		}
		defer out.End()
		return stream(r.Context(), out)
	}))
	e.Handler = router
	return e
}

func TestStreamLastsUntilTheServerDrains(t *testing.T) {
	e := newEndless(func(ctx context.Context, body io.Writer) error {
		if _, err := io.WriteString(body, "one\n"); err != nil {
			return err
		}
		<-Draining(ctx).Done()
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
		response.ContentLength != -1 || response.Header.Get("Date") == "" {
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

func TestAnswerThatFailsHalfWayIsBrokenOff(t *testing.T) {
	for _, fail := range []func() error{
		func() error { return errors.New("no more") },
		func() error { panic("no more") },
	} {
		e := newEndless(func(_ context.Context, body io.Writer) error {
			if _, err := io.WriteString(body, "one\n"); err != nil {
				return err
			}
			return fail()
		})
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

func TestStreamEndsWithItsClient(t *testing.T) {
	ended := make(chan struct{})
	e := newEndless(func(ctx context.Context, body io.Writer) error {
		_, err := io.WriteString(body, "one\n")
		<-ctx.Done()
		close(ended)
		return err
	})
	r := start(t, Server{Handler: e.Handler})
	response, err := r.Get(r.url + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	<-ended
	r.stop()
	<-r.done
	if got := e.entry(t); got.Level != "DEBUG" {
		t.Errorf("logged %+v", got)
	}
}

func TestStreamInHTTP10(t *testing.T) {
	e := newEndless(func(_ context.Context, body io.Writer) error {
		_, err := io.WriteString(body, "one\ntwo\n")
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

// In HTTP/2 a deadline is the stream's own and ends it at once, even while nothing is written.
func TestStreamInHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEndless(func(_ context.Context, body io.Writer) error {
			for _, text := range []string{"one\n", "two\n", "three\n"} {
				if _, err := io.WriteString(body, text); err != nil {
					return err
				}
				<-time.After(2 * max(defaultWriteTimeout, streamWriteTimeout))
			}
			return nil
		})
		ctx, stop := context.WithCancel(t.Context())
		listener, done := make(pipes), make(chan error, 1)
		go func() {
			done <- Run(ctx, Server{
				Listener: listener, Handler: e.Handler, H2C: true, Logger: slog.New(slog.DiscardHandler),
			})
		}()
		transport := h2cOver(listener)
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/stream", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if string(body) != "one\ntwo\nthree\n" || err != nil || response.ProtoMajor != 2 {
			t.Errorf("%s: got %q, %v", response.Proto, body, err)
		}
		response.Body.Close()
		transport.CloseIdleConnections()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A client that is there and takes nothing holds a write for so long, and no longer. It is no error of the server.
func TestStreamWhoseClientTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := make(chan error, 1)
		e := newEndless(func(_ context.Context, body io.Writer) error {
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
	e := newEndless(func(_ context.Context, body io.Writer) error {
		_, err := io.WriteString(body, "one\n")
		if err == nil {
			<-release
			_, err = io.WriteString(body, "two\n")
		}
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
