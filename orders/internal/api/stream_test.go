package api_test

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
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/altyn-pay/altyn/orders/internal/api"
	"github.com/altyn-pay/altyn/orders/internal/order"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/httpserver"
	"github.com/altyn-pay/altyn/platform/identity"
)

const patience = 30 * time.Second

// listener is a client of a stream.
type listener struct {
	*http.Response
	lines *bufio.Reader
}

func (b bundle) listen(t testing.TB, id uuid.UUID) listener {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, "GET", b.server.URL+"/api/v1/orders/"+id.String()+"/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	return open(t, request)
}

// open begins to listen by a request.
func open(t testing.TB, request *http.Request) listener {
	t.Helper()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	if response.StatusCode != 200 {
		t.Fatalf("the stream is %s", response.Status)
	}
	return listener{response, bufio.NewReader(response.Body)}
}

// next returns the lines of the next event. They end with an empty one.
func (l listener) next() (event []string, err error) {
	for {
		line, err := l.lines.ReadString('\n')
		switch {
		case err != nil:
			return event, err
		case line == "\n" && len(event) > 0:
			return event, nil
		case line != "\n" && line[0] != ':':
			event = append(event, strings.TrimSuffix(line, "\n"))
		}
	}
}

// expect waits for an event that tells of the order as GET does.
func (l listener) expect(t testing.TB, b bundle, id uuid.UUID, version int, status order.Status) {
	t.Helper()
	event, err := l.next()
	if err != nil {
		t.Fatalf("instead of %s: %v", status, err)
	}
	a := b.call(t, "GET", "/api/v1/orders/"+id.String(), "")
	if o := decode[api.Order](t, a, 200); o.Status != status {
		t.Fatalf("the order is %s", o.Status)
	}
	want := []string{"event: status", fmt.Sprintf("id: %d", version), "data: " + strings.TrimSuffix(string(a.body), "\n")}
	if strings.Join(event, "\n") != strings.Join(want, "\n") {
		t.Fatalf("got %q\nwant %q", event, want)
	}
}

func (l listener) expectEnd(t testing.TB) {
	t.Helper()
	if event, err := l.next(); !errors.Is(err, io.EOF) || len(event) > 0 {
		t.Errorf("after the end: %q, %v", event, err)
	}
}

func TestStreamTellsEveryChange(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.follow(t)
	other := over(t, b.db.Service) // another instance
	other.db = b.db
	other.follow(t)
	sent := strings.Replace(body, "{", `{"description": "<b>a\nb\r\u2028</b>", `, 1) // each event is on one line
	id := decode[api.Order](t, b.call(t, "POST", "/api/v1/orders", sent), 201).ID

	l := b.listen(t, id)
	for header, want := range map[string]string{
		"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no",
		"X-Content-Type-Options": "nosniff",
	} {
		if got := l.Header.Get(header); got != want {
			t.Errorf("%s: %q", header, got)
		}
	}
	listeners := []listener{l, b.listen(t, id), other.listen(t, id)}
	all := func(version int, status order.Status) {
		t.Helper()
		for _, l := range listeners {
			l.expect(t, b, id, version, status)
		}
	}
	all(1, order.Pending)
	placed, err := b.store.Order(t.Context(), identity.Default, id)
	if err != nil {
		t.Fatal(err)
	}
	b.hub.Publish(id, placed) // which is not news
	b.settle(t, id, contract.PaymentAuthorized, 1, "")
	all(2, order.Authorized) // which is not the end
	paid := b.settle(t, id, contract.PaymentSucceeded, 2, "")
	b.hub.Publish(id, paid) // as the process that commits it does, and every process hears of it
	all(3, order.Paid)
	for _, l := range listeners {
		l.expectEnd(t)
	}

	last := b.listen(t, id)
	last.expect(t, b, id, 3, order.Paid)
	last.expectEnd(t)
	// A browser that comes back after the end is told to stay away.
	path := "/api/v1/orders/" + id.String() + "/stream"
	for eventID, want := range map[string]int{"3": 204, "2": 200, "x": 200} {
		if a := b.call(t, "GET", path, "", "Last-Event-ID", eventID); a.status != want || want == 204 && len(a.body) > 0 {
			t.Errorf("after event %s: %d %s", eventID, a.status, a.body)
		}
	}
}

func TestStreamOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	b := setup(t)
	wantProblem(t, b.call(t, "GET", "/api/v1/orders/"+uuid.NewString()+"/stream", ""), 404, api.CodeOrderNotFound)
	wantProblem(t, b.call(t, "GET", "/api/v1/orders/17/stream", ""), 400, httpserver.CodeValidationFailed)
	id := decode[api.Order](t, b.call(t, "POST", "/api/v1/orders", body), 201).ID
	a := b.call(t, "HEAD", "/api/v1/orders/"+id.String()+"/stream", "")
	if a.status != 200 || a.header.Get("Content-Type") != "text/event-stream" || len(a.body) > 0 {
		t.Errorf("HEAD: %d %v", a.status, a.header)
	}
	b.eventuallyOpen(t, 0)
}

// eventuallyOpen waits until so many streams are open.
func (b bundle) eventuallyOpen(t testing.TB, want float64) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for got := -1.0; got != want; {
		families, err := b.metrics.Gather()
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%v: %v streams are open instead of %v", err, got, want)
		}
		for _, family := range families {
			if family.GetName() == "altyn_orders_streams" {
				got = family.GetMetric()[0].GetGauge().GetValue()
			}
		}
	}
}

func TestStreamEndsWithItsClient(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := decode[api.Order](t, b.call(t, "POST", "/api/v1/orders", body), 201).ID
	l := b.listen(t, id)
	l.expect(t, b, id, 1, order.Pending)
	b.eventuallyOpen(t, 1)
	l.Body.Close()
	b.eventuallyOpen(t, 0)
}

// Orders are settled while their streams are being opened: whatever comes first, each stream tells of it. There is
// nothing but the one publication, so that a change that is missed is missed for ever.
func TestNoChangeIsMissedWhileAStreamOpens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var all sync.WaitGroup
	for range 200 {
		id := decode[api.Order](t, b.call(t, "POST", "/api/v1/orders", body), 201).ID
		all.Go(func() { b.hub.Publish(id, b.settle(t, id, contract.PaymentSucceeded, 1, "")) })
		all.Go(func() {
			l := b.listen(t, id)
			var last []string
			for {
				event, err := l.next()
				if err != nil {
					break
				}
				last = event
			}
			if len(last) != 3 || !strings.Contains(last[2], `"status":"paid"`) {
				t.Errorf("the last event was %q", last)
			}
		})
	}
	all.Wait()
}

// When the process ends, the client is sent elsewhere: its stream ends in good order, before a final status.
func TestStreamEndsWhenTheServerDrains(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := decode[api.Order](t, b.call(t, "POST", "/api/v1/orders", body), 201).ID
	ctx, stop := context.WithCancel(t.Context())
	addresses, done := make(chan net.Addr, 1), make(chan error, 1)
	go func() {
		done <- httpserver.Run(ctx, httpserver.Server{
			Name: "test", Addr: "127.0.0.1:0", Handler: b.server.Config.Handler, Logger: slog.New(slog.DiscardHandler),
			WriteTimeout: time.Nanosecond, // which is not that of a stream
			Listening:    func(addr net.Addr) { addresses <- addr },
		})
	}()
	running := b
	running.server = &httptest.Server{URL: "http://" + (<-addresses).String()}
	l := running.listen(t, id)
	l.expect(t, b, id, 1, order.Pending)
	stop()
	l.expectEnd(t)
	if err := <-done; err != nil {
		t.Error(err)
	}
	b.eventuallyOpen(t, 0)
}
