package edge

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/testkit/wait"
)

// events plays a service with a stream of events: each value sent to it is one event.
func events(t *testing.T) (address string, next chan string, left chan struct{}) {
	next, left = make(chan string), make(chan struct{})
	return service(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		control := http.NewResponseController(w)
		_ = control.Flush()
		for {
			select {
			case event, ok := <-next:
				if !ok {
					return
				}
				_, _ = io.WriteString(w, "data: "+event+"\n\n")
				_ = control.Flush()
			case <-r.Context().Done():
				close(left)
				return
			}
		}
	}), next, left
}

func (g *gateway) open(t *testing.T, ctx context.Context) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, "GET", g.url+"/api/v1/orders/1/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := g.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

func TestStreamIsNotBuffered(t *testing.T) {
	address, next, _ := events(t)
	// The stream outlives the time that any other answer has.
	const timeout = 50 * time.Millisecond
	g := setup(t, func(cfg *Config) { cfg.UpstreamTimeout = timeout }, address)
	response := g.open(t, t.Context())
	reader := bufio.NewReader(response.Body)
	start := time.Now()
	for time.Since(start) < 3*timeout {
		next <- "paid"
		if line, err := reader.ReadString('\n'); err != nil || line != "data: paid\n" {
			t.Fatalf("got %q, %v", line, err)
		}
		if _, err := reader.Discard(1); err != nil {
			t.Fatal(err)
		}
	}
	close(next)
	if rest, err := io.ReadAll(reader); err != nil || len(rest) > 0 {
		t.Errorf("after the end: %q, %v", rest, err)
	}
}

// An export is passed on line by line, and longer than any other answer may take. Where the service breaks it off, the
// client sees that it is not whole.
func TestExportsPass(t *testing.T) {
	const timeout = 50 * time.Millisecond
	next := make(chan string)
	address := service(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.Header.Get("Accept")+"; charset=utf-8")
		for line := range next {
			if line == "" {
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, line)
			_ = http.NewResponseController(w).Flush()
		}
	})
	g := setup(t, func(cfg *Config) { cfg.UpstreamTimeout = timeout }, address)
	for path, accept := range map[string]string{
		"/api/v1/orders": "text/csv", "/api/v1/accounts/1/entries": "text/x-ledger",
	} {
		request, err := http.NewRequestWithContext(t.Context(), "GET", g.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Accept", accept)
		line := "a line of " + path + "\r\n"
		started := make(chan struct{})
		go func() { next <- line; close(started) }()
		response, err := g.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		<-started
		reader := bufio.NewReader(response.Body)
		for start, first := time.Now(), true; time.Since(start) < 3*timeout; first = false {
			if !first {
				next <- line
			}
			if got, err := reader.ReadString('\n'); err != nil || got != line {
				t.Fatalf("%s: %q, %v", path, got, err)
			}
		}
		next <- ""
		if rest, err := io.ReadAll(reader); err == nil {
			t.Errorf("%s: half an export was taken for a whole one, after %q", path, rest)
		}
	}
}

func TestStreamEndsWhenTheGatewayDrains(t *testing.T) {
	address, next, left := events(t)
	g := setup(t, nil, address)
	response := g.open(t, t.Context())
	next <- "authorized"
	drained := make(chan error, 1)
	reader := bufio.NewReader(response.Body)
	if _, err := reader.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	go func() { drained <- g.stop() }()
	// The client sees an end in good order, the service sees the stream go.
	if _, err := io.ReadAll(reader); err != nil {
		t.Error(err)
	}
	<-left
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

func TestStreamThatBreaksOffIsNotWhole(t *testing.T) {
	g := setup(t, nil, service(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: pending\n\n")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	body, err := io.ReadAll(g.open(t, t.Context()).Body)
	if err == nil || string(body) != "data: pending\n\n" {
		t.Errorf("half a stream was taken for a whole one: %q, %v", body, err)
	}
	if err := g.stop(); err != nil {
		t.Error(err)
	}
	if log := g.log.String(); !strings.Contains(log, `"level":"ERROR"`) ||
		!strings.Contains(log, `"route":"/api/v1/orders/{id}/stream"`) {
		t.Errorf("log %s", log)
	}
}

// Whatever a service makes of its stream passes through: large events, an end by the end of the connection, no events.
func TestStreamsOfAnyForm(t *testing.T) {
	large := "data: " + strings.Repeat("0123456789", 1000) + "\n\n"
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Request-Id: its-own\r\nX-Other: passes\r\n"
	for _, test := range []struct{ answer, want string }{
		{head + "Transfer-Encoding: chunked\r\n\r\n" +
			strconv.FormatInt(int64(len(large)), 16) + "\r\n" + large + "\r\n0\r\n\r\n", large},
		{head + "\r\n" + large, large},
		{head + "Connection: close\r\n\r\n", ""},
		{head + "Content-Length: 10\r\n\r\ndata: 17\n\n", "data: 17\n\n"},
		{"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\nX-Other: passes\r\n\r\n" + large, large},
	} {
		g := setup(t, nil, talk(t, test.answer))
		response := g.open(t, t.Context())
		body, err := io.ReadAll(response.Body)
		if err != nil || string(body) != test.want {
			t.Errorf("%.40q: got %.40q, %v", test.answer, body, err)
		}
		if header := response.Header; header.Get("X-Other") != "passes" || len(header["X-Request-Id"]) != 1 ||
			header.Get("X-Request-Id") == "its-own" {
			t.Errorf("headers %v", header)
		}
	}
}

// On the path of a stream a service may give any other answer.
func TestAnswersInPlaceOfAStream(t *testing.T) {
	const path = "/api/v1/orders/1/stream"
	problem := service(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Last-Event-Id") != "" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		if r.Method == http.MethodHead {
			w.Header().Set("Content-Type", "text/event-stream")
			return
		}
		httpserver.WriteProblem(w, httpserver.NewProblem(404, "order_not_found", "there is no order with this ID"))
	})
	g := setup(t, nil, closedAddress(t), problem)
	for range 3 { // the other address is put aside
		if response, _, p := g.do(t, newRequest(t, "GET", g.url+path, nil)); response.StatusCode != 404 ||
			p.Code != "order_not_found" {
			t.Errorf("got %s, %+v", response.Status, p)
		}
	}
	request := newRequest(t, "GET", g.url+path, nil)
	request.Header.Set("Last-Event-ID", "2")
	if response, body, _ := g.do(t, request); response.StatusCode != 204 || body != "" {
		t.Errorf("got %s, %q", response.Status, body)
	}
	if response, _, _ := g.do(t, newRequest(t, "HEAD", g.url+path, nil)); response.StatusCode != 200 ||
		response.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("HEAD: %s, %v", response.Status, response.Header)
	}

	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	unknown := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	unknown.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	defer unknown.Close()
	for _, test := range []struct {
		name    string
		address string
		status  int
		code    string
	}{
		{"nothing listens", closedAddress(t), 502, httpserver.CodeUpstreamUnavailable},
		{"the service breaks off", service(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
			502, httpserver.CodeUpstreamUnavailable},
		{"the answer is no HTTP", talk(t, "SSH-2.0-OpenSSH_9.7\r\n"), 502, httpserver.CodeUpstreamUnavailable},
		{"it switches protocols", talk(t, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"),
			502, httpserver.CodeUpstreamUnavailable},
		{"too much header", talk(t, "HTTP/1.1 200 OK\r\nX-Large: "+strings.Repeat("x", 100<<10)+"\r\n\r\n"), 502,
			httpserver.CodeUpstreamUnavailable},
		{"a certificate that nobody knows", unknown.URL, 502, httpserver.CodeUpstreamUnavailable},
		{"the service hangs", service(t, hang), 504, httpserver.CodeUpstreamTimeout},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := setup(t, func(cfg *Config) {
				if test.status == 504 {
					cfg.UpstreamTimeout = 50 * time.Millisecond
				}
			}, test.address)
			response, body, problem := g.do(t, newRequest(t, "GET", g.url+path, nil))
			if response.StatusCode != test.status || problem.Code != test.code || strings.Contains(body, "127.0.0.1") {
				t.Errorf("%s: %s", response.Status, body)
			}
		})
	}
}

func TestTheNumberOfStreamsIsBounded(t *testing.T) {
	s := &streams{proxy: newProxy(Config{UpstreamTimeout: time.Second}, nil, nil)}
	s.open.Store(maxStreams)
	router := httpserver.NewRouter(httpserver.Options{
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), Classify: problemOf,
	})
	router.Handle("/*", s)
	recorder := httptest.NewRecorder()
	router.ServeHTTP(recorder, httptest.NewRequest("GET", "http://localhost/api/v1/orders/1/stream", nil))
	if recorder.Code != 503 || recorder.Header().Get("Retry-After") == "" {
		t.Errorf("got %d %s", recorder.Code, recorder.Body)
	}
}

func TestClientThatLeavesEndsTheRequestAndIsNoError(t *testing.T) {
	arrived, left := make(chan struct{}), make(chan struct{})
	g := setup(t, nil, service(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		close(left)
	}))
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-arrived; leave() }()
	request, err := http.NewRequestWithContext(ctx, "GET", g.url+"/api/v1/orders", nil)
	if err != nil {
		t.Fatal(err)
	}
	if response, err := g.Do(request); err == nil {
		response.Body.Close()
		t.Fatal("an answer came")
	}
	<-left

	streamAddress, next, streamLeft := events(t)
	s := setup(t, nil, streamAddress)
	ctx, leave = context.WithCancel(t.Context())
	response := s.open(t, ctx)
	next <- "pending"
	leave()
	response.Body.Close()
	<-streamLeft

	for _, g := range []*gateway{g, s} {
		if err := g.stop(); err != nil { // Everything is logged once the gateway has ended.
			t.Error(err)
		}
		if log := g.log.String(); strings.Contains(log, "ERROR") || strings.Contains(log, "WARN") {
			t.Error(log)
		}
	}
}

func TestDrainFinishesARequestInFlight(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	g := setup(t, nil, service(t, func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-release
		_, _ = io.WriteString(w, "paid")
	}))
	answer := make(chan string, 1)
	go func() {
		response, err := g.Get(g.url + "/api/v1/orders/1")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		answer <- string(body)
	}()
	<-arrived
	drained := make(chan error, 1)
	go func() { drained <- g.stop() }()
	wait.Until(t, "new requests are refused", func() bool {
		response, err := http.Get(g.url + "/healthz")
		if err == nil {
			response.Body.Close()
		}
		return err != nil
	})
	close(release)
	if got := <-answer; got != "paid" {
		t.Errorf("the request in flight got %q", got)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

func TestAnswerThatStallsIsCutOff(t *testing.T) {
	g := setup(t, func(cfg *Config) { cfg.UpstreamTimeout = 50 * time.Millisecond },
		service(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{"items":[`)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}))
	response, err := g.Get(g.url + "/api/v1/orders")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("half an answer was taken for a whole one: %s", body)
	}
}
