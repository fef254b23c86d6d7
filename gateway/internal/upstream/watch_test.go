package upstream

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// instance plays an instance of a service that can be unready.
type instance struct {
	addr    string
	unready atomic.Bool
	posts   atomic.Int32
	host    atomic.Value // of the last request
}

func (i *instance) start(t *testing.T, addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", addr)
	if err != nil && strings.HasPrefix(addr, "127.0.0.2:") {
		t.Skipf("this machine has one loopback address only: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener,
		Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			i.host.Store(r.Host)
			if r.URL.Path != "/readyz" {
				i.posts.Add(1)
			}
			if i.unready.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})}}
	server.Start()
	t.Cleanup(server.Close)
	i.addr = listener.Addr().String()
}

// post sends so many orders and returns the statuses that are not 200.
func post(t *testing.T, u *Upstream, n int) (failed []int) {
	t.Helper()
	for range n {
		for range 2 {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/orders", nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := u.RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != http.StatusOK {
				failed = append(failed, response.StatusCode)
			}
		}
	}
	return failed
}

func TestRequestsGoToInstancesThatAreReady(t *testing.T) {
	var a, b instance
	a.start(t, "127.0.0.1:0")
	b.start(t, "127.0.0.1:0")
	var log bytes.Buffer
	urls := []string{"http://" + a.addr, "http://" + b.addr}
	u, err := New("orders", urls, nil, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	counts := func() (int32, int32) { return a.posts.Swap(0), b.posts.Swap(0) }

	u.look(t.Context())
	if failed := post(t, u, 10); failed != nil {
		t.Errorf("both ready: %v", failed)
	}
	if x, y := counts(); x != 10 || y != 10 {
		t.Errorf("both ready: %d and %d", x, y)
	}
	a.unready.Store(true)
	u.look(t.Context())
	u.look(t.Context())
	if failed := post(t, u, 10); failed != nil {
		t.Errorf("one ready: %v", failed)
	}
	if x, y := counts(); x != 0 || y != 20 {
		t.Errorf("one ready: %d and %d", x, y)
	}
	b.unready.Store(true)
	u.look(t.Context())
	if failed := post(t, u, 10); len(failed) != 20 { // they say so themselves
		t.Errorf("none ready: %v", failed)
	}
	counts()
	a.unready.Store(false)
	u.look(t.Context())
	if failed := post(t, u, 10); failed != nil {
		t.Errorf("the first again: %v", failed)
	}
	if x, y := counts(); x != 20 || y != 0 {
		t.Errorf("the first again: %d and %d", x, y)
	}
	if lines := strings.Count(log.String(), "\n"); lines != 3 || strings.Count(log.String(), "is not ready") != 2 ||
		strings.Count(log.String(), "ready again") != 1 {
		t.Errorf("logged %s", log.String())
	}
}

// A host name may stand for several instances, and for others later.
func TestInstancesOfOneName(t *testing.T) {
	var a, b instance
	a.start(t, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(a.addr)
	b.start(t, "127.0.0.2:"+port)
	u, err := New("orders", []string{"http://orders.internal:" + port}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	var names []string
	var lookupErr error
	u.lookup = func(_ context.Context, _, host string) (addrs []netip.Addr, err error) {
		if host != "orders.internal" {
			t.Errorf("looked up %s", host)
		}
		for _, name := range names {
			addrs = append(addrs, netip.MustParseAddr(name))
		}
		return addrs, lookupErr
	}
	for _, test := range []struct {
		name    string
		addrs   []string
		err     error
		unready bool // the first
		atA     int32
	}{
		{"both", []string{"127.0.0.2", "127.0.0.1"}, nil, false, 10},
		{"both, one of them unready", []string{"127.0.0.1", "::ffff:127.0.0.2"}, nil, true, 0},
		{"no answer changes nothing", nil, errors.New("no such host"), false, 10},
		{"one has gone", []string{"127.0.0.1"}, nil, false, 20},
		{"it has come back", []string{"127.0.0.2", "127.0.0.1"}, nil, false, 10},
	} {
		names, lookupErr = test.addrs, test.err
		a.unready.Store(test.unready)
		u.look(t.Context())
		if failed := post(t, u, 10); failed != nil {
			t.Errorf("%s: %v", test.name, failed)
		}
		if x, y := a.posts.Swap(0), b.posts.Swap(0); x != test.atA || y != 20-test.atA {
			t.Errorf("%s: %d and %d", test.name, x, y)
		}
	}
	if host := b.host.Load(); host != "orders.internal:"+port {
		t.Errorf("the service is called %s", host)
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, err := New("orders", []string{"http://orders.internal"}, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		var looks atomic.Int32
		u.lookup = func(context.Context, string, string) ([]netip.Addr, error) { looks.Add(1); return nil, nil }
		ctx, cancel := context.WithTimeout(t.Context(), 10*lookEvery-time.Millisecond)
		defer cancel()
		u.Watch(ctx)
		if n := looks.Load(); n != 10 {
			t.Errorf("it looked %d times in 10 s", n)
		}
	})
}
