package httpserver

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"

	"github.com/altyn-pay/altyn/platform/config"
)

// loopback is where an address without a host listens while nobody has to show who they are.
const loopback = "127.0.0.1"

// CheckAddrs checks the addresses on which a process listens, each with its variable. known says that everybody has
// to show who they are (AUTH=jwt). Where nobody has to, or tokens would come without TLS, only this machine may reach
// the process, unless ALTYN_OPEN says otherwise.
func (c Config) CheckAddrs(known bool, addrs map[string]string) error {
	var errs []error
	for name, addr := range addrs {
		if err := config.CheckAddr(name, addr); err != nil {
			errs = append(errs, err)
			continue
		}
		host, _, _ := net.SplitHostPort(addr)
		switch {
		case host == "" || Loopback(host) || c.beyond(known):
		case known:
			errs = append(errs, config.Invalid(name, "must be on loopback, such as 127.0.0.1:8080 or :8080, because tokens "+
				"would come without TLS; TLS_CERT_FILE or ALTYN_OPEN=true lifts that"))
		default:
			errs = append(errs, config.Invalid(name, "must be on loopback, such as 127.0.0.1:8080 or :8080, because nobody "+
				"has to show who they are (AUTH=none); AUTH=jwt with TLS_CERT_FILE, or ALTYN_OPEN=true, lifts that"))
		}
	}
	return errors.Join(errs...)
}

// beyond reports whether a process may listen beyond loopback.
func (c Config) beyond(known bool) bool { return known && c.TLS.On() || c.Open }

// APIAddr is the address on which an API listens. One without a host is every network's, but loopback with AUTH=none or
// without TLS, unless ALTYN_OPEN says otherwise.
func (c Config) APIAddr(known bool, addr string) string {
	if c.beyond(known) {
		return addr
	}
	return PlaneAddr(addr)
}

// PlaneAddr is the address on which an operators' plane listens. One without a host is loopback.
func PlaneAddr(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return net.JoinHostPort(cmp.Or(host, loopback), port)
}

// Loopback reports whether a host is this machine alone.
func Loopback(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }

// AnnounceOpenness writes into the log who may use a process that listens on an address, and on another one for
// operators, and warns where these are not limited, or where others can read along.
func (c Config) AnnounceOpenness(log *slog.Logger, known bool, addr, planeAddr string) {
	isLocal := func(addr string) bool {
		host, _, _ := net.SplitHostPort(addr)
		return Loopback(host)
	}
	api, plane := c.APIAddr(known, addr), PlaneAddr(planeAddr)
	local, level := isLocal(api), slog.LevelInfo
	shut := local && isLocal(plane)
	if !shut && (!known || !c.TLS.On()) {
		level = slog.LevelWarn
	}
	log.Log(context.Background(), level, c.openness(known, local, shut), "addr", api, "admin_addr", plane)
	if l := c.Limits; known && !local && l.TenantRate == 0 && l.SubjectRate == 0 && l.AddressRate == 0 {
		log.Warn("whoever asks may take all of this process: there is no limit of rates " +
			"(LIMIT_TENANT_RATE, LIMIT_SUBJECT_RATE, LIMIT_ADDRESS_RATE)")
	}
}

// openness says in a line who may use a process: its API is local, or all of it is shut to other machines.
func (c Config) openness(known, local, shut bool) string {
	who, why := "everybody", "AUTH=none"
	if known {
		who, why = "holders of a token", "AUTH=jwt"
	}
	switch {
	case c.TLS.ClientCA != "":
		why = "with TLS and clients' certificates, " + why
	case c.TLS.On():
		why = "with TLS, " + why
	default:
		why = "without TLS, " + why
	}
	switch {
	case shut, known && local:
		who += " on this machine"
	case !known:
		who += " who reaches it"
	}
	if !known {
		who += ", with all rights"
	}
	return "open to " + who + " (" + why + ")"
}
