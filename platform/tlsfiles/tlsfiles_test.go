package tlsfiles

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/testkit/tlstest"
)

const local = "127.0.0.1"

// open opens files that are looked at by each handshake.
func open(t *testing.T, files Files, log io.Writer) *Source {
	t.Helper()
	s, err := Open(files, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	s.every = 0
	return s
}

// serve starts a server.
func serve(t *testing.T, by *tls.Config) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.TLS, server.EnableHTTP2 = by, true
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// call makes a connection for a request, and returns the certificate of the server.
func call(t *testing.T, server *httptest.Server, by *tls.Config) (*x509.Certificate, error) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: by, DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return response.TLS.PeerCertificates[0], nil
}

// replace replaces a file at once.
func replace(t *testing.T, to, from string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(to+".new", to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestHandshakes(t *testing.T) {
	ours, theirs := tlstest.NewAuthority(t), tlstest.NewAuthority(t)
	good := ours.Issue(t, []string{local})
	client, trusting := ours.Issue(t, nil), Files{CA: ours.File}
	for name, test := range map[string]struct {
		server  tlstest.Pair
		clients bool // whether they need certificates
		client  Files
		change  func(*tls.Config) // of the client
		want    string            // in the error; "" for none
	}{
		"good":        {server: good, client: trusting},
		"mutual":      {server: good, clients: true, client: Files{client.Cert, client.Key, ours.File}},
		"not asked":   {server: good, client: Files{client.Cert, client.Key, ours.File}},
		"system's CA": {server: good, want: "unknown authority"},
		"other CA":    {server: good, client: Files{CA: theirs.File}, want: "unknown authority"},
		"expired":     {server: ours.Issue(t, []string{local}, tlstest.Expired), client: trusting, want: "expired"},
		"other name":  {server: ours.Issue(t, []string{"127.0.0.2", "orders"}), client: trusting, want: "127.0.0.2"},
		"for clients alone": {server: ours.Issue(t, []string{local}, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}), client: trusting, want: "incompatible key usage"},
		"no client certificate": {server: good, clients: true, client: trusting, want: "certificate required"},
		"client of another CA": {server: good, clients: true, client: func() Files {
			pair := theirs.Issue(t, nil)
			return Files{pair.Cert, pair.Key, ours.File}
		}(), change: func(c *tls.Config) { // although the server has said whose it takes
			pair := c.Certificates[0]
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}, want: "unknown certificate authority"},
		"expired client": {server: good, clients: true, client: func() Files {
			pair := ours.Issue(t, nil, tlstest.Expired)
			return Files{pair.Cert, pair.Key, ours.File}
		}(), want: "expired certificate"},
		"TLS 1.1": {server: good, client: trusting, change: func(c *tls.Config) {
			c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		}, want: "protocol version"},
	} {
		t.Run(name, func(t *testing.T) {
			source := open(t, Files{test.server.Cert, test.server.Key, ours.File}, io.Discard)
			config := open(t, test.client, io.Discard).Client("")
			if test.change != nil {
				test.change(config)
			}
			server := serve(t, source.Server(test.clients))
			err := tlstest.Reason(func() error {
				_, err := call(t, server, config)
				return err
			})
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v; want %q", err, test.want)
			}
		})
	}
}

// A certificate is replaced again and again, for a moment without its key, while others connect: nobody is refused, and
// who connects afterwards gets the new one.
func TestReplacedUnderLoad(t *testing.T) {
	authority := tlstest.NewAuthority(t)
	pairs := []tlstest.Pair{authority.Issue(t, []string{local}), authority.Issue(t, []string{local})}
	dir := t.TempDir()
	files := Files{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), authority.File}
	replace(t, files.Cert, pairs[0].Cert)
	replace(t, files.Key, pairs[0].Key)
	server := serve(t, open(t, files, io.Discard).Server(true))
	client := open(t, files, io.Discard)

	done := make(chan struct{})
	var others sync.WaitGroup
	for range 2 {
		others.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := call(t, server, client.Client("")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	serves := func(pair tlstest.Pair) {
		t.Helper()
		certificate, err := call(t, server, client.Client(""))
		if err != nil {
			t.Error(err)
		} else if want := parse(t, pair.Cert); !certificate.Equal(want) {
			t.Errorf("it serves certificate %d; want %d", certificate.SerialNumber, want.SerialNumber)
		}
	}
	for i := range 10 {
		before, after := pairs[i%2], pairs[1-i%2]
		replace(t, files.Cert, after.Cert)
		serves(before)
		replace(t, files.Key, after.Key)
		serves(after)
	}
	close(done)
	others.Wait()
}

// However files are replaced, that is noticed.
func TestWaysToReplace(t *testing.T) {
	authority := tlstest.NewAuthority(t)
	before, after := authority.Issue(t, []string{local}), authority.Issue(t, []string{local})
	info, err := os.Stat(before.Cert)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	link := func(to string) {
		t.Helper()
		data := filepath.Join(dir, "..data")
		if err := errors.Join(os.Symlink(filepath.Dir(to), data+"_tmp"), os.Rename(data+"_tmp", data)); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		files   Files
		replace func()
	}{
		"renamed, of the same time": {Files{Cert: before.Cert, Key: before.Key}, func() {
			replace(t, before.Cert, after.Cert)
			replace(t, before.Key, after.Key)
			if err := os.Chtimes(before.Cert, info.ModTime(), info.ModTime()); err != nil {
				t.Fatal(err)
			}
		}},
		"linked as by Kubernetes": {Files{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key")}, func() {
			link(after.Cert)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(test.files.Cert, dir) {
				old := authority.Issue(t, []string{local})
				link(old.Cert)
				for _, file := range []string{"tls.crt", "tls.key"} {
					if err := os.Symlink(filepath.Join("..data", file), filepath.Join(dir, file)); err != nil {
						t.Fatal(err)
					}
				}
			}
			source := open(t, test.files, io.Discard)
			test.replace()
			if got := source.current().pair[0].Leaf; !got.Equal(parse(t, after.Cert)) {
				t.Errorf("got certificate %d", got.SerialNumber)
			}
		})
	}
}

// What cannot be used changes nothing, and is logged once, until it can be used again.
func TestWhatCannotBeUsed(t *testing.T) {
	authority, other := tlstest.NewAuthority(t), tlstest.NewAuthority(t)
	pair := authority.Issue(t, []string{local})
	both := filepath.Join(t.TempDir(), "ca.crt")
	one, err := os.ReadFile(authority.File)
	if err != nil {
		t.Fatal(err)
	}
	two, err := os.ReadFile(other.File)
	if err != nil {
		t.Fatal(err)
	}
	whole := slices.Concat(one, two)
	write := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(both, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(whole)
	var log bytes.Buffer
	source := open(t, Files{pair.Cert, pair.Key, both}, &log)
	for name, spoil := range map[string]func(){
		"empty":       func() { write(nil) },
		"no PEM":      func() { write([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")) },
		"half":        func() { write(whole[:len(whole)-30]) },
		"absent":      func() { _ = os.Remove(both) },
		"a directory": func() { _ = errors.Join(os.Remove(both), os.Mkdir(both, 0o700)) },
	} {
		t.Run(name, func(t *testing.T) {
			log.Reset()
			before := source.current()
			spoil()
			for range 3 {
				if m := source.current(); m.authorities != before.authorities || len(m.pair) != 1 {
					t.Error("what was in force is not any more")
				}
			}
			if lines := log.String(); strings.Count(lines, "\n") != 1 || !strings.Contains(lines, "cannot be used") {
				t.Errorf("logged %q", lines)
			}
			_ = os.RemoveAll(both)
			write(one)
			log.Reset()
			m := source.current()
			if m.authorities.Equal(before.authorities) || !strings.Contains(log.String(), "read changed") {
				t.Errorf("the mended file is not in force; logged %q", &log)
			}
			write(whole)
			source.current()
		})
	}
}

// A process starts only with files that can be used, and what is wrong names the setting.
func TestCheck(t *testing.T) {
	authority := tlstest.NewAuthority(t)
	one, two := authority.Issue(t, nil), authority.Issue(t, nil)
	settings := Files{"CERT_FILE", "KEY_FILE", "CA_FILE"}
	for _, fine := range []Files{{}, {CA: authority.File}, {one.Cert, one.Key, authority.File}} {
		if err := fine.Check(settings); err != nil {
			t.Errorf("%v: %v", fine, err)
		}
	}
	for want, files := range map[string]Files{
		"CERT_FILE must be set together with KEY_FILE":                               {Key: one.Key},
		"CERT_FILE must be set together with KEY_FILE ":                              {Cert: one.Cert},
		"CERT_FILE must be a certificate whose key is in KEY_FILE: tls: private key": {Cert: one.Cert, Key: two.Key},
		"CERT_FILE must be a certificate whose key is in KEY_FILE: open /nowhere":    {Cert: one.Cert, Key: "/nowhere"},
		"CA_FILE must be a file of certificates: open /nowhere":                      {CA: "/nowhere"},
		"CA_FILE must be a file of certificates: it has a PRIVATE KEY":               {CA: one.Key},
	} {
		err := files.Check(settings)
		if wrong := (*config.Wrong)(nil); !errors.As(err, &wrong) || !strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%v: got %v", files, err)
		}
		if _, err := Open(files, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%v were opened", files)
		}
	}
}

func parse(t *testing.T, file string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}
