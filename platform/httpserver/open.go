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
// to show who they are (AUTH=jwt). Where nobody has to, only this machine may reach the process, unless ALTYN_OPEN says
// otherwise.
func (c Config) CheckAddrs(known bool, addrs map[string]string) error {
	var errs []error
	for name, addr := range addrs {
		if err := config.CheckAddr(name, addr); err != nil {
			errs = append(errs, err)
			continue
		}
		if host, _, _ := net.SplitHostPort(addr); host != "" && !known && !c.Open && !Loopback(host) {
			errs = append(errs, config.Invalid(name, "must be on loopback, such as 127.0.0.1:8080 or :8080, because nobody "+
				"has to show who they are (AUTH=none); AUTH=jwt or ALTYN_OPEN=true lifts that"))
		}
	}
	return errors.Join(errs...)
}

// APIAddr is the address on which an API listens. One without a host is every network's, but with AUTH=none loopback,
// unless ALTYN_OPEN says otherwise.
func (c Config) APIAddr(known bool, addr string) string {
	if known || c.Open {
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
// operators, and warns where those who may are not limited.
func (c Config) AnnounceOpenness(log *slog.Logger, known bool, addr, planeAddr string) {
	line, anybody, local := c.openness(known, addr, planeAddr)
	level := slog.LevelInfo
	if anybody {
		level = slog.LevelWarn
	}
	log.Log(context.Background(), level, line, "addr", c.APIAddr(known, addr), "admin_addr", PlaneAddr(planeAddr))
	if l := c.Limits; known && !local && l.TenantRate == 0 && l.SubjectRate == 0 && l.AddressRate == 0 {
		log.Warn("whoever asks may take all of this process: there is no limit of rates " +
			"(LIMIT_TENANT_RATE, LIMIT_SUBJECT_RATE, LIMIT_ADDRESS_RATE)")
	}
}

// openness says in a line who may use a process, whether that is anybody, and whether only this machine reaches its
// API.
func (c Config) openness(known bool, addr, planeAddr string) (line string, anybody, local bool) {
	isLocal := func(addr string) bool {
		host, _, _ := net.SplitHostPort(addr)
		return Loopback(host)
	}
	switch local = isLocal(c.APIAddr(known, addr)); {
	case known && local:
		return "open to holders of a token on this machine (AUTH=jwt)", false, local
	case known:
		return "open to holders of a token (AUTH=jwt)", false, local
	case local && isLocal(PlaneAddr(planeAddr)):
		return "open to everybody on this machine, with all rights (AUTH=none)", false, local
	default:
		return "open to everybody who reaches it, with all rights (AUTH=none, ALTYN_OPEN=true)", true, local
	}
}
