package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/go-jose/go-jose/v4"
)

// key signs tokens by ES256. It is op.SigningKey.
type key struct {
	private *ecdsa.PrivateKey
	id      string
}

func (k key) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k key) Key() any                                    { return k.private }
func (k key) ID() string                                  { return k.id }

// public is the published half of a key. It is op.Key.
type public struct{ key }

func (p public) Algorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (p public) Use() string                        { return "sig" }
func (p public) Key() any                           { return &p.private.PublicKey }

// loadKey reads the key, or makes one and keeps it.
func loadKey(file string) (key, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(file)
	}
	if err != nil {
		return key{}, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return key{}, fmt.Errorf("%s is no PEM file; without it a new key is made", file)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	private, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok || private.Curve != elliptic.P256() {
		return key{}, fmt.Errorf("%s has no private key of P-256; without it a new key is made", file)
	}
	return named(private)
}

func makeKey(file string) (key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return key{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return key{}, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return key{}, err
	}
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		return key{}, err
	}
	if err := os.Rename(file+".new", file); err != nil {
		return key{}, err
	}
	return named(private)
}

// named gives a key its ID: its thumbprint (RFC 7638).
func named(private *ecdsa.PrivateKey) (key, error) {
	sum, err := (&jose.JSONWebKey{Key: &private.PublicKey}).Thumbprint(crypto.SHA256)
	return key{private, base64.RawURLEncoding.EncodeToString(sum)}, err
}
