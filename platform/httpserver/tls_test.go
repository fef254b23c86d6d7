package httpserver

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/altyn-pay/altyn/platform/tlsfiles"
	"github.com/altyn-pay/altyn/testkit/tlstest"
)

// protocol answers with the protocol of the request.
var protocol = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })

// The API asks for a client's certificate, the operators' plane does not: probes and the command health have none.
func TestHTTPS(t *testing.T) {
	authority := tlstest.NewAuthority(t)
	pair, mine := authority.Issue(t, []string{"127.0.0.1"}), authority.Issue(t, nil)
	api, plane, err := TLS{pair.Cert, pair.Key, authority.File}.Open(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	client := func(files tlsfiles.Files) *tls.Config {
		source, err := tlsfiles.Open(files, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return source.Client("")
	}
	known, anybody := client(tlsfiles.Files{Cert: mine.Cert, Key: mine.Key, CA: authority.File}),
		client(tlsfiles.Files{CA: authority.File})
	for _, test := range []struct {
		name           string
		server, client *tls.Config
		http2          bool
		want           string // "" where there is no answer
	}{
		{"API", api, known, false, "HTTP/1.1"}, {"API", api, known, true, "HTTP/2.0"},
		{"API, no certificate", api, anybody, false, ""}, {"API, no certificate", api, anybody, true, ""},
		{"API, HTTP", api, nil, false, ""},
		{"plane", plane, anybody, false, "HTTP/1.1"}, {"plane", plane, anybody, true, "HTTP/2.0"},
	} {
		r := start(t, Server{TLS: test.server, Handler: protocol})
		transport := &http.Transport{TLSClientConfig: test.client.Clone(), ForceAttemptHTTP2: test.http2}
		url := "https://" + r.addr
		if test.client == nil {
			url = r.url
		}
		response, err := (&http.Client{Transport: transport}).Get(url)
		got := ""
		if err == nil {
			body, _ := io.ReadAll(response.Body)
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				got = string(body)
			}
		}
		transport.CloseIdleConnections()
		if got != test.want {
			t.Errorf("%s: got %q, %v; want %q", test.name, got, err, test.want)
		}
	}
}

// The limit of connections counts those that have not finished their handshake.
func TestConnectionsInTheHandshakeAreCounted(t *testing.T) {
	authority := tlstest.NewAuthority(t)
	pair := authority.Issue(t, []string{"127.0.0.1"})
	api, _, err := TLS{Cert: pair.Cert, Key: pair.Key}.Open(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, Server{TLS: api, Handler: protocol, Limits: Limits{AddressConnections: 1}})
	silent, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	second, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if n, err := second.Read(make([]byte, 1)); err == nil {
		t.Errorf("the second connection of the address got %d bytes", n)
	}
	if err := tls.Client(silent, &tls.Config{InsecureSkipVerify: true}).Handshake(); err != nil {
		t.Errorf("the first: %v", err)
	}
}

func TestProbeByTLS(t *testing.T) {
	pair := tlstest.NewAuthority(t).Issue(t, []string{"orders.example"})
	_, plane, err := TLS{Cert: pair.Cert, Key: pair.Key}.Open(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, Server{TLS: plane, Handler: protocol})
	if err := Probe(t.Context(), r.addr, true); err != nil {
		t.Error(err)
	}
	if err := Probe(t.Context(), r.addr, false); err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("by HTTP: %v", err)
	}
}

func TestTLSSettings(t *testing.T) {
	authority := tlstest.NewAuthority(t)
	pair := authority.Issue(t, nil)
	for want, settings := range map[string]TLS{
		"":                   {pair.Cert, pair.Key, authority.File},
		"TLS_CERT_FILE":      {Cert: pair.Cert},
		"TLS_CLIENT_CA_FILE": {ClientCA: authority.File},
	} {
		err := settings.Validate()
		if (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v", settings, err)
		}
	}
	if api, plane, err := (TLS{}).Open(nil); api != nil || plane != nil || err != nil {
		t.Errorf("without files: %v, %v, %v", api, plane, err)
	}
}
