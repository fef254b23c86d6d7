package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/testkit/wait"
)

func TestReadBody(t *testing.T) {
	for _, size := range []int{0, 1, smallBody - 1, smallBody, smallBody + 1, 3 * smallBody} {
		text := bytes.Repeat([]byte("x"), size)
		read := func(from io.Reader, length int64) (r *http.Request, err error) {
			r = httptest.NewRequest("POST", "/", from)
			r.ContentLength = length
			return r, readBody(httptest.NewRecorder(), r, 1<<20)
		}
		for _, length := range []int64{int64(size), -1} {
			for name, from := range map[string]io.Reader{
				"at once": bytes.NewReader(text), "in halves": iotest.HalfReader(bytes.NewReader(text)),
				"with its end": iotest.DataErrReader(bytes.NewReader(text)),
			} {
				if length == 0 {
					continue // has no body
				}
				r, err := read(from, length)
				passed, failed := io.ReadAll(r.Body)
				if err != nil || failed != nil || len(passed) != size || (r.GetBody != nil) != (size <= smallBody) {
					t.Errorf("%d bytes, announced as %d, %s: %d, %v, %v", size, length, name, len(passed), err, failed)
				}
			}
		}
		r, err := read(io.MultiReader(bytes.NewReader(text), iotest.ErrReader(io.ErrUnexpectedEOF)), -1)
		if err == nil {
			_, err = io.Copy(io.Discard, r.Body)
		}
		var problem *httpserver.Problem
		if !errors.As(err, &problem) || problem.Status != 400 {
			t.Errorf("%d bytes that break off: %v", size, err)
		}
	}
}

// Announced bytes that never come take no memory, and reach no service.
func TestBytesThatNeverCome(t *testing.T) {
	const connections = 300
	var asked atomic.Int32
	g := setup(t, nil, service(t, func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	for _, length := range []int{smallBody, 1 << 20} {
		before := heap()
		for range connections {
			connection, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer connection.Close()
			// The interim answer says that the gateway waits for the body.
			fmt.Fprintf(connection, "POST /api/v1/orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: "+
				"application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", length)
			if _, err := io.ReadFull(connection, make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(connection, `{"a`); err != nil {
				t.Fatal(err)
			}
		}
		if per := (heap() - before) / connections; per > 32<<10 {
			t.Errorf("with %d bytes announced and 3 sent, a connection takes %d bytes", length, per)
		}
	}
	response, body, _ := g.do(t, newRequest(t, "POST", g.url+"/api/v1/orders", strings.NewReader("{}")))
	if response.StatusCode != 200 || asked.Load() != 1 {
		t.Errorf("in the meantime: %s %s; the service was asked %d times", response.Status, body, asked.Load())
	}
}

// heap is what lives in memory.
func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func TestNoRoomForBodies(t *testing.T) {
	arrived := make(chan struct{})
	held := strings.Repeat("x", 1000<<10)
	g := setup(t, func(cfg *Config) { cfg.HTTP.BodyMemory = 1 << 20 },
		service(t, func(_ http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Held") != "" {
				_, _ = io.ReadFull(r.Body, make([]byte, len(held)))
				close(arrived)
			}
			_, _ = io.Copy(io.Discard, r.Body)
		}))
	blocked, end := io.Pipe() // never says more
	defer end.Close()
	request := newRequest(t, "POST", g.url+"/api/v1/orders", io.MultiReader(strings.NewReader(held), blocked))
	request.Header.Set("X-Held", "1")
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	go func() { _, _ = g.Do(request.WithContext(ctx)) }()
	<-arrived
	post := func(size int) (*http.Response, httpserver.Problem) {
		response, _, problem := g.do(t, newRequest(t, "POST", g.url+"/api/v1/orders", strings.NewReader(held[:size])))
		return response, problem
	}
	if response, problem := post(64 << 10); response.StatusCode != 503 || problem.Code != httpserver.CodeOverloaded ||
		response.Header.Get("Retry-After") == "" {
		t.Errorf("beside another: %s %v", response.Status, problem)
	}
	if response, _ := post(1000); response.StatusCode != 200 {
		t.Errorf("a small one: %s", response.Status)
	}
	leave()
	wait.Until(t, "a large body is taken again",
		func() bool { response, _ := post(64 << 10); return response.StatusCode == 200 })
}
