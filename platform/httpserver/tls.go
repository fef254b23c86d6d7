package httpserver

import (
	"crypto/tls"
	"log/slog"

	"github.com/altyn-pay/altyn/platform/config"
	"github.com/altyn-pay/altyn/platform/tlsfiles"
)

// TLS are the files with which a process serves HTTPS. They are read again when they change.
type TLS struct {
	Cert     string `env:"TLS_CERT_FILE" help:"PEM file of the certificate with which this process serves HTTPS, and of those up to its authority; like all files of TLS it is read again when it changes (default: HTTP)"`
	Key      string `env:"TLS_KEY_FILE" help:"PEM file of its key"`
	ClientCA string `env:"TLS_CLIENT_CA_FILE" help:"PEM file of authorities: clients of the API must have a certificate of one of them; those of the operators' plane need none (default: clients need none)"`
}

// On reports whether HTTPS is served.
func (t TLS) On() bool { return t.Cert != "" }

// Validate checks that the files can be used.
func (t TLS) Validate() error {
	if t.ClientCA != "" && !t.On() {
		return config.Invalid("TLS_CLIENT_CA_FILE", "must be set together with TLS_CERT_FILE")
	}
	return t.files().Check(tlsfiles.Files{Cert: "TLS_CERT_FILE", Key: "TLS_KEY_FILE", CA: "TLS_CLIENT_CA_FILE"})
}

func (t TLS) files() tlsfiles.Files { return tlsfiles.Files{Cert: t.Cert, Key: t.Key, CA: t.ClientCA} }

// Open returns the configurations of the servers of a process: of its API, and of its operators' plane, where probes
// and monitoring ask, which have no certificate. Both are nil for HTTP.
func (t TLS) Open(log *slog.Logger) (api, plane *tls.Config, err error) {
	if !t.On() {
		return nil, nil, nil
	}
	source, err := tlsfiles.Open(t.files(), log)
	if err != nil {
		return nil, nil, err
	}
	return source.Server(true), source.Server(false), nil
}
