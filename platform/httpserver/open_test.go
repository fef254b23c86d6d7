package httpserver

import (
	"bytes"
	"cmp"
	"log/slog"
	"strings"
	"testing"
)

// Without tokens, or where these would come without TLS, only this machine may reach a process, unless it is said to be
// open.
func TestWhereAProcessListens(t *testing.T) {
	type how struct{ known, open, tls, clients bool }
	for _, test := range []struct {
		addr string
		how
		api, plane string // "" where the address is refused
		says       string
		warns      bool
	}{
		{":8080", how{}, "127.0.0.1:8080", "127.0.0.1:8080",
			"open to everybody on this machine, with all rights (without TLS, AUTH=none)", false},
		{":8080", how{open: true}, ":8080", "127.0.0.1:8080",
			"open to everybody who reaches it, with all rights (without TLS, AUTH=none)", true},
		{":8080", how{tls: true}, "127.0.0.1:8080", "127.0.0.1:8080",
			"open to everybody on this machine, with all rights (with TLS, AUTH=none)", false},
		{":8080", how{open: true, tls: true, clients: true}, ":8080", "127.0.0.1:8080",
			"open to everybody who reaches it, with all rights (with TLS and clients' certificates, AUTH=none)", true},
		{":8080", how{known: true}, "127.0.0.1:8080", "127.0.0.1:8080",
			"open to holders of a token on this machine (without TLS, AUTH=jwt)", false},
		{":8080", how{known: true, tls: true}, ":8080", "127.0.0.1:8080",
			"open to holders of a token (with TLS, AUTH=jwt)", false},
		{":8080", how{known: true, open: true}, ":8080", "127.0.0.1:8080",
			"open to holders of a token (without TLS, AUTH=jwt)", true},
		{"127.0.0.9:0", how{}, "127.0.0.9:0", "127.0.0.9:0", "on this machine", false},
		{"localhost:80", how{}, "localhost:80", "localhost:80", "on this machine", false},
		{"[::1]:80", how{}, "[::1]:80", "[::1]:80", "on this machine", false},
		{"[::1]:80", how{known: true, open: true}, "[::1]:80", "[::1]:80", "holders of a token on this machine", false},
		{"0.0.0.0:80", how{}, "", "", "", false},
		{"[::]:80", how{}, "", "", "", false},
		{"10.0.0.1:80", how{}, "", "", "", false},
		{"10.0.0.1:80", how{tls: true, clients: true}, "", "", "", false},
		{"10.0.0.1:80", how{known: true}, "", "", "", false},
		{"altyn.example:80", how{}, "", "", "", false},
		{"127.0.0.1.example:80", how{}, "", "", "", false},
		{"10.0.0.1:80", how{open: true}, "10.0.0.1:80", "10.0.0.1:80", "everybody who reaches it", true},
		{"0.0.0.0:80", how{known: true, tls: true, clients: true}, "0.0.0.0:80", "0.0.0.0:80",
			"open to holders of a token (with TLS and clients' certificates, AUTH=jwt)", false},
		{"80", how{known: true, open: true}, "", "", "", false},
		{":http", how{known: true, open: true}, "", "", "", false},
	} {
		c := Config{Open: test.open}
		if test.tls {
			c.TLS.Cert = "tls.crt"
		}
		if test.clients {
			c.TLS.ClientCA = "ca.crt"
		}
		err := c.CheckAddrs(test.known, map[string]string{"SHOP_ADDR": test.addr})
		if (err == nil) != (test.api != "") || err != nil && !strings.Contains(err.Error(), "SHOP_ADDR") {
			t.Errorf("%+v: %v", test, err)
		}
		if err != nil {
			continue
		}
		if api, plane := c.APIAddr(test.known, test.addr), PlaneAddr(test.addr); api != test.api || plane != test.plane {
			t.Errorf("%+v: %s and %s", test, api, plane)
		}
		var log bytes.Buffer
		c.AnnounceOpenness(slog.New(slog.NewTextHandler(&log, nil)), test.known, test.addr, ":8180")
		warns := strings.Contains(strings.Split(log.String(), "\n")[0], "WARN")
		if !strings.Contains(log.String(), test.says) || warns != test.warns {
			t.Errorf("%+v: %s", test, &log)
		}
	}
}

// What is dangerous in how a process is set is a warning.
func TestDangersAreSaid(t *testing.T) {
	for _, test := range []struct {
		name, addr, plane string
		known             bool
		limits            Limits
		warns             string
	}{
		{name: "no limits", addr: ":80", known: true, warns: "LIMIT_TENANT_RATE"},
		{name: "no rates", addr: "10.0.0.1:80", known: true, limits: Limits{TenantStreams: 1, Connections: 20000},
			warns: "LIMIT_TENANT_RATE"},
		{name: "on this machine", addr: "127.0.0.1:80", known: true},
		{name: "limits of tenants", addr: ":80", known: true, limits: Limits{TenantRate: 1}},
		{name: "limits of subjects", addr: ":80", known: true, limits: Limits{SubjectRate: 1}},
		{name: "limits of addresses", addr: ":80", known: true, limits: Limits{AddressRate: 1}},
		{name: "without tokens", addr: ":80"},
		{name: "an open plane", addr: "127.0.0.1:80", plane: "0.0.0.0:81", warns: "who reaches it"},
		{name: "an open plane with tokens", addr: "127.0.0.1:80", plane: "0.0.0.0:81", known: true},
	} {
		var log bytes.Buffer
		c := Config{Limits: test.limits, TLS: TLS{Cert: "tls.crt"}}
		c.AnnounceOpenness(slog.New(slog.NewTextHandler(&log, nil)), test.known, test.addr, cmp.Or(test.plane, ":81"))
		if strings.Contains(log.String(), "WARN") != (test.warns != "") || !strings.Contains(log.String(), test.warns) {
			t.Errorf("%s: %s", test.name, &log)
		}
	}
}
