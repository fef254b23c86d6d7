// Package tlstest makes certificate authorities and certificates for tests of TLS.
package tlstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Authority is a certificate authority.
type Authority struct {
	File        string // its certificate, PEM
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// Pair is a certificate and its key, PEM files in a folder of their own.
type Pair struct{ Cert, Key string }

// Reason returns the error of a call that the server may refuse for the client's certificate. With TLS 1.3 the client
// has sent something by then, to which the server's end of the connection is a reset. Where that overtook the reason,
// the call is made again.
func Reason(call func() error) (err error) {
	for range 100 {
		if err = call(); !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			break
		}
	}
	return err
}

// NewAuthority makes an authority.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{certificate: &x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	pair := a.issue(t, a.certificate)
	a.File = pair.Cert
	return a
}

// Issue makes a certificate, for servers and clients, with names and IP addresses. Each change is made to it before it
// is signed.
func (a *Authority) Issue(t testing.TB, names []string, changes ...func(*x509.Certificate)) Pair {
	t.Helper()
	certificate := &x509.Certificate{
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			certificate.IPAddresses = append(certificate.IPAddresses, ip)
		} else {
			certificate.DNSNames = append(certificate.DNSNames, name)
		}
	}
	for _, change := range changes {
		change(certificate)
	}
	return a.issue(t, certificate)
}

// Expired is a change that ends a certificate an hour ago.
func Expired(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }

// CommonName is a change that gives a certificate's subject its name, which is a user's in PostgreSQL and Kafka.
func CommonName(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.Subject.CommonName = name }
}

// issue signs a certificate; an authority that has no key yet signs its own.
func (a *Authority) issue(t testing.TB, c *x509.Certificate) Pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if a.key == nil {
		a.key = key
	}
	if c.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		t.Fatal(err)
	}
	c.NotBefore = time.Now().Add(-2 * time.Hour)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(24 * time.Hour)
	}
	if c.Subject.CommonName == "" { // An authority is found by its subject.
		c.Subject = pkix.Name{CommonName: c.SerialNumber.String()}
	}
	signed, err := x509.CreateCertificate(rand.Reader, c, a.certificate, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return Pair{write(t, filepath.Join(dir, "tls.crt"), "CERTIFICATE", signed),
		write(t, filepath.Join(dir, "tls.key"), "PRIVATE KEY", secret)}
}

func write(t testing.TB, path, kind string, content []byte) string {
	t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
