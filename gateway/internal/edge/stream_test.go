package edge

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
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
	eventually(t, func() bool { // New requests are refused, the one in flight goes on.
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
	g := setup(t, func(cfg *Config) { cfg.UpstreamTimeout = 50 * time.Millisecond }, service(t, func(w http.ResponseWriter, r *http.Request) {
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
