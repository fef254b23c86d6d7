package upstream

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/platform/tlsfiles"
	"github.com/altyn-pay/altyn/testkit/tlstest"
)

func source(t *testing.T, files tlsfiles.Files) *tlsfiles.Source {
	t.Helper()
	s, err := tlsfiles.Open(files, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// secure starts a service that asks for a certificate of the authority, and returns its address.
func secure(t *testing.T, authority *tlstest.Authority, names ...string) string {
	t.Helper()
	pair := authority.Issue(t, names)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.TLS = source(t, tlsfiles.Files{Cert: pair.Cert, Key: pair.Key, CA: authority.File}).Server(true)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// The gateway and its services show each other certificates. Where that fails nothing was sent.
func TestTLS(t *testing.T) {
	ours, theirs := tlstest.NewAuthority(t), tlstest.NewAuthority(t)
	mine := ours.Issue(t, nil)
	files := tlsfiles.Files{Cert: mine.Cert, Key: mine.Key, CA: ours.File}
	good := secure(t, ours, "127.0.0.1")
	for name, test := range map[string]struct {
		address string
		files   tlsfiles.Files
		refused bool // before anything was sent
		want    string
	}{
		"mutual":         {good, files, false, ""},
		"no certificate": {good, tlsfiles.Files{CA: ours.File}, false, "certificate required"},
		"other CA":       {good, tlsfiles.Files{Cert: mine.Cert, Key: mine.Key, CA: theirs.File}, true, "unknown authority"},
		"other name":     {secure(t, ours, "payments.internal"), files, true, "127.0.0.1"},
	} {
		u, err := New("orders", []string{"https://" + test.address}, source(t, test.files), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/orders", nil)
		if err != nil {
			t.Fatal(err)
		}
		ready := tlstest.Reason(func() error { return u.Ready(t.Context()) })
		err = tlstest.Reason(func() error {
			response, err := u.RoundTrip(request)
			if err == nil {
				response.Body.Close()
			}
			return err
		})
		for _, err := range []error{ready, err} {
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: got %v; want %q", name, err, test.want)
			}
		}
		if dial := (*dialError)(nil); errors.As(err, &dial) != test.refused {
			t.Errorf("%s: %v; another instance is tried: %t", name, err, !test.refused)
		}
		u.Close()
	}
}

// The instances behind a name have one certificate, of that name; each gets its share.
func TestInstancesByTLS(t *testing.T) {
	authority := tlstest.NewAuthority(t)
	mine := authority.Issue(t, nil)
	_, port, err := net.SplitHostPort(secure(t, authority, "orders.internal"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"orders.internal": true, "payments.internal": false} {
		u, err := New("orders", []string{"https://" + name + ":" + port},
			source(t, tlsfiles.Files{Cert: mine.Cert, Key: mine.Key, CA: authority.File}), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		u.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}
		u.look(t.Context())
		if found := *u.addresses.Load(); len(found) != 1 || found[0].target != "127.0.0.1:"+port {
			t.Errorf("%s: found %v", name, found)
		}
		if err := u.Ready(t.Context()); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
		u.Close()
	}
}

func TestCheck(t *testing.T) {
	for url, test := range map[string]struct{ ok, okOpen bool }{
		"http://127.0.0.1:8080":  {true, true},
		"http://[::1]:8080":      {true, true},
		"http://localhost:8080":  {true, true},
		"https://orders:8080":    {true, true},
		"http://orders:8080":     {false, true},
		"http://10.0.0.7:8080":   {false, true},
		"http://127.0.0.1.x:80":  {false, true},
		"https://orders:8080/x":  {false, false},
		"https://me@orders:8080": {false, false},
	} {
		urls := []string{"http://127.0.0.1:1", url}
		if err := Check(urls, false); (err == nil) != test.ok {
			t.Errorf("%s: %v", url, err)
		}
		if err := Check(urls, true); (err == nil) != test.okOpen {
			t.Errorf("%s, open: %v", url, err)
		}
	}
}
