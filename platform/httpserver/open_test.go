package httpserver

import (
	"bytes"
	"cmp"
	"log/slog"
	"strings"
	"testing"
)

// Without tokens only this machine may reach a process, unless it is said to be open.
func TestWhereAProcessListens(t *testing.T) {
	for _, test := range []struct {
		addr        string
		known, open bool
		api, plane  string // "" where the address is refused
		says        string
	}{
		{":8080", false, false, "127.0.0.1:8080", "127.0.0.1:8080", "everybody on this machine"},
		{":8080", false, true, ":8080", "127.0.0.1:8080", "everybody who reaches it"},
		{":8080", true, false, ":8080", "127.0.0.1:8080", "holders of a token (AUTH=jwt)"},
		{"127.0.0.9:0", false, false, "127.0.0.9:0", "127.0.0.9:0", "everybody on this machine"},
		{"localhost:80", false, false, "localhost:80", "localhost:80", "everybody on this machine"},
		{"[::1]:80", false, false, "[::1]:80", "[::1]:80", "everybody on this machine"},
		{"[::1]:80", true, true, "[::1]:80", "[::1]:80", "holders of a token on this machine"},
		{"0.0.0.0:80", false, false, "", "", ""},
		{"[::]:80", false, false, "", "", ""},
		{"10.0.0.1:80", false, false, "", "", ""},
		{"altyn.example:80", false, false, "", "", ""},
		{"127.0.0.1.example:80", false, false, "", "", ""},
		{"10.0.0.1:80", false, true, "10.0.0.1:80", "10.0.0.1:80", "everybody who reaches it"},
		{"0.0.0.0:80", true, false, "0.0.0.0:80", "0.0.0.0:80", "holders of a token (AUTH=jwt)"},
		{"80", true, true, "", "", ""}, {":http", true, true, "", "", ""},
	} {
		c := Config{Open: test.open}
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
		if !strings.Contains(log.String(), test.says) || warns != strings.Contains(test.says, "who reaches it") {
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
		c := Config{Limits: test.limits}
		c.AnnounceOpenness(slog.New(slog.NewTextHandler(&log, nil)), test.known, test.addr, cmp.Or(test.plane, ":81"))
		if strings.Contains(log.String(), "WARN") != (test.warns != "") || !strings.Contains(log.String(), test.warns) {
			t.Errorf("%s: %s", test.name, &log)
		}
	}
}
