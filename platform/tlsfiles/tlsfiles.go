// Package tlsfiles makes configurations of TLS from PEM files, and reads the files again when they have changed.
//
// A handshake looks at the files, at most once a second, and goes by what they held last that could be used: while a
// certificate and its key are replaced one after the other they do not fit together, and the pair before stays in
// force. What is compared is the content, so it makes no difference whether a file was written, renamed or, as by
// Kubernetes, reached by another link. Connections that are open stay as they are.
package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/altyn-pay/altyn/platform/config"
)

const (
	lookEvery  = time.Second
	maxFile    = 1 << 20 // bytes
	minVersion = tls.VersionTLS12
)

// Files are the names of PEM files. Empty ones are not used.
type Files struct {
	Cert, Key string // a certificate, followed by those between it and its authority, and its key: both or neither
	CA        string // the certificates of the authorities to trust
}

// Check returns what is wrong with the files, a *config.Wrong each. settings has the names of the settings.
func (f Files) Check(settings Files) error {
	if (f.Cert == "") != (f.Key == "") {
		return config.Invalid(settings.Cert, "must be set together with %s", settings.Key)
	}
	var errs []error
	if err := (Files{Cert: f.Cert, Key: f.Key}).check(); err != nil {
		errs = append(errs, config.Invalid(settings.Cert, "must be a certificate whose key is in %s: %v", settings.Key, err))
	}
	if err := (Files{CA: f.CA}).check(); err != nil {
		errs = append(errs, config.Invalid(settings.CA, "must be a file of certificates: %v", err))
	}
	return errors.Join(errs...)
}

// contents are what is in the files: the certificate, the key, the authorities.
type contents [3]string

func (f Files) read() (c contents, err error) {
	for i, path := range []string{f.Cert, f.Key, f.CA} {
		if path == "" {
			continue
		}
		if c[i], err = read(path); err != nil {
			return contents{}, err
		}
	}
	return c, nil
}

func read(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err == nil && len(text) == 0 {
		err = fmt.Errorf("%s is empty", path)
	}
	return string(text), err
}

// material is what TLS needs of the files.
type material struct {
	pair        []tls.Certificate // one or none
	authorities *x509.CertPool    // nil for none
}

func (f Files) check() error {
	c, err := f.read()
	if err == nil {
		_, err = c.parse()
	}
	return err
}

func (c contents) parse() (m material, err error) {
	if c[0] != "" || c[1] != "" {
		pair, err := tls.X509KeyPair([]byte(c[0]), []byte(c[1]))
		if err != nil {
			return material{}, err
		}
		m.pair = []tls.Certificate{pair}
	}
	if c[2] != "" {
		m.authorities, err = parseAuthorities(c[2])
	}
	return m, err
}

// parseAuthorities is strict: a file that is only half written must not take the place of a whole one.
func parseAuthorities(text string) (*x509.CertPool, error) {
	pool, rest, n := x509.NewCertPool(), []byte(text), 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it has a %s", block.Type)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		pool.AddCert(certificate)
		n++
	}
	if n == 0 || strings.Contains(string(rest), "-----BEGIN") {
		return nil, errors.New("what is in it is no PEM, or not whole")
	}
	return pool, nil
}

// Source keeps what is in the files. It is safe for concurrent use.
type Source struct {
	files Files
	log   *slog.Logger
	every time.Duration

	mu     sync.Mutex
	looked time.Time
	tried  contents // what the files held last
	failed string   // why they could not be read; "" if they could
	material
}

// Open reads the files. The error is that they cannot be used. Later the log has a line when they have changed, and one
// when they cannot be used any more.
func Open(files Files, log *slog.Logger) (*Source, error) {
	s := &Source{files: files, log: log, every: lookEvery, looked: time.Now()}
	var err error
	if s.tried, err = files.read(); err == nil {
		s.material, err = s.tried.parse()
	}
	if err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return s, nil
}

// current is what the files hold, or held when they could last be used.
func (s *Source) current() material {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.looked) >= s.every {
		s.looked = now
		s.look()
	}
	return s.material
}

// look reads the files again. mu is held.
func (s *Source) look() {
	read, err := s.files.read()
	if err == nil && read == s.tried {
		s.failed = ""
		return
	}
	var m material
	if err == nil {
		s.tried = read
		m, err = read.parse()
	}
	if err == nil {
		s.material, s.failed = m, ""
		s.log.Info("read changed TLS files", "certificate", s.files.Cert, "authorities", s.files.CA)
		return
	}
	if err.Error() != s.failed {
		s.failed = err.Error()
		s.log.Error("TLS files cannot be used; what they held before stays in force",
			"certificate", s.files.Cert, "authorities", s.files.CA, "error", err)
	}
}

// Server is the configuration of a server of HTTP/1.1 and HTTP/2, which has the certificate. With clients, and where
// there are authorities, a client must have a certificate of one of them.
func (s *Source) Server(clients bool) *tls.Config {
	now := func(*tls.ClientHelloInfo) (*tls.Config, error) {
		m := s.current()
		c := &tls.Config{MinVersion: minVersion, NextProtos: []string{"h2", "http/1.1"}, Certificates: m.pair}
		if clients && m.authorities != nil {
			c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, m.authorities
			c.SessionTicketsDisabled = true // Each handshake goes by the authorities of its time.
		}
		return c, nil
	}
	return &tls.Config{MinVersion: minVersion, GetConfigForClient: now}
}

// Client is the configuration of a connection that is made now. The server must have a certificate for its name, or IP
// address, of one of the authorities; without any of the system's. "" is the name that a tls.Dialer is given.
func (s *Source) Client(name string) *tls.Config {
	m := s.current()
	return &tls.Config{MinVersion: minVersion, ServerName: name, RootCAs: m.authorities, Certificates: m.pair}
}
